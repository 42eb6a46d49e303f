"""What cannot be traced is refused by name: operations with the line of the step, results, and declarations."""

import math
import re

import numpy as np
import pytest
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import sigmoid
from fastrnn.cell.library.lstm import lstm

named = pytest.mark.parametrize


def branch(a):
    if a.a > 0:
        return a.a
    return -a.a


def in_place(a):
    h = a.a
    h += 1
    return h


def in_place_times(a):
    h = a.a
    h *= a.a
    return h


def item(a):
    a.a[0] = 1
    return a.a


def chained(a):
    return np.where(0 < a.a < 1, a.a, 0)


VECTOR = np.ones(3)
REFUSALS = [
    (branch, "a branch on a value", r"write np\.where\(mask, x, y\)"),
    (chained, "a branch on a value", "& | ~ for and, or, not"),
    (in_place, r"x \+= y", r"write x = x \+ y"),
    (in_place_times, r"x \*= y", r"write x = x \* y"),
    (item, "access to items", "use np.where"),
    (lambda a: a.a[0], "access to items", "use np.where"),
    (lambda a: [*a.a], "access to items", "use np.where"),
    (lambda a: len(a.a), "access to items", "use np.where"),
    (lambda a: float(a.a), "conversion to a number", "use NumPy's functions"),
    (lambda a: math.exp(a.a), "conversion to a number", "use NumPy's functions"),
    (lambda a: np.asarray(a.a), "conversion to an array", "one operation at a time"),
    (lambda a: np.array([a.a, a.a]), "conversion to an array", "one operation at a time"),
    (lambda a: np.exp(a.a, out=np.zeros(3)), r"np\.exp with out=", r"write a new value: x = np\.exp"),
    (lambda a: np.exp(a.a, where=VECTOR > 0), r"np\.exp with where=", r"np\.where"),
    (lambda a: np.add(a.a, 1, dtype=np.float32), r"np\.add with dtype=", r"np\.where"),
    (lambda a: np.clip(a.a, 0, 1, out=VECTOR), r"np\.clip with out=", "write x ="),
    (lambda a: np.clip(a.a, 0, None), r"np\.clip without one of its bounds", r"np\.maximum or np\.minimum"),
    (lambda a: np.sin(a.a), r"np\.sin", r"np\.where"),
    (lambda a: np.fmax(a.a, 0), r"np\.fmax", r"write np\.maximum"),
    (lambda a: np.isnan(a.a), r"np\.isnan", r"np\.where"),
    (lambda a: np.floor(a.a), r"np\.floor", r"\+ - \* /"),
    (lambda a: a.a // 2, r"np\.floor_divide", r"\+ - \* /"),
    (lambda a: a.a @ VECTOR, r"np\.matmul", "a sum over units"),
    (lambda a: np.zeros_like(a.a), r"np\.zeros_like", r"write the number 0\.0"),
    (lambda a: np.stack([a.a, a.a]), r"np\.stack", r"\+ - \* /"),
    (lambda a: a.a.T, r"the attribute \.T", r"np\.T"),
    (lambda a: a.a.clip(0, 1), r"the attribute \.clip", r"np\.clip"),
    (lambda a: a.a.shape, r"the attribute \.shape", ""),
    (lambda a: a.a + VECTOR, r"np\.add with an array constant", "declare a vector"),
    (lambda a: VECTOR * a.a, r"np\.multiply with an array constant", "declare a vector"),
    (lambda a: [1.0, 2.0] * a.a, r"np\.multiply with list", "expected a real number"),
    (lambda a: a.a * math.nan, r"np\.multiply with NaN", "finite or infinite"),
    (lambda a: a.a * np.float32("nan"), r"np\.multiply with NaN", "finite or infinite"),
    (lambda a: a.a * 1j, r"np\.multiply with complex", "expected a real number"),
    (lambda a: a.a * True, r"np\.multiply with bool", "expected a real number"),
    (lambda a: a.a * None, r"np\.multiply with NoneType", "expected a real number"),
    (lambda a: a.a * 10**400, r"np\.multiply with an integer beyond float64", "expected a real number"),
    (lambda a: a.a**5, r"x\*\*5", r"np\.sqrt"),
    (lambda a: a.a**0.5, r"x\*\*0\.5", r"np\.sqrt"),
    (lambda a: 2**a.a, "a power with a traced exponent", r"np\.exp\(p \* np\.log\(x\)\)"),
    (lambda a: (a.a > 0) * a.a, r"np\.multiply of True and False", r"np\.where\(mask, 1\.0, 0\.0\)"),
    (lambda a: sigmoid(a.a > 0), r"fastrnn\.sigmoid of True and False", r"np\.where"),
    (lambda a: np.where(a.a, 1, 0), r"np\.where of numbers", "x > 0"),
    (lambda a: ~a.a, r"np\.invert of numbers", "x > 0"),
    (lambda a: np.where(True, a.a, 0), r"np\.where of bool", "comparison"),
    (lambda a: np.where(a.a > 0), r"np\.where", ""),
    (lambda a: np.sum(a.a), r"np\.sum", r"a sum over units is np\.sum"),
    (lambda a: np.mean(a.a, axis=-1), r"np\.mean", r"keepdims=True"),
    (lambda a: np.var(a.a), r"np\.var", "layer_norm"),
    (lambda a: np.add.reduce(a.a), r"np\.add\.reduce", "a sum over units"),
    (lambda a: a.product.a(1.0), r"a\.product\.a\(…\) of float", "a vector that the step computed"),
    (lambda a: setattr(a, "a", 1), "gate a = …", "a name of its own"),
]


@named(("step", "operation", "instead"), REFUSALS)
def test_what_cannot_be_traced_is_refused_with_the_line_and_the_replacement(step, operation, instead):
    with pytest.raises(TypeError) as caught:
        cell(gates="a")(lambda a: (step(a), (a.a,)))
    message, _, line = str(caught.value).rpartition(" [" + __file__)  # the line quotes this list
    assert re.match(f"{operation}.*: cannot be traced; .*{instead}", message)
    assert line.startswith(", line ")


def test_a_refusal_quotes_the_line():
    with pytest.raises(TypeError, match=r"line \d+: if a\.a > 0:\]$"):
        cell(gates="a")(lambda a: (branch(a), (a.a,)))


def test_a_refusal_says_that_there_is_no_source():
    names = {}
    exec("def step(a):\n    if a.a > 0:\n        return a.a, (a.a,)", names)
    with pytest.raises(TypeError, match=r"\[<string>, line 2 \(no source\)\]$"):
        cell(gates="a")(names["step"])


@named(
    ("results", "message"),
    [
        (lambda a: a.a, r"got Tracer"),
        (lambda a: None, r"got NoneType"),
        (lambda a: (a.a, a.a, a.a), r"got 3 values"),
        (lambda a: (a.a, (a.a,)), r"expected `return output, \(h, c\)`, got 1 states"),
        (lambda a: (a.a, a.a), r"got Tracer"),
        (lambda a: (a.a, (a.a, a.a > 0)), r"expected numbers, got True and False"),
        (lambda a: (a.a, (a.a, VECTOR)), r"with an array constant"),
        (lambda a: (a.a, (a.a, math.nan)), r"with NaN"),
        (lambda a: (a.a, (a.a, "h")), r"with str"),
    ],
)
def test_wrong_results_are_refused(results, message):
    with pytest.raises(TypeError, match=f"results.*{message}.*line "):
        cell(gates="a", states="hc")(results)


def test_a_value_of_another_trace_is_refused():
    leaked = []

    def first(a):
        leaked.append(a.a)
        return a.a, (a.a,)

    cell(gates="a")(first)
    with pytest.raises(TypeError, match="a value of another trace"):
        cell(gates="a")(lambda a: (a.a + leaked[0], (a.a,)))
    with pytest.raises(TypeError, match="results: a value of another trace"):
        cell(gates="a")(lambda a: (a.a, (leaked[0],)))


def test_an_unknown_name_is_refused_with_the_declared_names():
    with pytest.raises(AttributeError, match=r"q: no gate of this name; declared: a, b .*line "):
        cell(gates="ab")(lambda a: (a.q, (a.a,)))
    with pytest.raises(AttributeError, match="p: no vector of this name; declared: none"):
        cell(gates="a")(lambda a, v: (v.p, (a.a,)))


@named(
    ("step", "message"),
    [
        (lambda a: (a.a, (a.a,)), "gate b: no result"),
        (lambda a: (a.a + a.b, (a.a,)), "vector p: no result"),
        (lambda a, v: (a.a + a.b + v.p, (a.a,)), "input m: no result"),
        (lambda a, v, x: (a.a + a.b + v.p + x.m, (a.a,)), "option k: no result"),
    ],
)
def test_a_declared_name_without_effect_is_refused(step, message):
    with pytest.raises(ValueError, match=message):
        cell(gates="ab", vectors=("p",), inputs=("m",), options={"k": 1.0})(step)


def test_a_gate_has_one_product():
    def twice(a, s):
        h = a.product.a(s.h * 2) + a.product.a(s.h * 3)
        return h, (h,)

    def beside(a, s):
        h = a.product.a(s.h * 2) + a.state.a
        return h, (h,)

    def unused(a, s):
        a.product.a(s.h * 2)
        return a.input.a, (s.h,)

    with pytest.raises(TypeError, match=r"a\.product\.a\(…\) of a second vector"):
        cell(gates="a")(twice)
    with pytest.raises(TypeError, match="gate a: its rows of w_hh multiply a vector of the step"):
        cell(gates="a")(beside)
    with pytest.raises(ValueError, match="gate a: no result of the step depends on its product"):
        cell(gates="a")(unused)


@named(
    ("tables", "error", "message"),
    [
        ({"gates": ""}, ValueError, "gates: expected at least one"),
        ({"gates": "aa"}, ValueError, "gates: expected different names"),
        ({"gates": ("input",)}, ValueError, "gates: expected another name than input"),
        ({"gates": ("a b",)}, ValueError, "gates: expected names"),
        ({"gates": (1,)}, TypeError, "gates: expected names, got 1"),
        ({"gates": 3}, TypeError, "gates: expected a sequence"),
        ({"gates": "a", "states": ()}, ValueError, "states: expected at least one"),
        ({"gates": "a", "states": {"h": math.nan}}, ValueError, r"states\.h: .*NaN"),
        ({"gates": "a", "states": {"h": "0"}}, TypeError, r"states\.h: expected a number"),
        ({"gates": "a", "vectors": "pq"}, TypeError, "vectors: expected a tuple of names"),
        ({"gates": "a", "vectors": ["w_hh"]}, ValueError, "vectors: expected another name than w_hh"),
        ({"gates": "a", "inputs": {"m": "two"}}, ValueError, r"inputs\.m: expected"),
        ({"gates": "a", "inputs": ("m",), "input_gradients": ("n",)}, ValueError, "input_gradients: .*got n"),
        ({"gates": "a", "options": ("k",)}, TypeError, "options: expected a mapping"),
        ({"gates": "a", "options": {"k": math.nan}}, ValueError, r"options\.k: .*NaN"),
        ({"gates": "a", "options": {"class": 1}}, ValueError, "options: expected names"),
    ],
)
def test_wrong_declarations_are_refused(tables, error, message):
    with pytest.raises(error, match=message):
        cell(**tables)


def test_wrong_steps_are_refused():
    with pytest.raises(TypeError, match="step: expected a function, got int"):
        cell(gates="a")(3)
    with pytest.raises(TypeError, match="step: expected a function, got WrittenCell"):
        cell(gates="a")(lstm)
    with pytest.raises(TypeError, match="parameter b: expected some of a"):
        cell(gates="a")(lambda b: (b.a, (b.a,)))
    with pytest.raises(TypeError, match=r"parameter \*a: expected some of a"):
        cell(gates="a")(lambda *a: a)

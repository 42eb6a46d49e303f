"""Tracing: a program computes what the step computes; what a cell is on arrays, in print and in a pickle."""

import functools
import math
import pickle
import time
from types import SimpleNamespace

import numpy as np
import pytest
from cell_bounds import step_bounds
from cell_cases import PROOF, SHIPPED, peephole_lstm, reset_before_gru
from cell_strategies import small_cells
from fastrnn.cell import interpret
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import log_sigmoid, relu, sigmoid, softplus
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.written_cell import WrittenCell
from hypothesis import given
from hypothesis import strategies as st

named = pytest.mark.parametrize


def of_gate(function):
    """A cell of one gate with a function of its pre-activation."""

    @cell(gates="a")
    def step(a):
        y = function(a.a)
        return y, (y,)

    return step


# ---- a step on arrays ----


MATRIX = np.random.default_rng(7).standard_normal((4, 4))


def arrays_of(program, seed=0, shape=(3, 4)):
    rng = np.random.default_rng(seed)
    assert shape[-1] == len(MATRIX)
    halves = {name: {g: rng.standard_normal(shape) for g in program.gates} for name in ("input", "state")}
    return {
        "a": halves | {"product": {g: lambda v: v @ MATRIX for g in program.gates}},
        "s": {one.name: rng.standard_normal(shape) for one in program.states},
        "v": {name: rng.standard_normal(shape[-1:]) for name in program.vectors},
        "x": {one.name: rng.standard_normal(shape) for one in program.inputs},
        "o": {one.name: one.default for one in program.options},
    }


def reads_of(program, arrays):
    """The reads of a program from the arguments of a step."""
    halves = [arrays["a"][name] for name in ("input", "state")]
    reads = {f"gate.{g}": halves[0][g] + halves[1][g] for g in program.gates}
    reads |= {f"gate_input.{g}": one for g, one in halves[0].items()}
    reads |= {f"gate_state.{g}": one for g, one in halves[1].items()}
    for kind, argument in (("before", "s"), ("vector", "v"), ("input", "x"), ("option", "o")):
        reads |= {f"{kind}.{name}": one for name, one in arrays[argument].items()}
    return reads


def flat(result):
    output, states = result
    return [output, *states]


@given(small_cells(), st.integers(0, 2**32 - 1))
def test_the_interpreter_computes_what_the_step_computes(drawn, seed):
    program = drawn.cell.program
    arrays = arrays_of(program, seed)
    expected = flat(drawn.cell(**arrays))
    found = flat(WrittenCell.from_text(drawn.cell.text)(**arrays))
    names = ["y" if program.output is None else f"after.{program.output}"] + [f"after.{s.name}" for s in program.states]
    bounds = step_bounds(program, reads_of(program, arrays), lambda _, v: v @ MATRIX, lambda _, v: v @ np.abs(MATRIX))
    for name, one, other in zip(names, found, expected, strict=True):
        error = np.abs(np.broadcast_to(one, (3, 4)) - np.broadcast_to(other, (3, 4)))
        assert np.all(error <= bounds[name]), (name, error / bounds[name])


@named("written", SHIPPED + PROOF, ids=lambda one: one.program.name)
def test_bounds_of_roundings_are_small(written):
    program, arrays = written.program, arrays_of(written.program)
    bounds = step_bounds(program, reads_of(program, arrays), lambda _, v: v @ MATRIX, lambda _, v: v @ np.abs(MATRIX))
    assert all(np.all(bound < 1e-11) for bound in bounds.values())
    assert any(np.any(bound > 0) for bound in bounds.values())


@named("written", SHIPPED + PROOF, ids=lambda one: one.program.name)
def test_the_interpreter_gives_the_bits_of_the_step(written):
    arrays = arrays_of(written.program)
    names = {"a", "s", "v"} & set(written.step.__code__.co_varnames[: written.step.__code__.co_argcount])
    expected = flat(written(**{name: arrays[name] for name in names}))
    found = flat(pickle.loads(pickle.dumps(written))(**arrays))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@named("dtype", [np.float32, np.float64, np.longdouble])
def test_the_interpreter_keeps_the_precision(dtype):
    rng = np.random.default_rng(0)
    reads = {f"gate.{one}": rng.standard_normal((2, 3)).astype(dtype) for one in "ifgo"}
    reads |= {f"before.{one}": rng.standard_normal((2, 3)).astype(dtype) for one in "hc"}
    assert {one.dtype for one in interpret.forward(lstm.program, reads, None).values()} == {np.dtype(dtype)}


def test_a_step_is_called_on_namespaces_or_mappings_of_arrays():
    gates = {name: np.full((2, 3), 0.1 * n) for n, name in enumerate("ifgo")}
    states = {"h": np.zeros((2, 3)), "c": np.ones((2, 3))}
    one = lstm(gates, states)
    other = lstm(a=SimpleNamespace(**gates), s=SimpleNamespace(**states))
    np.testing.assert_array_equal(flat(one), flat(other))


def test_a_step_receives_arrays_that_cannot_be_written():
    seen = []

    def step(a, s):
        seen.append((a.a, s.h))
        return a.a, (a.a,)

    written = cell(gates="a")(step)
    given = np.ones((2, 3))
    written({"a": given}, {"h": given})
    assert [one.flags.writeable for one in seen[-1]] == [False, False]
    assert given.flags.writeable


def test_a_missing_array_is_named():
    with pytest.raises(TypeError, match="state c: missing; expected a mapping or an object with h, c"):
        lstm({one: np.ones(3) for one in "ifgo"}, {"h": np.ones(3)})
    with pytest.raises(TypeError, match=r"gate n: the step reads a\.state\.n, which is missing in a"):
        gru({one: np.ones(3) for one in "rzn"}, {"h": np.ones(3)})


def test_a_whole_gate_is_the_sum_of_its_halves():
    halves = {"input": {"a": np.array([1.0])}, "state": {"a": np.array([2.0])}}
    output, _ = of_gate(lambda a: 3 * a)(halves)
    assert output == 9


# ---- what comes out ----


def test_a_cell_prints_its_program():
    assert repr(reset_before_gru) == "\n".join(
        [
            "cell reset_before_gru: gates r, z, n; states h; output h",
            "  apart: n",
            "  products: w_hh of n on saved.0 * before.h",
            "  saved: r, z, n",
            "  forward: 7 instructions, cost 64",
            "    phase 0",
            "    v4 = sigmoid(gate.z) -> saved.1",
            "    v5 = sigmoid(gate.r) -> saved.0",
            "    v6 = v5 * before.h -> operand.0",
            "    phase 1: product 0",
            "    v8 = gate_input.n + product.0",
            "    v9 = tanh(v8) -> saved.2",
            "    v10 = before.h - v9",
            "    v11 = v4*v10 + v9 -> after.h",
            "  backward: 10 instructions, cost 34",
            "    phase 0",
            "    v5 = 1 - saved.1",
            "    v6 = d_after.h * v5",
            "    v7 = v6 * (1 - saved.2*saved.2) -> slot.0",
            "    v8 = before.h - saved.2",
            "    v9 = d_after.h * v8",
            "    v10 = v9 * (saved.1*(1 - saved.1)) -> slot.2",
            "    phase 1: product 0",
            "    v12 = d_product.0 * saved.0",
            "    v13 = d_after.h*saved.1 + v12 -> before.h",
            "    v14 = d_product.0 * before.h",
            "    v15 = v14 * (saved.0*(1 - saved.0)) -> slot.1",
        ]
    )


@named("written", SHIPPED + PROOF, ids=lambda one: one.program.name)
def test_a_cell_pickles_as_text_and_loses_its_function(written):
    loaded = pickle.loads(pickle.dumps(written))
    assert loaded == written
    assert hash(loaded) == hash(written)
    assert repr(loaded) == repr(written)
    assert loaded.step is None
    assert written.__reduce__()[1] == (written.text,)


def test_a_trace_has_each_operation_once_and_no_dead_value():
    @cell(gates="a")
    def step(a):
        np.exp(a.a)
        h = np.tanh(a.a) + np.tanh(a.a) * (np.tanh(a.a) * 2)
        return h, (h,)

    assert [one.op for one in step.program.forward.values] == ["read", "tanh", "constant", "mul", "fma"]


def test_contraction_takes_the_left_product_first_and_products_that_are_used_once():
    def ops(step, gates="abcd"):
        program = cell(gates=gates)(step).program
        return [one.op for one in program.forward.values if one.op not in ("read", "constant")]

    def both(a):
        h = a.a * a.b - a.c * a.d
        return h, (h,)

    def right(a):
        h = a.a - a.b * a.c + a.d
        return h, (h,)

    def twice(a):
        p = a.a * a.b
        h = (p + a.c) * (p + a.d)
        return h, (h,)

    def doubled(a):
        p = a.a * a.b
        h = p + p
        return h, (h,)

    assert ops(both) == ["mul", "fms"]
    assert ops(right, "abcd") == ["fnma", "add"]
    assert ops(twice) == ["mul", "add", "add", "mul"]
    assert ops(doubled, "ab") == ["mul", "add"]


def test_numbers_from_outside_are_frozen():
    scale = 2.0

    def step(a):
        h = scale * np.tanh(a.a)
        return h, (h,)

    written = cell(gates="a")(step)
    scale = 3.0
    assert [one.number for one in written.program.forward.values if one.op == "constant"] == [2.0]


def test_other_parameters_keep_their_defaults():
    def step(a, *, scale=2.0):
        h = scale * np.tanh(a.a)
        return h, (h,)

    for one, number in ((step, 2.0), (functools.partial(step, scale=4.0), 4.0)):
        written = cell(gates="a")(one)
        assert [v.number for v in written.program.forward.values if v.op == "constant"] == [number]
        assert written({"a": np.zeros(3)})[0].shape == (3,)


@named("number", [1, 2.5, -0.0, math.inf, -math.inf, np.float32(0.1), np.int64(3), np.array(1.5)])
def test_numbers_of_every_kind_are_constants(number):
    written = of_gate(lambda a: np.minimum(np.maximum(a * 2, number), 4))
    assert float(number) in [one.number for one in written.program.forward.values]
    assert WrittenCell.from_text(written.text) == written


def test_masks_combine():
    written = of_gate(lambda a: np.where((a > 0) & ~(a >= 2) | (a == -1) & (a != 5), a, 0))
    at = np.array([-2.0, -1, 0, 1, 2])
    np.testing.assert_array_equal(written({"a": at})[0], [0, -1, 0, 1, 0])
    np.testing.assert_array_equal(WrittenCell.from_text(written.text)({"a": at})[0], [0, -1, 0, 1, 0])


def test_every_listed_function_is_traced():
    functions = (
        np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.tanh, np.abs, np.sign, np.square, np.reciprocal, np.positive,
        sigmoid, relu, softplus, log_sigmoid, abs,
        lambda a: np.maximum(a, 1) + np.minimum(1, a), lambda a: np.clip(a, 0, 1), lambda a: np.clip(a, min=0, max=1),
        lambda a: -a + +a, lambda a: 1 / a - a / 3, lambda a: np.power(a, 3) + a**-4 + a**2.0 + a**1,
        lambda a: np.where(np.logical_and(a > 0, np.less(a, 1)), a, 1.0),
    )  # fmt: skip
    at = np.array([0.3, 0.7, 1.9])
    for function in functions:
        written = of_gate(function)
        expected = written({"a": at})[0]
        np.testing.assert_allclose(WrittenCell.from_text(written.text)({"a": at})[0], expected, rtol=1e-15)


def test_tracing_an_lstm_takes_at_most_20_ms():
    def define():
        begin = time.thread_time()
        cell(gates="ifgo", states="hc")(lstm.step)
        return time.thread_time() - begin

    assert min(define() for _ in range(5)) < 0.020


# ---- functions ----


@named("dtype", [np.float32, np.float64])
@named(
    ("function", "exact"),
    [
        (sigmoid, lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x)))),
        (relu, lambda x: np.maximum(x, 0)),
        (softplus, lambda x: np.where(x > 0, x, 0) + np.log1p(np.exp(-np.abs(x)))),
        (log_sigmoid, lambda x: np.where(x < 0, x, 0) - np.log1p(np.exp(-np.abs(x)))),
    ],
)
def test_functions_are_accurate_and_quiet(function, exact, dtype):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(1000) * scale for scale in (1e-20, 1e-3, 1, 30, 1e4)]).astype(dtype)
    with np.errstate(all="raise"):
        found = function(x)
        special = function(np.array([0, -0.0, np.inf, -np.inf, np.nan], dtype))
    assert found.dtype == special.dtype == dtype
    with np.errstate(under="ignore"):
        expected = exact(x.astype(np.longdouble))
    spacing = np.spacing(np.abs(expected).astype(dtype)).astype(np.longdouble)
    assert np.all(np.abs(found - expected) <= 3 * spacing)
    ends = {sigmoid: [0.5, 0.5, 1, 0], relu: [0, 0, np.inf, 0]}
    ends |= {softplus: [np.log(2), np.log(2), np.inf, 0], log_sigmoid: [-np.log(2), -np.log(2), 0, -np.inf]}
    np.testing.assert_allclose(special[:4], ends[function], rtol=1e-6)
    assert np.isnan(special[4])


def test_functions_take_numbers_integers_and_complex_arrays():
    assert sigmoid(0.0) == 0.5
    assert isinstance(sigmoid(0), float)
    assert softplus(np.array([0])).dtype == np.float64
    moved = log_sigmoid(np.array([-2.0 + 1e-30j]))
    np.testing.assert_allclose(moved.imag / 1e-30, sigmoid(2.0), rtol=1e-15)
    with pytest.raises(TypeError, match=r"fastrnn\.relu: expected numbers, got bool"):
        relu(np.array([True]))


def test_the_traced_peephole_lstm_is_the_function_of_the_documentation():
    assert peephole_lstm.program.vectors == ("p_i", "p_f", "p_o")
    assert peephole_lstm.__doc__.startswith("Gers & Schmidhuber")

"""The stand-in for an array while a step is traced: NumPy's operators and functions add operations to a graph."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from .graph import Graph
from .program import COMPARISONS, LOGIC, Value
from .user_line import refusal

# NumPy's name → the operation, for functions of the same arguments in the same order.
_SAME = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg",
    "minimum": "min", "maximum": "max", "absolute": "abs", "fabs": "abs", "sign": "sign", "sqrt": "sqrt",
    "reciprocal": "reciprocal", "exp": "exp", "expm1": "expm1", "log": "log", "log1p": "log1p", "tanh": "tanh",
    "less": "lt", "less_equal": "le", "equal": "eq", "not_equal": "ne", "bitwise_and": "and", "logical_and": "and",
    "bitwise_or": "or", "logical_or": "or", "invert": "not", "logical_not": "not",
}  # fmt: skip
_SWAPPED = {"greater": "lt", "greater_equal": "le"}
POWERS = 4
_SUMS = "a sum over units is np.sum or np.mean(x, axis=-1, keepdims=True), fastrnn.layer_norm or fastrnn.rms_norm"
_INSTEAD = {
    **dict.fromkeys(("sum", "mean", "var", "std", "dot", "max", "min", "prod", "norm", "matmul"), _SUMS),
    "float_power": "write np.exp(p * np.log(x))", "fmax": "write np.maximum", "fmin": "write np.minimum",
    "zeros_like": "write the number 0.0", "ones_like": "write the number 1.0", "full_like": "write the number",
    "copy": "values never change; use the value itself", "asarray": "use the value itself",
    "bitwise_xor": "write (p & ~q) | (q & ~p)", "logical_xor": "write (p & ~q) | (q & ~p)",
    "exp2": "write np.exp(np.log(2) * x)", "log2": "write np.log(x) / np.log(2)",
    "log10": "write np.log(x) / np.log(10)",
    "cosh": "write (np.exp(x) + np.exp(-x)) / 2", "sinh": "write (np.exp(x) - np.exp(-x)) / 2",
}  # fmt: skip
_ARITHMETIC = "write it with + - * /, np.where, or a function listed under fastrnn.cell"


class Tracer(NDArrayOperatorsMixin):
    """A vector of one number per unit, or of True and False (a mask), that is known only when the cell runs."""

    __slots__ = ("_graph", "_index")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, graph: Graph, index: int) -> None:
        self._graph = graph
        self._index = index

    def __repr__(self) -> str:
        value = self._graph.values[self._index]
        return f"<traced {value.name or value.op}>"

    @property
    def _is_mask(self) -> bool:
        return self._graph.values[self._index].op in COMPARISONS | LOGIC

    # ---- NumPy's protocols ----

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if method != "__call__":
            raise refusal(f"np.{name}.{method}", _SUMS if method == "reduce" else _ARITHMETIC)
        if "out" in options:
            raise refusal(f"np.{name} with out=", f"write a new value: x = np.{name}(…)")
        if options:
            raise refusal(f"np.{name} with {', '.join(options)}=", "use np.where(mask, x, y) for a choice")
        if name in _SAME:
            return self._apply(f"np.{name}", _SAME[name], *inputs)
        if name in _SWAPPED:
            return self._apply(f"np.{name}", _SWAPPED[name], *reversed(inputs))
        if name == "square":
            return self._apply("np.square", "mul", *inputs, *inputs)
        if name == "positive":
            return self
        if name == "power":
            return _power(*inputs)
        raise refusal(f"np.{name}", _INSTEAD.get(name, _ARITHMETIC))

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        name = getattr(function, "__name__", repr(function))
        if name == "where" and len(args) == 3 and not options:
            return self._apply("np.where", "select", *args)
        if name == "clip":
            return self._clip(*args, **options)
        if name in ("sum", "mean") and len(args) == 1 and options == {"axis": -1, "keepdims": True}:
            return total(name, f"np.{name}", args)
        raise refusal(f"np.{name}", _INSTEAD.get(name, _ARITHMETIC))

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise refusal("conversion to an array", "compute with the value itself, one operation at a time")

    def _clip(self, a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, **options: Any) -> Any:
        low, high = options.pop("min", a_min), options.pop("max", a_max)
        if out is not None or options:
            raise refusal("np.clip with out= or where=", "write x = np.clip(x, low, high)")
        if low is None or high is None:
            raise refusal("np.clip without one of its bounds", "write np.maximum or np.minimum")
        return self._apply("np.clip", "clip", a, low, high)

    def _apply(self, name: str, op: str, *args: Any) -> Tracer:
        wants = [op in LOGIC or (op == "select" and place == 0) for place in range(len(args))]
        operands = (self._operand(name, arg, mask) for arg, mask in zip(args, wants, strict=True))
        return Tracer(self._graph, self._graph.operation(op, *operands))

    def _operand(self, name: str, value: Any, wants_mask: bool) -> int:
        if not isinstance(value, Tracer):
            if wants_mask:
                raise refusal(f"{name} of {type(value).__name__}", "expected a comparison of traced values")
            return self._graph.constant(constant(name, value))
        if value._graph is not self._graph:
            raise refusal(f"{name} of a value of another trace", "use the arguments of this call alone")
        if value._is_mask and not wants_mask:
            raise refusal(f"{name} of True and False", "write np.where(mask, 1.0, 0.0)")
        if wants_mask and not value._is_mask:
            raise refusal(f"{name} of numbers", "expected a comparison, such as x > 0")
        return value._index

    # ---- Python's protocols that need a number ----

    def __bool__(self) -> NoReturn:
        raise refusal("a branch on a value", "write np.where(mask, x, y), and & | ~ for and, or, not")

    def _refuse_number(self) -> NoReturn:
        raise refusal("conversion to a number", "use NumPy's functions instead of Python's or those of math")

    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = __floor__ = __ceil__ = _refuse_number

    def _refuse_items(self, *_: Any) -> NoReturn:
        raise refusal("access to items", "a step sees all units at once and computes each alone; use np.where")

    __len__ = __iter__ = __getitem__ = __setitem__ = __contains__ = __delitem__ = _refuse_items

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise refusal(f"the attribute .{name}", f"write np.{name}(…) if NumPy has it; {_ARITHMETIC}")


def _refuse_in_place(sign: str) -> Callable[[Tracer, Any], NoReturn]:
    def refuse(_: Tracer, __: Any) -> NoReturn:
        raise refusal(f"x {sign}= y", f"arrays of the caller would change; write x = x {sign} y")

    return refuse


for _name, _sign in (
    ("iadd", "+"), ("isub", "-"), ("imul", "*"), ("itruediv", "/"), ("ifloordiv", "//"), ("imod", "%"), ("ipow", "**"),
    ("iand", "&"), ("ior", "|"), ("ixor", "^"), ("imatmul", "@"), ("ilshift", "<<"), ("irshift", ">>"),
):  # fmt: skip
    setattr(Tracer, f"__{_name}__", _refuse_in_place(_sign))


def total(kind: str, name: str, vectors: Sequence[Any], by_head: bool = False) -> Tracer:
    """The read of a sum over all units of all vectors: "sum", "mean", "moments" (the mean) or "variance".

    by_head: each head has a sum of its own.
    """
    traced = next(one for one in vectors if isinstance(one, Tracer))
    operands = tuple(traced._operand(name, one, wants_mask=False) for one in vectors)
    return Tracer(traced._graph, traced._graph.add(Value("read", operands, f"{kind}.{'head' if by_head else 'units'}")))


def constant(name: str, value: Any) -> float:
    """A number from outside the step, frozen."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        raise refusal(
            f"{name} with an array constant", "declare a vector (vectors=) or an input of each step (inputs=)"
        )
    if isinstance(value, np.ndarray):
        value = value[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise refusal(f"{name} with {type(value).__name__}", "expected a real number")
    try:
        number = float(value)
    except OverflowError:
        raise refusal(f"{name} with an integer beyond float64", "expected a real number") from None
    if math.isnan(number):
        raise refusal(f"{name} with NaN", "expected a finite or infinite number")
    return number


def _power(base: Any, exponent: Any) -> Any:
    """x**n as products: x*x, (x*x)*x, (x*x)*(x*x), and the reciprocal of these."""
    if isinstance(exponent, Tracer) or not isinstance(base, Tracer):
        raise refusal("a power with a traced exponent", "write np.exp(p * np.log(x))")
    number = constant("np.power", exponent)
    if not number.is_integer() or abs(number) > POWERS:
        raise refusal(f"x**{exponent}", f"expected an integer of at most {POWERS} in size, or np.sqrt(x)")
    n = operator.index(int(number))
    if n == 0:
        return Tracer(base._graph, base._graph.constant(1.0))
    product = base
    if abs(n) > 1:
        product = base * base
    if abs(n) > 2:
        product = product * (base if abs(n) == 3 else product)
    return product if n > 0 else np.reciprocal(product)

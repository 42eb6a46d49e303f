"""The derivative of each operation, in reverse: what a value's gradient d adds to the gradients of its arguments.

Edges: ties of min and max give half to each argument; clip is 1 on the closed interval; abs, sign and relu have
slope 0 at 0; select passes to the chosen argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .graph import Graph
from .program import Value


class Term(NamedTuple):
    """`sign` times a value."""

    sign: int
    value: int


class Site(NamedTuple):
    """A value v with its arguments, and the operations to write its derivative with."""

    graph: Graph
    v: int
    args: tuple[int, ...]

    def op(self, name: str, *args: int) -> int:
        return self.graph.operation(name, *args)

    def number(self, number: float) -> int:
        return self.graph.constant(number)

    def where(self, mask: int, d: int) -> int:
        return self.op("select", mask, d, self.number(0.0))


Terms = tuple[Term | None, ...]
Rule = Callable[[Site, int], Terms]


def plus(*values: int) -> Terms:
    return tuple(Term(1, value) for value in values)


def _mul(at: Site, d: int) -> Terms:
    a, b = at.args
    return plus(at.op("mul", d, b), at.op("mul", d, a))


def _div(at: Site, d: int) -> Terms:
    by = at.op("div", d, at.args[1])
    return Term(1, by), Term(-1, at.op("mul", by, at.v))


def _fused(product: int, addend: int) -> Rule:
    """The rule of product*(a*b) + addend*c, for signs."""

    def rule(at: Site, d: int) -> Terms:
        a, b, _ = at.args
        return Term(product, at.op("mul", d, b)), Term(product, at.op("mul", d, a)), Term(addend, d)

    return rule


def _extremum(less: Callable[[Site, int, int], int]) -> Rule:
    def rule(at: Site, d: int) -> Terms:
        a, b = at.args
        half = at.where(at.op("eq", a, b), at.op("mul", d, at.number(0.5)))
        return plus(at.op("select", less(at, a, b), d, half), at.op("select", less(at, b, a), d, half))

    return rule


def _clip(at: Site, d: int) -> Terms:
    a, low, high = at.args
    at_least_low = at.op("le", low, a)
    inside = at.op("and", at_least_low, at.op("le", a, high))
    below = at.op("and", at.op("lt", a, low), at.op("le", low, high))
    above = at.op("or", at.op("lt", high, a), at.op("lt", high, low))
    return plus(at.where(inside, d), at.where(below, d), at.where(above, d))


def _select(at: Site, d: int) -> Terms:
    mask, _, _ = at.args
    zero = at.number(0.0)
    return None, Term(1, at.op("select", mask, d, zero)), Term(1, at.op("select", mask, zero, d))


def _relu(at: Site, d: int) -> Terms:
    """From the result: max(a, 0) <= 0 exactly where a <= 0. NaN passes d."""
    zero = at.number(0.0)
    return plus(at.op("select", at.op("le", at.v, zero), zero, d))


def _sigmoid(at: Site, d: int) -> Terms:
    slope = at.op("mul", at.v, at.op("sub", at.number(1.0), at.v))
    return plus(at.op("mul", d, slope))


def _tanh(at: Site, d: int) -> Terms:
    slope = at.op("sub", at.number(1.0), at.op("mul", at.v, at.v))
    return plus(at.op("mul", d, slope))


def _reciprocal(at: Site, d: int) -> Terms:
    return (Term(-1, at.op("mul", at.op("mul", d, at.v), at.v)),)


def _sqrt(at: Site, d: int) -> Terms:
    """d/(2 sqrt(a)): a product, if the step has 1/sqrt(a) already, as norms do."""
    half, inverse = at.op("mul", d, at.number(0.5)), Value("reciprocal", (at.v,))
    if inverse in at.graph.values:
        return plus(at.op("mul", half, at.graph.values.index(inverse)))
    return plus(at.op("div", half, at.v))


RULES: dict[str, Rule] = {
    "add": lambda _, d: plus(d, d),
    "sub": lambda _, d: (Term(1, d), Term(-1, d)),
    "mul": _mul,
    "div": _div,
    "neg": lambda _, d: (Term(-1, d),),
    "fma": _fused(1, 1),
    "fms": _fused(1, -1),
    "fnma": _fused(-1, 1),
    "min": _extremum(lambda at, a, b: at.op("lt", a, b)),
    "max": _extremum(lambda at, a, b: at.op("lt", b, a)),
    "clip": _clip,
    "abs": lambda at, d: plus(at.op("mul", d, at.op("sign", at.args[0]))),
    "sqrt": _sqrt,
    "reciprocal": _reciprocal,
    "exp": lambda at, d: plus(at.op("mul", d, at.v)),
    "expm1": lambda at, d: plus(at.op("add", at.op("mul", d, at.v), d)),
    "log": lambda at, d: plus(at.op("div", d, at.args[0])),
    "log1p": lambda at, d: plus(at.op("div", d, at.op("add", at.number(1.0), at.args[0]))),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "softplus": lambda at, d: plus(at.op("mul", d, at.op("sigmoid", at.args[0]))),
    "log_sigmoid": lambda at, d: plus(at.op("mul", d, at.op("sigmoid", at.op("neg", at.args[0])))),
    "select": _select,
}
NO_DERIVATIVE = frozenset({"read", "constant", "sign", "lt", "le", "eq", "ne", "and", "or", "not"})

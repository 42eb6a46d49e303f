"""The NumPy interpreter of programs: the reference, in any real precision, or complex for the complex-step derivative.

Complex arrays follow the rules of the complex step: the real part decides comparisons, abs, sign, min, max and clip.
An fma has two roundings here, so the C interpreter agrees within bounds, not in bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import complex_functions, elementwise
from .program import COMPARISONS, LOGIC, Direction, Program

_Array = NDArray[Any]
_Function = Callable[..., _Array]
# product(k, v): of forward, w_hh v + b_hh for the rows of the gate of product k; of backward, v w_hh for these rows.
Multiply = Callable[[int, _Array], _Array]

_FUNCTIONS: dict[str, _Function] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "fma": lambda a, b, c: a * b + c,
    "fms": lambda a, b, c: a * b - c,
    "fnma": lambda a, b, c: c - a * b,
    "min": np.minimum,
    "max": np.maximum,
    "clip": lambda a, low, high: np.minimum(np.maximum(a, low), high),
    "abs": np.abs,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": elementwise.sigmoid,
    "relu": elementwise.relu,
    "softplus": elementwise.softplus,
    "log_sigmoid": elementwise.log_sigmoid,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "select": np.where,
    "one_minus": lambda a: 1 - a,
    "dsigmoid": lambda d, s: d * (s * (1 - s)),
    "dtanh": lambda d, t: d * (1 - t * t),
    "mul3": lambda a, b, c: (a * b) * c,
    "fma_dtanh": lambda d, t, c: d * (1 - t * t) + c,
}
_COMPLEX: dict[str, _Function] = {
    "min": complex_functions.minimum,
    "max": complex_functions.maximum,
    "clip": complex_functions.clip,
    "abs": complex_functions.absolute,
    **{name: getattr(complex_functions, name) for name in (
        "sign", "sqrt", "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "relu", "softplus", "log_sigmoid"
    )},
}  # fmt: skip


def evaluate(op: str, *args: _Array) -> _Array:
    """An operation on arrays of one dtype."""
    if op in COMPARISONS:
        return _FUNCTIONS[op](*(arg.real for arg in args))
    if op not in LOGIC and any(arg.dtype.kind == "c" for arg in args):
        return _COMPLEX.get(op, _FUNCTIONS[op])(*args)
    return _FUNCTIONS[op](*args)


def forward(program: Program, given: Mapping[str, Any], product: Multiply, heads: int = 1) -> dict[str, _Array]:
    """A step forward.

    Parameters
    ----------
    program : Program
    given : mapping of str to ndarray (..., H) or number
        The reads of forward by name (`program.py`), without products and sums. Arrays have one dtype.
    product : callable
        Computes the product k of a vector.
    heads : int
        The H units form so many heads, which have sums of their own where the program says so.

    Returns
    -------
    dict of str to ndarray
        The outputs of forward by name. A constant output has no axes.
    """
    operands = [program.forward.outputs[f"operand.{n}"] for n in range(len(program.products))]
    return _run(program.forward, given, "product", operands, product, heads)


def backward(program: Program, given: Mapping[str, Any], product: Multiply, heads: int = 1) -> dict[str, _Array]:
    """A step backward, as `forward`: the product of a slot with its rows of w_hh is the gradient of the vector."""
    slots = {slot.operand: program.backward.outputs[f"slot.{n}"] for n, slot in enumerate(program.slots)}
    operands = [slots[n] for n in range(len(program.products))]
    return _run(program.backward, given, "d_product", operands, product, heads)


def _run(
    direction: Direction, given: Mapping[str, Any], kind: str, operands: list[int], product: Multiply, heads: int
) -> dict[str, _Array]:
    dtype = np.result_type(*(one for one in given.values() if isinstance(one, np.ndarray)), np.float16)
    known = {name: np.asarray(one, dtype) for name, one in given.items()}
    shape = np.broadcast_shapes(*(one.shape for one in known.values()))
    results, begin, sums = list[_Array](), 0, 0
    with np.errstate(all="ignore"):
        for phase in direction.phases:
            if phase.product is not None:
                known[f"{kind}.{phase.product}"] = product(phase.product, results[operands[phase.product]])
            for one in phase.sums:
                vectors = [np.broadcast_to(results[arg], shape) for arg in one.args]
                _add_sum(known, sums, one.kind, vectors, heads if one.by_head else 1)
                sums += 1
            for value in direction.values[begin : phase.end]:
                if value.op == "read":
                    results.append(known[str(value.name)])
                elif value.op == "constant":
                    results.append(np.asarray(value.number, dtype))
                else:
                    results.append(evaluate(value.op, *(results[arg] for arg in value.args)))
            begin = phase.end
    return {name: results[index] for name, index in direction.outputs.items()}


def _add_sum(known: dict[str, _Array], number: int, kind: str, vectors: list[_Array], heads: int) -> None:
    """Make a sum over all units of all vectors readable, or the sums of so many heads."""
    *rest, H = vectors[0].shape
    terms = np.concatenate([one.reshape(*rest, heads, H // heads) for one in vectors], axis=-1)
    size = terms.shape[-1] if kind != "sum" else 1

    def readable(total: _Array) -> _Array:
        return total[..., 0] if heads == 1 else np.repeat(total, H // heads, axis=-1).reshape(*rest, H)

    total = terms.sum(-1, keepdims=True) / size
    known[f"sum.{number}"] = readable(total)
    if kind == "moments":
        known[f"variance.{number}"] = readable(((terms - total) ** 2).sum(-1, keepdims=True) / size)

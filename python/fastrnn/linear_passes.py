"""Passes of the linear recurrence on accepted arrays: shapes, the order of steps, forward, backward."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _check, _linear, memory
from ._check import Array
from .config import backend_index, cut_index, get_num_threads


class Order(NamedTuple):
    """The steps of each sequence, and the order in which they run."""

    lengths: NDArray[np.int64] | None
    resets: NDArray[np.bool_] | None  # (T, B)
    reverse: bool


@dataclass(frozen=True, eq=False)
class LinearTape:
    """What ``forward`` keeps for ``backward``: references to a, h0 and h."""

    a: Array
    b_shape: tuple[int, ...]
    h0: Array | None
    h: Array
    order: Order


# ---- arguments ----


def is_number(value: Any) -> bool:
    """Whether it is a number of Python's own, which has no dtype. NumPy's float64 is a subclass of float."""
    return type(value) in (int, float)


def letters(rank: int) -> str:
    return f"({', '.join('TBH'[:rank])})"


def shape(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of h."""
    found = b if a in ((), b) else _broadcast(a, b)
    if not 1 <= len(found) <= 3:
        raise ValueError(f"b: expected shape (T, B, H), (T, B) or (T,) after broadcasting with a, got {found}")
    if math.prod(found) > sys.maxsize // 64:
        raise OverflowError("b: the arrays would exceed the address space")
    return found


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    rank = max(len(a), len(b))
    sizes = list(zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True))
    if any(m != n and 1 not in (m, n) for m, n in sizes):
        raise ValueError(f"a: expected a shape that broadcasts with that of b, {b}, got {a}")
    return tuple(n if m == 1 else m for m, n in sizes)


def check_initial(h0: tuple[int, ...], h: tuple[int, ...]) -> None:
    """ValueError unless h0 broadcasts to the state of a step."""
    state, missing = h[1:], len(h) - 1 - len(h0)
    if missing < 0 or any(n not in (1, expected) for n, expected in zip(h0, state[missing:], strict=True)):
        letters = f"({', '.join('TBH'[1 : len(h)])})"
        raise ValueError(f"h0: expected a shape that broadcasts to {letters} = {state}, got {h0}")


def checked_order(lengths: Any, resets: Any, reverse: bool, h: tuple[int, ...]) -> Order:
    """The order of the steps of h; ValueError if it does not fit."""
    if lengths is None and resets is None:
        return Order(None, None, reverse)
    T, B = h[0], h[1] if len(h) > 1 else 1
    if len(h) == 1 and lengths is not None:
        raise ValueError("lengths: expected None for a and b without a batch axis")
    rank = min(len(h), 2)
    resets = _check.resets("resets", resets, letters(rank), h[:rank])
    return Order(_check.lengths("lengths", lengths, T, B), None if resets is None else resets.reshape(T, B), reverse)


# ---- passes ----


def _settings() -> tuple[int, int, int]:
    return backend_index(), get_num_threads(), cut_index()


def _inside(array: Array, rank: int) -> Array:
    """A view, with H and perhaps B as axes of size 1, of an array that broadcasts to the first `rank` axes."""
    return array.reshape(array.shape + (1,) * (3 - rank))


def recur(a: Array, b: Array, h0: Array | None, h: Array, order: Order) -> None:
    """Fill h. The arguments have been checked."""
    rank = h.ndim
    initial = None if h0 is None else _inside(h0, rank)
    _linear.forward(_settings(), _inside(a, rank), _inside(b, rank), initial, _inside(h, rank), *order)


def gradients(tape: LinearTape, dh: Array, wanted: list[bool]) -> list[Array | None]:
    """The gradients of a, b and h0, or None. The arguments have been checked."""
    lengths, h0 = tape.order.lengths, tape.h0
    new, shape = memory.empty if lengths is None else memory.zeros, dh.shape
    if not any(wanted):
        return [None, None, None]
    da, db = new(shape, dh.dtype) if wanted[0] else None, new(shape, dh.dtype)
    dh0 = memory.empty((1, *shape[1:]), dh.dtype) if wanted[2] and h0 is not None else None
    arrays = tape.a, h0, tape.h, dh, da, db, dh0
    inside = [None if one is None else _inside(one, dh.ndim) for one in arrays]
    _linear.backward(_settings(), *inside, *tape.order)  # type: ignore[arg-type, call-arg]
    return [
        None if da is None else _added_up(da, tape.a.shape, lengths),
        _added_up(db, tape.b_shape, lengths) if wanted[1] else None,
        None if dh0 is None or h0 is None else _added_up(dh0, h0.shape, None),
    ]


def _added_up(gradient: Array, to: tuple[int, ...], lengths: NDArray[np.int64] | None) -> Array:
    """The gradient of an argument of shape `to` that was broadcast: steps, then sequences, then units."""
    rank = gradient.ndim
    kept = (1,) * (rank - len(to)) + to
    found = gradient.reshape(gradient.shape + (1,) * (3 - rank))
    for axis in range(rank):
        if kept[axis] == 1 and gradient.shape[axis] != 1:
            sums = memory.zeros((*found.shape[:axis], 1, *found.shape[axis + 1 :]), gradient.dtype)
            _linear.add_up(_settings(), found, sums, axis, lengths if axis == 0 else None)
            found = sums
    return found.reshape(to)

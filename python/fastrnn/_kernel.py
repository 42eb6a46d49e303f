"""Calls of the core with memory: packing, scratch, reserve, direction. The caller has checked the arguments."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core, memory
from ._check import Array
from .config import backend_index, get_num_threads, team_index
from .schedule import Batch, Integers, Part


class Weights(NamedTuple):
    """The parameters of one layer in one direction, in torch's layout: (G*H, I), (G*H, H), (G*H,), (G*H,)."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None


class WeightGradients(NamedTuple):
    """Gradients in the same layout as `Weights`. None: not wanted."""

    w_ih: Array | None = None
    w_hh: Array | None = None
    b_ih: Array | None = None
    b_hh: Array | None = None


HAS_C = frozenset(name for name, cell in _core.cells().items() if len(cell.states) == 2)


class States(NamedTuple):
    """h and c of one layer in one direction, (B, H) each. None: zero as an input, not wanted as an output."""

    h: Array | None
    c: Array | None = None


class BackwardArrays(NamedTuple):
    """Arrays of a backward call. It overwrites dx and `initial`, and adds to `into` or overwrites it."""

    dy: Array | None
    final: States  # gradients of the final states
    dx: Array | None
    initial: States  # gradients of the initial states
    into: WeightGradients
    overwrite: bool

    def in_order(self, batch: Batch) -> BackwardArrays:
        """The arrays with dy and dx in the order of the core."""
        dy, dx = (None if a is None else in_order(a, batch) for a in (self.dy, self.dx))
        return self._replace(dy=dy, dx=dx)


class _Scratch(threading.local):
    """One buffer for each thread, which only grows: fresh pages would take longer than a small call."""

    buffer: NDArray[np.uint8] = np.empty(0, np.uint8)

    def at_least(self, size: int) -> NDArray[np.uint8]:
        if self.buffer.size < size:
            self.buffer = np.empty(size, np.uint8)
        return self.buffer


_scratch = _Scratch()
_core.leave_scratch_to_calls(_scratch)


def in_order(sequence: Array, batch: Batch) -> Array:
    """The sequence in the order of the core: a dense reverse direction runs over a reversed view."""
    return sequence[::-1] if batch.flipped else sequence


def scratch_of(size: int) -> NDArray[np.uint8]:
    """Scratch of the calling thread, of at least this many bytes."""
    return _scratch.at_least(size)


def make_problem(
    cell: str,
    x: Array,
    H: int,
    part: Part | None,
    backend: int | None = None,
    states: int | None = None,
    d_states: int | None = None,
) -> _core.Problem:
    """A call over x (T, B, I). `part` None means dense; `backend` None means the backend in use."""
    chosen = backend_index() if backend is None else backend, get_num_threads()
    T, B, I = x.shape
    return _core.Problem(cell, x.dtype, *chosen, T, B, I, H, part, team_index(), states, d_states)


def pack_forward(cell: str, weights: Weights) -> NDArray[np.uint8]:
    """The weights packed for forward, for the backend in use."""
    problem = _packing(cell, weights)
    packed = memory.empty((problem.packed_forward,), memory.BYTES)
    _core.pack_forward(problem, *weights, packed)
    return packed


def pack_backward(cell: str, weights: Weights, backend: int | None = None) -> NDArray[np.uint8]:
    """The weights packed for backward; `backend` None means the backend in use."""
    problem = _packing(cell, weights, backend)
    packed = memory.empty((problem.packed_backward,), memory.BYTES)
    _core.pack_backward(problem, *weights, packed)
    return packed


def _packing(cell: str, weights: Weights, backend: int | None = None) -> _core.Problem:
    dtype, H, I = weights.w_hh.dtype, weights.w_hh.shape[1], weights.w_ih.shape[1]
    chosen = backend_index() if backend is None else backend, get_num_threads()
    return _core.Problem(cell, dtype, *chosen, 0, 0, I, H, None, team_index())


def pass_empty_through(
    batch: Batch, states: Sequence[Array | None], to: Sequence[Array | None], starts: Sequence[float] = ()
) -> None:
    """Pass states (…, B, H), or their gradients, through sequences of no steps; an absent state is its start value."""
    if not batch.has_empty:
        return
    empty = batch.all_lengths == 0
    for source, target, start in zip(states, to, starts or [0] * len(to), strict=True):
        if target is not None:
            target[..., empty, :] = start if source is None else source[..., empty, :]


def gathered(states: States, rows: Integers, H: int, dtype: np.dtype[Any], *, has_c: bool) -> States:
    """Matrices of the states in these rows; zero for -1 and for an absent member."""
    found = States(np.zeros((len(rows), H), dtype), np.zeros((len(rows), H), dtype) if has_c else None)
    for member, matrix in zip(states, found, strict=True):
        if member is not None and matrix is not None:
            matrix[rows >= 0] = member[rows[rows >= 0]]
    return found


def scattered(states: States, rows: Integers, to: States) -> None:
    """The inverse of `gathered`: overwrites these rows of `to`, except for -1."""
    for member, target in zip(states, to, strict=True):
        if member is not None and target is not None:
            target[rows[rows >= 0]] = member[rows >= 0]


def first_rows(states: States, count: int) -> States:
    """Views of the first `count` rows."""
    return States(*(None if member is None else member[:count] for member in states))

"""Calls of the core with memory: packing, scratch, reserve, direction. The caller has checked the arguments."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core, memory
from ._check import Array
from .config import backend_index, cut_index, get_num_threads
from .schedule import Batch, Integers
from .weights import CoreCell, Parameters, sizes_of

# Matrices (B, H) of one layer in one direction, one for each state of the cell. None: the start value as an input, not
# wanted as an output.
States = tuple[Array | None, ...]


class BackwardArrays(NamedTuple):
    """Arrays of a backward call. It overwrites dx and `initial`, and adds to `into` or overwrites it."""

    dy: Array | None
    final: States  # gradients of the final states
    dx: Array | None
    initial: States  # of the initial ones
    into: Parameters  # of the parameters; None: not wanted
    overwrite: bool
    inputs: tuple[Array | None, ...] = ()  # of the cell's inputs of each step, (T, B, H); None: not wanted

    def in_order(self, batch: Batch) -> BackwardArrays:
        """The arrays with those of all steps in the order of the core."""
        dy, dx, *inputs = (None if a is None else in_order(a, batch) for a in (self.dy, self.dx, *self.inputs))
        return self._replace(dy=dy, dx=dx, inputs=tuple(inputs))


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


def pack_forward(cell: CoreCell, parameters: Parameters) -> NDArray[np.uint8]:
    """The parameters of one layer in one direction as forward reads them, for the backend in use."""
    problem = _packing(cell, parameters)
    packed = memory.empty((problem.packed_forward,), memory.BYTES)
    _core.pack_forward(problem, parameters, packed)
    return packed


def pack_backward(cell: CoreCell, parameters: Parameters, backend: int | None = None) -> NDArray[np.uint8]:
    """The same as backward reads them; `backend` None: the backend in use."""
    problem = _packing(cell, parameters, backend)
    packed = memory.empty((problem.packed_backward,), memory.BYTES)
    _core.pack_backward(problem, parameters, packed)
    return packed


def _packing(cell: CoreCell, parameters: Parameters, backend: int | None = None) -> _core.Problem:
    I, H = sizes_of(cell, parameters)
    dtype = next(one.dtype for one in parameters if one is not None)
    chosen = backend_index() if backend is None else backend, get_num_threads()
    return _core.Problem(cell, dtype, *chosen, 0, 0, I, H, None, cut_index())


def pass_empty_through(
    batch: Batch, states: States, to: States, starts: Sequence[float], *, fill: float | None = None
) -> None:
    """Sequences of no steps hand on their states (B, H), and the gradients of them; `starts` stand for absent ones.

    fill: for the other rows; None: they stay.
    """
    empty = batch.all_lengths == 0
    for source, target, start in zip(states, to, starts, strict=True):
        if target is None:
            continue
        if fill is not None:
            target[...] = fill
        if batch.has_empty:
            target[empty] = start if source is None else source[empty]


def gathered(states: States, rows: Integers, H: int, dtype: np.dtype[Any], starts: Sequence[float]) -> States:
    """Matrices of the states in these rows; the start values for -1 and for an absent member."""
    found = tuple(np.full((len(rows), H), start, dtype) for start in starts)
    for member, matrix in zip(states, found, strict=True):
        if member is not None:
            matrix[rows >= 0] = member[rows[rows >= 0]]
    return found


def scattered(states: States, rows: Integers, to: States) -> None:
    """The inverse of `gathered`: overwrites these rows of `to`, except for -1."""
    for member, target in zip(states, to, strict=True):
        if member is not None and target is not None:
            target[rows[rows >= 0]] = member[rows >= 0]


def first_rows(states: States, count: int) -> States:
    """Views."""
    return tuple(None if member is None else member[:count] for member in states)

"""Calls of the core with memory: packing, scratch, reserve, direction. Arguments have been checked by the caller."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._check import Array
from .config import backend_index, get_num_threads
from .tape import CellTape


class Weights(NamedTuple):
    """The parameters of one layer in one direction, in torch's layout: (G*H, I), (G*H, H), (G*H,), (G*H,)."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None


class WeightGradients(NamedTuple):
    """Gradients in the same layout. None: not wanted."""

    w_ih: Array | None = None
    w_hh: Array | None = None
    b_ih: Array | None = None
    b_hh: Array | None = None


class States(NamedTuple):
    """h and c of one layer in one direction, (B, H) each. None: zero as an input, not wanted as an output."""

    h: Array | None
    c: Array | None = None


class _Scratch(threading.local):
    """One buffer for each thread, which only grows: fresh pages would cost more than a small call."""

    buffer: NDArray[np.uint8] = np.empty(0, np.uint8)

    def at_least(self, size: int) -> NDArray[np.uint8]:
        if self.buffer.size < size:
            self.buffer = np.empty(size, np.uint8)
        return self.buffer


_scratch = _Scratch()


def _in_order(sequence: Array, reverse: bool) -> Array:
    """The reverse direction is the same loop over a view that runs backwards."""
    return sequence[::-1] if reverse else sequence


def run_forward(
    cell: str, x: Array, weights: Weights, initial: States, y: Array, final: States, *, reverse: bool, training: bool
) -> CellTape | None:
    """Fills y (T, B, H) and the final states; returns a tape when training."""
    (T, B, I), H = x.shape, weights.w_hh.shape[1]
    x, y = _in_order(x, reverse), _in_order(y, reverse)
    problem = _core.Problem(cell, x.dtype, backend_index(), get_num_threads(), T, B, I, H)
    packed = np.empty(problem.packed_forward, np.uint8)
    reserve = np.empty(problem.reserve, np.uint8) if training and problem.reserve else None
    _core.pack_forward(problem, *weights, packed)
    scratch = _scratch.at_least(problem.scratch_forward)
    _core.forward(problem, packed, x, *initial, y, *final, reserve, scratch)
    if not training:
        return None
    packed_backward = np.empty(problem.packed_backward, np.uint8)
    _core.pack_backward(problem, *weights, packed_backward)
    has_bias = (weights.b_ih is not None, weights.b_hh is not None)
    return CellTape(cell, problem, packed_backward, x, *initial, y, reserve, (T, B, I, H), x.dtype, has_bias, reverse)


def run_backward(
    tape: CellTape, dy: Array | None, d_final: States, dx: Array | None, d_initial: States, into: WeightGradients
) -> None:
    """Overwrites dx and d_initial, adds to `into`."""
    dy = None if dy is None else _in_order(dy, tape.reverse)
    dx = None if dx is None else _in_order(dx, tape.reverse)
    _core.backward(
        tape.problem,
        tape.packed,
        tape.x,
        tape.h0,
        tape.c0,
        tape.y,
        tape.reserve,
        dy,
        *d_final,
        dx,
        *d_initial,
        *into,
        _scratch.at_least(tape.problem.scratch_backward),
    )

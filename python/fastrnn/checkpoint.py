"""Sequences longer than memory: forward keeps the states of every n-th step alone, backward computes the rest again.

A schedule is cut into chunks of n steps. Forward runs them one after the other and keeps the states before each.
Backward takes a group of chunks at a time, last first, on a grid of the group's rows alone, in the order of the
schedule: it runs forward again, the chunks of the group side by side, and then backward through all of the group's
steps. Both give the bits of the one long call, since every chain and every sum over rows goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core, memory
from ._check import Array
from ._kernel import (
    States,
    WeightGradients,
    Weights,
    in_order,
    make_problem,
    pack_backward,
    pack_forward,
    pass_empty_through,
    scratch_of,
)
from .schedule import Batch, Integers, Part

# Rows that are computed again at a time: what they need is kept below this.
GROUP_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """One part of a batch: its schedule in chunks of n steps, and the states before each."""

    part: Part
    n: int
    starts: list[States] | None  # before each chunk, (active, H); None for n = 1: they are in y and c
    c: Array | None  # for n = 1, of cells with c: after every row (T, B, H)

    @property
    def steps(self) -> int:
        return len(self.part.active)

    @property
    def offset(self) -> Integers:
        """Where each step's rows begin."""
        return np.concatenate([[0], np.cumsum(self.part.active)])


@dataclass(frozen=True, eq=False)
class CheckpointTape:
    """What `run_forward_checkpointed` keeps: it refers to x, the initial state and y, as a tape does."""

    cell: str
    packed: NDArray[np.uint8]  # for forward
    packed_backward: NDArray[np.uint8]
    x: Array
    h0: Array | None
    c0: Array | None
    y: Array
    sizes: tuple[int, int, int, int]  # T, B, I, H
    dtype: np.dtype[Any]
    has_bias: tuple[bool, bool]
    batch: Batch
    checkpoints: list[Checkpoints]
    backend: int


def run_forward_checkpointed(
    cell: str,
    x: Array,
    weights: Weights,
    packed: NDArray[np.uint8] | None,
    packed_backward: NDArray[np.uint8] | None,
    y: Array,
    initial: States,
    final: States,
    batch: Batch,
    n: int,
) -> CheckpointTape:
    """As `run_forward` when training, with states kept every n steps instead of a reserve."""
    H = weights.w_hh.shape[1]
    x, y = in_order(x, batch), in_order(y, batch)
    backend = make_problem(cell, x, H, None).backend
    packed = pack_forward(cell, weights) if packed is None else packed
    packed_backward = pack_backward(cell, weights) if packed_backward is None else packed_backward
    pass_empty_through(batch, initial, final)
    if len(x) == 0:
        for source, target in zip(initial, final, strict=True):
            if target is not None:
                target[...] = 0 if source is None else source
    checkpoints = [_forward_part(cell, x, packed, y, initial, final, part, n) for part in batch.whole_parts]
    has_bias = (weights.b_ih is not None, weights.b_hh is not None)
    return CheckpointTape(
        cell, packed, packed_backward, x, *initial, y, (*x.shape, H), x.dtype, has_bias, batch, checkpoints, backend
    )


def _forward_part(
    cell: str, x: Array, packed: Any, y: Array, initial: States, final: States, part: Part, n: int
) -> Checkpoints:
    states = _gathered(initial, part.first, final)
    c_rows = memory.empty(y.shape, y.dtype) if n == 1 and final.c is not None else None
    cut = Checkpoints(part, n, None if n == 1 else [], c_rows)
    length = cut.steps if n == 1 else n
    for begin in range(0, cut.steps, length):
        active = part.active[begin : begin + length]
        running = _first_of(states, active[0])
        if cut.starts is not None:
            cut.starts.append(States(*(None if s is None else s.copy() for s in running)))
        every = np.arange(active[0])
        offset = cut.offset
        row = part.row[offset[begin] : offset[begin + len(active)]]
        problem = make_problem(cell, x, y.shape[2], Part(active, row, every, every, 0 * every), states=len(every))
        scratch = scratch_of(problem.scratch_forward)
        _core.forward(problem, packed, x, *running, y, *running, None, scratch, c_rows)
    _scatter(states, part.last, final)
    return cut


def run_backward_checkpointed(
    tape: CheckpointTape, dy: Array | None, d_final: States, dx: Array | None, d_initial: States, into: WeightGradients
) -> None:
    """As `run_backward` over the whole of the batch."""
    dy = None if dy is None else in_order(dy, tape.batch)
    dx = None if dx is None else in_order(dx, tape.batch)
    for array in (dx, *d_initial):
        if array is not None:
            array[...] = 0
    if len(tape.x) == 0:
        for source, target in zip(d_final, d_initial, strict=True):
            if target is not None and source is not None:
                target[...] = source
    like = States(tape.y, tape.y if _core.cells()[tape.cell].states == 2 else None)
    for cut in tape.checkpoints:
        gradient = _gathered(d_final, cut.part.last, like)
        group = max(1, GROUP_BYTES // _bytes_per_chunk(tape, cut))
        chunks = range(0, cut.steps, cut.n)
        for first in reversed(range(0, len(chunks), group)):
            begin, end = chunks[first], min(chunks[first] + group * cut.n, cut.steps)
            gradient = _backward_group(tape, cut, begin, end, gradient, dy, dx, into)
        _scatter(gradient, cut.part.first, d_initial)


def _bytes_per_chunk(tape: CheckpointTape, cut: Checkpoints) -> int:
    _, _, I, H = tape.sizes
    return int(cut.n * cut.part.active[0]) * (2 * I + 8 * H) * tape.dtype.itemsize


def _backward_group(
    tape: CheckpointTape,
    cut: Checkpoints,
    begin: int,
    end: int,
    gradient: States,
    dy: Array | None,
    dx: Array | None,
    into: WeightGradients,
) -> States:
    """Steps begin … end - 1: forward again, then backward; `gradient` (sequences, H) is updated to before them."""
    B, H = tape.sizes[1], tape.sizes[3]
    active, offset = cut.part.active[begin:end], cut.offset
    t, b = np.divmod(cut.part.row[offset[begin] : offset[end]], B)
    x, y = tape.x[t, b][:, np.newaxis], memory.empty((len(t), 1, H), tape.dtype)
    starts = _starts(tape, cut, begin, end)
    pieces = _pieces(active, cut.n)
    problem = make_problem(tape.cell, x, H, pieces, backend=tape.backend, states=len(pieces.first))
    reserve = memory.empty((problem.reserve,), memory.BYTES) if problem.reserve else None
    _core.forward(problem, tape.packed, x, *starts, y, None, None, reserve, scratch_of(problem.scratch_forward))
    every = np.arange(active[0])
    part = Part(active, np.arange(len(t)), every, every, 0 * every)
    problem = make_problem(tape.cell, x, H, part, backend=tape.backend, states=len(every))
    before, after = _first_of(starts, len(every)), _first_of(gradient, len(every))
    d_before = States(*(None if s is None else np.empty((len(every), H), tape.dtype) for s in gradient))
    d_rows = None if dy is None else dy[t, b][:, np.newaxis]
    dx_rows = None if dx is None else memory.empty(x.shape, x.dtype)
    scratch = scratch_of(problem.scratch_backward)
    _core.backward(
        problem, tape.packed_backward, x, *before, y, reserve, d_rows, *after, dx_rows, *d_before, *into, scratch
    )
    if dx is not None and dx_rows is not None:
        dx[t, b] = dx_rows[:, 0]
    for total, before_it in zip(gradient, d_before, strict=True):
        if total is not None and before_it is not None:
            total[: len(every)] = before_it
    return gradient


def _starts(tape: CheckpointTape, cut: Checkpoints, begin: int, end: int) -> States:
    """The states before each chunk of steps begin … end - 1, chunk after chunk."""
    if cut.starts is not None:
        chosen = cut.starts[begin // cut.n : -(-end // cut.n)]
        return States(*(None if m[0] is None else np.concatenate(m) for m in zip(*chosen, strict=True)))
    offset, active, B = cut.offset, cut.part.active, tape.sizes[1]
    earlier = [cut.part.row[offset[s - 1] : offset[s - 1] + active[s]] for s in range(max(begin, 1), end)]
    t, b = np.divmod(np.concatenate([np.empty(0, np.int64), *earlier]), B)
    found = States(tape.y[t, b], None if cut.c is None else cut.c[t, b])
    if begin > 0:
        return found
    initial = _gathered(States(tape.h0, tape.c0), cut.part.first, found)
    return States(*(None if a is None else np.concatenate([a, f]) for a, f in zip(initial, found, strict=True)))


def _pieces(active: Integers, n: int) -> Part:
    """Chunks of n steps side by side, longest first, on a grid whose rows are those of the steps in order."""
    offset = np.concatenate([[0], np.cumsum(active)])
    first_step = np.repeat(np.arange(0, len(active), n), active[::n])
    sequence = np.concatenate([np.arange(count) for count in active[::n]])
    length = np.concatenate(
        [(active[s : s + n, np.newaxis] > np.arange(active[s])).sum(0) for s in range(0, len(active), n)]
    )
    order = np.argsort(-length, kind="stable")
    running = (length[order] > np.arange(length.max())[:, np.newaxis]).sum(1)
    step = np.repeat(np.arange(len(running)), running)
    i = order[np.arange(len(step)) - np.repeat(np.cumsum(running) - running, running)]
    nowhere = np.full(len(order), -1)
    return Part(running, offset[first_step[i] + step] + sequence[i], order, nowhere, np.zeros_like(order))


def _gathered(states: States, rows: Integers, like: States) -> States:
    """A matrix of the states in these rows; zero for -1 and for an absent member; None where `like` is."""
    found: list[Array | None] = []
    for member, model in zip(states, like, strict=True):
        if model is None:
            found.append(None)
            continue
        matrix = np.zeros((len(rows), model.shape[-1]), model.dtype)
        if member is not None:
            matrix[rows >= 0] = member[rows[rows >= 0]]
        found.append(matrix)
    return States(*found)


def _scatter(states: States, rows: Integers, to: States) -> None:
    for member, target in zip(states, to, strict=True):
        if member is not None and target is not None:
            target[rows[rows >= 0]] = member[rows >= 0]


def _first_of(states: States, count: int) -> States:
    return States(*(None if member is None else member[:count] for member in states))

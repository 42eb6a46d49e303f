"""Backward of a tape with checkpoints, which recomputes the gates from the kept states.

Backward takes a group of a part's steps at a time, last group first. The chunks that hold the group's rows run forward
again, side by side, on a small grid; then the group runs backward there. Every chain and every sum over rows continues
where the previous group stopped, so the bits are those of a tape that kept everything.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import _core, memory
from ._check import Array
from ._core import Schedules
from ._kernel import (
    BackwardArrays,
    States,
    first_rows,
    gathered,
    pass_empty_through,
    scattered,
    scratch_of,
)
from .checkpoint import CheckpointTape
from .schedule import Integers, Part, stage_of

# The limit of memory that is recomputed at a time, unless the n steps between two checkpoints need more.
GROUP_BYTES = 8 << 20
# The same limit if nothing is gathered: the size of the second-level caches, but with enough rows for large products.
DENSE_GROUP_BYTES, DENSE_GROUP_ROWS = 2 << 20, 512


class StagedBackward:
    """Backward of one layer in one direction, stage by stage, as the core runs schedules (csrc/parts.c).

    schedules: None: all steps of a dense batch. arrays: dy and dx are those of `run`.
    """

    def __init__(self, tape: CheckpointTape, schedules: Schedules | None, arrays: BackwardArrays) -> None:
        self.tape, self.schedules, self.arrays = tape, schedules, arrays
        self.incoming, self.outgoing, self.overwrite = arrays.final, arrays.initial, arrays.overwrite
        if schedules is None:
            return
        pass_empty_through(tape.batch, arrays.final, arrays.initial, tape.no_gradients, fill=0)
        if arrays.overwrite and tape.batch.steps == 0:
            for gradient in arrays.into:
                if gradient is not None:
                    gradient[...] = 0
        if schedules.d_states:
            self.incoming, self.outgoing = (self._between_stages() for _ in range(2))

    def _between_stages(self) -> States:
        """The gradients of states that a stage reads, or writes, with those of the final states in place."""
        rows, H = (self.schedules.d_states if self.schedules else 0), self.tape.sizes[3]
        found = []
        for given in self.arrays.final:
            matrix = memory.empty((rows, H), self.tape.dtype)
            matrix[: self.tape.batch.B] = 0 if given is None else given
            found.append(matrix)
        return tuple(found)

    def run(self, number: int, dy: Array | None, dx: Array | None) -> None:
        """Stage `number`; -1: all of them."""
        if self.schedules is None:
            self._run_part(None, dy, dx, is_whole=True)
        elif number >= 0:
            self._run_stage(number, dy, dx)
        else:
            for stage in range(self.schedules.stage_count):
                self._run_stage(stage, dy, dx if self.schedules.is_whole(stage) else None)

    def _run_stage(self, number: int, dy: Array | None, dx: Array | None) -> None:
        assert self.schedules is not None
        stage = stage_of(self.schedules, number)
        for part in stage.parts:
            self._run_part(part, dy, dx, is_whole=stage.is_whole)
        if stage.initial is None:
            return
        for member, matrix in zip(self.arrays.initial, self.outgoing, strict=True):
            if member is not None and matrix is not None:
                member[stage.initial] = matrix[self.tape.batch.B + stage.initial]
        self.incoming, self.outgoing = self.outgoing, self.incoming

    def _run_part(self, part: Part | None, dy: Array | None, dx: Array | None, *, is_whole: bool) -> None:
        into = self.arrays.into if is_whole else tuple(None for _ in self.arrays.into)
        inputs = self.arrays.inputs if is_whole else ()
        overwrite = self.overwrite and is_whole
        backward_part(self.tape, part, BackwardArrays(dy, self.incoming, dx, self.outgoing, into, overwrite, inputs))
        self.overwrite = self.overwrite and not is_whole


def backward_part(tape: CheckpointTape, part: Part | None, arrays: BackwardArrays) -> None:
    """Run backward for one part of a stage; None means all steps of a dense batch."""
    arrays = arrays.in_order(tape.batch)
    if part is not None:
        _backward_part(tape, part, arrays)
        return
    for target, source in zip(arrays.initial, arrays.final, strict=True):
        if target is not None:
            target[...] = 0 if source is None else source  # for sequences of no steps
    for gradient in arrays.into:
        if gradient is not None and arrays.overwrite:
            gradient[...] = 0
    if tape.batch.dense and tape.checkpoints.n == 1 and tape.checkpoints.parts:
        _backward_dense(tape, arrays._replace(overwrite=False))
        return
    for whole in tape.checkpoints.parts:
        _backward_part(tape, whole, arrays._replace(overwrite=False))


def _backward_dense(tape: CheckpointTape, arrays: BackwardArrays) -> None:
    """The states before every step are kept, so all steps of a group run forward at once, as a batch of one step.

    Rows stay in place, so nothing is gathered or scattered.
    """
    T, B, I, H = tape.sizes
    # Gradients of states go from group to group, also where nobody wants those of the initial states.
    gradients = tuple(memory.empty((B, H), tape.dtype) if one is None else one for one in arrays.initial)
    arrays = arrays._replace(initial=gradients)
    rows = DENSE_GROUP_BYTES // max(1, (2 * I + 8 * H) * tape.dtype.itemsize)
    length = -(-max(rows, DENSE_GROUP_ROWS) // B)
    for begin in reversed(range(0, T, length)):
        end = min(begin + length, T)
        x, inputs = np.ascontiguousarray(tape.x[begin:end]), tuple(one[begin:end] for one in tape.inputs)
        states = zip(tape.initial, tape.states_after, tape.start_values, strict=True)
        starts = tuple(
            None if rows is None else _before(start if initial is None else initial, rows, begin, end)
            for initial, rows, start in states
        )
        again, reserve = _steps_at_once(tape, x, inputs, starts)
        problem = tape.problem(x)
        dy, dx, *d_inputs = (None if a is None else a[begin:end] for a in (arrays.dy, arrays.dx, *arrays.inputs))
        first = tuple(None if member is None else member[0] for member in starts)
        scratch = scratch_of(problem.scratch_backward)
        _core.backward(
            problem, tape.packed, x, first, again, reserve, dy, arrays.final, dx, arrays.initial, arrays.into, scratch,
            inputs=inputs, options=tape.options, d_inputs=d_inputs,
        )  # fmt: skip
        arrays = arrays._replace(final=arrays.initial)


def _steps_at_once(
    tape: CheckpointTape, x: Array, inputs: tuple[Array, ...], starts: States
) -> tuple[Array, Array | None]:
    """Run steps (T, B, I) from known states before each step; returns y and the reserve."""
    T, B, I = x.shape
    H = tape.sizes[3]
    x, y = x.reshape(1, T * B, I), memory.empty((1, T * B, H), tape.dtype)
    problem = tape.problem(x)
    reserve = memory.empty_on_a_line(problem.reserve) if problem.reserve else None
    starts = tuple(None if member is None else member.reshape(T * B, H) for member in starts)
    inputs = tuple(one.reshape(1, T * B, one.shape[2]) for one in inputs)
    scratch = scratch_of(problem.scratch_forward)
    _core.forward(
        problem, tape.packed_forward, x, starts, y, None, reserve, scratch, inputs=inputs, options=tape.options
    )
    return y.reshape(T, B, H), reserve


def _before(initial: Array | float, states: Array, begin: int, end: int) -> Array:
    """The states (T, B, H) before the steps [begin, end), contiguous."""
    if begin > 0:
        return np.ascontiguousarray(states[begin - 1 : end - 1])
    found = memory.empty((end, *states.shape[1:]), states.dtype)
    found[0] = initial
    found[1:] = states[: end - 1]
    return found


def _backward_part(tape: CheckpointTape, part: Part, arrays: BackwardArrays) -> None:
    _, _, I, H = tape.sizes
    n, steps = tape.checkpoints.n, len(part.active)
    offset = np.concatenate([[0], np.cumsum(part.active)])
    gradient = gathered(arrays.final, part.last, H, tape.dtype, tape.no_gradients)
    bytes_per_step = int(part.active[0]) * (2 * I + 8 * H) * tape.dtype.itemsize
    length = max(1, GROUP_BYTES // bytes_per_step // n) * n
    for begin in reversed(range(0, steps, length)):
        end = min(begin + length, steps)
        running = first_rows(gradient, int(part.active[begin]))
        group = arrays._replace(final=running, initial=running)
        _backward_group(tape, part.active[begin:end], part.row[offset[begin] : offset[end]], group)
        arrays = arrays._replace(overwrite=False)
    d_first = np.where(part.first < tape.batch.B, part.first, -1) if part.d_first is None else part.d_first
    scattered(gradient, d_first, arrays.initial)


def _backward_group(tape: CheckpointTape, active: Integers, rows: Integers, arrays: BackwardArrays) -> None:
    """Run backward for these rows; the gradients of the states after them become the gradients before them."""
    grid = _compute_again(tape, rows)
    t, b = np.divmod(rows, tape.sizes[1])
    every = np.arange(int(active[0]))
    part = Part(active, grid.row, grid.first[: len(every)], every, every)
    problem = tape.problem(grid.x, part, grid.chunks, len(every))
    d_rows = dx_rows = None
    if arrays.dy is not None:
        d_rows = memory.empty(grid.y.shape, tape.dtype)
        d_rows[grid.row, 0] = arrays.dy[t, b]
    if arrays.dx is not None:
        dx_rows = memory.empty(grid.x.shape, tape.dtype)
    d_inputs = [None if one is None else memory.empty(grid.y.shape, tape.dtype) for one in arrays.inputs]
    before = tuple(None if member is None else np.empty_like(member) for member in arrays.final)
    scratch = scratch_of(problem.scratch_backward)
    _core.backward(
        problem, tape.packed, grid.x, grid.starts, grid.y, grid.reserve, d_rows, arrays.final, dx_rows, before,
        arrays.into, scratch, arrays.overwrite, inputs=grid.inputs, options=tape.options, d_inputs=d_inputs,
    )  # fmt: skip
    for target, found in zip(arrays.inputs, d_inputs, strict=True):
        if target is not None and found is not None:
            target[t, b] = found[grid.row, 0]
    if arrays.dx is not None and dx_rows is not None:
        arrays.dx[t, b] = dx_rows[grid.row, 0]
    for member, found in zip(arrays.initial, before, strict=True):
        if member is not None:
            member[...] = found


class _Grid(NamedTuple):
    """Recomputed chunks. x, inputs, y: (rows, 1, n); starts: the states before each chunk, (chunks, H).

    For each requested row, the grid has the row's number here, and the starting state of a sequence that begins with
    it, in the numbers of ``struct fastrnn_schedule``.
    """

    x: Array
    inputs: tuple[Array, ...]
    y: Array
    reserve: Array | None
    starts: States
    chunks: int
    row: Integers
    first: Integers


def _compute_again(tape: CheckpointTape, rows: Integers) -> _Grid:
    """Recompute the chunks that hold these rows, side by side, as far as the rows need them."""
    index, H = tape.index, tape.sizes[3]
    chunks, which = np.unique(index.chunk[rows], return_inverse=True)
    step = index.step[rows]
    length = np.zeros(len(chunks), np.int64)
    np.maximum.at(length, which, step + 1)
    order = np.argsort(-length, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    chunks, length = chunks[order], length[order]
    active = len(length) - np.searchsorted(length[::-1], np.arange(length[0]), side="right")
    offset = np.concatenate([[0], np.cumsum(active)])
    at_step = np.repeat(np.arange(len(active)), active)
    at_rank = np.arange(len(at_step)) - offset[at_step]
    t, b = np.divmod(index.rows_of(chunks[at_rank], at_step), tape.sizes[1])
    x, y = tape.x[t, b][:, np.newaxis], memory.empty((len(t), 1, H), tape.dtype)
    inputs = tuple(one[t, b][:, np.newaxis] for one in tape.inputs)
    starts = tape.starts_of(chunks)
    every = np.arange(len(chunks))
    part = Part(active, np.arange(len(t)), every, np.full_like(every, -1))
    problem = tape.problem(x, part, len(chunks))
    reserve = memory.empty_on_a_line(problem.reserve) if problem.reserve else None
    scratch = scratch_of(problem.scratch_forward)
    _core.forward(
        problem, tape.packed_forward, x, starts, y, None, reserve, scratch, inputs=inputs, options=tape.options
    )
    row = offset[step] + rank[which]
    first = np.where(step > 0, len(chunks) + offset[step - 1] + rank[which], rank[which])
    return _Grid(x, inputs, y, reserve, starts, len(chunks), row, first)

"""Sequences longer than memory: forward keeps the states of every n-th step alone.

A schedule is cut into chunks of n steps, which run one after the other; the states before each are kept, instead of a
reserve. `recompute.py` is the backward of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core, memory
from ._check import Array
from ._kernel import (
    States,
    first_rows,
    gathered,
    in_order,
    pack_backward,
    pack_forward,
    pass_empty_through,
    scattered,
    scratch_of,
)
from .config import backend_index, cut_index, get_num_threads
from .schedule import Batch, Integers, Part, stage_of
from .weights import CoreCell, Parameters, row_of, sizes_of


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """The states that are kept, and how they are numbered.

    A *chunk* is up to n steps of one sequence of a part. Chunks are numbered part by part, step by step, sequence by
    sequence.
    """

    n: int
    parts: list[Part]
    starts: States | None  # before each chunk, (chunks, H); None for n = 1: they are in y and `after`
    after: States  # for n = 1: of each state but y, after every row (T, B, H)


@dataclass(frozen=True, eq=False)
class CheckpointTape:
    """What `run_forward_checkpointed` keeps: it refers to x and y, as a tape does, and has its own initial states."""

    cell: CoreCell
    packed_forward: NDArray[np.uint8]
    packed: NDArray[np.uint8]  # for backward
    x: Array
    initial: States
    y: Array
    sizes: tuple[int, int, int, int]  # T, B, I, H
    dtype: np.dtype[Any]
    batch: Batch
    checkpoints: Checkpoints
    backend: int
    inputs: tuple[Array, ...] = ()  # of each step (T, B, H) or (T, B, 1), in the order of the core
    options: tuple[float, ...] = ()

    def __reduce__(self) -> Any:
        raise TypeError("tape: it belongs to its process and cannot be pickled")

    def problem(
        self, x: Array, part: Part | None = None, states: int | None = None, d_states: int | None = None
    ) -> _core.Problem:
        """A call of the core over x (T, B, I); `part` None: dense."""
        T, B, I = x.shape
        chosen = self.backend, get_num_threads()
        return _core.Problem(
            self.cell, self.dtype, *chosen, T, B, I, self.sizes[3], part, cut_index(), states, d_states
        )

    @property
    def start_values(self) -> tuple[float, ...]:
        """Of the states."""
        return row_of(self.cell).starts

    @property
    def no_gradients(self) -> tuple[float, ...]:
        """The gradients of absent states."""
        return (0.0,) * len(self.start_values)

    @property
    def kept_bytes(self) -> int:
        """Of the states that are kept."""
        arrays = *(self.checkpoints.starts or ()), *self.checkpoints.after
        return sum(array.nbytes for array in arrays if array is not None)

    @cached_property
    def index(self) -> ChunkIndex:
        """Computed at the first backward."""
        return _index_of(self.checkpoints, self.sizes[0] * self.sizes[1], self.sizes[1])

    def starts_of(self, chunks: Integers) -> States:
        """The states before these chunks, (chunks, H)."""
        kept, H, B = self.checkpoints, self.sizes[3], self.sizes[1]
        if kept.starts is not None:
            return tuple(None if member is None else member[chunks] for member in kept.starts)
        first = self.index.first[chunks]
        states = gathered(self.initial, np.where(first < B, first, -1), H, self.dtype, self.start_values)
        t, b = np.divmod(first[first >= B] - B, B)
        for member, rows in zip(states, self.states_after, strict=True):
            if member is not None and rows is not None:
                member[first >= B] = rows[t, b]
        return states

    @property
    def states_after(self) -> States:
        """For n = 1: each state after every row (T, B, H)."""
        return tuple(self.y if one is None else one for one in self.checkpoints.after)


@dataclass(frozen=True, eq=False)
class ChunkIndex:
    """Which chunk a row of the sequence tensors belongs to, and the rows of a chunk.

    Parts follow each other: step s of all parts visits the rows of `visited` from begin[s] on.
    """

    chunk: Integers  # of each row, (T*B,)
    step: Integers  # of each row, counted from the start of its chunk
    visited: Integers
    begin: Integers
    chunk_step: Integers  # of each chunk, its first step
    chunk_sequence: Integers
    first: Integers  # of each chunk, for n = 1: what it starts from, as in a schedule of B states

    def rows_of(self, chunks: Integers, step: Integers) -> Integers:
        """The rows of these chunks at these steps of theirs."""
        rows: Integers = self.visited[self.begin[self.chunk_step[chunks] + step] + self.chunk_sequence[chunks]]
        return rows


def _index_of(kept: Checkpoints, rows: int, B: int) -> ChunkIndex:
    chunk, step = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    begin, chunk_step, chunk_sequence, first = [], [], [], []
    steps = visits = chunks = 0
    for part in kept.parts:
        active, starting = part.active, part.active[:: kept.n]
        offset = np.cumsum(active) - active
        at = np.repeat(np.arange(len(active)), active)
        sequence = np.arange(len(at)) - offset[at]
        chunk[part.row] = chunks + (np.cumsum(starting) - starting)[at // kept.n] + sequence
        step[part.row] = at % kept.n
        begin.append(visits + offset)
        opens = at % kept.n == 0
        chunk_step.append(steps + at[opens])
        chunk_sequence.append(sequence[opens])
        if kept.n == 1:
            earlier = part.row[(offset[at - 1] + sequence)[at > 0]]
            first.append(np.concatenate([part.first, B + earlier]))
        steps, visits, chunks = steps + len(active), visits + len(at), chunks + int(starting.sum())
    visited = [part.row for part in kept.parts]
    return ChunkIndex(chunk, step, *map(_joined, (visited, begin, chunk_step, chunk_sequence, first)))


def _joined(arrays: list[Integers]) -> Integers:
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([np.empty(0, np.int64), *arrays])


def run_forward_checkpointed(
    cell: CoreCell,
    x: Array,
    weights: Parameters,
    packed: NDArray[np.uint8] | None,
    packed_backward: NDArray[np.uint8] | None,
    y: Array,
    initial: States,
    final: States,
    batch: Batch,
    n: int,
    inputs: tuple[Array, ...] = (),
    options: tuple[float, ...] = (),
) -> CheckpointTape:
    """As `run_forward` when training, with states kept every n steps instead of a reserve."""
    _, H = sizes_of(cell, weights)
    x, y = in_order(x, batch), in_order(y, batch)
    inputs, starts = tuple(in_order(one, batch) for one in inputs), row_of(cell).starts
    packed = pack_forward(cell, weights) if packed is None else packed
    packed_backward = pack_backward(cell, weights) if packed_backward is None else packed_backward
    pass_empty_through(batch, initial, final, starts)
    if len(x) == 0:
        for source, target, start in zip(initial, final, starts, strict=True):
            if target is not None:
                target[...] = start if source is None else source
    checkpoints = _new_checkpoints(cell, y, _parts_of(batch), n)
    initial = tuple(None if member is None else member.copy() for member in initial)
    tape = CheckpointTape(
        cell, packed, packed_backward, x, initial, y, (*x.shape, H), x.dtype, batch, checkpoints, backend_index(),
        inputs, options,
    )  # fmt: skip
    chunk = 0
    for part in checkpoints.parts:
        chunk = _forward_part(tape, part, chunk, final)
    return tape


def _parts_of(batch: Batch) -> list[Part]:
    """The parts of the batch; of a dense one, all sequences in one part, as the core's implicit schedule has them."""
    if not batch.dense:
        return stage_of(batch.schedules, 0).parts
    if batch.T * batch.B == 0:
        return []
    b = np.arange(batch.B)
    return [Part(np.full(batch.T, batch.B), np.arange(batch.T * batch.B), b, b)]


def _new_checkpoints(cell: CoreCell, y: Array, parts: list[Part], n: int) -> Checkpoints:
    row = row_of(cell)
    if n == 1:
        others = [None if k == row.output else memory.empty(y.shape, y.dtype) for k in range(len(row.states))]
        return Checkpoints(n, parts, None, tuple(others))
    shape = sum(int(part.active[::n].sum()) for part in parts), y.shape[2]
    return Checkpoints(n, parts, tuple(memory.empty(shape, y.dtype) for _ in row.states), ())


def _forward_part(tape: CheckpointTape, part: Part, chunk: int, final: States) -> int:
    """Fills the part's rows of y and of `final`, and the starts of its chunks; `chunk` is the number of the first.

    Returns the number after the last.
    """
    kept, H = tape.checkpoints, tape.sizes[3]
    states = gathered(tape.initial, part.first, H, tape.dtype, tape.start_values)
    steps = len(part.active)
    offset = np.concatenate([[0], np.cumsum(part.active)])
    length = steps if kept.starts is None else kept.n
    for begin in range(0, steps, length):
        active = part.active[begin : begin + length]
        count = int(active[0])
        running = first_rows(states, count)
        for member, starts in zip(running, kept.starts or (), strict=False):
            if member is not None and starts is not None:
                starts[chunk : chunk + count] = member
        chunk += count
        every = np.arange(count)
        row = part.row[offset[begin] : offset[begin + len(active)]]
        problem = tape.problem(tape.x, Part(active, row, every, every), count)
        scratch = scratch_of(problem.scratch_forward)
        _core.forward(
            problem, tape.packed_forward, tape.x, running, tape.y, running, None, scratch, kept.after or None,
            inputs=tape.inputs, options=tape.options,
        )  # fmt: skip
    scattered(states, part.last, final)
    return chunk

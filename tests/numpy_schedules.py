"""Schedules of a batch as NumPy builds them: the reference for those that csrc/schedule.c builds.

Positions p = 0, 1, … count the steps of a sequence in the order in which they run: p = t, or length - 1 - t in the
reverse direction. A *piece* is a range of positions of one sequence of the batch that runs as a sequence of its own.
All pieces run side by side, longest first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]
PIECES_MAX = 256  # SCHEDULE_PIECES_MAX in csrc/schedule.h


class Part(NamedTuple):
    """A schedule of the core; see ``struct fastrnn_schedule`` in csrc/fastrnn.h."""

    active: Integers
    row: Integers
    first: Integers
    last: Integers
    d_first: Integers | None = None


class Pieces(NamedTuple):
    """Positions begin … end - 1 of sequence b; what the piece starts from and ends in; where its gradient goes."""

    b: Integers
    begin: Integers
    end: Integers
    first: Integers
    last: Integers
    d_first: Integers | None = None

    def chosen(self, which: NDArray[Any]) -> Pieces:
        b, begin, end, first, last = (array[which] for array in self[:5])
        return Pieces(b, begin, end, first, last, None if self.d_first is None else self.d_first[which])


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known of a batch of sequences in one direction. lengths (B,) and resets (T, B) may be None."""

    T: int
    B: int
    lengths: Integers | None = None
    resets: NDArray[np.bool_] | None = None
    reverse: bool = False

    @property
    def dense(self) -> bool:
        """Whether the core's implicit schedule serves."""
        return self.lengths is None and self.resets is None

    @property
    def flipped(self) -> bool:
        """A dense reverse direction needs no schedule: it is the same loop over views that run backwards."""
        return self.reverse and self.dense

    @cached_property
    def all_lengths(self) -> Integers:
        return np.full(self.B, self.T, np.int64) if self.lengths is None else self.lengths

    @cached_property
    def steps(self) -> int:
        """Of all sequences together."""
        return int(self.all_lengths.sum())

    @cached_property
    def forward_parts(self) -> list[Part]:
        """Schedules that together visit every valid row once."""
        return self.parts(self.segments)

    @cached_property
    def segments(self) -> Pieces:
        """Sequences cut at their resets, ordered by b and then by position."""
        lengths = self.all_lengths
        cut_b, cut_p, from_zero = self._cuts()
        present = np.flatnonzero(lengths)
        b, p = np.concatenate([present, cut_b]), np.concatenate([np.zeros_like(present), cut_p])
        order = np.lexsort((p, b))
        b, p = b[order], p[order]
        end = next_start(b, p, lengths)
        first = np.where((p == 0) & ~from_zero[b], b, -1)
        return Pieces(b, p, end, first, np.where(end == lengths[b], b, -1))

    def _cuts(self) -> tuple[Integers, Integers, NDArray[np.bool_]]:
        """Where no state passes: (b, position) of each cut inside a sequence, and sequences that ignore their state.

        A reset at t stands between t - 1 and t, in both directions.
        """
        lengths, from_zero = self.all_lengths, np.zeros(self.B, np.bool_)
        if self.resets is None:
            return np.empty(0, np.int64), np.empty(0, np.int64), from_zero
        t, b = np.nonzero(self.resets)
        t, b = t[t < lengths[b]], b[t < lengths[b]]
        inside = t > 0
        if not self.reverse:
            from_zero[b[~inside]] = True
        t, b = t[inside], b[inside]
        return b, lengths[b] - t if self.reverse else t, from_zero

    def rows(self, b: Integers, p: Integers) -> Integers:
        """Rows t*B + b of the sequence tensors; of no meaning for p = -1."""
        t = self.all_lengths[b] - 1 - p if self.reverse and not self.flipped else p
        rows: Integers = t * self.B + b
        return rows

    def parts(self, pieces: Pieces) -> list[Part]:
        """Schedules of the pieces, longest first, of at most PIECES_MAX each."""
        order = np.lexsort((pieces.b, pieces.begin, pieces.begin - pieces.end))
        cuts = range(0, len(order), PIECES_MAX)
        return [self._part(pieces.chosen(order[cut : cut + PIECES_MAX])) for cut in cuts]

    def _part(self, pieces: Pieces) -> Part:
        lengths = pieces.end - pieces.begin
        active = len(lengths) - np.searchsorted(lengths[::-1], np.arange(lengths[0]), side="right")
        step = np.repeat(np.arange(len(active)), active)
        i = np.arange(len(step)) - np.repeat(np.cumsum(active) - active, active)
        row = self.rows(pieces.b[i], pieces.begin[i] + step)
        return Part(active, row, pieces.first, pieces.last, pieces.d_first)


@dataclass(frozen=True, eq=False)
class PackedBatch(Batch):
    """Sequences packed step by step, longest first: the rows of step t are offset[t] … offset[t] + active - 1.

    That is what ``torch.nn.utils.rnn.PackedSequence`` holds. The sequence tensors are (rows, 1, n); lengths, resets
    and states are those of the B sequences in this order.
    """

    @classmethod
    def of_sizes(cls, active: Integers, resets: NDArray[np.bool_] | None, reverse: bool) -> PackedBatch:
        """`active`: how many sequences have each step, at least one and never growing."""
        B = int(active[0])
        lengths = len(active) - np.searchsorted(active[::-1], np.arange(B), side="right")
        return cls(len(active), B, lengths, resets, reverse)

    @property
    def dense(self) -> bool:
        return False

    @cached_property
    def forward_parts(self) -> list[Part]:
        if self.resets is not None or self.B > PIECES_MAX:
            return self.parts(self.segments)
        i = np.arange(self.B)
        row = np.arange(int(self._offset[-1] + self._active[-1]))
        if self.reverse:
            step = np.repeat(np.arange(self.T), self._active)
            b = row - self._offset[step]
            row = self._offset[self.all_lengths[b] - 1 - step] + b
        return [Part(self._active, row, i, i)]

    @cached_property
    def _active(self) -> Integers:
        active: Integers = self.B - np.searchsorted(self.all_lengths[::-1], np.arange(self.T), side="right")
        return active

    @cached_property
    def _offset(self) -> Integers:
        return np.cumsum(self._active) - self._active

    def rows(self, b: Integers, p: Integers) -> Integers:
        t = self.all_lengths[b] - 1 - p if self.reverse else p
        rows: Integers = self._offset[np.clip(t, 0, self.T - 1)] + b
        return rows


def next_start(b: Integers, p: Integers, lengths: Integers) -> Integers:
    """The position where the piece that starts at each (b, p), in order, ends."""
    end = lengths[b]
    same = b[1:] == b[:-1]
    end[:-1][same] = p[1:][same]
    return end


class Stage(NamedTuple):
    """Parts that run one after the other."""

    parts: list[Part]
    is_whole: bool = True  # whether these rows receive all that they ever will
    initial: Integers | None = None  # with regions, the sequences whose initial state receives its gradient here


class Stages(NamedTuple):
    """All that backward does, in order.

    With regions, the gradients of states are matrices of 2*B + regions rows: row b that of the final state of sequence
    b, row B + b that of its initial state, row 2*B + r what reaches the end of region r.
    """

    stages: list[Stage]
    regions: int = 0


def stages_of(batch: Batch, truncation: tuple[int, int] | None) -> Stages:
    """Loss windows of k1 steps, each reaching back k2 steps from where k1 steps end; None: all steps."""
    longest = int(batch.all_lengths.max(initial=0))
    if truncation is None or truncation[1] >= -(-longest // truncation[0]) * truncation[0]:
        return Stages([Stage([*batch.forward_parts])])
    return _truncated(batch, truncation)


def _truncated(batch: Batch, truncation: tuple[int, int]) -> Stages:
    k1, k2 = truncation
    regions = _regions(batch, k1)
    if k1 == k2:
        return Stages([Stage([*batch.parts(_pieces(batch, regions))])])
    return Stages(_overlapping(batch, regions, k1, k2), len(regions.b))


class _Regions(NamedTuple):
    """Regions of k1 steps cut at resets, ordered by b and position; `first` is that of the segment."""

    b: Integers
    begin: Integers
    end: Integers
    first: Integers
    last: Integers
    window: Integers
    opens: Mask  # begins a segment: no gradient goes to the region before


def _regions(batch: Batch, k1: int) -> _Regions:
    lengths, segments, stride = batch.all_lengths, batch.segments, batch.T + 1
    counts = -(-lengths // k1)
    b = np.repeat(np.arange(batch.B), counts)
    p = k1 * (np.arange(len(b)) - np.repeat(np.cumsum(counts) - counts, counts))
    key, cuts = b * stride + p, segments.b * stride + segments.begin
    if batch.resets is not None:
        key = np.unique(np.concatenate([key, cuts]))
    b, begin = key // stride, key % stride
    end = next_start(b, begin, lengths)
    inside = np.searchsorted(cuts, key, side="right") - 1
    last = np.where(end == lengths[b], b, -1)
    return _Regions(b, begin, end, segments.first[inside], last, begin // k1, begin == segments.begin[inside])


def _pieces(batch: Batch, regions: _Regions) -> Pieces:
    """Regions as windows of their own: what reaches the initial state comes from those that begin there."""
    before = batch.B + batch.rows(regions.b, regions.begin - 1)
    return Pieces(regions.b, regions.begin, regions.end, np.where(regions.opens, regions.first, before), regions.last)


def _overlapping(batch: Batch, regions: _Regions, k1: int, k2: int) -> list[Stage]:
    """The stages for k2 > k1.

    With m = ceil(k2/k1), the last k2 - (m-1)*k1 steps of a region have the losses of m windows, those before them of
    m - 1. Unless these are all of its steps, stage m - 1 is
    two, one for either part of a region, and stage m runs the last part alone.
    """
    m, B = -(-k2 // k1), batch.B
    nowhere = np.full(len(regions.b), -1)
    own_row = 2 * B + np.arange(len(regions.b))
    after = np.where(np.append(~regions.opens[1:], False), own_row, regions.last)
    before = np.where(regions.opens, -1, own_row - 1)
    to_initial = np.where(regions.opens & (regions.first >= 0), B + regions.first, before)

    def stage(begin: Integers, end: Integers, last: Integers, d_first: Integers, is_whole: bool) -> Stage:
        from_y = B + batch.rows(regions.b, begin - 1)
        first = np.where(regions.opens & (begin == regions.begin), regions.first, from_y)
        chosen = (begin < end) & (is_whole | (d_first >= 0))
        pieces = Pieces(regions.b, begin, end, first, last, d_first).chosen(chosen)
        initial = d_first[chosen & (d_first >= B) & (d_first < 2 * B)] - B
        return Stage([*batch.parts(pieces)], is_whole, initial)

    incoming = [regions.last] + [after] * (m - 1)
    if k2 % k1 == 0:
        passing = [stage(regions.begin, regions.end, last, before, False) for last in incoming[:-1]]
        return [*passing, stage(regions.begin, regions.end, after, to_initial, True)]
    cut = np.clip((regions.window + m) * k1 - k2, regions.begin, regions.end)
    return [
        *(stage(regions.begin, regions.end, last, before, False) for last in incoming[:-2]),
        stage(cut, regions.end, incoming[-2], np.where(cut > regions.begin, own_row, -1), False),
        stage(regions.begin, cut, np.where(cut < regions.end, own_row, regions.last), to_initial, True),
        stage(cut, regions.end, after, nowhere, True),
    ]

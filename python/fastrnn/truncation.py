"""Backward as stages: all steps at once, or truncated windows side by side.

The gradient that reaches a step is linear in the gradients that come from later. So windows that reach into the windows
before them need not be walked through one by one. Cut into *regions* of k1 steps, a batch runs backward region beside
region: stage j starts each region from what stage j - 1 found at the start of the region after it, and so has the
losses of j windows. The last stages have all that ever reaches a row, and they alone need its dx and weight gradients.
docs/schedules.md has the pictures.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .schedule import Batch, Integers, Part, Pieces, next_start

Mask = NDArray[np.bool_]

# The stages of a few dense batches are kept, as long as they visit no more rows (1 MB): training asks for the same ones
# at each step. LSTM at T=200, B=32, H=64, truncation=1: building them takes 0.7 ms of a backward of 5 ms.
KEPT_ROWS_MAX = 1 << 17


class Stage(NamedTuple):
    """Parts that run one after the other."""

    parts: list[Part | None]  # None: dense
    is_whole: bool = True  # whether these rows receive all that they ever will
    initial: Integers | None = None  # with regions, the sequences whose initial state receives its gradient here


class Stages(NamedTuple):
    """All that backward does, in order.

    With regions, the gradients of states are matrices of 2*B + regions rows: row b that of the final state of sequence
    b, row B + b that of its initial state, row 2*B + r what reaches the end of region r.
    """

    stages: list[Stage]
    regions: int = 0

    @property
    def dense(self) -> bool:
        """Whether one call without a schedule is all."""
        return self.stages[0].parts == [None]

    def rows(self, B: int) -> int:
        return 2 * B + self.regions


def stages_of(batch: Batch, truncation: tuple[int, int] | None) -> Stages:
    """Loss windows of k1 steps, each reaching back k2 steps from where k1 steps end; None: all steps."""
    longest = int(batch.all_lengths.max(initial=0))
    if truncation is None or truncation[1] >= -(-longest // truncation[0]) * truncation[0]:
        return Stages([Stage([None] if batch.dense else [*batch.forward_parts])])
    visited = batch.T * batch.B * -(-truncation[1] // truncation[0])
    if batch.dense and visited <= KEPT_ROWS_MAX:
        return _dense_stages(batch.T, batch.B, truncation)
    return _truncated(batch, truncation)


@lru_cache(maxsize=4)
def _dense_stages(T: int, B: int, truncation: tuple[int, int]) -> Stages:
    """The same in both directions."""
    stages = _truncated(Batch(T, B), truncation)
    for array in (array for stage in stages.stages for part in stage.parts for array in part or ()):
        if array is not None:
            array.flags.writeable = False
    return stages


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

"""Which rows the core visits, and in which order: lengths, resets, direction and truncation as data.

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

# Pieces that run side by side in one call: enough for any product, few enough for their states to stay in cache. LSTM
# backward at T=200, B=64, H=128, truncation=20 takes 1.02 of the full one with 256, 1.06 with 128 or 512.
PIECES_MAX = 256


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
    def grid(self) -> tuple[int, int]:
        """The first two axes of sequence tensors as the core sees them: T*B rows."""
        return self.T, self.B

    @property
    def has_padding(self) -> bool:
        """Whether sequence tensors have rows that no step visits."""
        return self.lengths is not None

    @property
    def flipped(self) -> bool:
        """A dense reverse direction needs no schedule: it is the same loop over views that run backwards."""
        return self.reverse and self.dense

    @cached_property
    def starting(self) -> NDArray[np.bool_] | None:
        """Where resets do no more than to zero the states that some sequences start from: which ones (B,)."""
        if self.resets is None or self.lengths is not None or self.reverse or self.resets[1:].any():
            return None
        first: NDArray[np.bool_] = self.resets[0]
        return first

    @cached_property
    def all_lengths(self) -> Integers:
        return np.full(self.B, self.T, np.int64) if self.lengths is None else self.lengths

    @cached_property
    def steps(self) -> int:
        """Of all sequences together."""
        return int(self.all_lengths.sum())

    @cached_property
    def has_empty(self) -> bool:
        """Whether a sequence has no steps although the batch has some."""
        return self.lengths is not None and not self.lengths.all()

    @cached_property
    def forward_parts(self) -> list[Part]:
        """Schedules that together visit every valid row once."""
        return self.parts(self.segments)

    @cached_property
    def whole_parts(self) -> list[Part]:
        """The same with all sequences of a dense batch in one part, as the core's implicit schedule has them."""
        if not self.dense:
            return self.forward_parts
        b = np.arange(self.B if self.T else 0)
        row = np.arange(self.T * self.B)
        return [Part(np.full(self.T, self.B), row, b, b)] if self.T * self.B else []

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

    @property
    def grid(self) -> tuple[int, int]:
        return self.steps, 1

    @property
    def has_padding(self) -> bool:
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

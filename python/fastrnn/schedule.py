"""Batches of sequences: lengths, resets and direction, of which the core builds schedules (csrc/schedule.c)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import memory
from ._core import Schedules

Integers = NDArray[np.int64]


class Part(NamedTuple):
    """A schedule of the core; see ``struct fastrnn_schedule`` in csrc/fastrnn.h."""

    active: Integers
    row: Integers
    first: Integers
    last: Integers
    d_first: Integers | None = None


class Stage(NamedTuple):
    """Parts that run one after the other; see ``struct fastrnn_stage`` in csrc/fastrnn.h."""

    parts: list[Part]
    is_whole: bool = True
    initial: Integers | None = None


def stage_of(schedules: Schedules, n: int) -> Stage:
    """Stage n, as read-only views."""
    parts, is_whole, initial = schedules.stage(n)
    return Stage([Part(*part) for part in parts], is_whole, initial)


@dataclass(frozen=True, eq=False)
class Batch:
    """The facts about a batch of sequences in one direction. lengths (B,) and resets (T, B) may be None."""

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

    @property
    def is_packed(self) -> bool:
        return False

    @cached_property
    def starting(self) -> NDArray[np.bool_] | None:
        """The sequences (B,) that start anew, contiguous, if resets do no more than that; else None."""
        if self.resets is None or self.lengths is not None or self.reverse or self.resets[1:].any():
            return None
        return np.ascontiguousarray(self.resets[0])

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
    def schedules(self) -> Schedules:
        """The schedules of forward, which together visit every valid row once."""
        return self._built(None)

    def window(self, truncation: tuple[int, int] | None) -> tuple[int, int] | None:
        """The same truncation; None if it cuts off no step."""
        longest = self.T if self.lengths is None else int(self.lengths.max(initial=0))
        if truncation is None or self.B == 0 or truncation[1] >= -(-longest // truncation[0]) * truncation[0]:
            return None
        return truncation

    def truncated(self, window: tuple[int, int]) -> Schedules:
        """The schedules of a backward pass that is cut off; `window` is the result of the method."""
        return self._built(window)

    def _built(self, window: tuple[int, int] | None) -> Schedules:
        reverse = self.reverse and not self.flipped
        return Schedules(self.T, self.B, self.lengths, self.resets, reverse, self.is_packed, window, _new_bytes)


def _new_bytes(size: int) -> NDArray[np.uint8]:
    return memory.empty((size,), memory.BYTES)


@dataclass(frozen=True, eq=False)
class PackedBatch(Batch):
    """Sequences packed step by step, longest first: the rows of step t are offset[t] … offset[t] + active - 1.

    ``torch.nn.utils.rnn.PackedSequence`` holds such rows. The sequence tensors are (rows, 1, n); lengths, resets
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

    @property
    def is_packed(self) -> bool:
        return True

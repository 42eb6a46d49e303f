"""Users' layouts of sequences and states. Internally, a sequence is (T, B, n) and a state (num_layers*D, B, H)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._check import Array


class Axes(NamedTuple):
    """The layout of one call: sequences (T, B, n), or (B, T, n), or (T, n) without a batch axis."""

    batch_first: bool
    unbatched: bool

    def inside(self, sequence: Array) -> Array:
        """A view (T, B, n) of a sequence in the user's layout."""
        if self.unbatched:
            return sequence[:, np.newaxis]
        return sequence.transpose(1, 0, 2) if self.batch_first else sequence

    def as_user(self, sequence: Array) -> Array:
        """The inverse."""
        if self.unbatched:
            alone: Array = sequence[:, 0]
            return alone
        return np.swapaxes(sequence, 0, 1) if self.batch_first else sequence

    def states_inside(self, state: Array) -> Array:
        """A view (num_layers*D, B, H) of a state in the user's layout."""
        return state[:, np.newaxis] if self.unbatched else state

    def states_as_user(self, state: Array) -> Array:
        """The inverse."""
        alone: Array = state[:, 0] if self.unbatched else state
        return alone

    def letters(self, last: str) -> str:
        """The shape of a sequence as the documentation writes it."""
        if self.unbatched:
            return f"(T, {last})"
        return f"(B, T, {last})" if self.batch_first else f"(T, B, {last})"

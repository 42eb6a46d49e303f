"""Arguments of layers that the core cannot read: they are converted, or refused with the argument's name."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _check, _core
from ._check import Array
from .cell_gradients import State
from .schedule import Batch


class LayerArguments:
    """Sequences and states in the layouts of a layer."""

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    batch_first: bool
    dtype: np.dtype[Any]

    @property
    def _row(self) -> _core.Cell:
        """The cell's row of the registry."""
        raise NotImplementedError

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _checked_input(self, x: Any) -> Array:
        """`x` in a form that the core can read, in the user's layout."""
        found = _check.array("x", x, self.dtype)
        if found.ndim not in (2, 3) or found.shape[-1] != self.input_size:
            any_sizes = (None,) if found.ndim == 2 else (None, None)
            _check.shape("x", found, self._letters(found.ndim == 2, "input_size"), (*any_sizes, self.input_size))
        return found

    def _checked_batches(
        self, T: int, B: int, lengths: Any, resets: Any, unbatched: bool, directions: tuple[bool, ...]
    ) -> tuple[Batch, ...]:
        """One for each direction; `directions`: whether each is reversed."""
        if unbatched and lengths is not None:
            raise ValueError("lengths: expected None for x without a batch axis")
        lengths = _check.lengths("lengths", lengths, T, B)
        if unbatched:
            resets = _check.resets("resets", resets, "(T)", (T,))
            resets = None if resets is None else resets[:, np.newaxis]
        elif self.batch_first:
            resets = _check.resets("resets", resets, "(B, T)", (B, T))
            resets = None if resets is None else resets.T
        else:
            resets = _check.resets("resets", resets, "(T, B)", (T, B))
        return tuple(Batch(T, B, lengths, resets, reverse) for reverse in directions)

    def _checked_states(self, name: str, state: State, B: int, unbatched: bool) -> tuple[Array | None, ...]:
        names = self._row.states
        members = _check.members(name, state, names)
        count, H = self.num_layers * self._directions, self.hidden_size
        found: list[Array | None] = []
        for position, member in enumerate(members):
            if member is None and len(names) > 1:
                found.append(None)
                continue
            label = f"{name}[{position}]" if len(names) > 1 else name
            array = _check.array(label, member, self.dtype)
            if unbatched:
                _check.shape(label, array, "(num_layers*D, H)", (count, H))
            else:
                _check.shape(label, array, "(num_layers*D, B, H)", (count, B, H))
            found.append(array)
        return tuple(found)

    def _checked_dy(self, dy: Any, shape: tuple[int, ...]) -> Array:
        found = _check.array("dy", dy, self.dtype)
        _check.shape("dy", found, self._letters(len(shape) == 2, "D*H"), shape)
        return found

    def _letters(self, unbatched: bool, last: str) -> str:
        """The shape of a sequence as the documentation writes it."""
        if unbatched:
            return f"(T, {last})"
        return f"(B, T, {last})" if self.batch_first else f"(T, B, {last})"

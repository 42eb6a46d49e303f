"""What users pass to layers and get from them: checks, and their layouts to and from the one inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _check, _core
from ._check import Array
from ._core import DenseTape
from ._kernel import States, Weights, pack_backward
from .cells import State
from .schedule import Batch
from .stack import Stack
from .tape import CellTape, LayerTape


class LayerArguments(Stack):
    """Batch-first and unbatched sequences, states as torch has them."""

    def _as_user(self, sequence: Array, unbatched: bool) -> Array:
        if unbatched:
            alone: Array = sequence[:, 0]
            return alone
        return np.swapaxes(sequence, 0, 1) if self.batch_first else sequence

    def _inside(self, sequence: Array, unbatched: bool) -> Array:
        """(T, B, n) of a sequence as users have it."""
        if unbatched:
            return sequence[:, np.newaxis]
        return sequence.transpose(1, 0, 2) if self.batch_first else sequence

    def _public(self, states: States, unbatched: bool) -> State:
        members = tuple(m[:, 0] if unbatched else m for m in states if m is not None)
        return members if self._has_c else members[0]

    def _sequence_letters(self, last: str) -> str:
        return f"(B, T, {last})" if self.batch_first else f"(T, B, {last})"

    def _checked_input(self, x: Any) -> tuple[Array, bool]:
        x = _check.array("x", x, self.dtype)
        if x.ndim == 2:
            _check.shape("x", x, "(T, input_size)", (None, self.input_size))
            return self._inside(x, True), True
        _check.shape("x", x, self._sequence_letters("input_size"), (None, None, self.input_size))
        return self._inside(x, False), False

    def _checked_batches(self, T: int, B: int, lengths: Any, resets: Any, unbatched: bool) -> list[Batch]:
        """One for each direction."""
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
        return [Batch(T, B, lengths, resets, reverse) for reverse in (False, True)[: self._directions]]

    def _checked_states(self, name: str, state: State, B: int, unbatched: bool) -> States:
        if state is None:
            return States(None)
        members = _check.pair(name, state) if self._has_c else (state,)
        count, H = self.num_layers * self._directions, self.hidden_size
        found: list[Array | None] = []
        for position, member in enumerate(members):
            if member is None and self._has_c:
                found.append(None)
                continue
            label = f"{name}[{position}]" if self._has_c else name
            array = _check.array(label, member, self.dtype)
            if unbatched:
                _check.shape(label, array, "(num_layers*D, H)", (count, H))
                array = array[:, np.newaxis]
            else:
                _check.shape(label, array, "(num_layers*D, B, H)", (count, B, H))
            found.append(array)
        return States(*found)

    def _general_tape(self, tape: DenseTape) -> LayerTape:
        """The same for the general way down the stack, which knows truncation, and converts and refuses arguments."""
        (T, B), (backend, threads, team), H = tape.shape, tape.settings, self.hidden_size
        initial = [s if s is None or not tape.unbatched else s[:, np.newaxis] for s in (tape.h0, tape.c0)]
        batch, has_bias = Batch(T, B, None, None, False), "bias_ih_l0" in self._shapes
        cells, x, y = [], self._inside(tape.x, tape.unbatched), tape.x
        for layer in range(self.num_layers):
            I = x.shape[2]
            y, reserve, packed, w_ih, w_hh = tape.layer(layer, I)
            if w_ih is not None and w_hh is not None:
                packed = pack_backward(self._cell, Weights(w_ih, w_hh), backend)
            assert packed is not None
            problem = _core.Problem(self._cell, self.dtype, backend, threads, T, B, I, H, None, team)
            h0, c0 = self._one(States(*initial), layer)
            output, biases = self._inside(y, tape.unbatched), (has_bias, has_bias)
            sizes = T, B, I, H
            cells.append(
                CellTape(self._cell, problem, packed, x, h0, c0, output, reserve, sizes, self.dtype, biases, batch)
            )
            x = output
        return LayerTape(tape.owner, cells, [None] * self.num_layers, y.shape, (T, B), [batch], tape.unbatched)

    def _checked_gradients(self, tape: Any, dy: Any, dstate: State) -> tuple[Array | None, States]:
        if not isinstance(tape, LayerTape):
            raise TypeError(f"tape: expected the tape of a forward call, got {type(tape).__name__}")
        if tape.owner is not self:
            raise ValueError("tape: expected a tape of this layer, got one of another")
        if dy is not None:
            dy = _check.array("dy", dy, self.dtype)
            letters = "(T, D*H)" if tape.unbatched else self._sequence_letters("D*H")
            _check.shape("dy", dy, letters, tape.y_shape)
            dy = self._inside(dy, tape.unbatched)
        return dy, self._checked_states("dstate", dstate, tape.shape[1], tape.unbatched)

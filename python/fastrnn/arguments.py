"""What users pass to layers and get from them: checks, and their layouts to and from the one inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _check, _core
from ._check import Array
from ._core import DenseTape
from ._kernel import States, Weights, pack_backward
from .axes import Axes
from .cells import State
from .schedule import Batch
from .stack import Stack
from .tape import CellTape, LayerTape


class LayerArguments(Stack):
    """Batch-first and unbatched sequences, states as torch has them."""

    batch_first: bool

    def _public(self, states: States, axes: Axes) -> State:
        members = tuple(axes.states_as_user(m) for m in states if m is not None)
        return members if self._has_c else members[0]

    def _checked_input(self, x: Any) -> tuple[Array, Axes]:
        """(T, B, I), and how the user laid it out."""
        x = _check.array("x", x, self.dtype)
        axes = Axes(self.batch_first, x.ndim == 2)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            any_sizes = (None,) if axes.unbatched else (None, None)
            _check.shape("x", x, axes.letters("input_size"), (*any_sizes, self.input_size))
        return axes.inside(x), axes

    def _checked_batches(self, T: int, B: int, lengths: Any, resets: Any, axes: Axes) -> list[Batch]:
        """One for each direction."""
        if axes.unbatched and lengths is not None:
            raise ValueError("lengths: expected None for x without a batch axis")
        lengths = _check.lengths("lengths", lengths, T, B)
        if axes.unbatched:
            resets = _check.resets("resets", resets, "(T)", (T,))
            resets = None if resets is None else resets[:, np.newaxis]
        elif axes.batch_first:
            resets = _check.resets("resets", resets, "(B, T)", (B, T))
            resets = None if resets is None else resets.T
        else:
            resets = _check.resets("resets", resets, "(T, B)", (T, B))
        return [Batch(T, B, lengths, resets, reverse) for reverse in (False, True)[: self._directions]]

    def _checked_states(self, name: str, state: State, B: int, axes: Axes) -> States:
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
            if axes.unbatched:
                _check.shape(label, array, "(num_layers*D, H)", (count, H))
            else:
                _check.shape(label, array, "(num_layers*D, B, H)", (count, B, H))
            found.append(axes.states_inside(array))
        return States(*found)

    def _general_tape(self, tape: DenseTape) -> LayerTape:
        """The same for the general way down the stack, which knows truncation, and converts and refuses arguments."""
        (T, B), (backend, threads, team), H = tape.shape, tape.settings, self.hidden_size
        cell, axes = tape.stack.cell, Axes(tape.stack.is_batch_first, tape.unbatched)
        initial = [None if s is None else axes.states_inside(s) for s in (tape.h0, tape.c0)]
        batch, has_bias = Batch(T, B, None, None, False), "bias_ih_l0" in self._shapes
        cells, x, y = [], axes.inside(tape.x), tape.x
        for layer in range(self.num_layers):
            I = x.shape[2]
            y, reserve, packed, w_ih, w_hh = tape.layer(layer, I)
            if w_ih is not None and w_hh is not None:
                packed = pack_backward(cell, Weights(w_ih, w_hh), backend)
            assert packed is not None
            problem = _core.Problem(cell, self.dtype, backend, threads, T, B, I, H, None, team)
            h0, c0 = self._one(States(*initial), layer)
            output, biases = axes.inside(y), (has_bias, has_bias)
            sizes = T, B, I, H
            cells.append(CellTape(cell, problem, packed, x, h0, c0, output, reserve, sizes, self.dtype, biases, batch))
            x = output
        return LayerTape(tape.owner, cells, [None] * self.num_layers, y.shape, (T, B), [batch], axes)

    def _checked_gradients(self, tape: Any, dy: Any, dstate: State) -> tuple[Array | None, States]:
        if not isinstance(tape, LayerTape):
            raise TypeError(f"tape: expected the tape of a forward call, got {type(tape).__name__}")
        if tape.owner is not self:
            raise ValueError("tape: expected a tape of this layer, got one of another")
        if dy is not None:
            dy = _check.array("dy", dy, self.dtype)
            _check.shape("dy", dy, tape.axes.letters("D*H"), tape.y_shape)
            dy = tape.axes.inside(dy)
        return dy, self._checked_states("dstate", dstate, tape.shape[1], tape.axes)

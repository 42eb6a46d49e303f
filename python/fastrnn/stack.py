"""A stack of layers and directions as one pass after the other, on checked arguments.

Inside, sequences are (T, B, n), whatever their memory, and states (num_layers*D, B, H); number j = layer*D + direction
counts layers and directions in the order of torch's parameters.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import memory
from ._check import Array
from ._kernel import (
    States,
    WeightGradients,
    Weights,
    backward_passes,
    pass_empty_through,
    run_backward_passes,
    run_forward,
)
from .checkpoint import CheckpointTape, run_backward_checkpointed, run_forward_checkpointed
from .schedule import Batch, Part
from .tape import CellTape, LayerTape
from .weights import suffixes, weights_of


class PackedWeights(NamedTuple):
    """The weights of one layer and direction, and the same as forward and backward stream them, if done before."""

    weights: Weights
    forward: NDArray[np.uint8] | None = None
    backward: NDArray[np.uint8] | None = None


class Stack:
    """Sizes of a stack, and its passes."""

    _gates: ClassVar[int]
    _has_c: ClassVar[bool] = False
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    batch_first: bool
    dtype: np.dtype[Any]
    _shapes: dict[str, tuple[str, tuple[int, ...]]]

    @property
    def _cell(self) -> str:
        raise NotImplementedError

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _forward_stack(
        self,
        x: Array,
        packed: list[PackedWeights],
        initial: States,
        final: States,
        batches: list[Batch],
        masks: list[Array | None] | None,
        checkpoint: int | None,
    ) -> tuple[Array, list[CellTape | CheckpointTape]]:
        """Up the stack: y of the last layer, and the tapes when training (masks, one for each layer's input)."""
        T, B = x.shape[:2]
        tapes: list[CellTape | CheckpointTape] = []
        for layer in range(self.num_layers):
            mask = None if masks is None else masks[layer]
            x = x if mask is None else np.multiply(x, mask, out=self._sequence_like(T, B, x.shape[2]))
            y = self._sequence_like(T, B, self._directions * self.hidden_size)
            if batches[0].lengths is not None:
                y[...] = 0
            for direction, batch in enumerate(batches):
                j = layer * self._directions + direction
                whole = self._cell, x, *packed[j], self._half(y, direction), self._one(initial, j), self._one(final, j)
                tape: CellTape | CheckpointTape | None
                if masks is not None and checkpoint is not None:
                    tape = run_forward_checkpointed(*whole, batch, checkpoint)
                else:
                    tape = run_forward(*whole, batch, training=masks is not None)
                if tape is not None:
                    tapes.append(tape)
            x = y
        return x, tapes

    def _backward_stack(
        self, tape: LayerTape, dy: Array | None, d_final: States, truncation: tuple[int, int] | None
    ) -> tuple[Array, States, dict[str, Array]]:
        """Down the stack: the gradients of x, of the initial states and of the parameters."""
        passes = [backward_passes(batch, truncation) for batch in tape.batches]
        fresh = not any(isinstance(cell, CheckpointTape) for cell in tape.cells)
        new = memory.empty if fresh else memory.zeros
        gradients = {name: new(shape, self.dtype) for name, (_, shape) in self._shapes.items()}
        if self.bidirectional or self.num_layers == 1:
            dx, d_initial = self._backward_once(tape, dy, d_final, gradients, passes, passes, fresh)
        else:
            # Windows that overlap go down the stack one after the other; below the top, all that reaches one is loss.
            below = [None if one is None else [part.with_loss_everywhere() for part in one] for one in passes[0]]
            dx, d_initial = self._backward_once(tape, dy, d_final, gradients, [passes[0][:1]], [below[:1]], fresh)
            for top, others in zip(passes[0][1:], below[1:], strict=True):
                more_dx, more = self._backward_once(tape, dy, d_final, gradients, [[top]], [[others]], False)
                dx += more_dx
                _add_states(d_initial, more)
        pass_empty_through(tape.batches[0], d_final, d_initial)
        return dx, d_initial, gradients

    def _backward_once(
        self,
        tape: LayerTape,
        dy: Array | None,
        d_final: States,
        gradients: dict[str, Array],
        top: list[list[list[Part] | None]],
        below: list[list[list[Part] | None]],
        fresh: bool,
    ) -> tuple[Array, States]:
        """Down the stack; `top` and `below` are the passes of each direction, for the last layer and the others.

        `gradients` are overwritten if `fresh`, and added to otherwise.
        """
        T, B = tape.shape
        d_initial = self._new_states(B)
        names = suffixes(self.num_layers, self.bidirectional)
        for layer in reversed(range(self.num_layers)):
            dx = None
            for direction in range(self._directions):
                j = layer * self._directions + direction
                cell = tape.cells[j]
                half = None if dy is None else self._half(dy, direction)
                part = self._sequence_like(T, B, cell.sizes[2])
                into = WeightGradients(*weights_of(gradients, names[j]))
                passes = (top if layer == self.num_layers - 1 else below)[direction]
                around = half, self._one(d_final, j), part, self._one(d_initial, j), into
                if isinstance(cell, CheckpointTape):
                    run_backward_checkpointed(cell, *around)
                else:
                    run_backward_passes(cell, *around, passes, overwrite=fresh)
                dx = part if dx is None else np.add(dx, part, out=dx)
            mask = tape.masks[layer]
            assert dx is not None
            dy = dx if mask is None else np.multiply(dx, mask, out=dx)
        assert dy is not None
        return dy, d_initial

    def _sequence_like(self, T: int, B: int, n: int) -> Array:
        laid_out: Array = memory.empty((B, T, n) if self.batch_first else (T, B, n), self.dtype)
        return np.swapaxes(laid_out, 0, 1) if self.batch_first else laid_out

    def _half(self, y: Array, direction: int) -> Array:
        half: Array = y[:, :, direction * self.hidden_size : (direction + 1) * self.hidden_size]
        return half

    def _one(self, states: States, j: int) -> States:
        return States(*(None if member is None else member[j] for member in states))

    def _new_states(self, B: int) -> States:
        shape = (self.num_layers * self._directions, B, self.hidden_size)
        return States(np.empty(shape, self.dtype), np.empty(shape, self.dtype) if self._has_c else None)


def _add_states(total: States, more: States) -> None:
    for a, b in zip(total, more, strict=True):
        if a is not None and b is not None:
            a += b

"""A stack of layers and directions as one pass after the other, on checked arguments.

Inside, sequences are (T, B, n), whatever their memory, and states (num_layers*D, B, H); number j = layer*D + direction
counts layers and directions in the order of torch's parameters.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import memory
from ._check import Array
from ._kernel import (
    States,
    WeightGradients,
    Weights,
    pass_empty_through,
    run_forward,
)
from .axes import Axes
from .backward import BackwardStack, StateGradients, run_backward_stack
from .checkpoint import CheckpointTape, run_forward_checkpointed
from .schedule import Batch
from .tape import CellTape, LayerTape
from .truncation import stages_of
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
        axes: Axes,
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
            x = x if mask is None else np.multiply(x, mask, out=self._new_sequence(axes, T, B, x.shape[2]))
            y = self._new_sequence(axes, T, B, self._directions * self.hidden_size)
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
        T, B = tape.shape
        gradients = {name: memory.empty(shape, self.dtype) for name, (_, shape) in self._shapes.items()}
        into = [WeightGradients(*weights_of(gradients, name)) for name in suffixes(self.num_layers, self.bidirectional)]
        stages = [stages_of(batch, truncation) for batch in tape.batches]
        down = BackwardStack(tape.cells, stages, tape.masks, into, partial(self._new_sequence, tape.axes, T, B))
        dx, d_initial = self._new_sequence(tape.axes, T, B, self.input_size), self._new_states(B)
        run_backward_stack(down, dy, dx, StateGradients(d_final, d_initial), overwrite=True)
        pass_empty_through(tape.batches[0], d_final, d_initial)
        return dx, d_initial, gradients

    def _new_sequence(self, axes: Axes, T: int, B: int, n: int) -> Array:
        """(T, B, n) in the order of the user's axes."""
        laid_out: Array = memory.empty((B, T, n) if axes.batch_first else (T, B, n), self.dtype)
        return np.swapaxes(laid_out, 0, 1) if axes.batch_first else laid_out

    def _half(self, y: Array, direction: int) -> Array:
        half: Array = y[:, :, direction * self.hidden_size : (direction + 1) * self.hidden_size]
        return half

    def _one(self, states: States, j: int) -> States:
        return States(*(None if member is None else member[j] for member in states))

    def _new_states(self, B: int) -> States:
        shape = (self.num_layers * self._directions, B, self.hidden_size)
        return States(np.empty(shape, self.dtype), np.empty(shape, self.dtype) if self._has_c else None)

"""Backward through the stages of one layer in one direction, and down a stack of them.

Inside, sequences are (T, B, n), whatever their memory, and states (num_layers*D, B, H); number j = layer*D + direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import memory, recompute
from ._check import Array
from ._kernel import HAS_C, BackwardArrays, States, WeightGradients, backward_part
from .checkpoint import CheckpointTape
from .tape import CellTape
from .truncation import Stage, Stages

AnyTape = CellTape | CheckpointTape


class StateGradients(NamedTuple):
    """Those of the final states, (…, B, H) as given, and of the initial ones, to be filled."""

    final: States
    initial: States

    def of(self, j: int) -> StateGradients:
        """Those of one layer and direction out of a stack's."""
        return StateGradients(*(States(*(None if m is None else m[j] for m in states)) for states in self))


class CellBackward:
    """One layer in one direction, stage by stage.

    Overwrites the initial states' gradients and, if told to, `into`, to which it adds otherwise; dx in the rows of a
    stage. What passes through sequences of no steps is the caller's to add (`pass_empty_through`).
    """

    def __init__(
        self, tape: AnyTape, stages: Stages, d_states: StateGradients, into: WeightGradients, overwrite: bool
    ) -> None:
        self._tape, self._into, self._overwrite = tape, into, overwrite
        self._incoming, self._outgoing = d_states
        self._d_initial, self._B = d_states.initial, tape.batch.B
        self._rows = stages.rows(self._B) if stages.regions else None
        if self._rows is not None:
            self._incoming, self._outgoing = self._new_matrices(d_states.final), self._new_matrices(d_states.final)
        if overwrite and not any(stage.parts for stage in stages.stages):
            _clear(*into)
        if not stages.dense:
            _clear(*d_states.initial)

    def run(self, stage: Stage, dy: Array | None, dx: Array | None) -> None:
        """`dx` None: not wanted."""
        for part in stage.parts:
            overwrite = self._overwrite and stage.is_whole
            into = self._into if stage.is_whole else WeightGradients()
            arrays = BackwardArrays(dy, self._incoming, dx, self._outgoing, into, overwrite)
            if isinstance(self._tape, CheckpointTape):
                recompute.backward_part(self._tape, part, arrays)
            else:
                backward_part(self._tape, part, arrays, self._rows)
            self._overwrite &= not stage.is_whole
        if stage.initial is not None:
            self._hand_on(stage.initial)

    def _hand_on(self, initial: Array) -> None:
        """What this stage found is the next one's; some of it belongs to the initial states of these sequences."""
        for member, matrix in zip(self._d_initial, self._outgoing, strict=True):
            if member is not None and matrix is not None:
                member[initial] = matrix[self._B + initial]
        self._incoming, self._outgoing = self._outgoing, self._incoming

    def _new_matrices(self, d_final: States) -> States:
        assert self._rows is not None
        shape, dtype = (self._rows, self._tape.sizes[3]), self._tape.dtype
        found = States(memory.empty(shape, dtype), memory.empty(shape, dtype) if self._tape.cell in HAS_C else None)
        for matrix, given in zip(found, d_final, strict=True):
            if matrix is not None:
                matrix[: self._B] = 0 if given is None else given
        return found


def run_backward(
    tape: AnyTape,
    stages: Stages,
    dy: Array | None,
    dx: Array | None,
    d_states: StateGradients,
    into: WeightGradients,
    *,
    overwrite: bool,
) -> None:
    """All stages of one layer in one direction: as `CellBackward`, and overwrites dx."""
    cell = CellBackward(tape, stages, d_states, into, overwrite)
    if not stages.dense:
        _clear(dx)
    for stage in stages.stages:
        cell.run(stage, dy, dx if stage.is_whole else None)


class BackwardStack(NamedTuple):
    """What a stack's backward works on: tapes and weight gradients by number j, stages by direction.

    masks: of each layer's input, or None. new_sequence(n): memory for (T, B, n).
    """

    tapes: Sequence[AnyTape]
    stages: Sequence[Stages]
    masks: Sequence[Array | None]
    into: Sequence[WeightGradients]
    new_sequence: Callable[[int], Array]

    @property
    def layers(self) -> int:
        return len(self.tapes) // len(self.stages)

    def lowest(self, wants_inputs: bool) -> int:
        """The lowest layer to run; `wants_inputs`: gradients of x or of the initial states are asked for."""
        wanted = (j for j, one in enumerate(self.into) if any(array is not None for array in one))
        return 0 if wants_inputs else next(wanted, 0) // len(self.stages)


def run_backward_stack(
    stack: BackwardStack, dy: Array | None, dx: Array | None, d_states: StateGradients, *, overwrite: bool
) -> None:
    """Down the stack, as far as gradients are asked for: overwrites dx, the initial states' and the weights' gradients.

    The latter are added to without `overwrite`.
    """
    lowest = stack.lowest(dx is not None or d_states.initial.h is not None)
    if len(stack.stages) == 1:
        _run_stage_by_stage(stack, lowest, dy, dx, d_states, overwrite)
    else:
        _run_layer_by_layer(stack, lowest, dy, dx, d_states, overwrite)


def _run_stage_by_stage(
    stack: BackwardStack, lowest: int, dy: Array | None, dx: Array | None, d_states: StateGradients, overwrite: bool
) -> None:
    """One direction: a window is one of the whole stack, so each stage goes all the way down."""
    (stages,) = stack.stages
    if not stages.dense:
        _clear(dx)
    cells = {
        layer: CellBackward(stack.tapes[layer], stages, d_states.of(layer), stack.into[layer], overwrite)
        for layer in range(lowest, stack.layers)
    }
    between: dict[int, Array] = {}  # two, written and read in turn
    for stage in stages.stages:
        above = dy
        for layer in reversed(cells):
            if layer == lowest:
                cells[layer].run(stage, above, dx if layer == 0 and stage.is_whole else None)
                break
            if layer % 2 not in between:
                between[layer % 2] = stack.new_sequence(stack.tapes[layer].sizes[2])
                if not stages.dense:
                    _clear(between[layer % 2])
            below = between[layer % 2]
            cells[layer].run(stage, above, below)
            above = _masked(below, stack.masks[layer])


def _run_layer_by_layer(
    stack: BackwardStack, lowest: int, dy: Array | None, dx: Array | None, d_states: StateGradients, overwrite: bool
) -> None:
    """Two directions: each layer and direction has windows of its own."""
    D = len(stack.stages)
    for layer in reversed(range(lowest, stack.layers)):
        total: Array | None = None
        for direction, stages in enumerate(stack.stages):
            j = layer * D + direction
            tape = stack.tapes[j]
            half = None if dy is None else _half(dy, tape.sizes[3], direction)
            wanted = layer > lowest if layer else dx is not None
            part = None if not wanted else dx if j == 0 else stack.new_sequence(tape.sizes[2])
            run_backward(tape, stages, half, part, d_states.of(j), stack.into[j], overwrite=overwrite)
            if part is not None:
                total = part if total is None else np.add(total, part, out=total)
        dy = None if total is None else _masked(total, stack.masks[layer])


def _half(y: Array, H: int, direction: int) -> Array:
    half: Array = y[:, :, direction * H : (direction + 1) * H]
    return half


def _masked(dx: Array, mask: Array | None) -> Array:
    return dx if mask is None else np.multiply(dx, mask, out=dx)


def _clear(*arrays: Array | None) -> None:
    for array in arrays:
        if array is not None:
            array[...] = 0

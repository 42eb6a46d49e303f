"""Between the user's layout of tensors and rows: step by step, and within a step the longest sequence first."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._check import Array
from ..schedule import Batch
from .plan import Plan


class Rows:
    """The rows of a call, and conversions.

    Attributes
    ----------
    count : int
        The number of sequences, B.
    first : int
        The number of sequences with a first step.
    sizes : list of int
        The number of rows of each step that has any.
    """

    def __init__(self, batch: Batch) -> None:
        lengths = batch.all_lengths
        self.T, self.count = batch.T, batch.B
        self.is_packed = batch.is_packed
        self.sizes = [int(n) for n in np.sum(lengths > np.arange(self.T)[:, None], axis=1)] if batch.B else []
        self.sizes = [n for n in self.sizes if n > 0]
        self.first = self.sizes[0] if self.sizes else 0
        # None: the sequences and the rows of the grid (T, B) are in their order.
        self.order = None if batch.lengths is None or self.is_packed else np.argsort(-lengths, kind="stable")

    @cached_property
    def _index(self) -> NDArray[np.int64]:
        """The row of the grid of each row."""
        assert self.order is not None
        return np.concatenate(
            [np.zeros(0, np.int64), *[t * self.count + self.order[:n] for t, n in enumerate(self.sizes)]]
        )

    @cached_property
    def _inverse(self) -> NDArray[np.int64]:
        """The row of each row of the grid; the number of rows for padding."""
        found = np.full(self.T * self.count, len(self._index), np.int64)
        found[self._index] = np.arange(len(self._index))
        return found

    def sorted(self, of_sequences: Array) -> Array:
        """An array (B,) with the longest sequence first."""
        return of_sequences if self.order is None else of_sequences[self.order]

    def inside(self, plan: Plan, sequence: Tensor) -> Tensor:
        """The user's sequence tensor as (rows, n)."""
        if plan.kind == "packed":
            return sequence
        if plan.kind == "batch_first":
            sequence = sequence.transpose(0, 1)
        grid = _with(plan, sequence).flatten(0, 1)
        return grid if self.order is None else grid.index_select(0, _on(self._index, grid))

    def mask_inside(self, mask: Tensor) -> Tensor:
        """A mask (T, B, n), or (rows, 1, n) of packed rows."""
        grid = mask.flatten(0, 1)
        return grid if self.order is None else grid.index_select(0, _on(self._index, grid))

    def as_user(self, plan: Plan, y: Tensor) -> Tensor:
        """The output in the user's layout, zero beyond a sequence's end."""
        if plan.kind == "packed":
            return y
        if self.order is not None:
            y = torch.cat([y, y.new_zeros(1, y.shape[1])]).index_select(0, _on(self._inverse, y))
        grid = y.unflatten(0, (self.T, self.count))
        return grid.transpose(0, 1) if plan.kind == "batch_first" else _without(plan, grid)

    def states_inside(self, plan: Plan, member: Tensor | None, like: Tensor, start: float) -> Tensor:
        """A state as (num_layers*D, B, H); its start value in the place of None."""
        if member is None:
            network = plan.network
            return like.new_full((network.layers * network.directions, self.count, network.hidden_size), start)
        member = _with(plan, member)
        return member if self.order is None else member.index_select(1, _on(self.order, member))

    def states_as_user(self, plan: Plan, member: Tensor) -> Tensor:
        if self.order is not None:
            member = member.index_select(1, _on(np.argsort(self.order), member))
        return _without(plan, member)


def _on(index: Array, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(index)).to(like.device)


def _with(plan: Plan, tensor: Tensor) -> Tensor:
    """Add the axes that the user's layout lacks."""
    if plan.kind == "unbatched":
        return tensor.unsqueeze(1)
    if plan.kind == "unbatched_step":
        return tensor[None, None]
    return tensor[None] if plan.kind == "step" else tensor


def _without(plan: Plan, tensor: Tensor) -> Tensor:
    if plan.kind == "unbatched":
        return tensor.squeeze(1)
    if plan.kind == "unbatched_step":
        return tensor[0, 0]
    return tensor[0] if plan.kind == "step" else tensor

"""Eager calls: one node of the autograd graph for a whole stack, and no node if no gradient is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _tensor_passes, formulation
from ._tensor_passes import Job
from .plan import Plan

Outputs = tuple[Tensor, ...]  # y and the final states


class Recurrence(torch.autograd.Function):
    """y and the final states of a stack.

    The inputs are a job, x, a tensor or None for each state of the cell, and the weights. All that backward reads is
    saved through autograd: so writes in between are found out, hooks on saved tensors work, and memory is freed with
    the graph.
    """

    @staticmethod
    def forward(ctx: Any, job: Job, x: Tensor, *tensors: Tensor | None) -> Outputs:  # type: ignore[override]
        return _tensor_passes.begin(ctx, job, x, tensors)

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        wanted = ctx.needs_input_grad[1:]
        plan: Plan = ctx.job.description
        if all(one is None for one in d):
            return (None,) * (1 + len(wanted))
        if is_beyond_kernels(d):
            _, inputs, masks, _ = _tensor_passes.saved_of(ctx)
            return None, *formulation.gradients(plan, in_graph(ctx.next_functions, inputs), masks, d, wanted)
        return None, *_tensor_passes.end(ctx, d, wanted, plan.truncation)


def in_graph(edges: Sequence[tuple[Any, int]], saved: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The saved inputs with their histories, which `unswappable` removed. `edges` lead to inputs that are tensors."""
    nodes, found = iter(edges), []
    for tensor in saved:
        leaf = None if tensor is None else getattr(next(nodes)[0], "variable", None)
        if tensor is None or leaf is None or tensor.requires_grad:
            found.append(tensor)
        else:
            found.append(leaf if leaf.is_set_to(tensor) else _AsSaved.apply(leaf, tensor))
    return found


class _AsSaved(torch.autograd.Function):
    """A leaf of the graph with its earlier values."""

    generate_vmap_rule = True

    @staticmethod
    def forward(_leaf: Tensor, saved: Tensor) -> Tensor:  # type: ignore[override]
        return saved.clone()

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(_ctx: Any, d: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return d, None

    @staticmethod
    def jvp(_ctx: Any, d_leaf: Tensor, _: Any) -> Tensor:  # type: ignore[override]
        return d_leaf.clone()


def is_beyond_kernels(d: Sequence[Tensor | None]) -> bool:
    """Whether backward needs gradients of gradients, several d at once (is_grads_batched), or dual numbers."""
    if torch.is_grad_enabled() or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return True
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_batched(tensor) for tensor in d)

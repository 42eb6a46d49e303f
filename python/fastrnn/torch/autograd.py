"""Eager calls: one node of the autograd graph for a whole stack, and no node if no gradient is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _tensors, calls, formulation
from .calls import Call
from .plan import Plan
from .tensors import Packed, arrays_or_none

Outputs = tuple[Tensor, ...]  # y, h_n and, for the LSTM, c_n


class Recurrence(torch.autograd.Function):
    """y, h_n[, c_n] of a stack.

    All tensors that backward reads are saved through autograd. So autograd detects writes in between, hooks on saved
    tensors work, and memory is freed with the graph. packed: the weights packed for forward, or None.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        plan: Plan,
        call: Call,
        packed: Packed | None,
        masks: Sequence[Tensor | None] | None,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        *weights: Tensor,
    ) -> Outputs:
        ctx.plan, ctx.call, ctx.count, ctx.masked = plan, call, len(weights), masks is not None
        ctx.set_materialize_grads(False)
        inputs = [unswappable(tensor) for tensor in (x, h0, c0, *weights)]
        applied = None if masks is None else arrays_or_none(masks)
        outputs, kept = _tensors.forward(*call, x, (h0, c0), weights, packed, applied, calls.starting_of(plan))
        ctx.save_for_backward(outputs[0], *inputs, *(masks or ()), *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        plan: Plan = ctx.plan
        y, x, h0, c0, *rest = ctx.saved_tensors
        weights, rest = rest[: ctx.count], rest[ctx.count :]
        between = plan.network.layers - 1 if ctx.masked else 0
        masks, kept = (rest[:between] if ctx.masked else None), rest[between:]
        wanted = ctx.needs_input_grad[4:]
        if all(one is None for one in d):
            return (None,) * (4 + len(wanted))
        if is_beyond_kernels(d):
            inputs = in_graph(ctx.next_functions, (x, h0, c0, *weights))
            return None, None, None, None, *formulation.gradients(plan, inputs, masks, d, wanted)
        applied = None if masks is None else arrays_or_none(masks)
        inner, arrays = ctx.call
        given = (h0, c0), weights, applied, calls.starting_of(plan)
        found = _tensors.backward(inner, arrays, y, x, *given, kept, d, wanted, plan.truncation)
        return None, None, None, None, *found


def unswappable(tensor: Tensor | None) -> Tensor | None:
    """A tensor with the same memory and version that a later ``tensor.data = …`` does not change; only for leaves.

    torch saves views of weights, so its gradients belong to the weights that the call used.
    """
    return tensor.detach() if tensor is not None and tensor.is_leaf else tensor


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

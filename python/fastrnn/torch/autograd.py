"""The eager way: one node of the autograd graph for a whole stack, and none where no gradient is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _tensor_passes, calls, formulation
from .calls import Call
from .plan import Plan
from .tensors import Packed, arrays_or_none

Outputs = tuple[Tensor, ...]  # y and the final states


class Recurrence(torch.autograd.Function):
    """y and the final states of a stack.

    The inputs are x, a tensor or None for each state of the cell, and the weights. packed: the weights as forward reads
    them, or None. All that backward reads is saved through autograd: so writes in between are found out, hooks on saved
    tensors work, and memory is freed with the graph.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        plan: Plan,
        call: Call,
        packed: Packed | None,
        masks: Sequence[Tensor | None] | None,
        x: Tensor,
        *tensors: Tensor | None,
    ) -> Outputs:
        ctx.plan, ctx.call, ctx.count, ctx.masked = plan, call, len(tensors), masks is not None
        ctx.set_materialize_grads(False)
        inputs = [unswappable(tensor) for tensor in (x, *tensors)]
        applied = None if masks is None else arrays_or_none(masks)
        given = tensors[: call.plan.states], tensors[call.plan.states :]
        outputs, kept = _tensor_passes.forward(*call, x, *given, packed, applied, calls.starting_of(plan))
        ctx.save_for_backward(outputs[0], *inputs, *(masks or ()), *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        plan: Plan = ctx.plan
        y, x, *rest = ctx.saved_tensors
        tensors, rest = rest[: ctx.count], rest[ctx.count :]
        between = plan.network.layers - 1 if ctx.masked else 0
        masks, kept = (rest[:between] if ctx.masked else None), rest[between:]
        wanted = ctx.needs_input_grad[4:]
        if all(one is None for one in d):
            return (None,) * (4 + len(wanted))
        if is_beyond_kernels(d):
            inputs = in_graph(ctx.next_functions, (x, *tensors))
            return None, None, None, None, *formulation.gradients(plan, inputs, masks, d, wanted)
        applied = None if masks is None else arrays_or_none(masks)
        inner, arrays = ctx.call
        given = tensors[: inner.states], tensors[inner.states :], applied, calls.starting_of(plan)
        found = _tensor_passes.backward(inner, arrays, y, x, *given, kept, d, wanted, plan.truncation)
        return None, None, None, None, *found


def unswappable(tensor: Tensor | None) -> Tensor | None:
    """A tensor with the same memory and version, which a later ``tensor.data = …`` does not reach; for leaves alone.

    torch saves views of weights, and its gradients are those of the weights that the call used.
    """
    return tensor.detach() if tensor is not None and tensor.is_leaf else tensor


def in_graph(edges: Sequence[tuple[Any, int]], saved: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The saved inputs with their histories, which `unswappable` cut off. `edges` go to the inputs that are tensors."""
    nodes, found = iter(edges), []
    for tensor in saved:
        leaf = None if tensor is None else getattr(next(nodes)[0], "variable", None)
        if tensor is None or leaf is None or tensor.requires_grad:
            found.append(tensor)
        else:
            found.append(leaf if leaf.is_set_to(tensor) else _AsSaved.apply(leaf, tensor))
    return found


class _AsSaved(torch.autograd.Function):
    """A leaf of the graph with the numbers that it had before."""

    generate_vmap_rule = True

    @staticmethod
    def forward(_leaf: Tensor, saved: Tensor) -> Tensor:  # type: ignore[override]
        return saved.clone()

    @staticmethod
    def setup_context(*_: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(_ctx: Any, d: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return d, None

    @staticmethod
    def jvp(_ctx: Any, d_leaf: Tensor, _: Any) -> Tensor:  # type: ignore[override]
        return d_leaf.clone()


def is_beyond_kernels(d: Sequence[Tensor | None]) -> bool:
    """Whether gradients are differentiated again, or of several d at once (is_grads_batched), or of dual numbers."""
    if torch.is_grad_enabled() or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return True
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_batched(tensor) for tensor in d)

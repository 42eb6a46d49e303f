"""Eager calls: one node of the autograd graph for a whole stack, and no node if no gradient is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _tensor_passes, formulation
from ._tensor_passes import Job
from .plan import Plan
from .second_order import is_transformed

Outputs = tuple[Tensor, ...]  # y and the final states


class Call(NamedTuple):
    """A node of the graph with its saved tensors, which hooks may refuse to unpack twice (activation checkpointing)."""

    job: Job
    saved_tensors: tuple[Any, ...]
    needs_input_grad: tuple[bool, ...]


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
        if not is_beyond_kernels(d):
            return None, *_tensor_passes.end(ctx, d, wanted, plan.truncation)
        call = Call(ctx.job, ctx.saved_tensors, ctx.needs_input_grad)
        _, saved, masks, _ = _tensor_passes.saved_of(call)
        inputs = in_graph(ctx.next_functions, saved)
        if is_transformed(d):
            return None, *formulation.gradients(plan, inputs, masks, d, wanted)
        formulation.refuse_truncation(plan)
        found = iter(Gradients.apply(call, len(d), *d, *inputs))
        return None, *[next(found) if one else None for one in wanted]


class Gradients(torch.autograd.Function):
    """The gradients of a call, by the kernels, as functions of d and of the inputs: x, the states and the weights."""

    @staticmethod
    def forward(ctx: Any, call: Call, count: int, *tensors: Tensor | None) -> Outputs:  # type: ignore[override]
        wanted, masks = call.needs_input_grad[1:], _tensor_passes.saved_of(call)[2] or ()
        ctx.plan, ctx.wanted, ctx.count, ctx.tensors = call.job.description, wanted, count, len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *masks)
        found = _tensor_passes.end(call, tensors[:count], wanted, None)
        return tuple([one for one in found if one is not None])

    @staticmethod
    def backward(ctx: Any, *v: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        saved = ctx.saved_tensors
        tensors, masks = saved[: ctx.tensors], saved[ctx.tensors :] or None
        d, inputs, asked = tensors[: ctx.count], tensors[ctx.count :], ctx.needs_input_grad[2:]
        given = iter(v)
        every = [next(given) if one else None for one in ctx.wanted]
        found = formulation.gradients_of_gradients(ctx.plan, inputs, masks, d, every, asked)
        return None, None, *found


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
    return torch.is_grad_enabled() or is_transformed(d)

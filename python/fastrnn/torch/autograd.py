"""The eager way: one node of the autograd graph for a whole stack, and none where no gradient is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _check
from .._check import Array
from . import execution, formulation, single_layer
from .packed_weights import Packed, arrays_of, pack
from .plan import Plan

Outputs = tuple[Tensor, ...]  # y, h_n and, for the LSTM, c_n


def array_of(tensor: Tensor | None) -> Array | None:
    """A view that the core can read; a copy only where the last axis is not contiguous."""
    if tensor is None:
        return None
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()
    array: Array = tensor.numpy()
    return array if tensor.is_contiguous() and array.flags.aligned else _check.readable(array)


def arrays_or_none(tensors: Sequence[Tensor | None]) -> list[Array | None]:
    return [array_of(tensor) for tensor in tensors]


def outputs_of(outcome: execution.Outcome) -> Outputs:
    y, h_n = torch.from_numpy(outcome.y), torch.from_numpy(outcome.h_n)
    return (y, h_n) if outcome.c_n is None else (y, h_n, torch.from_numpy(outcome.c_n))


def infer(
    plan: Plan,
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    packed: Packed,
    masks: Sequence[Tensor | None] | None,
) -> Outputs:
    """Without a graph."""
    arrays = None if masks is None else [None if mask is None else mask.numpy() for mask in masks]
    first: Any = array_of(x)
    return outputs_of(execution.run_forward(plan, first, array_of(h0), array_of(c0), packed, arrays, training=False))


class Recurrence(torch.autograd.Function):
    """y, h_n[, c_n] of a stack.

    All that backward reads is saved through autograd: so writes in between are found out, hooks on saved tensors work,
    and memory is freed with the graph.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        plan: Plan,
        packed: Packed | None,
        masks: Sequence[Tensor | None] | None,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        *weights: Tensor,
    ) -> Outputs:
        ctx.plan, ctx.count, ctx.masked = plan, len(weights), masks is not None
        ctx.set_materialize_grads(False)
        call = single_layer.call_of(plan, x) if masks is None else None
        if call is not None:
            of_layer = packed[0] if packed is not None and call.packs else None
            if of_layer is not None or not call.packs:
                found = single_layer.run_forward(call, plan, x, (h0, c0), weights, of_layer)
                if found is not None:
                    outputs, kept = found
                    ctx.save_for_backward(outputs[0], x, h0, c0, *weights, *kept)
                    return outputs
        packed = pack(plan.network, arrays_of(weights)) if packed is None else packed
        arrays = None if masks is None else arrays_or_none(masks)
        first: Any = array_of(x)
        outcome = execution.run_forward(plan, first, array_of(h0), array_of(c0), packed, arrays, training=True)
        outputs = outputs_of(outcome)
        kept = [torch.from_numpy(array) for array in outcome.kept]
        ctx.save_for_backward(outputs[0], x, h0, c0, *weights, *(masks or ()), *kept)
        return outputs

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        plan: Plan = ctx.plan
        y, x, h0, c0, *rest = ctx.saved_tensors
        weights, rest = rest[: ctx.count], rest[ctx.count :]
        between = plan.network.layers - 1 if ctx.masked else 0
        masks, kept = (rest[:between] if ctx.masked else None), rest[between:]
        wanted = ctx.needs_input_grad[3:]
        if all(one is None for one in d):
            return (None,) * (3 + len(wanted))
        if is_beyond_kernels(d):
            inputs = [x, h0, c0, *weights]
            return None, None, None, *formulation.gradients(plan, inputs, masks, d, wanted)
        return None, None, None, *kernel_gradients(plan, (y, x, h0, c0), weights, masks, kept, d, wanted)


def is_beyond_kernels(d: Sequence[Tensor | None]) -> bool:
    """Whether gradients are differentiated again, or of several d at once (is_grads_batched), or of dual numbers."""
    if torch.is_grad_enabled() or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return True
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_batched(tensor) for tensor in d)


def kernel_gradients(
    plan: Plan,
    sequences: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None] | None,
    kept: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of x, h0, c0 and the weights, where wanted."""
    if masks is None:
        alone = single_layer.run_backward(plan, sequences, weights, kept, d, wanted)
        if alone is not None:
            return alone
    y, x, h0, c0 = arrays_or_none(sequences)
    assert y is not None
    assert x is not None
    mask_arrays = None if masks is None else arrays_or_none(masks)
    named = execution.read_kept(plan, x, y, mask_arrays, [tensor.numpy() for tensor in kept])
    dy, dh, dc = (*arrays_or_none(d), None)[:3]
    states = bool(wanted[1] or wanted[2])
    asked = execution.Wanted(bool(wanted[0]), states, wanted[3:])
    found = execution.run_backward(plan, named, h0, c0, arrays_of(weights), mask_arrays, (dy, dh, dc), asked)
    arrays = [found.x, found.h0, found.c0, *found.weights]
    return [
        torch.from_numpy(np.asarray(array)) if array is not None and asked_for else None
        for array, asked_for in zip(arrays, wanted, strict=True)
    ]

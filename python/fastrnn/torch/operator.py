"""A stack as one operator, `fastrnn::recurrence`, for torch.compile, torch.export and modes that see operators.

Eager calls go straight to the kernels (autograd.py): the dispatcher's way to an operator in Python takes as long as a
short call. The outputs are one list: y, the final states, and what backward needs if the key says training.

states: one tensor for each state of the cell, or None for all of them. weights: the parameters of each layer and
direction, and then the cell's inputs of each step, laid out as x, for each layer and direction. masks: of dropout, of
all layers but the last (num_layers - 1, T, B, n). order: lengths, batch_sizes and resets, each of which may be None.
key: see `keys.key_of`. No list of tensors among the inputs of a forward call is ever empty, since AOTInductor hands an
empty one on as None.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from . import _tensor_passes, calls, formulation
from ._tensor_passes import unswappable
from .autograd import in_graph, is_beyond_kernels
from .calls import has_reserve, reserve_bytes
from .keys import Described, described
from .plan import Plan, input_widths, make_packed_plan, make_plan, weight_shapes
from .tensors import array_on, arrays_or_none

_INPUTS = "Tensor x, Tensor?[] states, Tensor[] weights, Tensor? masks, Tensor?[] order, str key"
Maybe: TypeAlias = Tensor | None


CALLS_MAX = 256  # dense calls that each thread keeps


class _OfThread(threading.local):
    """The calls of the operator in one thread, since no module owns them."""

    def __init__(self) -> None:
        self.calls = calls.Calls(CALLS_MAX)


_of_thread = _OfThread()


def _plan(x: Tensor, weights: Sequence[Tensor], order: Sequence[Maybe], call: Described) -> Plan:
    """The plan of a call; ValueError for weights of other shapes."""
    found = [tuple(w.shape) for w in weights]
    expected = weight_shapes(call.network, x.shape[-1]) + [(*x.shape[:-1], n) for n in input_widths(call.network)]
    if found != expected:
        raise ValueError(f"weights: expected tensors of shapes {expected}, got {found}")
    lengths, batch_sizes, resets = (None if one is None else array_on(one) for one in order)
    if call.kind == "packed":
        assert batch_sizes is not None
        return make_packed_plan(call.network, batch_sizes, resets, call.truncation, call.options)
    return make_plan(call.network, call.kind, *_sizes(x, call.kind), lengths, resets, call.truncation, call.options)


def _sizes(x: Tensor, kind: str) -> tuple[int, int]:
    if kind == "unbatched":
        return x.shape[0], 1
    return (x.shape[1], x.shape[0]) if kind == "batch_first" else (x.shape[0], x.shape[1])


@torch.library.custom_op("fastrnn::recurrence", mutates_args=(), schema=f"({_INPUTS}) -> Tensor[]")
def recurrence(
    x: Tensor, states: Sequence[Maybe], weights: Sequence[Tensor], masks: Maybe, order: Sequence[Maybe], key: str
) -> list[Tensor]:
    call = described(key)
    if any(one is None for one in states) and any(one is not None for one in states):
        raise ValueError("states: expected a tensor for each state, or None for all of them")
    plan = _plan(x, weights, order, call)
    applied = None if masks is None else arrays_or_none(masks.unbind())
    found = *_of_thread.calls.get(plan, x), x, states, weights, None, applied, calls.starting_of(plan)
    outputs, kept = _tensor_passes.forward(*found, call.training, call.options)
    return [*outputs, *kept]


@recurrence.register_fake
def _(
    x: Tensor, states: Sequence[Maybe], weights: Sequence[Tensor], masks: Maybe, order: Sequence[Maybe], key: str
) -> list[Tensor]:
    network, kind, _, training, _ = described(key)
    cell, layers, directions, hidden_size, _ = network
    width, count = directions * hidden_size, layers * directions
    y = x.new_empty((*x.shape[:-1], width))
    if kind == "packed":
        rows = x.shape[0], 1
        shape: tuple[Any, ...] = (count, _packed_batch(states), hidden_size)
    else:
        rows = _sizes(x, kind)
        shape = (count, hidden_size) if kind == "unbatched" else (count, rows[1], hidden_size)
    outputs = [y, *(x.new_empty(shape) for _ in network.row.states)]
    if not training:
        return outputs
    if has_reserve(cell):
        dtype = np.float32 if x.dtype == torch.float32 else np.float64
        size = reserve_bytes(cell, dtype, hidden_size, rows[0] * rows[1])
        outputs += [x.new_empty((size,), dtype=torch.uint8) for _ in range(count)]
    for _ in range(layers - 1):
        outputs += [x.new_empty((*x.shape[:-1], width)) for _ in range(1 if masks is None else 2)]
    return outputs


def _packed_batch(states: Sequence[Maybe]) -> Any:
    if states[0] is None:
        raise NotImplementedError("hx: expected a state with a PackedSequence under torch.compile or torch.export")
    return states[0].shape[1]


@torch.library.custom_op(
    "fastrnn::recurrence_backward",
    mutates_args=(),
    schema=f"(Tensor?[] d, Tensor y, Tensor[] kept, {_INPUTS}, bool[] wanted) -> Tensor[]",
)
def recurrence_backward(
    d: Sequence[Maybe],
    y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    states: Sequence[Maybe],
    weights: Sequence[Tensor],
    masks: Maybe,
    order: Sequence[Maybe],
    key: str,
    wanted: Sequence[bool],
) -> list[Tensor]:
    plan = _plan(x, weights, order, described(key))
    applied = None if masks is None else arrays_or_none(masks.unbind())
    call = *_of_thread.calls.get(plan, x), y, x, states, weights, applied, calls.starting_of(plan)
    found = _tensor_passes.backward(*call, kept, d, wanted, plan.truncation, plan.options)
    return [gradient for gradient in found if gradient is not None]


@recurrence_backward.register_fake
def _(
    d: Sequence[Maybe],
    y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    states: Sequence[Maybe],
    weights: Sequence[Tensor],
    masks: Maybe,
    order: Sequence[Maybe],
    key: str,
    wanted: Sequence[bool],
) -> list[Tensor]:
    inputs = [x, *states, *weights]
    return [one.new_empty(one.shape) for one, asked in zip(inputs, wanted, strict=True) if asked and one is not None]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, states, weights, masks, order, key = inputs
    if not described(key).training:
        raise NotImplementedError(
            "fastrnn::recurrence: expected a call that was traced for training, with gradients enabled"
        )
    ctx.key, ctx.states, ctx.count = key, len(states), len(states) + len(weights)
    tensors = (unswappable(tensor) for tensor in (x, *states, *weights))
    ctx.save_for_backward(masks, *order, *tensors, output[0], *output[1 + len(states) :])


def _backward(ctx: Any, d: list[Maybe]) -> tuple[Any, ...]:
    masks, *rest = ctx.saved_tensors
    order, x, tensors, (y, *kept) = rest[:3], rest[3], rest[4 : 4 + ctx.count], rest[4 + ctx.count :]
    states, weights = tensors[: ctx.states], tensors[ctx.states :]
    of_x, of_states, of_weights, _, of_order, _ = ctx.needs_input_grad
    asked = [of_x, *_each(of_states, states), *_each(of_weights, weights)]
    wanted = [bool(one) and tensor is not None for one, tensor in zip(asked, (x, *tensors), strict=True)]
    d = d[: 1 + ctx.states]
    if is_beyond_kernels(d):
        plan = _plan(x, weights, order, described(ctx.key))
        applied = None if masks is None else masks.unbind()
        gradients = formulation.gradients(plan, in_graph(ctx.next_functions, (x, *tensors)), applied, d, wanted)
    else:
        found = iter(recurrence_backward(d, y, kept, x, states, weights, masks, order, ctx.key, wanted))
        gradients = [next(found) if one else None for one in wanted]
    # autograd takes a list of tensors apart; a list with a None is one argument to it, without a gradient.
    to_states = gradients[1 : 1 + ctx.states] if isinstance(of_states, list) else None
    to_order = [None] * 3 if isinstance(of_order, list) else None
    return gradients[0], to_states, gradients[1 + ctx.states :], None, to_order, None


def _each(asked: Any, tensors: Sequence[Maybe]) -> list[bool]:
    return list(asked) if isinstance(asked, list | tuple) else [asked] * len(tensors)


recurrence.register_autograd(_backward, setup_context=_setup_context)

"""A stack as one operator, `fastrnn::recurrence`, for torch.compile, torch.export and modes that see operators.

Eager calls go straight to the kernels (autograd.py): the dispatcher's way to an operator in Python takes as long as a
short call. The outputs are one list: y, h_n, c_n (LSTM), and what backward needs if `training`. `masks` are those of
dropout, of all layers but the last (num_layers - 1, T, B, n): no list of tensors among the inputs of a forward call is
ever empty, as AOTInductor hands an empty one on as None. k1 = k2 = 0: no truncation.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import _tensors, calls, formulation
from .autograd import in_graph, is_beyond_kernels, unswappable
from .calls import has_reserve, reserve_bytes
from .plan import Network, Plan, make_packed_plan, make_plan, weight_shapes
from .tensors import array_on, arrays_or_none

_ORDER = "Tensor? lengths, Tensor? batch_sizes, Tensor? resets"
_STACK = "str cell, int layers, int directions, int hidden_size, str kind, int k1, int k2"
_INPUTS = "Tensor x, Tensor? h0, Tensor? c0, Tensor[] weights, Tensor? masks"


CALLS_MAX = 256  # dense calls that each thread keeps


class _OfThread(threading.local):
    """The calls of the operator in one thread, since no module owns them."""

    def __init__(self) -> None:
        self.calls = calls.Calls(CALLS_MAX)


_of_thread = _OfThread()


def _network(cell: str, layers: int, directions: int, hidden_size: int, weights: Sequence[Tensor]) -> Network:
    return Network(cell, layers, directions, hidden_size, len(weights) == 4 * layers * directions)


def _checked(x: Tensor, network: Network, weights: Sequence[Tensor]) -> None:
    found, expected = [tuple(w.shape) for w in weights], weight_shapes(network, x.shape[-1])
    if found != expected:
        raise ValueError(f"weights: expected tensors of shapes {expected}, got {found}")


def _plan(
    x: Tensor,
    order: tuple[Tensor | None, Tensor | None, Tensor | None],
    network: Network,
    kind: str,
    window: tuple[int, int],
) -> Plan:
    lengths, batch_sizes, resets = (None if one is None else array_on(one) for one in order)
    truncation = window if window[0] else None
    if kind == "packed":
        assert batch_sizes is not None
        return make_packed_plan(network, batch_sizes, resets, truncation)
    T, B = _sizes(x, kind)
    return make_plan(network, kind, T, B, lengths, resets, truncation)


def _sizes(x: Tensor, kind: str) -> tuple[int, int]:
    if kind == "unbatched":
        return x.shape[0], 1
    return (x.shape[1], x.shape[0]) if kind == "batch_first" else (x.shape[0], x.shape[1])


@torch.library.custom_op(
    "fastrnn::recurrence",
    mutates_args=(),
    schema=f"({_INPUTS}, {_ORDER}, {_STACK}, bool training) -> Tensor[]",
)
def recurrence(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    masks: Tensor | None,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    cell: str,
    layers: int,
    directions: int,
    hidden_size: int,
    kind: str,
    k1: int,
    k2: int,
    training: bool,
) -> list[Tensor]:
    network = _network(cell, layers, directions, hidden_size, weights)
    _checked(x, network, weights)
    plan = _plan(x, (lengths, batch_sizes, resets), network, kind, (k1, k2))
    call = _of_thread.calls.get(plan, x)
    applied = None if masks is None else arrays_or_none(masks.unbind())
    outputs, kept = _tensors.forward(*call, x, (h0, c0), weights, None, applied, calls.starting_of(plan), training)
    return [*outputs, *kept]


@recurrence.register_fake
def _(
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    masks: Tensor | None,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    cell: str,
    layers: int,
    directions: int,
    hidden_size: int,
    kind: str,
    k1: int,
    k2: int,
    training: bool,
) -> list[Tensor]:
    width, count = directions * hidden_size, layers * directions
    y = x.new_empty((*x.shape[:-1], width))
    if kind == "packed":
        rows = x.shape[0], 1
        states: tuple[Any, ...] = (count, _packed_states(h0, batch_sizes), hidden_size)
    else:
        rows = _sizes(x, kind)
        states = (count, hidden_size) if kind == "unbatched" else (count, rows[1], hidden_size)
    outputs = [y, *(x.new_empty(states) for _ in range(1 + (cell == "lstm")))]
    if not training:
        return outputs
    if has_reserve(cell):
        dtype = np.float32 if x.dtype == torch.float32 else np.float64
        size = reserve_bytes(cell, dtype, hidden_size, rows[0] * rows[1])
        outputs += [x.new_empty((size,), dtype=torch.uint8) for _ in range(count)]
    for _ in range(layers - 1):
        outputs += [x.new_empty((*x.shape[:-1], width)) for _ in range(1 if masks is None else 2)]
    return outputs


def _packed_states(h0: Tensor | None, batch_sizes: Tensor | None) -> Any:
    if h0 is None:
        raise NotImplementedError("hx: expected a state with a PackedSequence under torch.compile or torch.export")
    return h0.shape[1]


@torch.library.custom_op(
    "fastrnn::recurrence_backward",
    mutates_args=(),
    schema=(
        f"(Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor y, Tensor[] kept, {_INPUTS}, {_ORDER}, {_STACK},"
        " bool[] wanted) -> Tensor[]"
    ),
)
def recurrence_backward(
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    masks: Tensor | None,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    cell: str,
    layers: int,
    directions: int,
    hidden_size: int,
    kind: str,
    k1: int,
    k2: int,
    wanted: Sequence[bool],
) -> list[Tensor]:
    network = _network(cell, layers, directions, hidden_size, weights)
    _checked(x, network, weights)
    plan = _plan(x, (lengths, batch_sizes, resets), network, kind, (k1, k2))
    applied = None if masks is None else arrays_or_none(masks.unbind())
    d = (dy, dh_n, dc_n)[: 3 if network.has_c else 2]
    call = _of_thread.calls.get(plan, x)
    found = _tensors.backward(
        *call, y, x, (h0, c0), weights, applied, calls.starting_of(plan), kept, d, wanted, plan.truncation
    )
    return [gradient for gradient in found if gradient is not None]


@recurrence_backward.register_fake
def _(
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    y: Tensor,
    kept: Sequence[Tensor],
    x: Tensor,
    h0: Tensor | None,
    c0: Tensor | None,
    weights: Sequence[Tensor],
    masks: Tensor | None,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    cell: str,
    layers: int,
    directions: int,
    hidden_size: int,
    kind: str,
    k1: int,
    k2: int,
    wanted: Sequence[bool],
) -> list[Tensor]:
    inputs = [x, h0, c0, *weights]
    return [one.new_empty(one.shape) for one, asked in zip(inputs, wanted, strict=True) if asked and one is not None]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, h0, c0, weights, masks, lengths, batch_sizes, resets, *stack, training = inputs
    states = 3 if stack[0] == "lstm" else 2
    if not training:
        raise NotImplementedError(
            "fastrnn::recurrence: expected a call that was traced for training, with gradients enabled"
        )
    ctx.stack, ctx.states, ctx.count = stack, states, len(weights)
    ctx.outputs = len(output)
    x, h0, c0, *weights = (unswappable(tensor) for tensor in (x, h0, c0, *weights))
    ctx.save_for_backward(x, h0, c0, masks, lengths, batch_sizes, resets, *weights, output[0], *output[states:])


def _backward(ctx: Any, d: list[Tensor | None]) -> tuple[Any, ...]:
    x, h0, c0, masks, *rest = ctx.saved_tensors
    order, rest = rest[:3], rest[3:]
    weights, (y, *kept) = rest[: ctx.count], rest[ctx.count :]
    asked = ctx.needs_input_grad
    wanted = [bool(asked[j]) and one is not None for j, one in enumerate((x, h0, c0))]
    wanted += [bool(one) for one in (asked[3] if isinstance(asked[3], list | tuple) else [asked[3]] * len(weights))]
    d = d[: ctx.states]
    if is_beyond_kernels(d):
        *stack, k1, k2 = ctx.stack
        cell, layers, directions, hidden_size, kind = stack
        plan = _plan(x, order, _network(cell, layers, directions, hidden_size, weights), kind, (k1, k2))
        applied = None if masks is None else masks.unbind()
        gradients = formulation.gradients(plan, in_graph(ctx.next_functions, (x, h0, c0, *weights)), applied, d, wanted)
    else:
        dy, dh_n, dc_n = (*d, None)[:3]
        found = iter(
            recurrence_backward(dy, dh_n, dc_n, y, kept, x, h0, c0, weights, masks, *order, *ctx.stack, wanted)
        )
        gradients = [next(found) if one else None for one in wanted]
    return (*gradients[:3], gradients[3:], *(None,) * (1 + 3 + len(ctx.stack) + 1))


recurrence.register_autograd(_backward, setup_context=_setup_context)

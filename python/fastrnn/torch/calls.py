"""Calls of a stack on tensors: their plans, which are kept, and forward and backward for autograd and the operator.

`kept` is what forward leaves for backward, in this order: for each layer and direction its reserve (where the cell has
one); for each layer but the last its output and, with dropout, the masked output that the next layer read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import _core, _plan, memory
from ..config import backend_index, get_num_threads, team_index
from ._tensors import TensorArrays
from .plan import Network, Plan, dense_plan
from .tensors import NUMPY_DTYPES, Packed, arrays_or_none, outline, readable

_NO_BYTES = outline((0,), torch.uint8)


class Call(NamedTuple):
    """A plan of the core, and how the tensors of the call are laid out."""

    plan: _plan.Plan
    arrays: TensorArrays


def settings() -> tuple[int, int, int]:
    """Backend, threads, and how to take them."""
    torch.get_num_threads()  # in a thread that is new to torch, this tells OpenMP the number that was set in another
    return backend_index(), get_num_threads(), team_index()


def call_of(plan: Plan, x: Tensor) -> Call:
    """The call for this plan and input."""
    batch = plan.batches[0]
    if batch.dense:
        sizes = batch.T, batch.B, x.shape[-1]
        return _dense_call(plan.network, plan.kind, sizes, x.dtype, settings())
    return _new_call(plan, x.shape[-1], x.dtype, settings())


@lru_cache(maxsize=256)
def _dense_call(
    network: Network, kind: str, sizes: tuple[int, int, int], dtype: torch.dtype, chosen: tuple[int, int, int]
) -> Call:
    T, B, I = sizes
    return _new_call(dense_plan(network, kind, T, B), I, dtype, chosen)


def _new_call(plan: Plan, I: int, dtype: torch.dtype, chosen: tuple[int, int, int]) -> Call:
    network = plan.network
    like = _like(network.cell, NUMPY_DTYPES[dtype], chosen, network.hidden_size)
    inner = _plan.Plan(like, network.cell, I, network.layers, plan.batches)
    return Call(inner, arrays_of_call(plan, dtype, returns_y=True))


def arrays_of_call(plan: Plan, dtype: torch.dtype, *, returns_y: bool) -> TensorArrays:
    """How its tensors are laid out. returns_y: y becomes a tensor."""
    network, batch = plan.network, plan.batches[0]
    H, width = network.hidden_size, network.directions * network.hidden_size
    # A dense batch of a PackedSequence is (T, B, n), row after row.
    kind = "dense" if plan.is_packed and batch.dense else plan.kind
    y = outline(plan.sequence_shape(width), dtype) if returns_y else None
    outlines, names = (y, outline(plan.states_shape(), dtype)), (torch.empty_like, torch.from_numpy, _NO_BYTES)
    return TensorArrays(kind, NUMPY_DTYPES[dtype], outlines, names, batch.grid, batch.B, H)


@lru_cache(maxsize=256)
def _like(cell: str, dtype: Any, chosen: tuple[int, int, int], H: int) -> _core.Problem:
    backend, threads, team = chosen
    return _core.Problem(cell, dtype, backend, threads, 0, 0, 0, H, None, team)


@cache
def _reserve_row(cell: str, dtype: Any, H: int) -> int:
    """Bytes that forward saves for each row (t, b), the same on every backend.

    A compiled graph keeps the number: its cached code may run later with another backend, or on another machine.
    """
    return _core.Problem(cell, dtype, backend_index(), 1, 1, 1, 0, H).reserve


def reserve_bytes(cell: str, dtype: Any, H: int, rows: Any) -> Any:
    """What forward saves for so many rows, whose number may be symbolic; 0 for some cells."""
    return rows * _reserve_row(cell, np.dtype(dtype), H)


def has_reserve(cell: str) -> bool:
    """Whether forward saves anything besides y."""
    return _reserve_row(cell, np.dtype(np.float32), 1) > 0


def parameters_of(network: Network, weights: Sequence[Tensor]) -> list[Any]:
    """Four of each layer and direction, None for an absent bias."""
    each = network.tensors_each
    if len(weights) != each * network.layers * network.directions:
        raise ValueError(f"weights: expected {each} for each layer and direction, got {len(weights)}")
    found: list[Any] = []
    for j in range(0, len(weights), each):
        found += [
            one if one.is_contiguous() and not one.is_neg() else one.contiguous().resolve_neg()
            for one in weights[j : j + each]
        ]
        found += [None] * (4 - each)
    return found


def infer(
    call: Call, x: Tensor, states: Sequence[Tensor | None], packed: Packed, masks: Sequence[Tensor | None] | None
) -> tuple[Tensor, ...]:
    """The output and the final states, without a graph."""
    initial = tuple([readable(one) for one in states[: call.plan.states]])
    applied = None if masks is None else [None, *arrays_or_none(masks)]
    y, final, _ = call.plan.forward(call.arrays, readable(x), initial, None, packed, None, applied, None, None, False)
    return y, *final


def forward(
    call: Call,
    x: Tensor,
    states: Sequence[Tensor | None],
    parameters: list[Any],
    packed: Packed | None,
    masks: Sequence[Tensor | None] | None,
    *,
    training: bool = True,
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """The output and the final states, and what is kept for backward.

    packed None: the weights are packed if that pays.
    """
    initial = tuple([readable(one) for one in states[: call.plan.states]])
    applied = None if masks is None else [None, *arrays_or_none(masks)]
    y, final, tape = call.plan.forward(
        call.arrays, readable(x), initial, parameters, packed, None, applied, None, None, training, False
    )
    if not training:
        return (y, *final), []
    kept: list[Tensor] = []
    if has_reserve(call.plan.cell):
        kept = [torch.empty(0, dtype=torch.uint8) if one is None else one for one in tape.kept]
    for layer in range(call.plan.layers - 1):
        kept.append(tape.outputs[layer])
        if masks is not None and masks[layer] is not None:
            kept.append(tape.inputs[layer + 1])
    return (y, *final), kept


def backward(
    call: Call,
    sequences: tuple[Tensor, Tensor],
    states: Sequence[Tensor | None],
    parameters: list[Any],
    masks: Sequence[Tensor | None] | None,
    kept: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
    truncation: tuple[int, int] | None,
) -> list[Tensor | None]:
    """The gradients of x, the states and the parameters (four of each layer and direction), where wanted.

    sequences: y and x; d: of the output and of the final states, None standing for zero.
    """
    plan, arrays = call
    y, x = readable(sequences[0]), readable(sequences[1])
    assert x is not None
    count, saves = plan.layers * plan.directions, has_reserve(plan.cell)
    reserves: list[Any] = list(kept[:count]) if saves else [None] * count
    rest = iter(kept[count:] if saves else kept)
    inputs: list[Any] = [x]
    outputs: list[Any] = []
    for layer in range(plan.layers - 1):
        outputs.append(next(rest))
        inputs.append(outputs[-1] if masks is None or masks[layer] is None else next(rest))
    outputs.append(y)
    initial = tuple([readable(one) for one in states[: plan.states]])
    applied = None if masks is None else [None, *arrays_or_none(masks)]
    tape = _plan.tape_of(plan, arrays, initial, parameters, inputs, outputs, reserves, applied)
    dy, *d_final = [readable(one) for one in d]
    asked = wanted[1 + plan.states :]
    into = [
        memory.empty(tuple(one.shape), arrays.dtype) if is_asked and one is not None else None
        for one, is_asked in zip(parameters, asked, strict=True)
    ]
    wants_states = any(wanted[1 : 1 + plan.states])
    dx, d_initial = plan.backward(
        tape, dy, tuple(d_final), into, truncation, wants_x=wanted[0], wants_states=wants_states
    )
    dx = None if dx is None else dx.reshape(tuple(x.shape))
    return [
        torch.from_numpy(array) if array is not None and is_asked else None
        for array, is_asked in zip((dx, *d_initial, *into), wanted, strict=True)
    ]

"""One layer in one direction on a dense batch: calls that are made ready once, since short ones take less time than the
Python around them. What they cannot read is left to `execution`, with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _core, memory
from .._kernel import scratch_of
from .core_calls import dense_problem, reserve_bytes, settings
from .plan import Network, Plan, dense_plan
from .routes import PLAIN

_REALS: dict[torch.dtype, np.dtype[Any]] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


def call_of(plan: Plan, x: Tensor) -> _core.TensorCall | None:
    """The call for this plan and input; None if it is not one for here."""
    network, batch = plan.network, plan.batches[0]
    is_alone = network.layers == network.directions == 1 and batch.dense and plan.truncation is None
    if not is_alone or plan.is_packed or x.numel() == 0 or x.dtype not in _REALS:
        return None
    return _ready(network, plan.kind, (batch.T, batch.B, x.shape[-1]), x.dtype, settings())


@lru_cache(maxsize=256)
def _ready(
    network: Network, kind: str, sizes: tuple[int, int, int], dtype: torch.dtype, chosen: tuple[int, int, int]
) -> _core.TensorCall:
    (T, B, I), H = sizes, network.hidden_size
    plan, real = dense_plan(network, kind, T, B), _REALS[dtype]
    problem = dense_problem(network.cell, real, chosen, (T, B, I, H))
    strides = (I, T * I, H, T * H) if kind == "batch_first" else (B * I, I, B * H, H)
    shapes = plan.sequence_shape(I), plan.sequence_shape(H), plan.states_shape()
    return _core.TensorCall(problem, shapes, strides, real, (PLAIN, dtype, torch.from_numpy), memory.empty, scratch_of)


def run_forward(
    call: _core.TensorCall,
    plan: Plan,
    x: Tensor,
    states: tuple[Tensor | None, Tensor | None],
    weights: Sequence[Tensor],
    packed: NDArray[np.uint8] | None,
) -> tuple[tuple[Tensor, ...], list[Tensor]] | None:
    """The outputs and what is kept for backward, as `execution.run_forward` keeps it; None if that must do it."""
    batch, network = plan.batches[0], plan.network
    size = reserve_bytes(network.cell, _REALS[x.dtype], network.hidden_size, batch.T * batch.B)
    if size >= memory.POOLED_BYTES_MIN:
        reserve: Tensor | None = torch.from_numpy(memory.empty((size,), memory.BYTES))
    else:
        reserve = torch.empty(size, dtype=torch.uint8) if size else None
    outputs: tuple[Tensor, ...] | None = call.forward(x, *states, weights, packed, reserve)
    if outputs is None:
        return None
    return outputs, ([] if reserve is None else [reserve])


def run_backward(
    plan: Plan,
    sequences: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None] | None:
    """The gradients of x, h0, c0 and the weights, where wanted; None if `execution` must do it."""
    y, x, h0, c0 = sequences
    call = call_of(plan, x)
    if call is None:
        return None
    dy, dh, dc = (*[one if one is None or one.is_contiguous() else one.contiguous() for one in d], None)[:3]
    found: list[Tensor | None] | None = call.backward(
        y, x, h0, c0, weights, kept[0] if kept else None, dy, dh, dc, wanted
    )
    return found


def needs_packed(plan: Plan, x: Tensor, masks: Any) -> bool:
    """Whether a training call had better be given packed weights."""
    call = None if masks is not None else call_of(plan, x)
    return call is None or call.packs

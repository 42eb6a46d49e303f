"""One layer in one direction on a dense batch: calls that are made ready once, since short ones take less time than the
Python around them. What they cannot read is left to `execution`, with the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _core, memory
from .core_calls import dense_problem, reserve_bytes, settings
from .plan import Network, Plan, dense_plan
from .routes import PLAIN, REALS
from .tensors import NUMPY_DTYPES, outline


def call_of(plan: Plan, x: Tensor) -> _core.TensorCall | None:
    """The call for this plan and input; None if it is not one for here."""
    network, batch = plan.network, plan.batches[0]
    is_alone = network.layers == network.directions == 1 and batch.dense and plan.truncation is None
    if not is_alone or plan.is_packed or x.numel() == 0 or x.dtype not in REALS:
        return None
    return _ready(network, plan.kind, (batch.T, batch.B, x.shape[-1]), x.dtype, settings())


@lru_cache(maxsize=256)
def _ready(
    network: Network, kind: str, sizes: tuple[int, int, int], dtype: torch.dtype, chosen: tuple[int, int, int]
) -> _core.TensorCall:
    (T, B, I), H = sizes, network.hidden_size
    plan, real = dense_plan(network, kind, T, B), NUMPY_DTYPES[dtype]
    problem = dense_problem(network.cell, real, chosen, (T, B, I, H))
    strides = (I, T * I, H, T * H) if kind == "batch_first" else (B * I, I, B * H, H)
    outlines = outline(plan.sequence_shape(H), dtype), outline(plan.states_shape(), dtype)
    torch_names = PLAIN, dtype, torch.empty_like, torch.from_numpy
    size = reserve_bytes(network.cell, real, H, T * B)
    reserve = size, outline((size,), torch.uint8)
    return _core.TensorCall(
        problem, plan.sequence_shape(I), outlines, reserve, strides, real, torch_names, memory.empty
    )


def run_forward(
    call: _core.TensorCall,
    x: Tensor,
    states: tuple[Tensor | None, Tensor | None],
    weights: Sequence[Tensor],
    packed: NDArray[np.uint8] | None,
) -> tuple[tuple[Tensor, ...], list[Tensor]] | None:
    """The outputs and what is kept for backward, as `execution.run_forward` keeps it; None if that must do it."""
    size, like = call.reserve
    if size >= memory.POOLED_BYTES_MIN:
        reserve: Tensor | None = torch.from_numpy(memory.empty((size,), memory.BYTES))
    else:
        reserve = torch.empty_like(like) if size else None
    outputs: tuple[Tensor, ...] | None = call.forward(x, *states, weights, packed, reserve)
    if outputs is None:
        return None
    return outputs, ([] if reserve is None else [reserve])


def run_backward(
    call: _core.TensorCall,
    sequences: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    weights: Sequence[Tensor],
    kept: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None] | None:
    """The gradients of x, h0, c0 and the weights, where wanted; None if `execution` must do it."""
    y, x, h0, c0 = sequences
    dy, dh, dc = (*[one if one is None or one.is_contiguous() else one.contiguous() for one in d], None)[:3]
    found: list[Tensor | None] | None = call.backward(
        y, x, h0, c0, weights, kept[0] if kept else None, dy, dh, dc, wanted
    )
    return found

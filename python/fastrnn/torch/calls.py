"""Calls of a stack on tensors: a cache of their plans, and the sizes of the tensors that forward keeps.

`kept` has the tensors of forward for backward, in this order: for each layer and direction its reserve (if the cell has
one); for each layer except the last its output and, with dropout, the masked output that the next layer read.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _core, _plan
from ..config import backend_index, get_num_threads, team_index
from ._tensors import TensorArrays
from .plan import Network, Plan, dense_plan
from .tensors import NUMPY_DTYPES, outline

_NO_BYTES = outline((0,), torch.uint8)


class Call(NamedTuple):
    """A plan of the core, and the layout of the call's tensors."""

    plan: _plan.Plan
    arrays: TensorArrays


def settings() -> tuple[int, int, int]:
    """Backend, number of threads, and their splitting."""
    torch.get_num_threads()  # in a thread that is new to torch, this sets OpenMP's number to that of other threads
    return backend_index(), get_num_threads(), team_index()


def call_of(plan: Plan, x: Tensor) -> Call:
    """The call for this plan and input."""
    batch = plan.batches[0]
    if batch.dense or starting_of(plan) is not None:
        sizes = batch.T, batch.B, x.shape[-1]
        return _dense_call(plan.network, plan.kind, sizes, x.dtype, settings())
    return _new_call(plan, x.shape[-1], x.dtype, settings())


def starting_of(plan: Plan) -> NDArray[np.bool_] | None:
    """If resets only restart some sequences at their first step: booleans (B,) of these sequences."""
    return plan.batches[0].starting if len(plan.batches) == 1 else None


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
    """The layout of the call's tensors. returns_y: y becomes a tensor."""
    network, batch = plan.network, plan.batches[0]
    H, width = network.hidden_size, network.directions * network.hidden_size
    # A dense batch of a PackedSequence is (T, B, n), row after row.
    kind = "dense" if plan.is_packed and batch.dense else plan.kind
    y = outline(plan.sequence_shape(width), dtype) if returns_y else None
    outlines, names = (y, outline(plan.states_shape(), dtype)), (torch.empty_like, torch.from_numpy, _NO_BYTES)
    return TensorArrays(kind, NUMPY_DTYPES[dtype], outlines, names, batch.grid, batch.B, H, has_reserve(network.cell))


@lru_cache(maxsize=256)
def _like(cell: str, dtype: Any, chosen: tuple[int, int, int], H: int) -> _core.Problem:
    backend, threads, team = chosen
    return _core.Problem(cell, dtype, backend, threads, 0, 0, 0, H, None, team)


@cache
def _reserve_row(cell: str, dtype: Any, H: int) -> int:
    """Bytes that forward saves for each row (t, b), which are the same on every backend.

    A compiled graph stores the number, and its cached code may run later with another backend or on another machine.
    """
    return _core.Problem(cell, dtype, backend_index(), 1, 1, 1, 0, H).reserve


def reserve_bytes(cell: str, dtype: Any, H: int, rows: Any) -> Any:
    """The size of forward's reserve for a (possibly symbolic) number of rows; 0 for some cells."""
    return rows * _reserve_row(cell, np.dtype(dtype), H)


@cache
def has_reserve(cell: str) -> bool:
    """Whether forward saves anything in addition to y."""
    return _reserve_row(cell, np.dtype(np.float32), 1) > 0

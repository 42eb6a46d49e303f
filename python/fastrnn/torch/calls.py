"""Calls of a stack on tensors: a cache of their plans, and the sizes of the tensors that forward keeps.

`kept` has the tensors of forward for backward, in this order: for each layer and direction its reserve (if the cell has
one); for each layer except the last its output and, with dropout, the masked output that the next layer read.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _core, _plan
from ..config import backend_index, cut_index, get_num_threads
from ._tensor_arrays import TensorArrays
from .plan import CELLS_MAX, Network, Plan, core_cell, dense_plan, row
from .tensors import NUMPY_DTYPES, outline

_NO_BYTES = outline((0,), torch.uint8)


class Call(NamedTuple):
    """A plan of the core, and the layout of the call's tensors."""

    plan: _plan.Plan
    arrays: TensorArrays


def settings() -> tuple[int, int, int]:
    """Backend, threads and cut."""
    torch.get_num_threads()  # in a thread that is new to torch, this tells OpenMP the number that was set in another
    return backend_index(), get_num_threads(), cut_index()


class Calls:
    """The last calls of a module, or of the operator in a thread, and what they have shown about threads.

    most: so many dense calls are kept.
    """

    __slots__ = ("_dense", "_most", "_paces")

    def __init__(self, most: int) -> None:
        self._most = most
        self._dense: dict[tuple[Any, ...], Call] = {}
        self._paces: dict[tuple[Any, ...], _core.Pace] = {}

    def get(self, plan: Plan, x: Tensor) -> Call:
        """The call for this plan and input."""
        batch, chosen, I, dtype = plan.batches[0], settings(), x.shape[-1], x.dtype
        if not (batch.dense or starting_of(plan) is not None):
            return self._new_call(plan, I, dtype, chosen)
        key = plan.network, plan.kind, batch.T, batch.B, I, dtype, chosen
        call = self._dense.get(key)
        if call is None:
            if len(self._dense) >= self._most:
                self._dense.clear()
            dense = dense_plan(plan.network, plan.kind, batch.T, batch.B)
            call = self._dense[key] = self._new_call(dense, I, dtype, chosen)
        return call

    def pace(self, network: Network, I: int, dtype: torch.dtype) -> _core.Pace:
        """The pace of a stack."""
        key = network, I, dtype
        pace = self._paces.get(key)
        if pace is None:
            if len(self._paces) >= self._most:
                self._paces.clear()
            pace = self._paces[key] = _core.Pace(network.layers)
        return pace

    def _new_call(self, plan: Plan, I: int, dtype: torch.dtype, chosen: tuple[int, int, int]) -> Call:
        network, (backend, threads, cut) = plan.network, chosen
        pace = self.pace(network, I, dtype)
        like = _core.Problem(
            core_cell(network.cell),
            NUMPY_DTYPES[dtype],
            backend,
            threads,
            0,
            0,
            0,
            network.hidden_size,
            None,
            cut,
            pace=pace,
        )
        inner = _plan.Plan(like, I, network.layers, plan.batches)
        return Call(inner, arrays_of_call(plan, dtype, returns_y=True))


def starting_of(plan: Plan) -> NDArray[np.bool_] | None:
    """If resets only restart some sequences at their first step: booleans (B,) of these sequences."""
    return plan.batches[0].starting if len(plan.batches) == 1 else None


def arrays_of_call(plan: Plan, dtype: torch.dtype, *, returns_y: bool) -> TensorArrays:
    """The layout of the call's tensors. returns_y: y becomes a tensor."""
    network, batch = plan.network, plan.batches[0]
    H, width = network.hidden_size, network.directions * network.hidden_size
    # A dense batch of a PackedSequence is (T, B, n), row after row.
    kind = "dense" if plan.is_packed and batch.dense else plan.kind
    y = outline(plan.sequence_shape(width), dtype) if returns_y else None
    outlines, names = (y, outline(plan.states_shape(), dtype)), (torch.empty_like, torch.from_numpy, _NO_BYTES)
    return TensorArrays(kind, NUMPY_DTYPES[dtype], outlines, names, batch.grid, batch.B, H, has_reserve(network.cell))


@lru_cache(maxsize=CELLS_MAX)
def _reserve_row(cell: str, dtype: Any, H: int) -> int:
    """Bytes that forward saves for each row (t, b), which are the same on every backend.

    A compiled graph stores the number, and its cached code may run later with another backend or on another machine.
    """
    return _core.Problem(core_cell(cell), dtype, backend_index(), 1, 1, 1, 0, H).reserve


def reserve_bytes(cell: str, dtype: Any, H: int, rows: Any) -> Any:
    """The size of forward's reserve for a (possibly symbolic) number of rows; 0 for some cells."""
    return rows * _reserve_row(cell, np.dtype(dtype), H)


@lru_cache(maxsize=CELLS_MAX)
def has_reserve(cell: str) -> bool:
    """Whether forward saves anything in addition to y."""
    return _reserve_row(cell, np.dtype(np.float32), row(cell).heads) > 0

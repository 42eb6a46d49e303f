"""Calls of the core that a stack makes: their problems, which are kept, and memory for what forward saves."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import _core, memory
from .._check import Array
from ..config import backend_index, get_num_threads, team_index


@lru_cache(maxsize=1024)
def dense_problem(cell: str, dtype: Any, chosen: tuple[int, int, int], sizes: tuple[int, ...]) -> _core.Problem:
    """The call over (T, B, I, H) with these settings, from memory if there was one like it."""
    backend, threads, team = chosen
    T, B, I, H = sizes
    return _core.Problem(cell, dtype, backend, threads, T, B, I, H, None, team)


def whole_problem(cell: str, x: Array, H: int) -> _core.Problem:
    """The call over all rows of x (T, B, I)."""
    return dense_problem(cell, x.dtype, settings(), (*x.shape, H))


def settings() -> tuple[int, int, int]:
    """Backend, threads, and how to take them."""
    torch.get_num_threads()  # in a thread that is new to torch, this tells OpenMP the number that was set in another
    return backend_index(), get_num_threads(), team_index()


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


def new_reserve(cell: str, x: Array, H: int) -> NDArray[np.uint8]:
    """Memory for what forward saves, on a cache line, where the core is fastest."""
    size = reserve_bytes(cell, x.dtype, H, x.shape[0] * x.shape[1])
    if size >= memory.POOLED_BYTES_MIN:  # on a page of its own
        return memory.empty((size,), memory.BYTES)
    reserve: NDArray[np.uint8] = torch.empty(size, dtype=torch.uint8, device="cpu").numpy()
    return reserve

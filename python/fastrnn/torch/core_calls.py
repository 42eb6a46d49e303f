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

_LINE = 64  # bytes: what the core aligns to, at most


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
def _reserve_line(cell: str, dtype: Any, H: int) -> tuple[int, int]:
    """Bytes that forward saves for each row (t, b), and around all of them at most.

    H is rounded up to whole lines, which hold whole vectors of any backend, so all backends give the same bytes. A
    compiled graph keeps them: its cached code may run later with another backend, or on another machine.
    """
    units = -(-H * dtype.itemsize // _LINE) * _LINE // dtype.itemsize
    backend = backend_index()
    one, more = (_core.Problem(cell, dtype, backend, 1, rows, 1, 0, units).reserve for rows in (1, 1 + _LINE))
    row = (more - one) // _LINE
    return row, one - row + _LINE if one else 0


def reserve_bytes(cell: str, dtype: Any, H: int, rows: Any) -> Any:
    """What forward saves, as a linear function of the number of rows, which may be symbolic; 0 for some cells."""
    row, around = _reserve_line(cell, np.dtype(dtype), H)
    return rows * row + around


def has_reserve(cell: str) -> bool:
    """Whether forward saves anything besides y."""
    return _reserve_line(cell, np.dtype(np.float32), 1)[0] > 0


def new_reserve(cell: str, x: Array, H: int, used: int) -> NDArray[np.uint8]:
    """Memory that begins at a line: there the core finds things again, wherever hooks may copy it in between."""
    size = reserve_bytes(cell, x.dtype, H, x.shape[0] * x.shape[1])
    if size >= memory.POOLED_BYTES_MIN:  # on a page of its own
        reserve = memory.empty((size,), memory.BYTES)
    else:
        reserve = torch.empty(size, dtype=torch.uint8, device="cpu").numpy()
    # What forward leaves alone: the rest of the last line, a line for alignment, and what other backends would use.
    reserve[max(used - 2 * _LINE, 0) :] = 0
    return reserve


def on_a_line(reserve: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same bytes at the beginning of a line, where torch puts all memory of its own."""
    if reserve.ctypes.data % _LINE == 0:
        return reserve
    copy: NDArray[np.uint8] = torch.empty(reserve.size, dtype=torch.uint8, device="cpu").numpy()
    copy[:] = reserve
    return copy

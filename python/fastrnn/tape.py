"""Tapes: what forward keeps for backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._check import Array
from .schedule import Batch


class OfThisProcess:
    def __reduce__(self) -> Any:
        raise TypeError("tape: it belongs to its process and cannot be pickled")


@dataclass(frozen=True, eq=False)
class CellTape(OfThisProcess):
    """One layer in one direction. It refers to x, the initial state and y, which must not change before backward.

    Backward takes the gradient of w_ih from x as it is then, and the state before each step from y, or from the initial
    state, as they are then. Everything else is in the reserve, as forward left it.
    The weights are kept as they were, packed for backward: later updates in place do not reach the tape. A tape belongs
    to its process and cannot be pickled.
    """

    cell: str
    problem: _core.Problem
    packed: NDArray[np.uint8]
    x: Array
    h0: Array | None
    c0: Array | None
    y: Array
    reserve: NDArray[np.uint8] | None
    sizes: tuple[int, int, int, int]  # T, B, I, H
    dtype: np.dtype[np.floating]
    has_bias: tuple[bool, bool]
    batch: Batch

"""The gradients of single-layer functions, and the arrays that take them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from . import _check, _core, memory
from ._check import Array
from ._plan import Tape

State = Any  # an array (B, H); for the LSTM a pair of them


class WeightGradients(NamedTuple):
    """Gradients of the parameters in their layouts. None: not wanted."""

    w_ih: Array | None = None
    w_hh: Array | None = None
    b_ih: Array | None = None
    b_hh: Array | None = None


@dataclass(frozen=True, eq=False)
class CellGradients:
    """Gradients of one layer in one direction; None where not wanted or where there is no such argument."""

    x: Array | None
    state: State
    w_ih: Array | None
    w_hh: Array | None
    b_ih: Array | None
    b_hh: Array | None


def gradient_arrays(
    row: _core.Cell, tape: Tape, wanted: Collection[str], into: WeightGradients | None
) -> list[Array | None]:
    """Arrays for the gradients of the parameters, or those of `into`; None where not wanted."""
    plan, dtype = tape.plan, tape.arrays.dtype
    arrays: list[Array | None] = []
    new = memory.empty if into is None else memory.zeros
    rows = row.parameters
    for one, given, exists in zip(rows, into or (None,) * len(rows), tape.has_parameters, strict=True):
        shape = one.shape(plan.I, plan.H)
        if one.name not in wanted or not exists:
            arrays.append(None)
        elif given is None:
            arrays.append(new(shape, dtype))
        else:
            arrays.append(_accumulator(f"into.{one.name}", given, dtype, shape))
    return arrays


def _accumulator(name: str, given: Any, dtype: np.dtype[Any], expected: tuple[int, ...]) -> Array:
    if not isinstance(given, np.ndarray):
        raise TypeError(f"{name}: expected an array, got {type(given).__name__}")
    _check.unmasked(name, given)
    if given.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {given.dtype}")
    _check.shape(name, given, "(G*H, n)" if len(expected) == 2 else "(G*H)", expected)
    if not (given.flags.c_contiguous and given.flags.writeable and given.flags.aligned):
        raise ValueError(f"{name}: expected a writeable C-contiguous array")
    return given

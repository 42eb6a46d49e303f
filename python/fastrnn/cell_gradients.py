"""The gradients of single-layer functions, and the arrays that take them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from . import _check, _core, memory
from ._check import Array
from ._plan import Tape
from .given import input_gradient

MATRICES = 4  # w_ih, w_hh, b_ih, b_hh: the first parameters of every row
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
    vectors: dict[str, Array] = field(default_factory=dict)
    """Of the vectors of a written cell, by name."""
    inputs: dict[str, Array] = field(default_factory=dict)
    """Of the inputs of each step that have a gradient, by name."""


def gradient_arrays(
    row: _core.Cell, tape: Tape, wanted: Collection[str], into: WeightGradients | Mapping[str, Array] | None
) -> list[Array | None]:
    """Arrays for the gradients of the parameters, or those of `into`; None where not wanted."""
    plan, dtype = tape.plan, tape.arrays.dtype
    arrays: list[Array | None] = []
    new = memory.empty if into is None else memory.zeros
    rows = row.parameters
    vectors = [one.name for one in rows[MATRICES:]]
    targets = _targets(into, [one.name for one in rows])
    for one, given, exists in zip(rows, targets, tape.has_parameters, strict=True):
        shape = one.shape(plan.I, plan.H)
        if ("vectors" if one.name in vectors else one.name) not in wanted or not exists:
            arrays.append(None)
        elif given is None:
            arrays.append(new(shape, dtype))
        else:
            arrays.append(_accumulator(f"into.{one.name}", given, dtype, shape))
    return arrays


def _targets(into: Any, names: list[str]) -> list[Array | None]:
    """The array of each parameter; None: a new one."""
    given = {} if into is None else into
    if isinstance(given, tuple):
        given = dict(zip(WeightGradients._fields, given, strict=True))
    if not isinstance(given, Mapping):
        raise TypeError(f"into: expected WeightGradients, or a mapping of names to arrays, got {type(given).__name__}")
    for name in given:
        if name not in names:
            raise ValueError(f"into: expected names out of {names}, got {name!r}")
    return [given.get(name) for name in names]


def cell_gradients(
    row: _core.Cell,
    dx: Array | None,
    d_state: State,
    gradients: list[Array | None],
    d_inputs: list[Array | None] | None,
) -> CellGradients:
    """All gradients by name. d_inputs: for each unit; None where there is none."""
    names = [one.name for one in row.parameters[MATRICES:]]
    vectors = {name: one for name, one in zip(names, gradients[MATRICES:], strict=True) if one is not None}
    inputs = {
        name: input_gradient(row, name, one)
        for name, one in zip(row.inputs, d_inputs or (None,) * len(row.inputs), strict=True)
        if one is not None
    }
    w_ih, w_hh, b_ih, b_hh = gradients[:MATRICES]
    return CellGradients(dx, d_state, w_ih, w_hh, b_ih, b_hh, vectors, inputs)


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

"""The inputs of each step and the options of a written cell: checked, with the argument's name in each message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import _core
from ._check import Array


def checked_names(argument: str, given: Any, names: Sequence[str]) -> dict[str, Any]:
    """The values of exactly these names, in their order; None: of none."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument}: expected a mapping of names to values, got {type(given).__name__}")
    missing, unknown = [one for one in names if one not in given], [one for one in given if one not in names]
    if missing or unknown:
        raise ValueError(f"{argument}: expected exactly {[*names]}; missing {missing}, unknown {unknown}")
    return {one: given[one] for one in names}


def checked_options(argument: str, given: Any, row: _core.Cell) -> tuple[float, ...]:
    """The numbers in the order of the row; options that are left out have their defaults."""
    defaults = dict(zip(row.options, row.defaults, strict=True))
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{argument}: expected a mapping of names to numbers, got {type(given).__name__}")
    found = checked_names(argument, defaults | dict(given or {}), row.options)
    for name, value in found.items():
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"{argument}[{name!r}]: expected a number, got {type(value).__name__}")
        if np.isnan(value):
            raise ValueError(f"{argument}[{name!r}]: expected a finite or infinite number, got NaN")
    return tuple(map(float, found.values()))


def input_columns(row: _core.Cell, name: str, H: int) -> tuple[str, int]:
    """The last axis of an input: its letter, and its size."""
    return ("H", H) if row.input_columns[row.inputs.index(name)] else ("1", 1)


def input_gradient(row: _core.Cell, name: str, per_unit: Array) -> Array:
    """The gradient of an input, of the gradients for each unit."""
    return per_unit if row.input_columns[row.inputs.index(name)] else _sum_of_units(per_unit)


def _sum_of_units(found: Array) -> Array:
    """(…, H) to (…, 1): halves are added until one number is left, so the order of the sum depends on H alone."""
    while found.shape[-1] > 1:
        half = -(-found.shape[-1] // 2)
        lower, upper = found[..., :half].copy(), found[..., half:]
        lower[..., : upper.shape[-1]] += upper
        found = lower
    return found

"""Checks of arguments, with messages of one form: `name: expected …, got …`.

TypeError for the wrong kind, ValueError for the wrong value. Everything is checked before any work is done.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

Array = NDArray[Any]

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def real_dtype(name: str, value: Any) -> np.dtype[Any]:
    """`value` as the dtype float32 or float64."""
    if value is None:  # NumPy would read None as float64
        raise TypeError(f"{name}: expected float32 or float64, got None")
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"{name}: expected float32 or float64, got {value!r}") from None
    if dtype not in _FLOATS:
        raise TypeError(f"{name}: expected float32 or float64, got {dtype}")
    return dtype


def integer(name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`; a bool is not an integer."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from None
    if number < least:
        raise ValueError(f"{name}: expected an integer of at least {least}, got {number}")
    if number > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: expected a size that fits 64 bits, got {number}")
    return number


def boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def probability(name: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    if not 0 <= value < 1:
        raise ValueError(f"{name}: expected a probability in [0, 1), got {value}")
    return float(value)


def array(name: str, value: Any, dtype: np.dtype[Any], dtype_of: str | None = None) -> Array:
    """`value` as an array of exactly this dtype, in a form that the core can read.

    The result is `value` itself, with any strides, if its last axis is contiguous; otherwise a copy. `dtype_of` names
    the argument with this dtype, if the user may convert that argument instead.
    """
    if _core.is_readable(value, dtype.num):
        return value  # type: ignore[no-any-return]
    return readable(typed(name, value, dtype, dtype_of))


def typed(name: str, value: Any, dtype: np.dtype[Any], dtype_of: str | None = None) -> Array:
    """`value` as an array of exactly this dtype, in any form."""
    if value is None or isinstance(value, str | bytes | dict | set):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    found = unmasked(name, value)
    if found.dtype != dtype:
        advice = f"; pass {name}.astype(np.{dtype})" if dtype_of is not None else ""
        advice += f" or {dtype_of}.astype(np.{found.dtype})" if advice and found.dtype in _FLOATS else ""
        raise TypeError(f"{name}: expected dtype {dtype}, got {found.dtype}{advice}")
    return found


def unmasked(name: str, value: Any, expected: str = "an array") -> Array:
    """`value` as a plain array. TypeError for masked arrays and lists of them, since NumPy would drop the masks."""
    if _is_masked(value):
        raise TypeError(f"{name}: expected {expected}, got a masked array")
    return np.asarray(value)


def _is_masked(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_masked, value))
    return isinstance(value, np.ma.MaskedArray)


def readable(value: Array) -> Array:
    """`value`, or a contiguous copy if its last axis is not contiguous, or it is misaligned or has odd strides."""
    last = value.ndim == 0 or value.size == 0 or value.shape[-1] <= 1 or value.strides[-1] == value.itemsize
    return whole(value) if last else np.array(value, order="C")


def whole(value: Array) -> Array:
    """`value`, or a contiguous copy if it is misaligned or has odd strides."""
    is_whole = all(stride % value.itemsize == 0 for stride in value.strides)
    return value if is_whole and value.flags.aligned else np.array(value, order="C")


def shape(name: str, value: Array, letters: str, expected: Sequence[int | None]) -> None:
    """None in `expected` means any size; `letters` is the shape as the documentation writes it."""
    if value.shape == expected:
        return
    fits = value.ndim == len(expected) and all(e is None or e == n for e, n in zip(expected, value.shape, strict=True))
    if fits:
        return
    names = letters.strip("()").split(", ")
    numbers = ", ".join(n if e is None else str(e) for e, n in zip(expected, names, strict=True))
    tail = "," if len(expected) == 1 else ""
    raise ValueError(f"{name}: expected shape ({', '.join(names)}{tail}) = ({numbers}{tail}), got {value.shape}")


def lengths(name: str, value: Any, T: int, B: int) -> NDArray[np.int64] | None:
    """Lengths (B,) of sequences, 0 … T, as a new array; None if all are T."""
    if value is None:
        return None
    given = unmasked(name, value, "integers")
    if given.size > 0 and given.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {type(value).__name__} of {given.dtype}")
    shape(name, given, "(B)", (B,))
    if given.size and not 0 <= int(given.min()) <= int(given.max()) <= T:
        raise ValueError(f"{name}: expected lengths from 0 to T = {T}, got {given.min()} to {given.max()}")
    found = given.astype(np.int64)
    return None if (found == T).all() else found


def resets(name: str, value: Any, letters: str, expected: Sequence[int | None]) -> NDArray[np.bool_] | None:
    """Booleans of this shape; None if all are False."""
    if value is None:
        return None
    given = unmasked(name, value, "booleans")
    if given.size > 0 and given.dtype != np.bool_:
        raise TypeError(f"{name}: expected booleans, got {type(value).__name__} of {given.dtype}")
    shape(name, given, letters, expected)
    return given.astype(np.bool_) if given.any() else None


def truncation(name: str, value: Any) -> tuple[int, int] | None:
    """None, k for (k, k), or (k1, k2) with k2 >= k1 >= 1."""
    if value is None:
        return None
    if not isinstance(value, tuple | list):
        k = integer(name, value, 1)
        return k, k
    if len(value) != 2:
        raise ValueError(f"{name}: expected k or a pair (k1, k2), got {len(value)} members")
    k1, k2 = integer(f"{name}[0]", value[0], 1), integer(f"{name}[1]", value[1], 1)
    if k2 < k1:
        raise ValueError(f"{name}: expected k2 >= k1, since losses would be dropped otherwise, got ({k1}, {k2})")
    return k1, k2


def checkpoint(name: str, value: Any, budget: Any) -> int | tuple[int] | None:
    """None, n, or the budget of "auto" in a tuple."""
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"{name}: expected None, an integer or 'auto', got {value!r}")
        if budget is None:
            raise TypeError("budget: expected the bytes that checkpoint='auto' may take, got None")
        return (integer("budget", budget, 0),)
    if budget is not None:
        raise ValueError("budget: expected None without checkpoint='auto'")
    return None if value is None else integer(name, value, 1)


def names(name: str, value: Any, known: list[str]) -> list[str]:
    """A collection of names out of `known`."""
    try:
        found = list(value)
    except TypeError:
        raise TypeError(f"{name}: expected a collection of names, got {type(value).__name__}") from None
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"{name}: expected names out of {known}, got {one!r}")
        if one not in known:
            raise ValueError(f"{name}: expected names out of {known}, got {one!r}")
    return found


def members(name: str, value: Any, states: Sequence[str]) -> tuple[Any, ...]:
    """The arrays of a state: `value` itself for a cell with one state, otherwise the members of a tuple or list."""
    if len(states) == 1:
        return (value,)
    expected = f"a {'pair' if len(states) == 2 else 'tuple'} ({', '.join(states)})"
    if not isinstance(value, tuple | list):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
    if len(value) != len(states):
        raise ValueError(f"{name}: expected {expected}, got {len(value)} members")
    return tuple(value)

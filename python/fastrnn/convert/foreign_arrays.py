"""Checks of arrays and tensors from other libraries: one dtype, float32 or float64, and the right shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _check
from .._check import Array


def real_array(name: str, value: Any) -> Array:
    """`value` as an array of float32 or float64. Tensors of torch may be on any device and may need gradients."""
    if not isinstance(value, np.ndarray) and hasattr(value, "detach"):
        value = _of_tensor(name, value)
    if value is None or isinstance(value, str | bytes | dict | set):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    found = _check.unmasked(name, value)
    return _check.array(name, value, _check.real_dtype(name, found.dtype))


def _of_tensor(name: str, tensor: Any) -> Any:
    """A copy, without importing torch. ``numpy()`` would make the tensor's storage permanently non-resizable.

    NumPy lacks some of torch's dtypes, such as bfloat16.
    """
    try:
        return tensor.detach().cpu().clone().numpy()
    except TypeError:
        raise TypeError(f"{name}: expected float32 or float64, got {tensor.dtype}") from None


def arrays_of(name: str, values: Any, counts: Sequence[int], what: str) -> list[Array]:
    """A sequence of arrays, all of the dtype of the first; messages call them name[0], name[1], …"""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise TypeError(f"{name}: expected a list of arrays, {what}, got {type(values).__name__}")
    if len(values) not in counts:
        numbers = ", ".join(str(count) for count in counts[:-1])
        raise ValueError(f"{name}: expected {numbers} or {counts[-1]} arrays, {what}, got {len(values)}")
    found = [real_array(f"{name}[{position}]", value) for position, value in enumerate(values)]
    for position, array in enumerate(found):
        _check.array(f"{name}[{position}]", array, found[0].dtype)
    return found


def width(name: str, array: Array, letters: str, factor: int) -> int:
    """H of a matrix (…, factor*H); `letters` names its axes."""
    if array.ndim != 2 or array.shape[1] == 0 or array.shape[1] % factor:
        raise ValueError(f"{name}: expected shape {letters}, got {array.shape}")
    return int(array.shape[1]) // factor

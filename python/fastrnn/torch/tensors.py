"""The memory of tensors: arrays on it that the core reads and writes, and new tensors in torch's memory.

Nothing here calls ``Tensor.numpy()`` or ``torch.from_numpy`` on tensors of users: both make a storage that torch cannot
resize, which FSDP and ``resize_`` need. In exchange, an array is valid only during one call. Only tensors are kept
between calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import _check
from .._check import Array
from . import _tensor_memory

Packed = list[NDArray[np.uint8]]  # the weights of each layer and direction, packed for forward

NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
    torch.int64: np.dtype(np.int64),
    torch.uint8: np.dtype(np.uint8),
    torch.bool: np.dtype(np.bool_),
}


def array_on(tensor: Tensor) -> Array:
    """An array on the memory of a dense CPU tensor; for dtypes that the core lacks, on the memory of a copy."""
    dtype = NUMPY_DTYPES.get(tensor.dtype)
    if dtype is None:
        copy: Array = tensor.detach().clone().numpy()
        return copy
    return _tensor_memory.array_on(tensor.resolve_neg() if tensor.is_neg() else tensor, dtype)


def array_of(tensor: Tensor | None) -> Array | None:
    """The same in a form that the core can read: a copy if the last axis is not contiguous."""
    if tensor is None:
        return None
    array = array_on(tensor)
    return array if array.flags.carray else _check.readable(array)


def arrays_or_none(tensors: Sequence[Tensor | None]) -> list[Array | None]:
    return [array_of(tensor) for tensor in tensors]


def arrays_of(tensors: Sequence[Tensor]) -> list[Array]:
    """Contiguous arrays, with copies only if needed."""
    arrays = [array_on(tensor) for tensor in tensors]
    return [array if array.flags.carray else np.array(array, order="C") for array in arrays]


def outline(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A contiguous CPU tensor without memory, as a template for the cheapest way to make torch's own tensors.

    Tensors made from it are on the CPU, whatever the default device.
    """
    tensor = torch.empty(shape, dtype=dtype, device="cpu")
    tensor.untyped_storage().resize_(0)
    return tensor

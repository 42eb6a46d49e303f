"""The arguments that torch's modules do not know: lengths, resets and truncation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _check
from .routes import ONNX, PROJECTIONS, Fallback, Path, tracing_state
from .tensors import array_on


def on_host(name: str, value: Any) -> Any:
    """What NumPy reads."""
    if not isinstance(value, Tensor):
        return value
    if torch._C._are_functorch_transforms_active():
        for read in (Tensor.tolist, _one_by_one):  # torch 2.5 has no tolist here
            with suppress(RuntimeError):
                return read(value)
        raise NotImplementedError(f"{name}: expected the same for all calls of a torch.func.vmap")
    if tracing_state() is not None:  # with the tracer's warning that the values become constants
        return value.detach().cpu().clone().numpy()
    return array_on(value.cpu())


def _one_by_one(value: Tensor) -> Any:
    return np.array([number.item() for number in value.reshape(-1)]).reshape(value.shape)


def as_tensor(name: str, value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(_check.unmasked(name, value))


def for_extras(fallback: Fallback, extras: dict[str, Any]) -> Fallback:
    """The fallback for a call with these extras, which torch's own implementation does not know."""
    given = [name for name, value in extras.items() if value is not None]
    if fallback.path is not Path.TORCH or not given:
        return fallback
    if fallback is PROJECTIONS:
        raise NotImplementedError(f"{given[0]}: expected None with proj_size")
    if fallback is ONNX:
        raise NotImplementedError(f"{given[0]}: expected None in torch.onnx.export")
    return Fallback(Path.FORMULATION, fallback.reason)


def refused(result: Any, extras: dict[str, Any]) -> Any:
    """What torch made of arguments that are not in our shapes, if it did not raise."""
    given: Sequence[str] = [name for name, value in extras.items() if value is not None]
    if given:
        raise ValueError(f"{given[0]}: expected None for arguments of these shapes")
    return result

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._plan import Plan
from ._tensor_arrays import TensorArrays

_Packed = list[NDArray[np.uint8]] | None
_Starting = NDArray[np.bool_] | None

def infer(
    plan: Plan,
    arrays: TensorArrays,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    packed: _Packed,
    masks: Any,
    starting: _Starting,
) -> tuple[Any, ...]: ...
def forward(
    plan: Plan,
    arrays: TensorArrays,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    packed: _Packed,
    masks: Any,
    starting: _Starting,
    training: bool = True,
) -> tuple[tuple[Any, ...], list[Any]]: ...
def backward(
    plan: Plan,
    arrays: TensorArrays,
    y: Any,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    masks: Any,
    starting: _Starting,
    kept: Sequence[Any],
    d: Sequence[Any],
    wanted: Sequence[bool],
    truncation: tuple[int, int] | None,
) -> list[Any]: ...

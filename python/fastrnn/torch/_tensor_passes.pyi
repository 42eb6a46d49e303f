from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._plan import Plan
from ._tensor_arrays import TensorArrays

_Packed = list[NDArray[np.uint8]] | None
_Starting = NDArray[np.bool_] | None

class Job:
    def __init__(
        self, description: Any, plan: Plan, arrays: TensorArrays, starting: _Starting, packed: _Packed, masks: Any
    ) -> None: ...
    @property
    def description(self) -> Any: ...
    @property
    def plan(self) -> Plan: ...

def begin(ctx: Any, job: Job, x: Any, tensors: tuple[Any, ...]) -> tuple[Any, ...]: ...
def saved_of(ctx: Any) -> tuple[Any, tuple[Any, ...], Any, tuple[Any, ...]]: ...
def end(ctx: Any, d: tuple[Any, ...], wanted: tuple[bool, ...], truncation: tuple[int, int] | None) -> list[Any]: ...
def unswappable(tensor: Any) -> Any: ...
def infer(
    plan: Plan,
    arrays: TensorArrays,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    packed: _Packed,
    masks: Any,
    starting: _Starting,
    options: tuple[float, ...] = (),
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
    options: tuple[float, ...] = (),
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
    options: tuple[float, ...] = (),
) -> list[Any]: ...

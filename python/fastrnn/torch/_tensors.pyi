from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import Pace
from .._plan import Arrays, Plan

_Array = NDArray[Any]

class TensorArrays(Arrays):
    def __init__(
        self,
        kind: str,
        dtype: np.dtype[Any],
        outlines: tuple[Any, Any],
        names: tuple[Any, Any, Any],
        grid: tuple[int, int],
        B: int,
        H: int,
        saves: bool,
    ) -> None: ...

class Repeat:
    def __init__(
        self,
        configuration: Mapping[str, Any],
        plan: Plan,
        arrays: TensorArrays,
        packed: list[NDArray[np.uint8]] | None,
        parameters: tuple[tuple[str, ...], tuple[Any, ...], tuple[Any, ...], tuple[_Array, ...] | None],
        shapes: tuple[Any, Any],
        dtype: Any,
        returns_y: bool,
        thread: tuple[tuple[Callable[[], Any], ...], Callable[[str], Any], Any],
        settings: Callable[[], Any],
    ) -> None: ...

class Repeats:
    def add(self, call: Repeat) -> None: ...
    def __call__(self, attributes: dict[str, Any], x: Any, hx: Any) -> Any: ...

def array_on(tensor: Any, dtype: np.dtype[Any]) -> _Array: ...
def same_bytes(tensors: Sequence[Any], copies: Sequence[_Array], threads: int, pace: Pace | None) -> bool: ...
def infer(
    plan: Plan,
    arrays: TensorArrays,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    packed: list[NDArray[np.uint8]] | None,
    masks: Any,
    starting: NDArray[np.bool_] | None,
) -> tuple[Any, ...]: ...
def forward(
    plan: Plan,
    arrays: TensorArrays,
    x: Any,
    states: Sequence[Any],
    weights: Sequence[Any],
    packed: list[NDArray[np.uint8]] | None,
    masks: Any,
    starting: NDArray[np.bool_] | None,
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
    starting: NDArray[np.bool_] | None,
    kept: Sequence[Any],
    d: Sequence[Any],
    wanted: Sequence[bool],
    truncation: tuple[int, int] | None,
) -> list[Any]: ...

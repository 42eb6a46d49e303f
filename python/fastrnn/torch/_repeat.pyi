from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._plan import Plan
from ._tensor_arrays import TensorArrays
from ._tensor_passes import Job

class Repeat:
    def __init__(
        self,
        configuration: Mapping[str, Any],
        plan: Plan,
        arrays: TensorArrays,
        packed: list[NDArray[np.uint8]] | None,
        parameters: tuple[tuple[str, ...], tuple[Any, ...], tuple[Any, ...], tuple[NDArray[Any], ...] | None],
        shapes: tuple[Any, Any],
        dtype: Any,
        returns_y: bool,
        thread: tuple[tuple[Callable[[], Any], ...], Callable[[str], Any], Any],
        settings: Callable[[], Any],
        options: tuple[float, ...] = (),
        training: tuple[Job, Callable[..., Any]] | None = None,
    ) -> None: ...

class Repeats:
    def add(self, call: Repeat) -> None: ...
    def holds(
        self, shape: Any, weights: tuple[Any, ...], training: bool, packed: list[NDArray[np.uint8]] | None
    ) -> bool: ...
    def __call__(self, attributes: dict[str, Any], x: Any, hx: Any) -> Any: ...

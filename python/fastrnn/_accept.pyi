from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._plan import Arrays, Plan, Tape
from .schedule import Batch

_Array = NDArray[Any]
_Maybe = NDArray[Any] | None
_Bytes = NDArray[np.uint8]

class Network:
    def __init__(
        self, cell: str, dtype: DTypeLike, I: int, H: int, layers: int, reverse: tuple[bool, ...], kind: str
    ) -> None: ...
    @property
    def cell(self) -> str: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def layers(self) -> int: ...
    @property
    def directions(self) -> int: ...
    @property
    def states(self) -> int: ...
    @property
    def I(self) -> int: ...  # noqa: E743
    @property
    def H(self) -> int: ...
    @property
    def batched(self) -> Arrays: ...
    def dense_plan(self, T: int, B: int) -> Plan: ...
    def plan_of_batches(self, batches: tuple[Batch, ...]) -> tuple[Plan, NDArray[np.bool_] | None]: ...
    def infer(
        self, owner: Any, packed: list[_Bytes] | None, x: Any, state: Any, lengths: Any, resets: Any
    ) -> tuple[_Array, Any]: ...
    def train(
        self,
        owner: Any,
        packed: tuple[list[_Bytes], list[_Bytes]] | None,
        x: Any,
        state: Any,
        lengths: Any,
        resets: Any,
        checkpoint: int | tuple[int] | None,
    ) -> tuple[_Array, Any, Tape]: ...
    def backward(
        self, owner: Any, tape: Any, dy: Any, dstate: Any, truncation: Any
    ) -> tuple[_Array, Any, dict[str, _Array]]: ...
    def new_gradients(self, has_optional: bool) -> list[_Maybe]: ...
    def accepts(self, x: Any, weights: tuple[Any, ...], initial: tuple[Any, ...]) -> bool: ...

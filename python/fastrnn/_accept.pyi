from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._plan import Arrays, Plan, Tape
from ._program import CellProgram
from .schedule import Batch

_Array = NDArray[Any]
_Maybe = NDArray[Any] | None
_Bytes = NDArray[np.uint8]

class Network:
    def __init__(
        self,
        cell: str | CellProgram,
        dtype: DTypeLike,
        I: int,
        H: int,
        layers: int,
        reverse: tuple[bool, ...],
        kind: str,
    ) -> None: ...
    @property
    def cell(self) -> str | CellProgram: ...
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
    @property
    def keeps_weights(self) -> bool: ...
    def dense_plan(self, T: int, B: int) -> Plan: ...
    def order(self, owner: Any, x: _Array, lengths: Any, resets: Any) -> tuple[Plan, NDArray[np.bool_] | None]: ...
    def plan_of_batches(self, batches: tuple[Batch, ...]) -> tuple[Plan, NDArray[np.bool_] | None]: ...
    def infer(
        self, owner: Any, packed: list[_Bytes] | None, x: Any, state: Any, lengths: Any, resets: Any, inputs: Any
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
        inputs: Any,
    ) -> tuple[_Array, Any, Tape]: ...
    def backward(
        self, owner: Any, tape: Any, dy: Any, dstate: Any, truncation: Any
    ) -> tuple[_Array, Any, dict[str, _Array], dict[str, Any]]: ...
    def packed_of(
        self, plan: Plan, weights: list[_Maybe], training: bool
    ) -> tuple[list[_Bytes] | None, list[_Bytes] | None]: ...
    def new_gradients(self, has_optional: bool) -> list[_Maybe]: ...
    def accepts(self, x: Any, weights: tuple[Any, ...], initial: tuple[Any, ...]) -> bool: ...

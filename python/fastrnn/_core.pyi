from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._program import CellProgram

_Array = NDArray[Any]
_Maybe = NDArray[Any] | None

CUTS: tuple[str, ...]

class Backend(NamedTuple):
    name: str
    runs_here: bool
    has_fma: bool
    vector_length: dict[str, int]
    hidden: bool
    can_be_hidden: bool

class Parameter(NamedTuple):
    name: str
    rows_per_unit: int
    columns: str
    required: bool
    heads: int = ...
    def shape(self, I: int, H: int) -> tuple[int, ...]: ...

class Cell(NamedTuple):
    gates: int
    output: int
    parameters: tuple[Parameter, ...]
    states: tuple[str, ...]
    starts: tuple[float, ...]
    saved: dict[str, int]
    inputs: tuple[str, ...]
    options: tuple[str, ...]
    input_columns: tuple[str, ...]
    input_gradients: tuple[bool, ...]
    defaults: tuple[float, ...]
    heads: int = ...

class Schedules:
    def __init__(
        self,
        T: int,
        B: int,
        lengths: NDArray[np.int64] | None = None,
        resets: NDArray[np.bool_] | None = None,
        reverse: bool = False,
        packed: bool = False,
        truncation: tuple[int, int] | None = None,
        new_bytes: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> None: ...
    @property
    def bytes(self) -> int: ...
    @property
    def grid(self) -> tuple[int, int]: ...
    @property
    def most(self) -> tuple[int, int, int]: ...
    @property
    def stage_count(self) -> int: ...
    @property
    def d_states(self) -> int: ...
    def stage(self, n: int) -> tuple[list[tuple[Any, ...]], bool, NDArray[np.int64] | None]: ...
    def is_whole(self, n: int) -> bool: ...

def schedule_bound(
    T: int, B: int, has_lengths: bool, has_resets: bool, packed: bool, truncation: tuple[int, int] | None
) -> tuple[int, tuple[int, int, int]]: ...

class Pace:
    def __init__(self, layers: int = 1) -> None: ...

class Problem:
    def __init__(
        self,
        cell: str | CellProgram,
        dtype: DTypeLike,
        backend: int,
        threads: int,
        T: int,
        B: int,
        I: int,
        H: int,
        schedule: Sequence[NDArray[np.int64] | None] | None = None,
        cut: int = 0,
        states: int | None = None,
        d_states: int | None = None,
        pace: Pace | None = None,
        layer: int = 0,
    ) -> None: ...
    @property
    def cell(self) -> str | CellProgram: ...
    @property
    def name(self) -> str: ...
    @property
    def pace(self) -> Pace | None: ...
    @property
    def backend(self) -> int: ...
    @property
    def row(self) -> Cell: ...
    @property
    def packing_pays(self) -> bool: ...
    @property
    def packed_forward(self) -> int: ...
    @property
    def packed_backward(self) -> int: ...
    @property
    def reserve(self) -> int: ...
    @property
    def scratch_forward(self) -> int: ...
    @property
    def scratch_backward(self) -> int: ...

class Stepper:
    def __new__(
        cls,
        problems: Sequence[Problem],
        packed: Sequence[NDArray[np.uint8] | None],
        states: tuple[_Array, ...],
        options: tuple[float, ...] = (),
    ) -> Any: ...
    def __call__(self, x: _Array, inputs: Any = None) -> _Array: ...
    def _checked_inputs(self, inputs: Any) -> list[_Array]: ...
    def _run_from_now_on(
        self, problems: Sequence[Problem], packed: Sequence[NDArray[np.uint8] | None], options: tuple[float, ...] = ()
    ) -> None: ...
    def _copy_states(self) -> tuple[_Array, ...]: ...
    def _set_states(self, rows: Any, values: Sequence[Any]) -> None: ...
    @property
    def _row(self) -> Cell: ...
    @property
    def _state_shape(self) -> tuple[int, int, int]: ...
    @property
    def _dtype(self) -> np.dtype[Any]: ...
    def _kernel_steps(self, x: _Array, steps: int) -> None: ...

POOLED_BYTES: int

def cells() -> dict[str, Cell]: ...
def operations() -> dict[str, tuple[int, int]]: ...
def row_of_program(program: CellProgram) -> Cell: ...
def program_error(program: CellProgram) -> str | None: ...
def backends() -> list[Backend]: ...
def best_backend() -> int: ...
def openmp_version() -> str: ...
def openmp_library() -> str | None: ...
def build() -> str: ...
def max_threads() -> int: ...
def is_forked() -> bool: ...
def leave_scratch_to_calls(scratch: Any) -> None: ...
def pack_forward(problem: Problem, parameters: Sequence[_Maybe], packed: NDArray[np.uint8]) -> None: ...
def pack_backward(problem: Problem, parameters: Sequence[_Maybe], packed: NDArray[np.uint8]) -> None: ...
def forward(
    problem: Problem,
    packed: NDArray[np.uint8] | None,
    x: _Array,
    initial: Sequence[_Maybe] | None,
    y: _Array,
    final: Sequence[_Maybe] | None,
    reserve: NDArray[np.uint8] | None,
    scratch: NDArray[np.uint8],
    states: Sequence[_Maybe] | None = None,
    parameters: Sequence[_Maybe] | None = None,
    inputs: Sequence[_Array] = ...,
    options: Sequence[float] = ...,
) -> None: ...
def backward(
    problem: Problem,
    packed: NDArray[np.uint8] | None,
    x: _Array,
    initial: Sequence[_Maybe] | None,
    y: _Array,
    reserve: NDArray[np.uint8] | None,
    dy: _Maybe,
    d_final: Sequence[_Maybe] | None,
    dx: _Maybe,
    d_initial: Sequence[_Maybe] | None,
    gradients: Sequence[_Maybe] | None,
    scratch: NDArray[np.uint8],
    overwrite: bool = False,
    parameters: Sequence[_Maybe] | None = None,
    inputs: Sequence[_Array] = ...,
    options: Sequence[float] = ...,
    d_inputs: Sequence[_Maybe] = ...,
) -> None: ...
def same_bytes(arrays: Sequence[Any], copies: Sequence[_Array], threads: int, pace: Pace | None = None) -> bool: ...
def is_readable(array: Any, type_number: int) -> bool: ...
def activate(backend: int, name: str, array: _Array) -> _Array: ...

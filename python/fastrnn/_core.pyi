from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

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

class Cell(NamedTuple):
    gates: int
    states: tuple[str, ...]
    starts: tuple[float, ...]

class Pace:
    def __init__(self, layers: int = 1) -> None: ...

class Problem:
    def __init__(
        self,
        cell: str,
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
    def pace(self) -> Pace | None: ...
    @property
    def backend(self) -> int: ...
    @property
    def states(self) -> int: ...
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
        h: _Array,
        c: _Maybe,
    ) -> Any: ...
    def __call__(self, x: _Array) -> _Array: ...
    def _run_from_now_on(self, problems: Sequence[Problem], packed: Sequence[NDArray[np.uint8] | None]) -> None: ...
    def _copy_states(self) -> tuple[_Array, _Maybe]: ...
    def _set_states(self, rows: Any, h: Any, c: Any = 0) -> None: ...
    @property
    def has_c(self) -> bool: ...
    @property
    def _state_shape(self) -> tuple[int, int, int]: ...
    @property
    def _dtype(self) -> np.dtype[Any]: ...
    def _kernel_steps(self, x: _Array, steps: int) -> None: ...

POOLED_BYTES: int

def cells() -> dict[str, Cell]: ...
def backends() -> list[Backend]: ...
def best_backend() -> int: ...
def openmp_version() -> str: ...
def openmp_library() -> str | None: ...
def build() -> str: ...
def max_threads() -> int: ...
def is_forked() -> bool: ...
def leave_scratch_to_calls(scratch: Any) -> None: ...
def pack_forward(
    problem: Problem, w_ih: _Array, w_hh: _Array, b_ih: _Maybe, b_hh: _Maybe, packed: NDArray[np.uint8]
) -> None: ...
def pack_backward(
    problem: Problem, w_ih: _Array, w_hh: _Array, b_ih: _Maybe, b_hh: _Maybe, packed: NDArray[np.uint8]
) -> None: ...
def forward(
    problem: Problem,
    packed: NDArray[np.uint8] | None,
    x: _Array,
    h0: _Maybe,
    c0: _Maybe,
    y: _Array,
    h_n: _Maybe,
    c_n: _Maybe,
    reserve: NDArray[np.uint8] | None,
    scratch: NDArray[np.uint8],
    c: _Maybe = None,
    weights: Sequence[_Maybe] = ...,
) -> None: ...
def backward(
    problem: Problem,
    packed: NDArray[np.uint8] | None,
    x: _Array,
    h0: _Maybe,
    c0: _Maybe,
    y: _Array,
    reserve: NDArray[np.uint8] | None,
    dy: _Maybe,
    dh_n: _Maybe,
    dc_n: _Maybe,
    dx: _Maybe,
    dh0: _Maybe,
    dc0: _Maybe,
    dw_ih: _Maybe,
    dw_hh: _Maybe,
    db_ih: _Maybe,
    db_hh: _Maybe,
    scratch: NDArray[np.uint8],
    overwrite: bool = False,
    weights: Sequence[_Maybe] = ...,
) -> None: ...
def same_bytes(arrays: Sequence[Any], copies: Sequence[_Array], threads: int, pace: Pace | None = None) -> bool: ...
def is_readable(array: Any, type_number: int) -> bool: ...
def activate(backend: int, name: str, array: _Array) -> _Array: ...

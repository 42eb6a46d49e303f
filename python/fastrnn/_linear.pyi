from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_Maybe = NDArray[Any] | None
_Lengths = NDArray[np.int64] | None
_Resets = NDArray[np.bool_] | None

def forward(
    settings: tuple[int, int, int],
    a: _Array,
    b: _Array,
    h0: _Maybe,
    h: _Array,
    lengths: _Lengths,
    resets: _Resets,
    reverse: bool,
) -> None: ...
def backward(
    settings: tuple[int, int, int],
    a: _Array,
    h0: _Maybe,
    h: _Maybe,
    dh: _Array,
    da: _Maybe,
    db: _Array,
    dh0: _Maybe,
    lengths: _Lengths,
    resets: _Resets,
    reverse: bool,
) -> None: ...
def add_up(settings: tuple[int, int, int], array: _Array, to: _Array, axis: int, lengths: _Lengths) -> None: ...

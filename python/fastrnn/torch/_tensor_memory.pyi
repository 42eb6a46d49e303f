from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._core import Pace

_Array = NDArray[Any]

def array_on(tensor: Any, dtype: np.dtype[Any]) -> _Array: ...
def same_bytes(tensors: Sequence[Any], copies: Sequence[_Array], threads: int, pace: Pace | None) -> bool: ...

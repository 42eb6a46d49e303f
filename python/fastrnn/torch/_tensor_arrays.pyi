from typing import Any

import numpy as np

from .._plan import Arrays

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

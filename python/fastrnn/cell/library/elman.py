"""The simple recurrent network of Elman (1990), in torch.nn's form: h = tanh(a) or h = max(a, 0)."""

from typing import Any

import numpy as np

from ..define import cell
from ..elementwise import relu


@cell(gates=("a",))
def rnn_tanh(a: Any) -> Any:
    """Elman's network with tanh."""
    h = np.tanh(a.a)
    return h, (h,)


@cell(gates=("a",))
def rnn_relu(a: Any) -> Any:
    """Elman's network with max(a, 0)."""
    h = relu(a.a)
    return h, (h,)

"""GRU (Cho et al. 2014), in torch.nn's form, where the reset gate acts after the recurrent product:

    r, z = sigmoid(a_r, a_z)    n = tanh(x_n + r*a_n)    h = (1 - z)*n + z*h_prev

with x_n = w_in x + b_in and a_n = w_hn h_prev + b_hn.
"""

from typing import Any

import numpy as np

from ..define import cell
from ..elementwise import sigmoid


@cell(gates="rzn")
def gru(a: Any, s: Any) -> Any:
    """Gated recurrent unit."""
    r = sigmoid(a.r)
    z = sigmoid(a.z)
    n = np.tanh(r * a.state.n + a.input.n)
    h = z * (s.h - n) + n
    return h, (h,)

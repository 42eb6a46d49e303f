"""LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000), in torch.nn's form:

i, f, o = sigmoid(a_i, a_f, a_o)    g = tanh(a_g)    c = f*c_prev + i*g    h = o*tanh(c)
"""

from typing import Any

import numpy as np

from ..define import cell
from ..elementwise import sigmoid


@cell(gates="ifgo", states="hc")
def lstm(a: Any, s: Any) -> Any:
    """Long short-term memory."""
    i = sigmoid(a.i)
    f = sigmoid(a.f)
    g = np.tanh(a.g)
    o = sigmoid(a.o)
    c = f * s.c + i * g
    h = o * np.tanh(c)
    return h, (h, c)

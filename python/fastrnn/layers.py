"""Stacks of recurrent layers with their parameters: `fastrnn.LSTM`, `fastrnn.GRU`, `fastrnn.RNN`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from .layer_files import RecurrentLayer

_PARAMETERS = """
    Parameters
    ----------
    input_size : int
        I, the number of values in each time step of x.
    hidden_size : int
        H, the number of units of each layer and direction.
    num_layers : int
        The number of layers on top of each other; each layer reads the output of the layer below.
    bias : bool
        Whether the layers have the biases ``bias_ih_*`` and ``bias_hh_*``.
    batch_first : bool
        Whether x and y are (B, T, …) instead of (T, B, …). States are always (num_layers*D, B, H).
    dropout : float
        The probability in [0, 1) that ``forward`` zeroes an output of any layer except the last. It scales the other
        outputs by 1/(1 - dropout). Inference drops nothing.
    bidirectional : bool
        Whether each layer also runs backwards over the sequence; then D is 2, otherwise 1.
    dtype : float32 or float64
        The dtype of parameters, inputs and outputs.
    seed : int, sequence of int, numpy.random.Generator or None
        The seed of the initial parameters, uniform in ±1/sqrt(H), and of dropout.

    Attributes
    ----------
    input_size, hidden_size, num_layers, bias, bidirectional, dtype : as given
        Fixed: another value raises AttributeError.
    {changeable} : as given
        A new value applies to every later call, also of a frozen layer. Tapes keep the values of their call, and
        streams keep theirs until they are refreshed.
    parameters : dict of str to ndarray
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H), …, with ``_reverse``
        for the second direction: torch's names and layouts. Update the arrays in place, or replace them: every call
        reads and checks them.
"""


def _checked_nonlinearity(name: str, value: Any) -> str:
    if value not in ("tanh", "relu"):
        raise ValueError(f"{name}: expected 'tanh' or 'relu', got {value!r}")
    return str(value)


class LSTM(RecurrentLayer):
    _cell = "lstm"


class GRU(RecurrentLayer):
    _cell = "gru"


class RNN(RecurrentLayer):
    _changeable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        **RecurrentLayer._changeable,
        "nonlinearity": _checked_nonlinearity,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        seed: Any = None,
    ) -> None:
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype, seed=seed
        )

    @property
    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def _configuration(self) -> dict[str, Any]:
        return super()._configuration() | {"nonlinearity": self.nonlinearity}


LSTM.__doc__ = f"""Long short-term memory (Hochreiter & Schmidhuber 1997), with the equations of ``torch.nn.LSTM``.

    See `fastrnn.lstm` for the equations. The state is a pair (h, c).
{_PARAMETERS.format(changeable="batch_first, dropout")}"""

GRU.__doc__ = f"""Gated recurrent unit (Cho et al. 2014), with the equations of ``torch.nn.GRU``.

    See `fastrnn.gru` for the equations.
{_PARAMETERS.format(changeable="batch_first, dropout")}"""

RNN.__doc__ = f"""Simple recurrent network (Elman 1990), with the equations of ``torch.nn.RNN``.

    See `fastrnn.rnn_tanh` and `fastrnn.rnn_relu` for the equations; ``nonlinearity`` ("tanh" or "relu") chooses.
{_PARAMETERS.format(changeable="batch_first, dropout, nonlinearity")}"""

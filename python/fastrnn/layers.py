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
        I, the numbers of each time step of x.
    hidden_size : int
        H, the units of each layer and direction.
    num_layers : int
        Layers on top of each other; each reads the output of the one below.
    bias : bool
        Whether there are the biases ``bias_ih_*`` and ``bias_hh_*``.
    batch_first : bool
        Whether x and y are (B, T, …) instead of (T, B, …). States are (num_layers*D, B, H) either way.
    dropout : float
        The probability in [0, 1) with which ``forward`` zeroes each output of every layer but the last, scaling the
        others by 1/(1 - dropout). Calls for inference drop nothing.
    bidirectional : bool
        Whether each layer also runs backwards over the sequence; D is then 2, else 1.
    dtype : float32 or float64
        Of parameters, inputs and outputs.
    seed : int, sequence of int, numpy.random.Generator or None
        Of the initial parameters, uniform in ±1/sqrt(H), and of dropout.

    Attributes
    ----------
    input_size, hidden_size, num_layers, bias, bidirectional, dtype : as given
        Fixed: another value is refused with AttributeError.
    {changeable} : as given
        Another value holds for every later call, of a frozen layer too. Tapes keep what they were made with, and
        streams until they are refreshed.
    parameters : dict of str to ndarray
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H), …, with
        ``_reverse`` for the second direction: torch's names and layouts. Update the arrays in place, or replace
        them: they are read, and checked, at every call.
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

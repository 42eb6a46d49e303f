"""fastrnn: LSTM, GRU and Elman RNN, forward and truncated backward, fast on a CPU and bitwise reproducible.

Layers with parameters: `LSTM`, `GRU`, `RNN`. One layer on plain arrays: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`. The
linear recurrence, as in discounted returns: `linear_recurrence`. Windows of a long sequence: `Windows`.
"""

from .cell_gradients import CellGradients, WeightGradients
from .cells import CELLS as _CELLS
from .cells import Cell as _Cell
from .cells import gru, lstm, rnn_relu, rnn_tanh
from .config import __version__, get_num_threads, set_num_threads, show_config
from .layer_calls import Gradients
from .layers import GRU, LSTM, RNN
from .linear import linear_recurrence
from .stream import Stream
from .windows import Windows

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellGradients",
    "Gradients",
    "Stream",
    "WeightGradients",
    "Windows",
    "__version__",
    "get_num_threads",
    "gru",
    "linear_recurrence",
    "lstm",
    "rnn_relu",
    "rnn_tanh",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> _Cell:
    """Cells of the registry without a name in this module (docs/extending.md)."""
    if name in _CELLS:
        return _CELLS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""fastrnn: recurrent networks, forward and truncated backward, fast on a CPU and bitwise reproducible.

Layers with parameters: `LSTM`, `GRU`, `RNN`. One layer on plain arrays: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`. Cells of
your own: `cell`, with the layer `Recurrent` and the function `recurrent`. The linear recurrence, as in discounted
returns: `linear_recurrence`. Windows of a long sequence: `Windows`.
"""

from .cell.define import cell
from .cell.elementwise import log_sigmoid, relu, sigmoid, softplus
from .cell.norms import layer_norm, rms_norm
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
from .written_function import recurrent
from .written_layer import Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "CellGradients",
    "Gradients",
    "Recurrent",
    "Stream",
    "WeightGradients",
    "Windows",
    "__version__",
    "cell",
    "get_num_threads",
    "gru",
    "layer_norm",
    "linear_recurrence",
    "log_sigmoid",
    "lstm",
    "recurrent",
    "relu",
    "rms_norm",
    "rnn_relu",
    "rnn_tanh",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "softplus",
]


def __getattr__(name: str) -> _Cell:
    """Cells of the registry without a name in this module (docs/extending.md)."""
    if name in _CELLS:
        return _CELLS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

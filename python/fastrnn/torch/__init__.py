"""The PyTorch drop-in: recurrent modules of ``torch.nn``, on fastrnn's kernels. Needs the extra ``fastrnn[torch]``.

`accelerate` swaps the recurrent modules inside a model, `restore` undoes it. `LSTM`, `GRU`, `RNN` and their cells are
subclasses of torch's with the same constructor, parameters and results. `Recurrent` is a module of a written cell, and
`linear_recurrence` is the function of the same name on tensors. See docs/pytorch.md.
"""

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("fastrnn.torch needs PyTorch: pip install 'fastrnn[torch]'", name="torch") from error

from .cell_modules import GRUCell, LSTMCell, RNNCell
from .linear_calls import linear_recurrence
from .modules import GRU, LSTM, RNN
from .recurrent import Recurrent
from .scripting import admit as _admit_to_torchscript
from .swap import Report, accelerate, restore

_admit_to_torchscript()

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "Report",
    "accelerate",
    "linear_recurrence",
    "restore",
]

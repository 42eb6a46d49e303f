"""PyTorch's state_dicts: the names, layouts and gate orders are fastrnn's own, so only the sizes must be inferred."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _check
from .._check import Array
from ..weights import ROWS, checked_parameters, shapes_of, suffixes
from .foreign_arrays import real_array
from .passes import Layer, cell_of, layer_of, pass_of

# The cells of torch's modules, by their number of gates.
_CELLS = {ROWS[cell].gates: cell for cell in ("lstm", "gru")}


def from_torch(
    state_dict: Mapping[str, Any],
    prefix: str = "",
    *,
    nonlinearity: str = "tanh",
    batch_first: bool = False,
    dropout: float = 0.0,
) -> Layer:
    """A layer with the weights of a ``torch.nn.LSTM``, ``GRU``, ``RNN`` or one of their cells.

    Kind, sizes, layers, directions, bias and dtype come from the arrays; the options below are not in a state_dict.

    Parameters
    ----------
    state_dict : mapping of str to tensor or array, float32 or float64
        The state_dict of the module, or of a model that contains it. The tensors are copied; torch is not imported.
    prefix : str
        The module's name within the model, such as ``"encoder.rnn"``; other entries are ignored.
    nonlinearity : str
        "tanh" or "relu", for an RNN; its weights do not show the nonlinearity.
    batch_first : bool
        The option of the layer.
    dropout : float
        The option of the layer.

    Returns
    -------
    LSTM, GRU or RNN
        With the sizes, options and dtype of the arrays.

    Raises
    ------
    TypeError
        For a dtype other than float32 and float64, and for arrays of different dtypes.
    ValueError
        If there is no recurrent module under that prefix, if entries are missing, unknown or of another shape, and for
        projections (``proj_size``), which fastrnn does not have.
    """
    given = _of_prefix(state_dict, prefix)
    if any(name.startswith("weight_hr") for name in given):
        raise ValueError("state_dict: expected a module without projections (proj_size), got weight_hr_l0")
    arrays = {name: real_array(name, value) for name, value in given.items()}
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
    w_ih, w_hh = arrays["weight_ih_l0"], arrays["weight_hh_l0"]
    gates = _number_of_gates(w_hh)
    _check.shape("weight_ih_l0", w_ih, f"({gates}*H, input_size)", (w_hh.shape[0], None))
    layers = 1 + max(int(number) for number in re.findall(r"weight_ih_l(\d+)", " ".join(arrays)))
    layers = min(layers, len(arrays))  # a much too large number means a missing layer
    bias, bidirectional = "bias_ih_l0" in arrays, "weight_ih_l0_reverse" in arrays
    cell = _CELLS.get(gates, f"rnn_{nonlinearity}")
    shapes = shapes_of(ROWS[cell], w_ih.shape[1], w_hh.shape[1], layers, bias, bidirectional)
    missing, unknown = sorted(shapes.keys() - arrays.keys()), sorted(arrays.keys() - shapes.keys())
    if missing or unknown:
        raise ValueError(f"state_dict: expected exactly {list(shapes)}; missing {missing}, unknown {unknown}")
    parameters = checked_parameters(arrays, shapes, w_ih.dtype)
    passes = [pass_of(cell, parameters, suffix) for suffix in suffixes(layers, bidirectional)]
    return layer_of(cell, passes, bidirectional=bidirectional, batch_first=batch_first, dropout=dropout)


def to_torch(layer: Layer, prefix: str = "") -> dict[str, Array]:
    """The state_dict of a torch module with the layer's options, as copies of its arrays.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        With any options.
    prefix : str
        The module's name within a model; it precedes each name.

    Returns
    -------
    dict of str to ndarray
        For ``module.load_state_dict({name: torch.from_numpy(array) for name, array in to_torch(layer).items()})``.

    Raises
    ------
    TypeError
        If `layer` is not a layer.
    """
    cell_of(layer)
    start = _with_dot(prefix)
    return {start + name: np.array(array) for name, array in layer._checked_parameters().items()}


def _with_dot(prefix: str) -> str:
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a string, got {type(prefix).__name__}")
    return prefix if prefix.endswith(".") or not prefix else prefix + "."


def _of_prefix(state_dict: Any, prefix: str) -> dict[str, Any]:
    """The entries of the module itself, under its own names; entries of a cell get the names of a layer."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict: expected a dict of names to arrays, got {type(state_dict).__name__}")
    start = _with_dot(prefix)
    inner = {name[len(start) :]: value for name, value in state_dict.items() if name.startswith(start)}
    found = {name: value for name, value in inner.items() if "." not in name}
    if "weight_hh" in found:
        found = {f"{name}_l0": value for name, value in found.items()}
    if not {"weight_ih_l0", "weight_hh_l0"} <= found.keys():
        names = re.findall(r"^(.*?)\.?weight_hh(?:_l0)?$", "\n".join(state_dict), re.MULTILINE)
        raise ValueError(f"prefix: expected the name of a recurrent module, out of {names}, got {prefix!r}")
    return found


def _number_of_gates(w_hh: Array) -> int:
    rows, H = w_hh.shape if w_hh.ndim == 2 else (0, 0)
    gates = rows // H if H else 0
    if gates not in (1, 3, 4) or rows != gates * H:
        raise ValueError(f"weight_hh_l0: expected shape (4*H, H), (3*H, H) or (H, H), got {w_hh.shape}")
    return gates

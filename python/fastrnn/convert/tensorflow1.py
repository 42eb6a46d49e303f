"""TensorFlow 1's cells: one kernel (I + H, G*H) for [x, h], one bias (G*H); the LSTM's gates are i, j, f, o.

BasicLSTMCell adds forget_bias to f when it runs. Here forget_bias becomes b_hh, so b_ih has the bits of the file's
bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _check
from .._check import Array
from .foreign_arrays import arrays_of, width
from .passes import Layer, Pass, cell_of, joined_bias, layer_of, passes_of_one, reordered

# For each class: its cell, its gates, and our gates. TensorFlow's j is our g.
_KINDS = {
    "BasicLSTMCell": ("lstm", "igfo", "ifgo"),
    "LSTMCell": ("lstm", "igfo", "ifgo"),
    "BasicRNNCell": ("rnn_tanh", "h", "h"),
}
_CLASSES = {"lstm": "BasicLSTMCell", "rnn_tanh": "BasicRNNCell", "rnn_relu": "BasicRNNCell"}
_FORGET = "f"  # the gate with a forget bias
_WHAT = "kernel and bias of each direction"


def from_tensorflow1(
    kind: str, weights: Any, *, forget_bias: float = 1.0, activation: str = "tanh", batch_first: bool = True
) -> Layer:
    """A layer with the weights of a ``tf.nn.rnn_cell``.

    Parameters
    ----------
    kind : str
        "BasicLSTMCell", "LSTMCell" (without peepholes and projection) or "BasicRNNCell".
    weights : list of array, float32 or float64
        kernel (I + H, G*H) and bias (G*H), the variables of these names. With the arrays of both directions, one after
        the other (fw, bw of ``bidirectional_dynamic_rnn``), the layer is bidirectional. The arrays are copied.
    forget_bias : float
        The argument of the LSTM cell's constructor. The cell adds it when it runs, so the file does not contain it. It
        becomes the forget gate's part of ``bias_hh``.
    activation : str
        "tanh"; for a BasicRNNCell also "relu".
    batch_first : bool
        The option of the layer; ``dynamic_rnn`` has x (B, T, I) unless ``time_major``.

    Returns
    -------
    LSTM or RNN
        With ``bias_hh`` zero except for the forget bias.

    Raises
    ------
    TypeError
        For a dtype other than float32 and float64, and for arrays of different dtypes.
    ValueError
        For other shapes and activations, and for other cells; ``GRUCell`` applies the reset gate before the product.
    """
    cell, gates, ours = _checked_kind(kind)
    allowed = ("tanh", "relu") if kind == "BasicRNNCell" else ("tanh",)
    if activation not in allowed:
        raise ValueError(f"activation: expected {' or '.join(map(repr, allowed))}, got {activation!r}")
    arrays = arrays_of("weights", weights, (2, 4), _WHAT)
    passes = [_pass_of(arrays, start, gates, ours) for start in range(0, len(arrays), 2)]
    for position, array in enumerate(arrays[2:], start=2):
        _check.shape(f"weights[{position}]", array, str(arrays[position - 2].shape), arrays[position - 2].shape)
    if _FORGET in ours:
        passes = [one | {"b_hh": _forget_bias(forget_bias, one, ours)} for one in passes]
    cell = "rnn_relu" if activation == "relu" else cell
    return layer_of(cell, passes, bidirectional=len(passes) == 2, batch_first=batch_first)


def to_tensorflow1(layer: Layer, *, forget_bias: float = 1.0) -> list[Array]:
    """The weights (kernel and bias of each direction) of a BasicLSTMCell or BasicRNNCell.

    Parameters
    ----------
    layer : LSTM or RNN
        With ``num_layers=1``; see `unstack`. A layer with ``nonlinearity="relu"`` is for a cell with ``tf.nn.relu``.
    forget_bias : float
        The argument of the LSTM cell's constructor. The returned bias is b_ih + (b_hh - forget_bias), so a layer that
        came from TensorFlow 1 gets its original bias back, in every bit.

    Returns
    -------
    list of ndarray
        kernel (I + H, G*H) and bias (G*H) of each direction.

    Raises
    ------
    TypeError
        If `layer` is not a layer, or `forget_bias` is not a number.
    ValueError
        For a GRU, and if ``num_layers`` is more than 1.
    """
    passes, cell = passes_of_one(layer), cell_of(layer)
    if cell not in _CLASSES:
        raise ValueError("layer: expected an LSTM or RNN, since GRUCell resets before the product, got a GRU")
    _, gates, ours = _KINDS[_CLASSES[cell]]
    found: list[Array] = []
    for one in passes:
        kernel = np.concatenate([one["w_ih"], one["w_hh"]], axis=1)
        zeros = np.zeros(len(kernel), kernel.dtype)
        b_ih, b_hh = (one["b_ih"], one["b_hh"]) if layer.bias else (zeros, zeros)
        if _FORGET in ours:
            b_hh = b_hh - _forget_bias(forget_bias, one, ours)
        found += [
            np.array(reordered(kernel, ours, gates).T, order="C"),
            reordered(joined_bias(b_ih, b_hh), ours, gates),
        ]
    return found


def _pass_of(arrays: list[Array], start: int, gates: str, ours: str) -> Pass:
    kernel, bias = arrays[start : start + 2]
    G, name = len(gates), f"weights[{start}]"
    letters = f"{G}*H" if G > 1 else "H"
    H = width(name, kernel, f"(input_size + H, {letters})", G)
    I = len(kernel) - H
    if I < 0:
        raise ValueError(f"{name}: expected at least H = {H} rows, those of the state, got shape {kernel.shape}")
    _check.shape(f"weights[{start + 1}]", bias, f"({letters})", (G * H,))
    w = reordered(kernel.T, gates, ours)
    return {"w_ih": w[:, :I], "w_hh": w[:, I:], "b_ih": reordered(bias, gates, ours), "b_hh": np.zeros_like(bias)}


def _forget_bias(value: Any, one: Pass, gates: str) -> Array:
    """It, for the units of the gate f, and zero for the others."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"forget_bias: expected a number, got {type(value).__name__}")
    bias = np.zeros((len(gates), one["w_hh"].shape[1]), one["w_hh"].dtype)
    bias[gates.index(_FORGET)] = value
    return bias.ravel()


def _checked_kind(kind: Any) -> tuple[str, str, str]:
    if kind == "GRUCell":
        raise ValueError(
            "kind: expected 'BasicLSTMCell', 'LSTMCell' or 'BasicRNNCell', got 'GRUCell', which applies the reset gate "
            "before the recurrent product, fastrnn's GRU after it"
        )
    if kind not in _KINDS:
        raise ValueError(f"kind: expected 'BasicLSTMCell', 'LSTMCell' or 'BasicRNNCell', got {kind!r}")
    return _KINDS[kind]

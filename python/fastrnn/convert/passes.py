"""Layers as lists of passes: the parameters of each layer and direction, by the names of the cell's table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._check import Array
from ..layer_parameters import UNDRAWN
from ..layers import GRU, LSTM, RNN
from ..weights import ROWS, suffixes, torch_name, weights_of

Layer = LSTM | GRU | RNN
Pass = dict[str, Array]  # w_ih, w_hh and, with biases, b_ih, b_hh, in torch's layout

# The key is the core's name of the cell.
_CLASSES: dict[str, tuple[Any, dict[str, str]]] = {
    "lstm": (LSTM, {}),
    "gru": (GRU, {}),
    "rnn_tanh": (RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (RNN, {"nonlinearity": "relu"}),
}


def layer_of(cell: str, passes: Sequence[Pass], *, bidirectional: bool, **options: Any) -> Layer:
    """A layer with copies of these parameters; `options` are those of its class."""
    first = passes[0]
    kind, nonlinearity = _CLASSES[cell]
    layer: Layer = kind(
        first["w_ih"].shape[1],
        first["w_hh"].shape[1],
        num_layers=len(passes) // (1 + bidirectional),
        bias=any(one.name in first for one in ROWS[cell].parameters if not one.required),
        bidirectional=bidirectional,
        dtype=first["w_ih"].dtype,
        seed=UNDRAWN,
        **nonlinearity,
        **options,
    )
    names = suffixes(layer.num_layers, bidirectional)
    layer.parameters = {
        f"{torch_name(name)}_{suffix}": np.array(array, order="C")
        for suffix, one in zip(names, passes, strict=True)
        for name, array in one.items()
    }
    return layer


def cell_of(layer: Any) -> str:
    """The core's name of the layer's cell; TypeError for anything but a layer of fastrnn."""
    if not isinstance(layer, Layer):
        raise TypeError(f"layer: expected a fastrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    return layer._cell


def passes_of(layer: Layer) -> list[Pass]:
    """The parameters of each layer and direction, checked; they share the layer's memory."""
    parameters = layer._checked_parameters()
    return [pass_of(layer._cell, parameters, name) for name in suffixes(layer.num_layers, layer.bidirectional)]


def pass_of(cell: str, parameters: dict[str, Array], suffix: str) -> Pass:
    """The parameters of one layer in one direction, out of those of a stack by torch's names."""
    arrays = weights_of(ROWS[cell], parameters, suffix)
    rows = zip(ROWS[cell].parameters, arrays, strict=True)
    return {one.name: array for one, array in rows if array is not None}


def passes_of_one(layer: Any) -> list[Pass]:
    """Those of a layer that is no stack, one for each direction."""
    cell_of(layer)
    if layer.num_layers != 1:
        raise ValueError(f"layer: expected num_layers=1, got {layer.num_layers}; unstack gives its layers one by one")
    return passes_of(layer)


def reordered(array: Array, source: str, target: str, axis: int = 0) -> Array:
    """A copy of `array` with its gate blocks in another order. Each letter names one gate's block along the axis."""
    blocks = np.split(array, len(source), axis)
    return np.concatenate([blocks[source.index(gate)] for gate in target], axis)


def joined_bias(b_ih: Array, b_hh: Array) -> Array:
    """b_ih + b_hh, rounded once as the kernels do; where one of them is zero, the other in every bit."""
    return np.where(b_hh == 0, b_ih, b_ih + b_hh)

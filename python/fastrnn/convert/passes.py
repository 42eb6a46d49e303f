"""Layers as lists of passes: the weights of each layer and direction, in torch's order and layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._check import Array
from .._kernel import Weights
from ..layers import GRU, LSTM, RNN
from ..weights import suffixes, weights_of

Layer = LSTM | GRU | RNN

# The key is the core's name of the cell.
_CLASSES: dict[str, tuple[Any, dict[str, str]]] = {
    "lstm": (LSTM, {}),
    "gru": (GRU, {}),
    "rnn_tanh": (RNN, {"nonlinearity": "tanh"}),
    "rnn_relu": (RNN, {"nonlinearity": "relu"}),
}


def layer_of(cell: str, passes: Sequence[Weights], *, bidirectional: bool, **options: Any) -> Layer:
    """A layer with copies of these weights; `options` are those of its class."""
    first = passes[0]
    kind, nonlinearity = _CLASSES[cell]
    layer: Layer = kind(
        first.w_ih.shape[1],
        first.w_hh.shape[1],
        num_layers=len(passes) // (1 + bidirectional),
        bias=first.b_ih is not None,
        bidirectional=bidirectional,
        dtype=first.w_ih.dtype,
        **nonlinearity,
        **options,
    )
    names = suffixes(layer.num_layers, bidirectional)
    layer.parameters = {
        f"{name}_{suffix}": np.array(array, order="C")
        for suffix, weights in zip(names, passes, strict=True)
        for name, array in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), weights, strict=True)
        if array is not None
    }
    return layer


def cell_of(layer: Any) -> str:
    """The core's name of the layer's cell; TypeError for anything but a layer of fastrnn."""
    if not isinstance(layer, Layer):
        raise TypeError(f"layer: expected a fastrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    return layer._cell


def passes_of(layer: Layer) -> list[Weights]:
    """The weights of each layer and direction, checked; they share the layer's memory."""
    parameters = layer._checked_parameters()
    return [weights_of(parameters, suffix) for suffix in suffixes(layer.num_layers, layer.bidirectional)]


def passes_of_one(layer: Any) -> list[Weights]:
    """The passes of a layer with ``num_layers=1``, one for each direction."""
    cell_of(layer)
    if layer.num_layers != 1:
        raise ValueError(f"layer: expected num_layers=1, got {layer.num_layers}; unstack gives its layers one by one")
    return passes_of(layer)


def reordered(array: Array, source: str, target: str, axis: int = 0) -> Array:
    """A copy of `array` with its gate blocks in another order. Each letter names one gate's block along the axis."""
    blocks = np.split(array, len(source), axis)
    return np.concatenate([blocks[source.index(gate)] for gate in target], axis)


def joined_bias(weights: Weights) -> Array:
    """b_ih + b_hh, rounded once, as in the kernels; where one bias is zero, the exact bits of the other."""
    assert weights.b_ih is not None
    assert weights.b_hh is not None
    return np.where(weights.b_hh == 0, weights.b_ih, weights.b_ih + weights.b_hh)

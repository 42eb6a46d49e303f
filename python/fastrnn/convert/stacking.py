"""Conversion of layers on top of each other to one layer with `num_layers`, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .passes import Layer, cell_of, layer_of, passes_of


def stack(layers: Sequence[Layer], *, dropout: float = 0.0) -> Layer:
    """One layer that computes the same as `layers` on top of each other, with the first at the bottom.

    Parameters
    ----------
    layers : sequence of LSTM, GRU or RNN
        All of one class with equal options and hidden sizes; the ``input_size`` of each is the D*H of the layer below.
    dropout : float
        The dropout of the new layer, between its layers.

    Returns
    -------
    LSTM, GRU or RNN
        With copies of the weights; ``num_layers`` is the total number of layers.

    Raises
    ------
    TypeError
        If a member is not a layer.
    ValueError
        If the layers differ in more than ``input_size``.
    """
    if not isinstance(layers, Sequence):
        raise TypeError(f"layers: expected a list of layers, got {type(layers).__name__}")
    if not layers:
        raise ValueError("layers: expected at least one, got none")
    first = _traits(layers[0])
    width = layers[0].hidden_size * (1 + layers[0].bidirectional)
    for position, layer in enumerate(layers[1:], start=1):
        traits = _traits(layer)
        if traits != first:
            raise ValueError(f"layers[{position}]: expected {first}, as of layers[0], got {traits}")
        if layer.input_size != width:
            raise ValueError(f"layers[{position}]: expected input_size = D*H = {width}, got {layer.input_size}")
    passes = [one for layer in layers for one in passes_of(layer)]
    bidirectional, batch_first = layers[0].bidirectional, layers[0].batch_first
    return layer_of(cell_of(layers[0]), passes, bidirectional=bidirectional, batch_first=batch_first, dropout=dropout)


def unstack(layer: Layer) -> list[Layer]:
    """The layers of a stack, one by one.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        With any ``num_layers``.

    Returns
    -------
    list of LSTM, GRU or RNN
        Each with ``num_layers=1`` and a copy of its weights, the bottom one first.

    Raises
    ------
    TypeError
        If `layer` is not a layer.
    """
    cell, each = cell_of(layer), 1 + layer.bidirectional
    passes = passes_of(layer)
    return [
        layer_of(cell, passes[i : i + each], bidirectional=layer.bidirectional, batch_first=layer.batch_first)
        for i in range(0, len(passes), each)
    ]


def _traits(layer: Any) -> dict[str, Any]:
    """The options that all layers of a stack must share."""
    cell = cell_of(layer)
    options = ("hidden_size", "bias", "batch_first", "bidirectional")
    return {"cell": cell, "dtype": layer.dtype.name} | {name: getattr(layer, name) for name in options}

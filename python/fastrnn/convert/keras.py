"""Keras: kernel (I, G*H) and recurrent_kernel (H, G*H), transposed to torch's; gates i, f, c, o and z, r, h.

The single bias (G*H) becomes b_ih, with b_hh = 0. The GRU has (2, 3*H) instead, with the rows b_ih and b_hh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import _check
from .._check import Array
from .foreign_arrays import arrays_of, width
from .passes import Layer, Pass, cell_of, joined_bias, layer_of, passes_of_one, reordered

# For each class: its cell, its gates in Keras's order, and in our order.
_KINDS = {"LSTM": ("lstm", "ifgo", "ifgo"), "GRU": ("gru", "zrn", "rzn"), "SimpleRNN": ("rnn_tanh", "h", "h")}
_CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "SimpleRNN", "rnn_relu": "SimpleRNN"}
_WITH_BOTH_BIASES = {"GRU"}

_IN_TRAINING = "it acts in training only, so for inference set it to 0 in config"
# Options with the values that fastrnn computes, and the reason.
_OPTIONS = {
    "recurrent_activation": ("sigmoid", "fastrnn's gates are sigmoids"),
    "reset_after": (True, "fastrnn's GRU applies the reset gate after the recurrent product"),
    "dropout": (0, _IN_TRAINING),
    "recurrent_dropout": (0, _IN_TRAINING),
}
_WHAT = "as get_weights returns them: kernel, recurrent_kernel and bias of each direction"


def from_keras(kind: str, weights: Any, config: Mapping[str, Any] | None = None) -> Layer:
    """A layer with the weights of a Keras layer: ``from_keras(type(k).__name__, k.get_weights(), k.get_config())``.

    Parameters
    ----------
    kind : str
        The class of the Keras layer: "LSTM", "GRU", "SimpleRNN", or "Bidirectional" of one of them, with its config.
    weights : list of array, float32 or float64
        The result of ``get_weights()``: kernel (I, G*H), recurrent_kernel (H, G*H) and, unless ``use_bias=False``, bias
        (G*H), for the GRU (2, 3*H). With the arrays of both directions, one after the other, the layer is
        bidirectional. The arrays are copied.
    config : mapping, optional
        The result of ``get_config()``, which is checked. Without it, all options are assumed to be Keras's defaults.

    Returns
    -------
    LSTM, GRU or RNN
        With
        ``batch_first=True``, as in Keras, unless the config has ``time_major``. y has all steps (``return_sequences``).

    Raises
    ------
    TypeError
        For a dtype other than float32 and float64, and for arrays of different dtypes.
    ValueError
        For other shapes, and for options that fastrnn does not have: ``reset_after=False``, other activations,
        dropouts (which act on inputs and states, with one mask for all steps), ``go_backwards``, other merge modes.
    """
    options = _checked_options(kind, config)
    kind = options.get("class_name", kind)
    cell, gates, ours = _KINDS[kind]
    arrays = arrays_of("weights", weights, (2, 3, 4, 6), _WHAT)
    each = 3 if len(arrays) % 3 == 0 else 2
    passes = [_pass_of(arrays, start, each, kind, gates, ours) for start in range(0, len(arrays), each)]
    for start in range(each, len(arrays), each):
        for position in range(start, start + each):
            expected = arrays[position - start].shape
            _check.shape(f"weights[{position}]", arrays[position], str(expected), expected)
    bidirectional = len(passes) == 2
    if "class_name" in options and not bidirectional:
        raise ValueError(f"weights: expected those of both directions, {2 * each} arrays, got {each}")
    cell = "rnn_relu" if options.get("activation") == "relu" else cell
    batch_first = not options.get("time_major", False)
    return layer_of(cell, passes, bidirectional=bidirectional, batch_first=batch_first)


def to_keras(layer: Layer) -> list[Array]:
    """The weights for ``set_weights`` of the corresponding Keras layer: `LSTM`, `GRU`, `SimpleRNN` or `Bidirectional`.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        With ``num_layers=1``; see `unstack`. A bidirectional layer is for ``Bidirectional(…)``, a layer without biases
        for ``use_bias=False``, a layer with ``nonlinearity="relu"`` for ``SimpleRNN(…, activation="relu")``.

    Returns
    -------
    list of ndarray
        kernel, recurrent_kernel and bias of each direction. Except for the GRU, the bias is b_ih + b_hh, rounded once.

    Raises
    ------
    TypeError
        If `layer` is not a layer.
    ValueError
        If ``num_layers`` is more than 1.
    """
    found: list[Array] = []
    for one in passes_of_one(layer):
        kind = _CLASSES[cell_of(layer)]
        _, gates, ours = _KINDS[kind]
        found += [np.array(reordered(one[name], ours, gates).T, order="C") for name in ("w_ih", "w_hh")]
        if layer.bias:
            b_ih, b_hh = one["b_ih"], one["b_hh"]
            bias = np.stack([b_ih, b_hh]) if kind in _WITH_BOTH_BIASES else joined_bias(b_ih, b_hh)
            found.append(reordered(bias, ours, gates, axis=-1))
    return found


def _pass_of(arrays: list[Array], start: int, each: int, kind: str, gates: str, ours: str) -> Pass:
    """The weights of one direction, which begin at `start`."""
    G = len(gates)
    letters = f"{G}*H" if G > 1 else "H"
    kernel, recurrent = arrays[start : start + 2]
    H = width(f"weights[{start + 1}]", recurrent, f"(H, {letters})", G)
    _check.shape(f"weights[{start + 1}]", recurrent, f"(H, {letters})", (H, G * H))
    _check.shape(f"weights[{start}]", kernel, f"(input_size, {letters})", (None, G * H))
    found = {"w_ih": reordered(kernel.T, gates, ours), "w_hh": reordered(recurrent.T, gates, ours)}
    if each == 2:
        return found
    bias, name = arrays[start + 2], f"weights[{start + 2}]"
    if kind not in _WITH_BOTH_BIASES:
        _check.shape(name, bias, f"({letters})", (G * H,))
        return found | {"b_ih": reordered(bias, gates, ours), "b_hh": np.zeros_like(bias)}
    if bias.shape == (3 * H,):
        raise ValueError(
            f"{name}: expected shape (2, 3*H) = (2, {3 * H}), got {bias.shape}: a GRU with reset_after=False, "
            "which fastrnn's cannot compute, since its reset gate acts after the recurrent product"
        )
    _check.shape(name, bias, "(2, 3*H)", (2, 3 * H))
    b_ih, b_hh = reordered(bias, gates, ours, axis=1)
    return found | {"b_ih": b_ih, "b_hh": b_hh}


def _checked_options(kind: Any, config: Any) -> Mapping[str, Any]:
    """The options of the layer, or of a wrapper's forward layer, then with its class name."""
    if config is not None and not isinstance(config, Mapping):
        raise TypeError(f"config: expected what get_config returns, got {type(config).__name__}")
    if kind != "Bidirectional":
        if kind not in _KINDS:
            raise ValueError(f"kind: expected 'LSTM', 'GRU', 'SimpleRNN' or 'Bidirectional', got {kind!r}")
        options = config or {}
        _check_options("config", kind, options, go_backwards=False)
        return options
    if config is None or "layer" not in config:
        raise ValueError("config: expected what get_config of the Bidirectional layer returns, which names its layers")
    if config.get("merge_mode", "concat") != "concat":
        raise ValueError(f"config['merge_mode']: expected 'concat', got {config['merge_mode']!r}")
    forward = config["layer"]
    backward = config.get("backward_layer", forward)
    for name, one in ("layer", forward), ("backward_layer", backward):
        if one["class_name"] not in _KINDS or one["class_name"] != forward["class_name"]:
            raise ValueError(f"config[{name!r}]: expected LSTM, GRU or SimpleRNN twice, got {one['class_name']}")
        _check_options(f"config[{name!r}]", one["class_name"], one["config"], go_backwards=one is not forward)
    activations = [one["config"].get("activation", "tanh") for one in (forward, backward)]
    if activations[0] != activations[1]:
        raise ValueError(f"config: expected the same activation in both directions, got {activations}")
    return {**forward["config"], "class_name": forward["class_name"]}


def _check_options(name: str, kind: str, options: Mapping[str, Any], *, go_backwards: bool) -> None:
    activation = options.get("activation", "tanh")
    allowed = ("tanh", "relu") if kind == "SimpleRNN" else ("tanh",)
    if activation not in allowed:
        raise ValueError(f"{name}['activation']: expected {' or '.join(map(repr, allowed))}, got {activation!r}")
    for option, (expected, reason) in _OPTIONS.items():
        if options.get(option, expected) != expected:
            raise ValueError(f"{name}[{option!r}]: expected {expected!r}, got {options[option]!r}; {reason}")
    if options.get("go_backwards", go_backwards) != go_backwards:
        raise ValueError(
            f"{name}['go_backwards']: expected {go_backwards}, got {not go_backwards}; "
            "a layer that only runs backwards is one that runs forwards over x[:, ::-1]"
        )

"""ONNX's LSTM, GRU and RNN nodes: W (D, G*H, I), R (D, G*H, H), B (D, 2*G*H); gates i, o, f, c and z, r, h.

B holds b_ih and b_hh one after the other, each in the order of the gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .. import _check
from .._check import Array
from .foreign_arrays import real_array
from .passes import Layer, cell_of, layer_of, passes_of_one, reordered

# For each operator: its cell, its gates, our gates, and its activations in one direction.
_OPERATORS = {
    "LSTM": ("lstm", "iofg", "ifgo", ["Sigmoid", "Tanh", "Tanh"]),
    "GRU": ("gru", "zrn", "rzn", ["Sigmoid", "Tanh"]),
    "RNN": ("rnn_tanh", "h", "h", ["Tanh"]),
}
_OP_TYPES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_ACTIVATIONS = {"rnn_relu": ["Relu"]}  # of cells that have others than their operator's
_REQUIRED = {"GRU": {"linear_before_reset": 1}}
_DIRECTIONS = {"forward": 1, "bidirectional": 2}
_KNOWN = (
    "activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget", "layout",
    "linear_before_reset",
)  # fmt: skip


class OnnxNode(NamedTuple):
    """The parts of a recurrent node, except the names of its inputs and outputs."""

    op_type: str
    W: Array
    R: Array
    B: Array | None
    attributes: dict[str, Any]


def from_onnx(
    op_type: str,
    W: Any,
    R: Any,
    B: Any = None,
    attributes: Mapping[str, Any] | None = None,
    *,
    P: Any = None,
) -> Layer:
    """A layer with the weights of an ONNX node "LSTM", "GRU" or "RNN"; ``from_onnx(*to_onnx(layer))`` is the layer.

    Parameters
    ----------
    op_type : str
        "LSTM", "GRU" or "RNN".
    W, R : array (D, G*H, I) and (D, G*H, H), float32 or float64
        The node's inputs of these names; D = 2 for ``direction="bidirectional"``. The arrays are copied.
    B : array (D, 2*G*H), optional
        The node's input B. The default is zero.
    attributes : mapping, optional
        The node's attributes: ``{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}``. Absent
        attributes have ONNX's defaults; the default of the GRU's ``linear_before_reset`` is 0.
    P : None
        Peepholes, which fastrnn does not have.

    Returns
    -------
    LSTM, GRU or RNN
        With ``batch_first=True`` if ``layout=1``. Pass the node's ``sequence_lens`` as ``lengths`` of a call, and
        ``initial_h`` and ``initial_c`` as the state; with ``layout=1``, swap their first two axes.

    Raises
    ------
    TypeError
        For a dtype other than float32 and float64, and for arrays of different dtypes.
    ValueError
        For other shapes, and for attributes that fastrnn does not have: other activations,
        ``clip``, ``input_forget``, ``linear_before_reset=0``, the direction "reverse", peepholes.
    """
    if op_type not in _OPERATORS:
        raise ValueError(f"op_type: expected 'LSTM', 'GRU' or 'RNN', got {op_type!r}")
    cell, gates, ours, _ = _OPERATORS[op_type]
    given = _plain(attributes)
    D, activation = _checked_attributes(op_type, given)
    if P is not None:
        raise ValueError("P: expected None, since fastrnn's LSTM has no peepholes")
    arrays = _checked_inputs(len(gates), D, given.get("hidden_size"), W, R, B)
    passes = [{name: reordered(array[d], gates, ours) for name, array in arrays.items()} for d in range(D)]
    cell = "rnn_relu" if activation == "relu" else cell
    return layer_of(cell, passes, bidirectional=D == 2, batch_first=given.get("layout", 0) == 1)


def to_onnx(layer: Layer) -> OnnxNode:
    """The node of a layer, with the exact bits of its weights.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        With ``num_layers=1``; see `unstack`.

    Returns
    -------
    OnnxNode
        ``op_type``, the inputs ``W``, ``R`` and ``B`` (None without biases), and ``attributes``, for
        ``onnx.helper.make_node(node.op_type, inputs, outputs, **node.attributes)``.

    Raises
    ------
    TypeError
        If `layer` is not a layer.
    ValueError
        If ``num_layers`` is more than 1.
    """
    passes, cell = passes_of_one(layer), cell_of(layer)
    op_type = _OP_TYPES[cell]
    _, gates, ours, activations = _OPERATORS[op_type]
    attributes: dict[str, Any] = {
        "hidden_size": layer.hidden_size,
        "direction": "bidirectional" if layer.bidirectional else "forward",
    }
    if layer.batch_first:
        attributes["layout"] = 1
    attributes |= _REQUIRED.get(op_type, {})
    attributes["activations"] = _ACTIVATIONS.get(cell, activations) * len(passes)
    joined = {name: np.stack([reordered(one[name], ours, gates) for one in passes]) for name in passes[0]}
    B = np.concatenate([joined["b_ih"], joined["b_hh"]], axis=1) if layer.bias else None
    return OnnxNode(op_type, joined["w_ih"], joined["w_hh"], B, attributes)


def _checked_inputs(G: int, D: int, hidden_size: int | None, W: Any, R: Any, B: Any) -> dict[str, Array]:
    """By our names W, R and, unless B is None, both halves of B, of one dtype and fitting each other."""
    w = real_array("W", W)
    r = _check.array("R", real_array("R", R), w.dtype)
    H = hidden_size if hidden_size is not None else r.shape[-1] if r.ndim == 3 else None
    letters = f"{G}*H" if G > 1 else "H"
    _check.shape("R", r, f"(directions, {letters}, H)", (D, None if H is None else G * H, H))
    _check.shape("W", w, f"(directions, {letters}, input_size)", (D, r.shape[1], None))
    if B is None:
        return {"w_ih": w, "w_hh": r}
    b = _check.array("B", real_array("B", B), w.dtype)
    _check.shape("B", b, f"(directions, {2 * G}*H)", (D, 2 * r.shape[1]))
    b_ih, b_hh = np.split(b, 2, axis=1)
    return {"w_ih": w, "w_hh": r, "b_ih": b_ih, "b_hh": b_hh}


def _plain(attributes: Any) -> dict[str, Any]:
    """The attributes, with ONNX's bytes converted to strings."""
    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        raise TypeError(f"attributes: expected a dict, got {type(attributes).__name__}")
    unknown = sorted(attributes.keys() - set(_KNOWN))
    if unknown:
        raise ValueError(f"attributes: expected names out of {list(_KNOWN)}, got {unknown}")

    def text(value: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    found = {name: text(value) for name, value in attributes.items()}
    if "activations" in found:
        found["activations"] = [text(value) for value in found["activations"]]
    return found


def _checked_attributes(op_type: str, given: dict[str, Any]) -> tuple[int, str]:
    """The number of directions, and "relu" or "tanh"."""

    def refuse(name: str, expected: str, reason: str) -> None:
        raise ValueError(f"attributes[{name!r}]: expected {expected}, got {given.get(name, 0)!r}; {reason}")

    direction = given.get("direction", "forward")
    if direction not in _DIRECTIONS:
        reason = "a layer that only runs backwards is one that runs forwards over x[::-1]"
        refuse("direction", "'forward' or 'bidirectional'", reason)
    for name in ("clip", "activation_alpha", "activation_beta"):
        if given.get(name) not in (None, []):
            refuse(name, "none", "fastrnn's cells do not have it")
    if given.get("input_forget", 0):
        refuse("input_forget", "0", "fastrnn's LSTM has a forget gate of its own")
    if op_type == "GRU" and not given.get("linear_before_reset", 0):
        refuse("linear_before_reset", "1", "fastrnn's GRU applies the reset gate after the recurrent product")
    if given.get("layout", 0) not in (0, 1):
        refuse("layout", "0 or 1", "there are no others")
    D, default = _DIRECTIONS[direction], _OPERATORS[op_type][3]
    names = [name.lower() for name in given.get("activations", default * D)]
    if op_type == "RNN" and names == ["relu"] * D:
        return D, "relu"
    if names != [name.lower() for name in default * D]:
        also = " (or Relu)" if op_type == "RNN" else ""
        refuse("activations", f"{default * D}{also}", "fastrnn's cells have no others")
    return D, "tanh"

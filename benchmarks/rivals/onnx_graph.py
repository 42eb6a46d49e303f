"""A case as an ONNX model that includes its weights: one LSTM, GRU or RNN node per layer.

A node takes X (T, B, n), W (directions, G, n), R (directions, G, H) and B (directions, 2 G), with the biases of W
before the biases of R. It returns Y (T, directions, B, H), which a transposition and a reshape convert to the next
layer's X. Gates are i, o, f, c in an LSTM and z, r, h in a GRU. linear_before_reset=1 of the GRU is torch's equation.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper
from worker import Case, Unsupported, states_of

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN"}
TORCH_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "rnn_tanh": (0,)}
OPSET = 17  # the newest version that does not change these nodes and that all recent runtimes read


def _reordered(case: Case, rows: np.ndarray) -> np.ndarray:
    """Reorder gates from torch's order to ONNX's; rows is (G, …)."""
    blocks = rows.reshape(-1, case.H, *rows.shape[1:])
    return np.ascontiguousarray(blocks[list(TORCH_GATES[case.cell])]).reshape(rows.shape)


def _layer_weights(case: Case, data: dict[str, np.ndarray], layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, R and B."""

    def both(kind: str) -> np.ndarray:
        return np.stack([_reordered(case, data[f"{kind}_l{layer}{s}"]) for s in ("", "_reverse")[: case.directions]])

    return both("weight_ih"), both("weight_hh"), np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)


def onnx_model(case: Case, data: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Inputs are x (T, B, I) and, for one layer, the initial states; the output is y (T, B, directions * H)."""
    if case.carried and case.layers > 1:
        raise Unsupported("initial states of several layers")
    if case.reset_every:
        raise Unsupported("an RNN node has no resets")
    element = helper.np_dtype_to_tensor_dtype(np.dtype(case.dtype))
    constants = {"shape": np.array([case.T, case.B, -1], np.int64), "directions": np.array([1], np.int64)}
    if case.lengths:
        constants["lengths"] = case.sequence_lengths().astype(np.int32)
    attributes = {"hidden_size": case.H, "direction": "bidirectional" if case.bidirectional else "forward"}
    if case.cell == "gru":
        attributes["linear_before_reset"] = 1
    if case.bidirectional and case.cell == "rnn_tanh":
        attributes["activations"] = ["Tanh", "Tanh"]
    nodes, x, states = [], "x", states_of(case)
    for layer in range(case.layers):
        names = [f"{kind}{layer}" for kind in ("W", "R", "B")]
        constants |= zip(names, _layer_weights(case, data, layer), strict=True)
        y = "y" if layer == case.layers - 1 else f"x{layer + 1}"
        arguments = [x, *names, "lengths" if case.lengths else "", *states]
        nodes.append(helper.make_node(OPERATORS[case.cell], arguments, [f"Y{layer}"], **attributes))
        if case.bidirectional:
            nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"Z{layer}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"Z{layer}", "shape"], [y]))
        else:
            nodes.append(helper.make_node("Squeeze", [f"Y{layer}", "directions"], [y]))
        x = y
    graph = helper.make_graph(
        nodes,
        case.cell,
        [
            helper.make_tensor_value_info("x", element, [case.T, case.B, case.I]),
            *(helper.make_tensor_value_info(name, element, [case.directions, case.B, case.H]) for name in states),
        ],
        [helper.make_tensor_value_info("y", element, [case.T, case.B, case.directions * case.H])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    return model

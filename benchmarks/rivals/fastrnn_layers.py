"""fastrnn through its layers: frozen for inference, not frozen for training."""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from worker import Call, Case, Contestant, Outputs, serve, states_of

LAYERS: dict[str, Any] = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn_tanh": fastrnn.RNN}


def layer_of(case: Case, data: dict[str, np.ndarray]) -> Any:
    """The stack of the case with the parameters of the data."""
    layer = LAYERS[case.cell](case.I, case.H, case.layers, bidirectional=case.bidirectional, dtype=case.dtype)
    layer.parameters = {name: data[name] for name in layer.parameters}
    return layer


def state_of(case: Case, data: dict[str, np.ndarray]) -> Any:
    """The initial state as the layers accept it."""
    found = tuple(data[name] for name in states_of(case))
    return None if not found else found if len(found) == 2 else found[0]


def order_of(case: Case) -> dict[str, Any]:
    """The lengths and resets of the case as keyword arguments."""
    order: dict[str, Any] = {"lengths": case.sequence_lengths()} if case.lengths else {}
    return order | ({"resets": case.resets()} if case.reset_every else {})


class FastrnnLayers(Contestant):
    """One call of the layer; schedules are built in every call."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        fastrnn.set_num_threads(threads)

    def version(self) -> str:
        return f"fastrnn {fastrnn.__version__} ({fastrnn.show_config('dicts')['backend']})"

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        layer, x, order = layer_of(case, data), data["x"], order_of(case)
        state = state_of(case, data)
        layer.freeze()
        return lambda: layer(x, state, **order), lambda result: {"y": result[0]}

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        layer, x, dy, order = layer_of(case, data), data["x"], data["dy"], order_of(case)
        truncation, state = case.truncation or None, state_of(case, data)

        def call() -> Any:
            y, _, tape = layer.forward(x, state, **order)
            return y, layer.backward(tape, dy, truncation=truncation)

        return call, lambda result: {"y": result[0], "dx": result[1].x, **result[1].parameters}


if __name__ == "__main__":
    serve(FastrnnLayers)

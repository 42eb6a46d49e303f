"""fastrnn through its layers: frozen for inference, as they are for training."""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from worker import Call, Case, Contestant, Outputs, serve

LAYERS: dict[str, Any] = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn_tanh": fastrnn.RNN}


def layer_of(case: Case, data: dict[str, np.ndarray]) -> Any:
    """The case's stack with the data's parameters."""
    layer = LAYERS[case.cell](case.I, case.H, case.layers, bidirectional=case.bidirectional, dtype=case.dtype)
    layer.parameters = {name: data[name] for name in layer.parameters}
    return layer


def order_of(case: Case) -> dict[str, Any]:
    """Lengths and resets as keyword arguments, those that the case has."""
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
        layer.freeze()
        return lambda: layer(x, **order), lambda result: {"y": result[0]}

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        layer, x, dy, order = layer_of(case, data), data["x"], data["dy"], order_of(case)
        truncation = case.truncation or None

        def call() -> Any:
            y, _, tape = layer.forward(x, **order)
            return y, layer.backward(tape, dy, truncation=truncation)

        return call, lambda result: {"y": result[0], "dx": result[1].x, **result[1].parameters}


if __name__ == "__main__":
    serve(FastrnnLayers)

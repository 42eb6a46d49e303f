"""fastrnn in the group `cells`: each cell as a user writes it, also those that are compiled."""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from cells_worker import CellCase, Opened, serve
from fastrnn import sigmoid


@fastrnn.cell(gates="ifgo", states="hc")
def lstm(a: Any, s: Any) -> Any:
    c = sigmoid(a.f) * s.c + sigmoid(a.i) * np.tanh(a.g)
    h = sigmoid(a.o) * np.tanh(c)
    return h, (h, c)


@fastrnn.cell(gates="rzn")
def gru(a: Any, s: Any) -> Any:
    z = sigmoid(a.z)
    n = np.tanh(a.input.n + sigmoid(a.r) * a.state.n)
    h = n + z * (s.h - n)
    return h, (h,)


@fastrnn.cell(gates="ifgo", states="hc", vectors=("p_i", "p_f", "p_o"))
def peephole_lstm(a: Any, s: Any, v: Any) -> Any:
    i = sigmoid(a.i + v.p_i * s.c)
    f = sigmoid(a.f + v.p_f * s.c)
    c = f * s.c + i * np.tanh(a.g)
    h = sigmoid(a.o + v.p_o * c) * np.tanh(c)
    return h, (h, c)


@fastrnn.cell(gates="ifgo", states="hc", vectors=("gamma", "beta"), gate_vectors=("gamma_x", "gamma_r", "bias"))
def layer_norm_lstm(a: Any, s: Any, v: Any) -> Any:
    x, r = fastrnn.layer_norm(a.input, v.gamma_x), fastrnn.layer_norm(a.state, v.gamma_r)
    i, f = sigmoid(x.i + r.i + v.bias.i), sigmoid(x.f + r.f + v.bias.f)
    g, o = np.tanh(x.g + r.g + v.bias.g), sigmoid(x.o + r.o + v.bias.o)
    c = f * s.c + i * g
    h = o * np.tanh(fastrnn.layer_norm(c, v.gamma, v.beta))
    return h, (h, c)


@fastrnn.cell(gates="rzn")
def reset_before_gru(a: Any, s: Any) -> Any:
    z = sigmoid(a.z)
    n = np.tanh(a.input.n + a.product.n(sigmoid(a.r) * s.h))
    h = n + z * (s.h - n)
    return h, (h,)


CELLS = {one.program.name: one for one in (lstm, gru, peephole_lstm, layer_norm_lstm, reset_before_gru)}


def opened(case: CellCase, layer: Any, data: dict[str, np.ndarray], name_of: Any) -> Opened:
    """The calls of a layer: frozen in inference. `name_of` is a parameter's name among the data."""
    layer.parameters = {name: data[name_of(name)] for name in layer.parameters}
    x, dy = data["x"], data["dy"]
    if case.mode == "forward":
        layer.freeze()
        return Opened(lambda: layer(x), lambda result: {"y": result[0]})

    def train() -> Any:
        y, _, tape = layer.forward(x)
        return y, layer.backward(tape, dy)

    def outputs(result: Any) -> dict[str, np.ndarray]:
        y, gradients = result
        return {"y": y, "dx": gradients.x} | {f"d{name_of(n)}": one for n, one in gradients.parameters.items()}

    return Opened(train, outputs)


class Written:
    """`fastrnn.Recurrent`."""

    def __init__(self, threads: int) -> None:
        fastrnn.set_num_threads(threads)

    def version(self) -> str:
        return f"fastrnn {fastrnn.__version__} ({fastrnn.show_config('dicts')['backend']})"

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        layer = fastrnn.Recurrent(CELLS[case.cell], case.H, case.H, bias="b_ih" in data)
        return opened(case, layer, data, lambda name: name.removesuffix("_l0"))


if __name__ == "__main__":
    serve(Written)

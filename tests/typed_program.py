"""A user's program with every public name, for mypy --strict and pyright; tests/test_typed_program.py runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastrnn
import numpy as np
from fastrnn import convert
from fastrnn.testing import assert_gradients, assert_reproducible, assert_values, reference, self_test
from numpy.typing import NDArray

Array = NDArray[np.float32]
Layer = fastrnn.LSTM | fastrnn.GRU | fastrnn.RNN
T, B, I, H = 6, 3, 4, 5


def draw(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def train(layer: Layer, x: Array) -> fastrnn.Gradients:
    lengths = np.array([6, 2, 4])
    resets = np.zeros((T, B), bool)
    y, state, tape = layer.forward(x, lengths=lengths, resets=resets)
    dy: Array = y - 1
    gradients: fastrnn.Gradients = layer.backward(tape, dy, truncation=(2, 4))
    parameters: dict[str, NDArray[Any]] = gradients.parameters
    for name, gradient in parameters.items():
        layer.parameters[name] -= 0.01 * gradient
    _, _, tape = layer.forward(x, state, checkpoint="auto", budget=1 << 20)
    return layer.backward(tape, dy, state)


def infer(layer: Layer, x: Array, folder: Path) -> Array:
    _, state = layer(x)
    y, _ = layer(x, state)
    path = folder / "layer.npz"
    layer.save(path)
    again = type(layer).load(path)
    again.freeze()
    frozen: bool = again.frozen
    stream: fastrnn.Stream = again.stream(batch_size=B)
    last: Array = np.zeros((B, H), np.float32)
    for x_t in x:
        last = stream(x_t)
    stream.reset(np.array([0]))
    stream.state = stream.state
    stream.refresh()
    again.thaw()
    shape: tuple[int, int] = again.input_size, again.hidden_size
    assert frozen
    assert shape == (I, H)
    assert y.shape == (T, B, H)
    return last


def call_single_layers(x: Array) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = []
    h0 = np.zeros((B, H), np.float32)
    for cell, gates in ((fastrnn.gru, 3), (fastrnn.rnn_tanh, 1), (fastrnn.rnn_relu, 1)):
        y, h_n = cell(x, draw(gates * H, I), draw(gates * H, H), draw(gates * H), draw(gates * H), h0)
        found += [y, h_n]
    y, state, tape = fastrnn.lstm.forward(x, draw(4 * H, I), draw(4 * H, H), None, None, (h0, h0), reverse=True)
    gradients: fastrnn.CellGradients = fastrnn.lstm.backward(tape, y)
    sums = fastrnn.WeightGradients(gradients.w_ih, gradients.w_hh)
    fastrnn.lstm.backward(tape, y, state, truncation=2, wanted=("x", "w_ih", "w_hh"), into=sums)
    assert gradients.x is not None
    assert sums.w_ih is not None
    return [*found, gradients.x, sums.w_ih]


def discount(rewards: Array) -> Array:
    returns, tape = fastrnn.linear_recurrence.forward(0.99, rewards, reverse=True)
    gradients = fastrnn.linear_recurrence.backward(tape, returns, wanted=["b"])
    assert gradients.b is not None
    last: NDArray[Any] = fastrnn.linear_recurrence(0.99, rewards, 1.0, lengths=np.full(B, T), reverse=True)
    return last - gradients.b


def cut_windows() -> int:
    windows = fastrnn.Windows(np.arange(100), batch_size=2, num_steps=8)
    for x, targets, state in windows:
        assert x.shape == targets.shape
        windows.state = state
    return windows.steps + len(windows)


def check(layer: Layer, x: Array) -> None:
    assert_values(layer, x)
    assert_gradients(layer, x, tolerance=1e-3)
    assert_reproducible(layer, x, truncation=2)
    gates: int = reference.GATES["gru"]
    first: self_test.Check = next(self_test.run())
    assert gates == 3
    assert first.error is None, first.error


def carry_weights() -> list[Layer]:
    layer = fastrnn.LSTM(I, H, num_layers=2, batch_first=True, seed=0)
    state_dict: dict[str, NDArray[Any]] = convert.to_torch(layer, "encoder")
    lower, upper = convert.unstack(layer)
    keras: list[NDArray[Any]] = convert.to_keras(lower)
    cells: list[NDArray[Any]] = convert.to_tensorflow1(upper)
    node: convert.OnnxNode = convert.to_onnx(lower)
    from_node = convert.from_onnx(node.op_type, node.W, node.R, node.B, node.attributes)
    joined = convert.stack([convert.from_keras("LSTM", keras), upper])
    return [
        joined,
        from_node,
        convert.from_torch(state_dict, "encoder"),
        convert.from_tensorflow1("BasicLSTMCell", cells),
    ]


@fastrnn.cell(gates="ifgo", states="hc", vectors=("p_i",), options={"floor": 0.0})
def written(a: Any, s: Any, v: Any, o: Any) -> Any:
    i = fastrnn.sigmoid(a.i + v.p_i * s.c)
    c = fastrnn.softplus(a.f) * s.c / 2 + i * fastrnn.relu(a.g)
    h = np.exp(fastrnn.log_sigmoid(a.o)) * np.tanh(c) + o.floor
    return h, (h, c)


@fastrnn.cell(gates="n")
def normalised(a: Any, s: Any) -> Any:
    h = np.tanh(fastrnn.layer_norm(a.n)) + fastrnn.rms_norm(s.h) / 4
    return h, (h,)


def write_cells(x: Array, folder: Path) -> None:
    program: str = repr(normalised) + repr(written)
    assert "layer" not in program
    layer = fastrnn.Recurrent(written, I, H, num_layers=2, options={"floor": 0.5}, seed=0)
    y, state, tape = layer.forward(x, lengths=np.array([6, 2, 4]))
    gradients: fastrnn.Gradients = layer.backward(tape, y, state, truncation=2)
    assert gradients.parameters["p_i_l1"].shape == (H,)
    layer.options = {"floor": 0.25}
    layer.save(folder / "written.npz")
    loaded: fastrnn.Recurrent = fastrnn.Recurrent.load(folder / "written.npz")
    last: Array = loaded.stream(B)(x[0])
    assert last.shape == (B, H)
    run = fastrnn.recurrent(written)
    y, _, tape = run.forward(x, draw(4 * H, I), draw(4 * H, H), vectors={"p_i": draw(H)}, options={"floor": 1.0})
    found: fastrnn.CellGradients = run.backward(tape, y, wanted=("x", "vectors"))
    assert found.vectors["p_i"].shape == (H,)


def main(folder: Path) -> None:
    threads: int = fastrnn.get_num_threads()
    fastrnn.set_num_threads(threads)
    config: dict[str, Any] | None = fastrnn.show_config(mode="dicts")
    assert config is not None
    assert config["version"] == fastrnn.__version__
    x = draw(T, B, I)
    for layer in (fastrnn.LSTM(I, H, seed=0), fastrnn.GRU(I, H, dropout=0.0), fastrnn.RNN(I, H, nonlinearity="relu")):
        train(layer, x)
        infer(layer, x, folder)
        check(layer, x)
    call_single_layers(x)
    discount(x[:, :, 0])
    write_cells(x, folder)
    cut_windows()
    carry_weights()

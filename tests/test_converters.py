"""Converters of weights without the other libraries: round trips, the libraries' definitions, stacks."""

import subprocess
import sys
from functools import partial

import bounds
import fastrnn
import numpy as np
import pytest
from convert_cases import (
    assert_same_arrays,
    assert_same_layer,
    layers,
    members,
    random_input,
    random_weights,
    steps,
)
from core_call import same_bits
from fastrnn import convert
from fastrnn.cell.elementwise import sigmoid
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, dtypes, input_sizes, seeds, widths

COUNTS = (1, 2, 3)
KERAS = {"LSTM": (4, (4,)), "GRU": (3, (2, 3)), "SimpleRNN": (1, (1,))}
TENSORFLOW1 = {"BasicLSTMCell": 4, "LSTMCell": 4, "BasicRNNCell": 1}
RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "SimpleRNN", "rnn_relu": "SimpleRNN"}


def keras_of(layer):
    return convert.from_keras(RECURRENT[layer._cell], convert.to_keras(layer))


def tensorflow1_of(layer):
    kind, activation = ("BasicLSTMCell", "tanh") if layer._cell == "lstm" else ("BasicRNNCell", layer._cell[4:])
    return convert.from_tensorflow1(kind, convert.to_tensorflow1(layer), activation=activation)


def with_special_values(arrays):
    """Add values that arithmetic would lose: negative zero, subnormal and huge numbers."""
    for array in arrays:
        kinds = np.array([-0.0, np.finfo(array.dtype).smallest_subnormal, np.finfo(array.dtype).max, 1e-3])
        np.copyto(array.reshape(-1)[::3], np.resize(kinds, len(array.reshape(-1)[::3])).astype(array.dtype))
    return arrays


# ---- round trips ----


@given(layer=layers(counts=COUNTS, dropout=0.25), prefix=st.sampled_from(["", "rnn", "encoder.rnn."]))
def test_a_layer_comes_back_from_torch_in_every_bit(layer, prefix):
    entries = convert.to_torch(layer, prefix)
    entries["head.weight"] = np.ones(3)
    options = {"nonlinearity": layer.nonlinearity} if isinstance(layer, fastrnn.RNN) else {}
    found = convert.from_torch(entries, prefix, batch_first=layer.batch_first, dropout=layer.dropout, **options)
    assert_same_layer(found, layer)


@given(layer=layers(counts=COUNTS, dropout=0.25))
def test_a_layer_comes_back_from_its_parts_in_every_bit(layer):
    parts = convert.unstack(layer)
    assert [part.num_layers for part in parts] == [1] * layer.num_layers
    assert_same_layer(convert.stack(parts, dropout=0.25), layer)
    assert_same_layer(convert.stack([convert.stack(parts[:1]), *parts[1:]], dropout=0.25), layer)


@given(layer=layers())
def test_a_layer_comes_back_from_onnx_in_every_bit(layer):
    assert_same_layer(convert.from_onnx(*convert.to_onnx(layer)), layer)


@given(layer=layers(batch_first=True), T=steps, B=batches, seed=seeds)
def test_a_layer_comes_back_from_keras_with_the_same_outputs_in_every_bit(layer, T, B, seed):
    """Except for the GRU, the two biases become their sum, rounded as in the kernels."""
    found = (
        keras_of(layer)
        if layer._cell != "rnn_relu"
        else convert.from_keras("SimpleRNN", convert.to_keras(layer), {"activation": "relu"})
    )
    x, state = random_input(layer, T, B, seed)
    (y, final), (expected_y, expected_final) = found(x, state), layer(x, state)
    assert same_bits(y, expected_y)
    assert all(same_bits(a, b) for a, b in zip(members(final), members(expected_final), strict=True))
    if layer._cell == "gru":
        assert_same_layer(found, layer)


@given(
    kind=st.sampled_from(sorted(KERAS)), dtype=dtypes, I=input_sizes, H=widths, seed=seeds,
    directions=st.sampled_from([1, 2]), use_bias=st.booleans(),
)  # fmt: skip
def test_keras_weights_come_back_from_a_layer_in_every_bit(kind, dtype, I, H, seed, directions, use_bias):
    G, bias = KERAS[kind]
    shapes = [(I, G * H), (H, G * H), (*bias[:-1], bias[-1] * H)][: 2 + use_bias] * directions
    rng = np.random.default_rng(seed)
    weights = with_special_values([rng.standard_normal(shape).astype(dtype) for shape in shapes])
    before = [array.copy() for array in weights]
    assert_same_arrays(convert.to_keras(convert.from_keras(kind, weights)), weights)
    assert_same_arrays(before, weights)


@given(
    kind=st.sampled_from(sorted(TENSORFLOW1)), dtype=dtypes, I=input_sizes, H=widths, seed=seeds,
    directions=st.sampled_from([1, 2]), forget_bias=st.sampled_from([0.0, 0.1, 1.0, -3.7]),
)  # fmt: skip
def test_tensorflow1_weights_come_back_from_a_layer_in_every_bit(kind, dtype, I, H, seed, directions, forget_bias):
    G, rng = TENSORFLOW1[kind], np.random.default_rng(seed)
    shapes = [(I + H, G * H), (G * H,)] * directions
    weights = with_special_values([rng.standard_normal(shape).astype(dtype) for shape in shapes])
    before = [array.copy() for array in weights]
    layer = convert.from_tensorflow1(kind, weights, forget_bias=forget_bias)
    assert_same_arrays(convert.to_tensorflow1(layer, forget_bias=forget_bias), weights)
    assert_same_arrays(before, weights)


@given(layer=layers(cells=("lstm", "rnn_tanh", "rnn_relu"), batch_first=True), T=steps, B=batches, seed=seeds)
def test_a_layer_comes_back_from_tensorflow1_with_the_same_outputs(layer, T, B, seed):
    """Without a forget bias, outputs are equal in every bit; with a forget bias, f's bias is rounded once more."""
    found = tensorflow1_of(layer)
    x, state = random_input(layer, T, B, seed)
    y, expected = found(x, state)[0], layer(x, state)[0]
    wide = max(layer.input_size, 2 * layer.hidden_size)
    bounds.assert_within(y, expected, 2 * bounds.of_values(layer.dtype, wide, layer.hidden_size, T))
    if layer._cell != "lstm":
        assert same_bits(y, expected)


def test_both_biases_of_keras_are_added_as_the_kernels_add_them():
    layer = fastrnn.LSTM(2, 3, seed=0)
    layer.parameters["bias_ih_l0"][:] = np.float32(0.1)
    layer.parameters["bias_hh_l0"][:] = np.float32(0.7)
    assert (convert.to_keras(layer)[2] == np.float32(0.1) + np.float32(0.7)).all()


# ---- definitions ----


def literal_cell(kind, activation, x, h, c, kernel, bias, forget_bias):
    """One step of the cells by TensorFlow 1's documentation. Returns h, c."""
    z = np.concatenate([x, h], axis=1) @ kernel + bias
    if kind == "BasicRNNCell":
        return activation(z), c
    i, j, f, o = np.split(z, 4, axis=1)
    c = c * sigmoid(f + forget_bias) + sigmoid(i) * np.tanh(j)
    return np.tanh(c) * sigmoid(o), c


def keras_cell(kind, x, h, c, kernel, recurrent, bias):
    """One step of the cells by Keras's documentation. Returns h, c."""
    if kind == "GRU":
        x_z, x_r, x_h = np.split(x @ kernel + bias[0], 3, axis=1)
        h_z, h_r, h_h = np.split(h @ recurrent + bias[1], 3, axis=1)
        z = sigmoid(x_z + h_z)
        return z * h + (1 - z) * np.tanh(x_h + sigmoid(x_r + h_r) * h_h), c
    a = x @ kernel + h @ recurrent + bias
    if kind == "SimpleRNN":
        return np.tanh(a), c
    i, f, candidate, o = np.split(a, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(c), c


def onnx_cell(kind, x, h, c, W, R, B):
    """One step of the cells by ONNX's documentation, with linear_before_reset. Returns h, c."""
    Wb, Rb = np.split(B, 2)
    if kind == "GRU":
        x_z, x_r, x_h = np.split(x @ W.T + Wb, 3, axis=1)
        h_z, h_r, h_h = np.split(h @ R.T + Rb, 3, axis=1)
        z = sigmoid(x_z + h_z)
        return (1 - z) * np.tanh(x_h + sigmoid(x_r + h_r) * h_h) + z * h, c
    a = x @ W.T + h @ R.T + Wb + Rb
    if kind == "RNN":
        return np.tanh(a), c
    i, o, f, candidate = np.split(a, 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
    return sigmoid(o) * np.tanh(c), c


def assert_is_cell(layer, cell, weights, x, state):
    """Compare a layer of one direction with a cell on x (T, B, I); bounds assume weights of variance 1/(I + H)."""
    y, final = layer(np.ascontiguousarray(x.swapaxes(0, 1)) if layer.batch_first else x, state)
    y = y.swapaxes(0, 1) if layer.batch_first else y
    h, c = (member[0].astype(np.longdouble) for member in (members(state) * 2)[:2])
    weights = [array.astype(np.longdouble) for array in weights]
    limit = bounds.of_values(layer.dtype, layer.input_size, layer.hidden_size, len(x))
    for x_t, y_t in zip(x, y, strict=True):
        h, c = cell(x_t, h, c, *weights)
        bounds.assert_within(y_t, h, limit)
    for member, expected in zip(members(final), (h, c), strict=False):
        bounds.assert_within(member[0], expected, limit)


cells = given(
    kind=st.sampled_from(["LSTM", "GRU", "RNN"]), dtype=dtypes, T=steps, B=batches, I=input_sizes, H=widths, seed=seeds,
)  # fmt: skip


@cells
def test_layers_of_keras_are_their_definition(kind, dtype, T, B, I, H, seed):
    kind = "SimpleRNN" if kind == "RNN" else kind
    (G, bias), rng = KERAS[kind], np.random.default_rng(seed)
    shapes = [(I, G * H), (H, G * H), (*bias[:-1], G * H)]
    weights = [random_weights(rng, shape, I + H).astype(dtype) for shape in shapes]
    layer = convert.from_keras(kind, weights)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    assert_is_cell(layer, partial(keras_cell, kind), weights, x, random_input(layer, T, B, seed)[1])


@cells
def test_nodes_of_onnx_are_their_definition(kind, dtype, T, B, I, H, seed):
    G, rng = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], np.random.default_rng(seed)
    weights = [random_weights(rng, shape, I + H).astype(dtype) for shape in ((G * H, I), (G * H, H), (2 * G * H,))]
    attributes = {"linear_before_reset": 1} if kind == "GRU" else {}
    layer = convert.from_onnx(kind, *(array[np.newaxis] for array in weights), attributes)
    x = rng.standard_normal((T, B, I)).astype(dtype)
    assert_is_cell(layer, partial(onnx_cell, kind), weights, x, random_input(layer, T, B, seed)[1])


@given(
    kind=st.sampled_from(sorted(TENSORFLOW1)), relu=st.booleans(), dtype=dtypes, T=steps, B=batches, I=input_sizes,
    H=widths, seed=seeds, directions=st.sampled_from([1, 2]), forget_bias=st.sampled_from([0.0, 1.0, 2.5]),
)  # fmt: skip
def test_tensorflow1_cells_are_their_definition(kind, relu, dtype, T, B, I, H, seed, directions, forget_bias):
    relu = relu and kind == "BasicRNNCell"
    G, rng = TENSORFLOW1[kind], np.random.default_rng(seed)
    shapes = [(I + H, G * H), (G * H,)] * directions
    weights = [random_weights(rng, shape, I + H).astype(dtype) for shape in shapes]
    layer = convert.from_tensorflow1(kind, weights, forget_bias=forget_bias, activation="relu" if relu else "tanh")
    x, state = random_input(layer, T, B, seed)
    y, final = layer(x, state)
    found = [y[..., :H], y[..., H:]][:directions]
    h0, c0 = state if kind != "BasicRNNCell" else (state, state)
    activation = (lambda z: np.maximum(z, 0)) if relu else np.tanh
    limit = bounds.of_values(dtype, I, H, T)
    for d in range(directions):
        h, c = h0[d].astype(np.longdouble), c0[d].astype(np.longdouble)
        kernel, bias = (array.astype(np.longdouble) for array in weights[2 * d : 2 * d + 2])
        for t in range(T)[:: 1 - 2 * d]:
            h, c = literal_cell(kind, activation, x[:, t], h, c, kernel, bias, forget_bias)
            bounds.assert_within(found[d][:, t], h, limit)
        for member, expected in zip(members(final), (h, c), strict=False):
            bounds.assert_within(member[d], expected, limit)


@given(layer=layers(counts=COUNTS), T=steps, B=batches, seed=seeds)
def test_a_stack_computes_what_its_parts_compute_on_top_of_each_other(layer, T, B, seed):
    x, state = random_input(layer, T, B, seed)
    y, final = layer(x, state)
    D, ends = 1 + layer.bidirectional, []
    for number, part in enumerate(convert.unstack(layer)):
        own = [np.ascontiguousarray(member[number * D : (number + 1) * D]) for member in members(state)]
        x, end = part(x, tuple(own) if len(own) == 2 else own[0])
        ends.append(members(end))
    assert same_bits(x, y)
    for member, expected in zip(zip(*ends, strict=True), members(final), strict=True):
        assert same_bits(np.concatenate(member), expected)


@pytest.mark.parametrize("convert_it", [convert.to_torch, convert.to_keras, convert.to_onnx, convert.to_tensorflow1])
def test_arrays_for_other_libraries_share_no_memory_with_the_layer(convert_it):
    layer = fastrnn.RNN(3, 4, seed=0)  # one gate, so the order of gates is the same everywhere
    found = convert_it(layer)
    arrays = [
        array for array in (found.values() if isinstance(found, dict) else found) if isinstance(array, np.ndarray)
    ]
    assert len(arrays) >= 2
    for array in arrays:
        assert not any(np.shares_memory(array, parameter) for parameter in layer.parameters.values())


def test_cells_of_torch_are_layers_of_it():
    layer = fastrnn.GRU(3, 4, seed=0)
    entries = {f"cell.{name.removesuffix('_l0')}": array for name, array in layer.parameters.items()}
    assert_same_layer(convert.from_torch(entries, "cell"), layer)


def test_what_lies_within_the_module_is_left_alone():
    layer = fastrnn.GRU(3, 4, seed=0)
    entries = convert.to_torch(layer, "rnn") | {"rnn.head.weight": np.ones(3), "other": np.ones(2)}
    assert_same_layer(convert.from_torch(entries, "rnn"), layer)


@pytest.mark.parametrize("layout", [0, 1])
def test_the_layout_of_onnx_is_batch_first(layout):
    node = convert.to_onnx(fastrnn.LSTM(3, 4, seed=0))
    layer = convert.from_onnx(node.op_type, node.W, node.R, node.B, {"layout": layout})
    assert layer.batch_first == bool(layout)
    assert convert.to_onnx(layer).attributes.get("layout", 0) == layout


def test_attributes_of_onnx_may_be_bytes():
    node = convert.to_onnx(fastrnn.RNN(3, 4, nonlinearity="relu", bidirectional=True, seed=0))
    attributes = {"direction": b"bidirectional", "activations": [b"Relu", b"Relu"], "hidden_size": 4}
    layer = convert.from_onnx(node.op_type, node.W, node.R, node.B, attributes)
    assert layer.nonlinearity == "relu"
    assert layer.bidirectional


def test_keras_with_the_time_first_is_not_batch_first():
    weights = convert.to_keras(fastrnn.LSTM(3, 4, seed=0))
    assert convert.from_keras("LSTM", weights).batch_first
    assert not convert.from_keras("LSTM", weights, {"time_major": True}).batch_first


def test_conversion_does_not_import_a_framework():
    code = "import sys, fastrnn.convert; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"torch", "keras", "onnx", "tensorflow", "safetensors", "jax"}

"""Masked arrays are refused for every array argument: kernels have no masks, and NumPy drops masks silently."""

import re

import fastrnn
import numpy as np
import pytest
from fastrnn import convert
from fastrnn.testing import assert_gradients, assert_reproducible, assert_values, reference

T, B, I, H = 4, 2, 3, 5


def f32(*shape):
    return np.ones(shape, np.float32)


def masked(array):
    """An array with its first element masked."""
    found = np.ma.masked_array(array, mask=np.zeros(array.shape, bool))
    found[(0,) * array.ndim] = np.ma.masked
    return found


def of_lists(array):
    """A list of rows; the first row has a masked element."""
    return [masked(array[0]), *array[1:]]


def frozen(layer):
    layer.freeze()
    return layer


def backward(layer, dy, dstate=None, **options):
    tape = layer.forward(f32(T, B, I), **options)[2]
    return layer.backward(tape, dy, dstate)


def parameters(layer, name):
    layer.parameters = layer.parameters | {name: masked(layer.parameters[name])}
    return layer


def set_state(stream, state):
    stream.state = state


def cell_backward(dy=None, dstate=None, **options):
    tape = fastrnn.gru.forward(f32(T, B, I), f32(3 * H, I), f32(3 * H, H), f32(3 * H), f32(3 * H))[2]
    return fastrnn.gru.backward(tape, dy, dstate, **options)


def refer(**changes):
    given = {
        "x": f32(T, B, I), "w_ih": f32(3 * H, I), "w_hh": f32(3 * H, H), "b_ih": f32(3 * H), "b_hh": f32(3 * H),
        "h0": f32(B, H), "c0": f32(B, H), "lengths": np.array([2, 3]), "resets": np.zeros((T, B), bool),
    }  # fmt: skip
    return reference.layer("gru", **{name: change(given[name]) for name, change in changes.items()} | {
        name: value for name, value in given.items() if name not in changes
    })  # fmt: skip


X, LENGTHS, RESETS = f32(T, B, I), np.array([4, 2]), np.zeros((T, B), bool)
STATE, WEIGHT, RECURRENT = f32(1, B, H), f32(3 * H, I), f32(3 * H, H)
KERNEL, RECURRENT_KERNEL, BIAS = f32(I, 4 * H), f32(H, 4 * H), f32(4 * H)
IDS = np.arange(20)
# ruff: noqa: E501  one call per line
# fmt: off
# Calls by the name in the message: each passes an array that `change` made from a valid one.
CALLS = {
    "x: layer": lambda layer, change: layer(change(X)),
    "x: frozen layer": lambda layer, change: frozen(layer)(change(X)),
    "x: forward": lambda layer, change: layer.forward(change(X)),
    "x: forward with checkpoints": lambda layer, change: layer.forward(change(X), checkpoint=2),
    "state: layer": lambda layer, change: layer(X, change(STATE)),
    "state: frozen layer": lambda layer, change: frozen(layer)(X, change(STATE)),
    "state: forward": lambda layer, change: layer.forward(X, change(STATE)),
    "lengths: layer": lambda layer, change: layer(X, lengths=change(LENGTHS)),
    "resets: layer": lambda layer, change: layer(X, resets=change(RESETS)),
    "dy: backward": lambda layer, change: backward(layer, change(f32(T, B, H))),
    "dy: backward with lengths": lambda layer, change: backward(layer, change(f32(T, B, H)), lengths=LENGTHS),
    "dstate: backward": lambda layer, change: backward(layer, None, change(STATE)),
    "x: stream": lambda layer, change: layer.stream(B)(change(f32(B, I))),
    "state: stream": lambda layer, change: set_state(layer.stream(B), change(STATE)),
    "rows: reset of a stream": lambda layer, change: layer.stream(B).reset(change(np.array([0, 1]))),
    "rows: reset by booleans": lambda layer, change: layer.stream(B).reset(change(np.array([True, False]))),
    "x: cell": lambda layer, change: fastrnn.gru(change(X), WEIGHT, RECURRENT),
    "w_ih: cell": lambda layer, change: fastrnn.gru(X, change(WEIGHT), RECURRENT),
    "w_hh: cell": lambda layer, change: fastrnn.gru(X, WEIGHT, change(RECURRENT)),
    "b_ih: cell": lambda layer, change: fastrnn.gru(X, WEIGHT, RECURRENT, change(f32(3 * H))),
    "b_hh: cell": lambda layer, change: fastrnn.gru(X, WEIGHT, RECURRENT, None, change(f32(3 * H))),
    "state: cell": lambda layer, change: fastrnn.gru(X, WEIGHT, RECURRENT, state=change(f32(B, H))),
    "lengths: cell": lambda layer, change: fastrnn.gru(X, WEIGHT, RECURRENT, lengths=change(LENGTHS)),
    "resets: cell": lambda layer, change: fastrnn.gru(X, WEIGHT, RECURRENT, resets=change(RESETS)),
    "dy: cell": lambda layer, change: cell_backward(change(f32(T, B, H))),
    "dstate: cell": lambda layer, change: cell_backward(None, change(f32(B, H))),
    "data: windows": lambda layer, change: fastrnn.Windows(change(IDS), 2, 3),
    "data: windows with targets": lambda layer, change: fastrnn.Windows(change(IDS), 2, 3, targets=IDS),
    "targets: windows": lambda layer, change: fastrnn.Windows(IDS, 2, 3, targets=change(IDS)),
    "data[1]: documents": lambda layer, change: fastrnn.Windows([IDS, change(IDS)], 2, 3),
    "weights[0]: from_keras": lambda layer, change: convert.from_keras("LSTM", [change(KERNEL), RECURRENT_KERNEL, BIAS]),
    "weights[2]: from_keras": lambda layer, change: convert.from_keras("LSTM", [KERNEL, RECURRENT_KERNEL, change(BIAS)]),
    "weights[0]: from_tensorflow1": lambda layer, change: convert.from_tensorflow1("BasicLSTMCell", [change(f32(I + H, 4 * H)), BIAS]),
    "weights[1]: from_tensorflow1": lambda layer, change: convert.from_tensorflow1("BasicLSTMCell", [f32(I + H, 4 * H), change(BIAS)]),
    "W: from_onnx": lambda layer, change: convert.from_onnx("LSTM", change(f32(1, 4 * H, I)), f32(1, 4 * H, H)),
    "R: from_onnx": lambda layer, change: convert.from_onnx("LSTM", f32(1, 4 * H, I), change(f32(1, 4 * H, H))),
    "B: from_onnx": lambda layer, change: convert.from_onnx("LSTM", f32(1, 4 * H, I), f32(1, 4 * H, H), change(f32(1, 8 * H))),
    "weight_hh_l0: from_torch": lambda layer, change: convert.from_torch(layer.parameters | {"weight_hh_l0": change(RECURRENT)}),
    "x: assert_values": lambda layer, change: assert_values(layer, change(X)),
    "resets: assert_values": lambda layer, change: assert_values(layer, X, resets=change(RESETS)),
    "x: assert_gradients": lambda layer, change: assert_gradients(layer, change(X)),
    "resets: assert_gradients": lambda layer, change: assert_gradients(layer, X, resets=change(RESETS)),
    "resets: assert_reproducible": lambda layer, change: assert_reproducible(layer, X, resets=change(RESETS)),
    "lengths: assert_reproducible": lambda layer, change: assert_reproducible(layer, X, lengths=change(LENGTHS)),
    **{f"{name}: reference": lambda layer, change, name=name: refer(**{name: change})
       for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0", "lengths", "resets")},
}
# Arguments that may be an array but not a list.
ARRAYS = {
    "weight_hh_l0: layer": lambda layer: parameters(layer, "weight_hh_l0")(X),
    "weight_hh_l0: frozen layer": lambda layer: frozen(parameters(layer, "weight_hh_l0")),
    "bias_ih_l0: stream": lambda layer: parameters(layer, "bias_ih_l0").stream(),
    "bias_ih_l0: save": lambda layer: parameters(layer, "bias_ih_l0").save("never-written"),
    "into.w_ih: cell": lambda layer: cell_backward(into=fastrnn.WeightGradients(w_ih=masked(WEIGHT))),
    "into.b_hh: cell": lambda layer: cell_backward(into=fastrnn.WeightGradients(b_hh=masked(f32(3 * H)))),
    "data[0]: list of numbers": lambda layer: fastrnn.Windows([*masked(IDS)], 2, 3),
    "data: list of numbers, a later one": lambda layer: fastrnn.Windows([*range(9), np.ma.masked], 2, 3),
    "x: assert_reproducible": lambda layer: assert_reproducible(layer, masked(X)),
    "state: assert_reproducible": lambda layer: assert_reproducible(layer, X, masked(STATE)),
    "state: assert_values": lambda layer: assert_values(layer, X, masked(STATE)),
}
# fmt: on
NO_LISTS = {
    "data: windows",
    "x: stream",
    "x: assert_values",
    "x: assert_gradients",
    "x: reference",
}  # documents, and functions that read attributes


def message_of(name):
    return f"^{re.escape(name.split(':')[0])}: expected .*, got a masked array$"


@pytest.mark.parametrize("name", CALLS)
def test_a_masked_array_is_refused_by_name(name):
    CALLS[name](fastrnn.GRU(I, H, seed=0), np.array)  # the unmasked array is accepted
    with pytest.raises(TypeError, match=message_of(name)):
        CALLS[name](fastrnn.GRU(I, H, seed=0), masked)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in NO_LISTS])
def test_a_list_of_masked_arrays_is_refused_by_name(name):
    with pytest.raises(TypeError, match=message_of(name)):
        CALLS[name](fastrnn.GRU(I, H, seed=0), of_lists)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_masked_array_is_refused_where_lists_are_not_taken(name):
    with pytest.raises(TypeError, match=message_of(name)):
        ARRAYS[name](fastrnn.GRU(I, H, seed=0))


def test_a_mask_without_a_masked_element_is_refused_as_well():
    """A program should not fail depending on its data."""
    with pytest.raises(TypeError, match="x: expected an array, got a masked array"):
        fastrnn.GRU(I, H).stream(B)(np.ma.array(f32(B, I)))
    with pytest.raises(TypeError, match="data: expected an array, got a masked array"):
        fastrnn.Windows(np.ma.array(IDS), 2, 3)


def test_a_refused_step_leaves_the_state_of_the_stream():
    stream = fastrnn.GRU(I, H, seed=0).stream(B)
    stream(f32(B, I))
    before = stream.state
    with pytest.raises(TypeError, match="masked"):
        stream(masked(f32(B, I)))
    assert np.array_equal(stream.state, before)

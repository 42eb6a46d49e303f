"""`stream.refresh()`: from the next step on, a stream equals a new stream of the current layer with the old state."""

import gc
import re
import threading
import tracemalloc

import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from fastrnn import config
from hypothesis import given
from hypothesis import strategies as st
from strategies import a_stream, members, stacks_and_inputs


def change(layer, factor=0.5):
    """Change every parameter in place, as an optimizer does."""
    for array in layer.parameters.values():
        array *= factor


def same_state(cell, one, other):
    return all(same_bits(a, b) for a, b in zip(members(cell, one), members(cell, other), strict=True))


@given(drawn=stacks_and_inputs(), freeze=st.booleans(), replace=st.booleans())
def test_a_refreshed_stream_has_the_bits_of_a_new_one_with_its_state(backend, drawn, freeze, replace):
    cell, layer, x = drawn
    stream = layer.stream(x.shape[1])
    for x_t in x:
        stream(x_t)
    for _ in range(2):
        before = stream.state
        if replace:
            layer.parameters = {name: array * array.dtype.type(0.5) for name, array in layer.parameters.items()}
        else:
            change(layer)
        if freeze:
            layer.freeze()
        stream.refresh()
        assert same_state(cell, stream.state, before)
        new = layer.stream(x.shape[1])
        new.state = before
        for x_t in x:
            assert same_bits(stream(x_t), new(x_t))
        assert same_state(cell, stream.state, new.state)
        layer.thaw()


def test_nothing_changes_when_no_parameter_did(backend):
    _, stream, x = a_stream()
    other = a_stream()[1]
    for x_t in x:
        stream.refresh()
        assert same_bits(stream(x_t), other(x_t))


def test_a_stream_follows_a_layer_that_is_frozen_and_thawed(backend):
    """Frozen parameters are copies: writes to the original arrays count only after `thaw`."""
    layer, stream, x = a_stream()
    given = list(layer.parameters.values())
    layer.freeze()
    before = layer(x[:1])[0][0]
    for array in given:
        array *= 0.5
    stream.refresh()
    assert same_bits(stream(x[0]), before)
    layer.thaw()
    stream.refresh()
    stream.reset()
    after = stream(x[0])
    assert same_bits(after, layer(x[:1])[0][0])
    assert not same_bits(after, before)


def test_refreshed_streams_of_a_frozen_layer_share_its_packed_weights(backend):
    layer, _, _ = a_stream()
    streams = [layer.stream() for _ in range(20)]
    change(layer)
    layer.freeze()
    weights = sum(array.nbytes for array in layer.parameters.values())
    for stream in streams:
        stream.refresh()
    gc.collect()
    tracemalloc.start()
    try:
        for stream in streams:
            stream.refresh()
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 20 * 16000 + weights  # scratch of 20 streams, but not 20 packed copies


def test_a_refreshed_stream_uses_the_backend_of_the_moment(backend, other_backend):
    layer, stream, x = a_stream()
    stream(x[0])
    with config.use_backend(other_backend):
        stream.refresh()
        new = layer.stream()
        new.state = stream.state
        assert same_bits(stream(x[1]), new(x[1]))


def test_the_output_stays_the_same_array_and_steps_allocate_nothing(backend):
    layer, stream, x = a_stream()
    y = stream(x[0])
    change(layer)
    stream.refresh()
    assert np.shares_memory(stream(x[0]), y)
    assert not stream(x[0]).flags.writeable
    tracemalloc.start()
    try:
        stream(x[0])
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            stream(x[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - before < 512


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("weight_hh_l0", np.ones((16, 3), np.float32), ValueError, "weight_hh_l0: expected shape (4*H, H) = (16, 4)"),
        ("bias_ih_l1", np.ones(16), TypeError, "bias_ih_l1: expected dtype float32, got float64"),
        ("weight_ih_l0", None, TypeError, "weight_ih_l0: expected an array, got NoneType"),
    ],
)
def test_wrong_parameters_are_refused_and_the_stream_goes_on_as_before(backend, name, value, error, text):
    layer, stream, x = a_stream()
    other = a_stream()[1]
    stream(x[0]), other(x[0])
    layer.parameters = layer.parameters | {name: value}
    with pytest.raises(error, match=re.escape(text)):
        stream.refresh()
    assert same_bits(stream(x[1]), other(x[1]))
    layer.parameters = fastrnn.LSTM(3, 4, num_layers=2, seed=0).parameters
    stream.refresh()
    assert same_bits(stream(x[2]), other(x[2]))


def test_a_stream_keeps_its_layer_for_a_refresh():
    layer, _, x = a_stream()
    stream = layer.stream()
    change(layer)
    expected = layer(x[:1])[0][0].copy()
    del layer
    gc.collect()
    stream.refresh()
    assert same_bits(stream(x[0]), expected)


def test_a_refreshed_stream_has_the_nonlinearity_of_its_layer(backend):
    layer = fastrnn.RNN(3, 4, seed=0)
    stream, x = layer.stream(), np.full((1, 3), 5, np.float32)
    before = stream(x).copy()
    layer.nonlinearity = "relu"
    stream.reset()
    assert same_bits(stream(x), before)
    stream.refresh()
    stream.reset()
    assert same_bits(stream(x), layer(x[None])[0][0])
    assert not same_bits(stream(x), before)


def test_a_step_runs_with_old_or_with_new_weights_and_never_with_a_mixture():
    """One thread refreshes repeatedly while another thread steps."""
    H = 64
    layer = fastrnn.RNN(1, H, bias=False, nonlinearity="relu")
    sets = [
        {"weight_ih_l0": np.full((H, 1), value, np.float32), "weight_hh_l0": np.zeros((H, H), np.float32)}
        for value in (1, 2)
    ]
    layer.parameters = sets[0]
    stream, x, done = layer.stream(), np.ones((1, 1), np.float32), threading.Event()

    def refresh():
        number = 0
        while not done.is_set():
            number += 1
            layer.parameters = sets[number % 2]
            stream.refresh()

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        found = {tuple(np.unique(stream(x)).tolist()) for _ in range(5000)}
    finally:
        done.set()
        thread.join()
    assert found <= {(1.0,), (2.0,)}


def test_reinforcement_learning_acts_with_the_weights_that_it_trains(backend):
    """In every round, a rollout through the stream has the bits of the forward call that trains on it."""
    T, B = 6, 3
    layer, rng = fastrnn.GRU(2, 5, seed=0), np.random.default_rng(0)
    stream, state = layer.stream(B), np.zeros((1, B, 5), np.float32)
    for _ in range(3):
        stream.refresh()
        x = rng.standard_normal((T, B, 2)).astype(np.float32)
        acted = np.stack([stream(x_t).copy() for x_t in x])
        y, state, tape = layer.forward(x, state)
        assert same_bits(acted, y)
        assert same_bits(stream.state, state)
        for name, gradient in layer.backward(tape, y - 1).parameters.items():
            layer.parameters[name] -= np.float32(0.1) * gradient

"""Frozen layers and streams: the bits of plain calls, no allocation, shared weights, threads."""

import copy
import os
import pickle
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from fastrnn import config
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    KINDS,
    a_stream,
    batches,
    cells,
    dtypes,
    input_sizes,
    members,
    seeds,
    stacks_and_inputs,
    widths,
)


@given(drawn=stacks_and_inputs(), threads=st.sampled_from([1, 2]))
def test_steps_have_the_bits_of_one_call(backend, drawn, threads):
    cell, layer, x = drawn
    y, state = layer(x)
    fastrnn.set_num_threads(threads)
    with config.use_cut("all"):
        stream = layer.stream(x.shape[1])
    for x_t, y_t in zip(x, y, strict=True):
        assert same_bits(stream(x_t), y_t)
    for found, expected in zip(members(cell, stream.state), members(cell, state), strict=True):
        assert same_bits(found, expected)


@given(drawn=stacks_and_inputs(), data=st.data())
def test_reset_zeroes_the_chosen_rows_alone(backend, drawn, data):
    cell, layer, x = drawn
    B = x.shape[1]
    stream = layer.stream(B)
    stream(x[0])
    before = [m.copy() for m in members(cell, stream.state)]
    rows = data.draw(st.lists(st.integers(0, B - 1), unique=True))
    mask = np.isin(np.arange(B), rows)
    stream.reset(mask if data.draw(st.booleans()) else rows)
    for member, old in zip(members(cell, stream.state), before, strict=True):
        assert same_bits(member[:, ~mask], old[:, ~mask])
        assert not member[:, mask].any()
    stream.reset()
    assert not any(member.any() for member in members(cell, stream.state))
    assert same_bits(stream(x[0]), layer(x[:1])[0][0])


@pytest.mark.parametrize("rows", [-1, [-1], np.array([2], np.uint8)])
def test_rows_to_reset_count_from_the_end_and_are_of_any_integer_type(rows):
    _, stream, x = a_stream(batch_size=3)
    stream(x[0])
    stream.reset(rows)
    for member in stream.state:
        assert member[:, :2].all()
        assert not member[:, 2].any()


@given(drawn=stacks_and_inputs())
def test_state_can_be_taken_and_set(backend, drawn):
    cell, layer, x = drawn
    stream = layer.stream(x.shape[1])
    stream(x[0])
    saved = stream.state
    first = stream(x[-1]).copy()
    other = layer.stream(x.shape[1])
    other.state = saved
    assert same_bits(other(x[-1]), first)
    for member in members(cell, saved):
        member[...] = 7
    assert not any((member == 7).all() and member.size for member in members(cell, other.state))


def test_a_step_allocates_nothing(backend):
    _, stream, x = a_stream(batch_size=2)
    y = stream(x[0])
    where = y.ctypes.data
    tracemalloc.start()
    try:
        for _ in range(10):
            stream(x[0])
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(1000):
            stream(x[0])
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 64
    assert peak - before < 512  # the view of x_t that the test makes, and the integers of the loop; no array data
    assert stream(x[0]).ctypes.data == where
    assert not y.flags.writeable


def test_streams_of_a_frozen_layer_share_its_packed_weights(backend):
    layer, _, x = a_stream()
    layer.freeze()
    expected = layer(x)[0]
    tracemalloc.start()
    try:
        streams = [layer.stream() for _ in range(20)]
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    weights = sum(array.nbytes for array in layer.parameters.values())
    assert held < 20 * 16000 + weights  # states and scratch of 20 streams, but not 20 packed copies
    for t in range(len(x)):
        for stream in streams:
            assert same_bits(stream(x[t]), expected[t])


def test_a_stream_keeps_the_parameters_it_was_made_with(backend):
    layer, stream, x = a_stream()
    expected = layer(x)[0]
    for array in layer.parameters.values():
        array *= 2
    assert same_bits(stream(x[0]), expected[0])


def test_streams_run_side_by_side_and_one_stream_takes_turns(backend):
    layer = fastrnn.GRU(16, 48, seed=0)
    layer.freeze()
    x = np.random.default_rng(0).standard_normal((200, 1, 16)).astype(np.float32)
    y, _ = layer(x)
    streams = [layer.stream() for _ in range(4)]

    def feed(stream):
        return np.stack([stream(x_t).copy() for x_t in x])

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(feed, streams):
            assert same_bits(found, y)
    shared, same = layer.stream(), np.tile(x[:1], (50, 1, 1))
    threads = [threading.Thread(target=lambda: [shared(x_t) for x_t in same]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same_bits(shared.state, layer(np.tile(x[:1], (200, 1, 1)))[1])


@given(drawn=stacks_and_inputs())
def test_freezing_changes_no_bit_of_inference_and_training(backend, drawn):
    _, layer, x = drawn
    y, _, tape = layer.forward(x)
    g = layer.backward(tape, y)
    layer.freeze()
    assert layer.frozen
    layer.freeze()
    assert same_bits(layer(x)[0], y)
    y_frozen, _, tape = layer.forward(x)
    assert same_bits(y_frozen, y)
    for name, gradient in layer.backward(tape, y).parameters.items():
        assert same_bits(gradient, g.parameters[name]), name


def test_parameters_of_a_frozen_layer_are_read_only_until_it_is_thawed(backend):
    layer, _, x = a_stream()
    before, parameters = layer(x)[0], layer.parameters
    layer.freeze()
    with pytest.raises(ValueError, match="read-only"):
        layer.parameters["weight_hh_l0"] *= 2
    for change in (
        lambda p: p.update(weight_hh_l0=parameters["weight_hh_l0"]), lambda p: p.pop("bias_ih_l0"), lambda p: p.clear(),
        lambda p: p.__setitem__("weight_hh_l0", parameters["weight_hh_l0"]), lambda p: p.__delitem__("bias_ih_l0"),
        lambda p: p.setdefault("more", 1), lambda p: p.popitem(),
    ):  # fmt: skip
        with pytest.raises(TypeError, match="parameters: expected a layer that is not frozen"):
            change(layer.parameters)
    with pytest.raises(ValueError, match="parameters: expected a layer that is not frozen"):
        layer.parameters = dict(layer.parameters)
    assert same_bits(layer(x)[0], before)
    layer.thaw()
    layer.thaw()
    assert not layer.frozen
    assert layer.parameters is parameters
    layer.parameters["weight_hh_l0"] *= 2
    assert not same_bits(layer(x)[0], before)


def test_a_frozen_layer_is_one_model_whatever_happens_to_the_arrays_it_came_from(backend):
    """Parameters are views of one vector, or shared by two layers, as with some optimizers."""
    layer, _, x = a_stream()
    flat = np.concatenate([array.reshape(-1) for array in layer.parameters.values()])
    views, offset = {}, 0
    for name, array in layer.parameters.items():
        views[name] = flat[offset : offset + array.size].reshape(array.shape)
        offset += array.size
    layer.parameters = views
    other = fastrnn.LSTM(3, 4, num_layers=2)
    other.parameters = views
    y, _, tape = layer.forward(x)
    expected = layer.backward(tape, y)
    layer.freeze()
    other.freeze()
    flat *= 2
    other.thaw()
    y_frozen, _, tape = layer.forward(x)
    assert same_bits(y_frozen, y)
    assert same_bits(layer.backward(tape, y).x, expected.x)
    layer.thaw()
    assert same_bits(layer(x)[0], other(x)[0])
    assert not same_bits(layer(x)[0], y)


def test_frozen_parameters_are_copies_and_so_are_copies_of_them():
    layer = fastrnn.GRU(3, 4, seed=0)
    before = {name: array.copy() for name, array in layer.parameters.items()}
    given = dict(layer.parameters)
    layer.freeze()
    for array in given.values():
        array *= 2
    with pytest.raises(TypeError, match="not frozen"):
        layer.parameters.__ior__(given)
    for array in copy.copy(layer.parameters).values():
        array *= 2
    assert all(same_bits(array, before[name]) for name, array in layer.parameters.items())


def test_a_frozen_layer_follows_a_change_of_backend(backend, other_backend):
    """The layout of packed weights depends on the vector length, and a backend without FMA gives other bits."""
    layer, other = fastrnn.LSTM(13, 40, seed=0), fastrnn.LSTM(13, 40, seed=0)
    x = np.random.default_rng(0).standard_normal((9, 3, 13)).astype(np.float32)
    layer.freeze()
    y = layer(x)[0]
    with config.use_backend(other_backend):
        expected = other(x)[0]
        assert same_bits(layer(x)[0], expected)
        assert same_bits(layer.stream(3)(x[0]), expected[0])
    assert same_bits(layer(x)[0], y)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(2, 6))],
)
def test_copies_of_a_frozen_layer_are_thawed(duplicate, backend):
    layer, _, x = a_stream()
    layer.freeze()
    other = duplicate(layer)
    assert not other.frozen
    assert same_bits(other(x)[0], layer(x)[0])
    for parameters in (other.parameters, duplicate(layer.parameters)):
        parameters["weight_hh_l0"] = parameters["weight_hh_l0"] * 2
    assert not same_bits(other(x)[0], layer(x)[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_stream_works_in_the_child_of_a_fork(backend):
    layer, stream, x = a_stream()
    expected = layer(x)[0]
    stream(x[0])
    child = os.fork()
    if child == 0:
        os._exit(0 if same_bits(stream(x[1]), expected[1]) else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert same_bits(stream(x[1]), expected[1])


def test_saved_from_frozen(tmp_path):
    layer, _, x = a_stream()
    layer.freeze()
    layer.save(tmp_path / "frozen")
    assert same_bits(fastrnn.LSTM.load(tmp_path / "frozen")(x)[0], layer(x)[0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda layer, s: s(None), TypeError, "x: expected a NumPy array, got NoneType"),
        (lambda layer, s: s([1.0]), TypeError, "x: expected a NumPy array, got list"),
        (lambda layer, s: s(np.ones((1, 3))), TypeError, "x: unexpected dtype float64"),
        (lambda layer, s: s(np.ones(3, np.float32)), ValueError, "x: expected shape (1, 3), got (3,)"),
        (lambda layer, s: s(np.ones((2, 3), np.float32)), ValueError, "x: expected shape (1, 3), got (2, 3)"),
        (lambda layer, s: s(np.ones((1, 6), np.float32)[:, ::2]), ValueError, "x: the last axis must be contiguous"),
        (lambda layer, s: s.reset(1), IndexError, "rows: expected rows of a batch of 1, got 1"),
        (lambda layer, s: s.reset([0.5]), TypeError, "rows: expected integers or booleans"),
        (lambda layer, s: s.reset([True, False]), ValueError, "rows: expected shape (B,) = (1,), got (2,)"),
        (lambda layer, s: setattr(s, "state", np.zeros(3)), TypeError, "state: expected a pair"),
        (lambda layer, s: setattr(s, "state", s.state[:1]), ValueError, "state: expected a pair"),
        (lambda layer, s: setattr(s, "state", (s.state[0], np.zeros((2, 1, 3), np.float32))), ValueError,
         "state[1]: expected shape (num_layers, B, H) = (2, 1, 4), got (2, 1, 3)"),
        (lambda layer, s: layer.stream(0), ValueError, "batch_size: expected an integer of at least 1, got 0"),
        (lambda layer, s: layer.stream(1.5), TypeError, "batch_size: expected an integer"),
        (lambda layer, s: fastrnn.GRU(2, 3, bidirectional=True).stream(), ValueError, "stream: expected a layer of"),
        (lambda layer, s: fastrnn.Stream(), TypeError, "Stream: expected to be made by layer.stream"),
        (lambda layer, s: pickle.dumps(s), TypeError, "Stream: it belongs to its process"),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused_and_change_nothing(call, error, message):
    layer, stream, x = a_stream()
    stream(x[0])
    before = stream.state
    with pytest.raises(error, match=re.escape(message)):
        call(layer, stream)
    for found, expected in zip(stream.state, before, strict=True):
        assert same_bits(found, expected)


@st.composite
def frozen_calls(draw):
    """A layer and a layout of its arguments: batch-first or not, without a batch, with views, with states."""
    cell, dtype, seed = draw(cells), draw(dtypes), draw(seeds)
    names = ("bidirectional", "batch_first", "bias")
    options = {name: draw(st.booleans()) for name in names} | {"num_layers": draw(st.sampled_from([1, 2]))}
    layer = KINDS[cell](draw(input_sizes), draw(widths), dtype=dtype, seed=seed, **options)
    unbatched = draw(st.booleans())
    rng = np.random.default_rng(seed)
    shape = (draw(st.sampled_from([0, 1, 2, 5])),) if unbatched else (draw(st.sampled_from([1, 4])), draw(batches))
    x = rng.standard_normal((*shape, layer.input_size)).astype(dtype)
    x = draw(st.sampled_from([x, x[::-1], np.repeat(x, 2, axis=-1)[..., ::2], np.asfortranarray(x)]))
    count = layer.num_layers * (1 + layer.bidirectional)
    B = () if unbatched else (x.shape[0 if layer.batch_first else 1],)
    parts = [rng.standard_normal((count, *B, layer.hidden_size)).astype(dtype) for _ in range(2)]
    parts = [draw(st.sampled_from([part, np.repeat(part, 2, axis=0)[::2]])) for part in parts]
    lstm_states = [None, tuple(parts), list(parts), (parts[0], None), (None, parts[1])]
    state = draw(st.sampled_from(lstm_states if cell == "lstm" else [None, parts[0]]))
    return cell, layer, x, state


@given(drawn=frozen_calls(), threads=st.sampled_from([1, 2]))
def test_a_frozen_layer_gives_the_bits_of_a_thawed_one(backend, drawn, threads):
    cell, layer, x, state = drawn
    y, final = layer(x, state)
    layer.freeze()
    fastrnn.set_num_threads(threads)
    with config.use_cut("all"):
        y_frozen, final_frozen = layer(x, state)
    assert same_bits(y_frozen, y)
    assert y_frozen.flags.writeable
    assert type(final_frozen) is type(final)
    for found, expected in zip(members(cell, final_frozen), members(cell, final), strict=True):
        assert same_bits(found, expected)


@pytest.mark.parametrize(
    "order",
    [{"lengths": [5, 2]}, {"resets": np.eye(5, 2, dtype=bool)}, {"lengths": [3, 5], "resets": np.ones((5, 2), bool)}],
)
def test_a_frozen_layer_takes_lengths_and_resets(backend, order):
    layer = fastrnn.GRU(3, 4, num_layers=2, seed=0)
    x, state = np.ones((5, 2, 3), np.float32), np.ones((2, 2, 4), np.float32)
    y, final = layer(x, state, **order)
    layer.freeze()
    y_frozen, final_frozen = layer(x, state, **order)
    assert same_bits(y_frozen, y)
    assert same_bits(final_frozen, final)


@pytest.mark.parametrize("state", ["none", "given"])
@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((4, 1, 3)),
        np.ones((4, 1, 2), np.float32),
        np.ones(3, np.float32),
        np.float32(1),
        None,
        "x",
        np.ma.ones((4, 1, 3)),
    ],
)
def test_a_frozen_layer_refuses_what_a_thawed_one_does(wrong, state):
    layer, _, _ = a_stream()
    state = None if state == "none" else (np.zeros((2, 1, 4), np.float32),) * 2
    with pytest.raises((TypeError, ValueError)) as expected:
        layer(wrong, state)
    layer.freeze()
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        layer(wrong, state)


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 1, 4)), np.zeros((1, 1, 4), np.float32), np.zeros((2, 2, 4), np.float32), 3]
)
@pytest.mark.parametrize("position", [0, 1])
def test_a_frozen_layer_refuses_states_that_a_thawed_one_does(wrong, position):
    layer, _, x = a_stream()
    state = [np.zeros((2, 1, 4), np.float32)] * 2
    state[position] = wrong
    with pytest.raises((TypeError, ValueError)) as expected:
        layer(x, tuple(state))
    layer.freeze()
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        layer(x, tuple(state))

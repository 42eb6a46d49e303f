"""Windows cut data like the PTB reader of the TensorFlow tutorial; a loop over windows is truncated backpropagation."""

import re

import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from hypothesis import given
from hypothesis import strategies as st


def ptb_producer(raw, batch_size, num_steps):
    """The reader's definition, in NumPy: (inputs, targets) of every window, batch first."""
    length = len(raw) // batch_size
    data = raw[: batch_size * length].reshape(batch_size, length)
    for i in range((length - 1) // num_steps):
        begin, end = i * num_steps, (i + 1) * num_steps
        yield data[:, begin:end], data[:, begin + 1 : end + 1]


@given(n=st.integers(2, 200), B=st.integers(1, 7), T=st.integers(1, 9))
def test_windows_are_those_of_the_ptb_reader(n, B, T):
    raw = np.arange(n)
    expected = list(ptb_producer(raw, B, T))
    if not expected:
        with pytest.raises(ValueError, match=re.escape(f"data: expected at least {B * (T + 1)} elements, got {n}")):
            fastrnn.Windows(raw, B, T)
        return
    windows = fastrnn.Windows(raw, B, T, batch_first=True)
    assert len(windows) == len(expected)
    assert windows.steps == len(expected) * T
    for (x, y, state), (x_ptb, y_ptb) in zip(windows, expected, strict=True):
        np.testing.assert_array_equal(x, x_ptb)
        np.testing.assert_array_equal(y, y_ptb)
        assert state is None
    time_first = fastrnn.Windows(raw, B, T)
    for number, (x_ptb, y_ptb) in enumerate(expected):
        x, y = time_first[number]
        np.testing.assert_array_equal(x, x_ptb.T)
        np.testing.assert_array_equal(y, y_ptb.T)


@given(n=st.integers(2, 100), B=st.integers(1, 4), T=st.integers(1, 9))
def test_without_drop_last_every_step_is_in_one_window(n, B, T):
    if n // B < 2:
        return
    windows = fastrnn.Windows(np.arange(n), B, T, drop_last=False)
    seen = np.concatenate([x for x, _, _ in windows])
    np.testing.assert_array_equal(seen, np.arange(n)[: n // B * B].reshape(B, -1).T[:-1])
    assert windows.steps == len(seen)


@given(lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8), B=st.integers(1, 3), T=st.integers(1, 5))
def test_documents_keep_their_targets_and_mark_their_starts(lengths, B, T):
    documents = [100 * j + np.arange(n) for j, n in enumerate(lengths)]
    total = sum(max(n - 1, 0) for n in lengths)
    if total // B < T:
        with pytest.raises(ValueError, match=r"data: expected"):
            fastrnn.Windows(documents, B, T)
        return
    windows = fastrnn.Windows(documents, B, T)
    for x, y, _ in windows:
        np.testing.assert_array_equal(y, x + 1)
        np.testing.assert_array_equal(windows.resets, x % 100 == 0)


def test_targets_of_their_own_use_every_element():
    data, targets = np.arange(24.0).reshape(12, 2), np.arange(12) * 10
    windows = fastrnn.Windows(data, 2, 3, targets=targets)
    assert len(windows) == 2
    x, y = windows[-1]
    np.testing.assert_array_equal(x[:, 1], data[9:12])
    np.testing.assert_array_equal(y[:, 1], targets[9:12])


def test_windows_are_views_and_read_only():
    data = np.arange(100)
    x, y = fastrnn.Windows(data, 4, 5)[1]
    assert np.shares_memory(x, data)
    assert np.shares_memory(y, data)
    assert not x.flags.writeable


def test_the_loop_is_truncated_backpropagation(backend):
    """With the state carried on, the loop has the gradients of one call truncated to the windows."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((61, 3))
    layer = fastrnn.LSTM(3, 5, dtype=np.float64, seed=0)
    windows = fastrnn.Windows(data, 2, 7)
    total = {name: np.zeros(p.shape) for name, p in layer.parameters.items()}
    outputs, losses = [], []
    for x, y, state in windows:
        output, windows.state, tape = layer.forward(x, state)
        dy = output * y.sum(axis=2, keepdims=True)
        for name, gradient in layer.backward(tape, dy).parameters.items():
            total[name] += gradient
        outputs.append(output)
        losses.append(dy)
    whole = np.concatenate([x for x, _, _ in windows])
    y, _, tape = layer.forward(whole)
    assert same_bits(y, np.concatenate(outputs))
    for name, gradient in layer.backward(tape, np.concatenate(losses), truncation=7).parameters.items():
        np.testing.assert_allclose(gradient, total[name], rtol=1e-12, atol=1e-12)


def test_every_epoch_starts_without_a_state():
    windows = fastrnn.Windows(np.arange(40), 2, 5)
    for _ in range(2):
        states = []
        for number, (_, _, state) in enumerate(windows):
            states.append(state)
            windows.state = number
        assert states == [None, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer of at least 1, got 0"),
        ({"num_steps": 2.5}, TypeError, "num_steps: expected an integer, got float"),
        ({"data": np.float64(3)}, ValueError, "data: expected an array of at least one axis"),
        ({"data": [np.arange(3), np.arange(3.0)]}, TypeError, "data[1]: expected dtype int64, got float64"),
        ({"data": [np.arange(3), np.ones((3, 2), int)]}, ValueError, "data[1]: expected shape"),
        ({"data": [np.arange(1)]}, ValueError, "data: expected a document of at least two elements"),
        ({"targets": np.arange(3)}, ValueError, "targets: expected as many as data"),
        ({"batch_first": 1}, TypeError, "batch_first: expected True or False"),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fastrnn.Windows(**({"data": np.arange(100), "batch_size": 2, "num_steps": 3} | arguments))


def test_index_out_of_range():
    windows = fastrnn.Windows(np.arange(40), 2, 5)
    for index in (3, -4):
        with pytest.raises(IndexError, match="index"):
            windows[index]

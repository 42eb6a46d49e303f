"""The page "From static_rnn to fastrnn", compared with TensorFlow 1's definitions in NumPy."""

import fastrnn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_code import run_page

seeds = st.integers(0, 2**32 - 1)
sizes = st.sampled_from([1, 2, 5])


@pytest.fixture(scope="module")
def page():
    return run_page("docs/from-static-rnn.md")


# ---- TensorFlow's definitions ----


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


class BasicRNNCell:
    def __init__(self, kernel, bias):
        self.kernel, self.bias, self.output_size = kernel, bias, len(bias)

    def __call__(self, x, state):
        output = np.tanh(np.concatenate([x, state], axis=1) @ self.kernel + self.bias)
        return output, output

    def zero_state(self, batch):
        return np.zeros((batch, self.output_size))


class BasicLSTMCell:
    def __init__(self, kernel, bias, forget_bias):
        self.kernel, self.bias, self.forget_bias, self.output_size = kernel, bias, forget_bias, len(bias) // 4

    def __call__(self, x, state):
        c, h = state
        i, j, f, o = np.split(np.concatenate([x, h], axis=1) @ self.kernel + self.bias, 4, axis=1)
        new_c = c * sigmoid(f + self.forget_bias) + sigmoid(i) * np.tanh(j)
        new_h = np.tanh(new_c) * sigmoid(o)
        return new_h, (new_c, new_h)

    def zero_state(self, batch):
        return np.zeros((batch, self.output_size)), np.zeros((batch, self.output_size))


class MultiRNNCell:
    def __init__(self, cells):
        self.cells, self.output_size = cells, cells[-1].output_size

    def __call__(self, x, state):
        states = []
        for cell, own in zip(self.cells, state, strict=True):
            x, new = cell(x, own)
            states.append(new)
        return x, tuple(states)

    def zero_state(self, batch):
        return tuple(cell.zero_state(batch) for cell in self.cells)


def chosen(done, old, new):
    """A nested state with the old values in the rows that are done."""
    if isinstance(new, tuple):
        return tuple(chosen(done, one, other) for one, other in zip(old, new, strict=True))
    return np.where(done[:, None], old, new)


def static_rnn(cell, inputs, initial_state=None, sequence_length=None):
    """Run a list of (batch, inputs): where time >= sequence_length, outputs are zero and states are copied through."""
    batch = len(inputs[0])
    state = cell.zero_state(batch) if initial_state is None else initial_state
    outputs = []
    for time, x in enumerate(inputs):
        output, new = cell(x, state)
        if sequence_length is not None:
            done = time >= np.asarray(sequence_length)
            output, new = chosen(done, np.zeros_like(output), output), chosen(done, state, new)
        state = new
        outputs.append(output)
    return outputs, state


def ptb_producer(raw_data, batch_size, num_steps):
    batch_len = len(raw_data) // batch_size
    data = np.reshape(raw_data[: batch_size * batch_len], [batch_size, batch_len])
    for i in range((batch_len - 1) // num_steps):
        yield data[:, i * num_steps : (i + 1) * num_steps], data[:, i * num_steps + 1 : (i + 1) * num_steps + 1]


# ---- the page's counterparts ----


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


@given(seed=seeds, T=sizes, B=sizes, I=sizes, H=sizes, with_state=st.booleans(), with_lengths=st.booleans())
def test_a_basic_rnn_cell_unrolled_is_a_layer(page, seed, T, B, I, H, with_state, with_lengths):
    rng = np.random.default_rng(seed)
    kernel, bias, x = rng.standard_normal((I + H, H)), rng.standard_normal(H), rng.standard_normal((T, B, I))
    state = rng.standard_normal((B, H)) if with_state else None
    lengths = rng.integers(0, T + 1, B) if with_lengths else None
    outputs, final = static_rnn(BasicRNNCell(kernel, bias), list(x), state, lengths)
    layer = page["rnn_of_kernel"](kernel, bias)
    y, h = layer(x, None if state is None else state[None], lengths=lengths)
    close(y, outputs)
    close(h[0], final)


@given(seed=seeds, T=sizes, B=sizes, I=sizes, H=sizes, layers=st.sampled_from([1, 3]), with_lengths=st.booleans())
def test_a_stack_of_basic_lstm_cells_unrolled_is_a_stack(page, seed, T, B, I, H, layers, with_lengths):
    rng = np.random.default_rng(seed)
    kernels = [rng.standard_normal((width + H, 4 * H)) for width in (I, *[H] * (layers - 1))]
    biases, forget_bias = rng.standard_normal((layers, 4 * H)), rng.standard_normal()
    x, lengths = rng.standard_normal((T, B, I)), rng.integers(0, T + 1, B) if with_lengths else None
    state = tuple((rng.standard_normal((B, H)), rng.standard_normal((B, H))) for _ in range(layers))
    cells = [BasicLSTMCell(kernel, bias, forget_bias) for kernel, bias in zip(kernels, biases, strict=True)]
    outputs, final = static_rnn(MultiRNNCell(cells), list(x), state, lengths)
    stack = page["lstm_of_kernels"](kernels, biases, forget_bias)
    y, (h, c) = stack(x, page["state_of_tuples"](state), lengths=lengths)
    close(y, outputs)
    close(h, [own[1] for own in final])
    close(c, [own[0] for own in final])


def test_past_its_end_a_sequence_is_zero_and_its_state_copied_in_every_bit(page):
    rng = np.random.default_rng(0)
    layer = page["rnn_of_kernel"](rng.standard_normal((7, 4)), np.zeros(4))
    x, state = rng.standard_normal((6, 3, 3)), rng.standard_normal((1, 3, 4))
    whole, _ = layer(x, state)
    y, final = layer(x, state, lengths=[6, 0, 2])
    np.testing.assert_array_equal(y[:2, 2], whole[:2, 2])
    assert not y[2:, 2].any()
    assert not y[:, 1].any()
    np.testing.assert_array_equal(final[0], [whole[5, 0], state[0, 1], whole[1, 2]])


@given(length=st.integers(30, 90), batch_size=sizes, num_steps=sizes)
def test_windows_are_those_of_the_tutorials_reader(length, batch_size, num_steps):
    raw = np.random.default_rng(length).integers(0, 50, length)
    windows = fastrnn.Windows(raw, batch_size, num_steps, drop_last=True, batch_first=True)
    found = [(x, y) for x, y, _ in windows]
    expected = [*ptb_producer(raw, batch_size, num_steps)]
    assert len(found) == len(expected)
    for (x, y), (their_x, their_y) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, their_x)
        np.testing.assert_array_equal(y, their_y)

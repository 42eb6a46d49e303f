"""Layers to convert, inputs for them, and comparisons with other libraries."""

import bounds
import fastrnn
import numpy as np
from core_call import same_bits
from hypothesis import strategies as st
from strategies import dtypes, seeds, widths

CELLS = {
    "lstm": fastrnn.LSTM,
    "gru": fastrnn.GRU,
    "rnn_tanh": fastrnn.RNN,
    "rnn_relu": lambda *sizes, **options: fastrnn.RNN(*sizes, nonlinearity="relu", **options),
}
NAMES = tuple(sorted(CELLS))
steps = st.sampled_from([1, 2, 5])


@st.composite
def layers(draw, cells=NAMES, counts=(1,), **fixed):
    """A layer with standard normal biases, as in strategies.make."""
    options = {
        "num_layers": draw(st.sampled_from(counts)), "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()), "batch_first": draw(st.booleans()), "dtype": draw(dtypes),
    } | fixed  # fmt: skip
    seed = draw(seeds)
    layer = CELLS[draw(st.sampled_from(cells))](draw(widths), draw(widths), seed=seed, **options)
    rng = np.random.default_rng(seed)
    for array in layer.parameters.values():
        array[...] = random_weights(rng, array.shape, widest_input(layer) + layer.hidden_size)
    return layer


def widest_input(layer):
    return max(layer.input_size, layer.hidden_size * (1 + layer.bidirectional))


def random_weights(rng, shape, width):
    """Matrices with variance 1/width, standard normal biases."""
    return rng.standard_normal(shape) / (np.sqrt(width) if len(shape) > 1 else 1.0)


def random_input(layer, T, B, seed):
    """x in the layout of the layer, and a state."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((B, T, layer.input_size) if layer.batch_first else (T, B, layer.input_size))
    h, c = rng.standard_normal((2, layer.num_layers * (1 + layer.bidirectional), B, layer.hidden_size))
    state = (h.astype(layer.dtype), c.astype(layer.dtype)) if isinstance(layer, fastrnn.LSTM) else h.astype(layer.dtype)
    return x.astype(layer.dtype), state


def members(state):
    return tuple(state) if isinstance(state, tuple | list) else (state,)


def assert_agree(layer, T, found, expected, precision=None):
    """Assert that y and the states equal those of another library, within twice the bound, since both sides round.

    `precision` is the dtype in which the other library computes, if it is not the dtype of its layer.
    """
    limit = 2 * bounds.of_values(precision or layer.dtype, widest_input(layer), layer.hidden_size, T, layer.num_layers)
    for one, other in zip(found, expected, strict=True):
        assert other.dtype == layer.dtype
        bounds.assert_within(one, np.asarray(other), limit)


def assert_same_layer(found, expected):
    """Assert equal options, and parameters that are equal in every bit but in different memory."""
    assert repr(found) == repr(expected)
    assert list(found.parameters) == list(expected.parameters)
    for name, array in expected.parameters.items():
        assert same_bits(found.parameters[name], array), name
        assert found.parameters[name].flags.c_contiguous
        assert not np.shares_memory(found.parameters[name], array), name


def assert_same_arrays(found, expected):
    """Assert that lists of arrays are equal in every bit but in different memory."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert same_bits(one, other)
        assert not np.shares_memory(one, other)

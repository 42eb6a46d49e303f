"""Converters compared with Keras on any of its backends: the same weights give the same numbers. Needs keras.

Keras multiplies layers of float64 in float32: keras.ops.matmul of two float64 arrays is float32. So the bound is that
of float32 for both dtypes, and all drawn numbers are exact in float32.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import fastrnn
import numpy as np
import pytest
from convert_cases import assert_agree as assert_agree_in
from convert_cases import assert_same_arrays, layers, members, random_input, random_weights, steps
from fastrnn import convert
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, dtypes, seeds, widths

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "SimpleRNN", "rnn_relu": "SimpleRNN"}
kinds = st.sampled_from([("LSTM", "tanh"), ("GRU", "tanh"), ("SimpleRNN", "tanh"), ("SimpleRNN", "relu")])


def assert_agree(layer, T, found, expected):
    assert_agree_in(layer, T, found, expected, "float32")


def single(array):
    """The nearest float32 numbers, in the dtype of the array."""
    return array.astype(np.float32).astype(array.dtype)


def exact_input(layer, T, B, seed):
    x, state = random_input(layer, T, B, seed)
    found = tuple(single(member) for member in members(state))
    return single(x), found if len(found) == 2 else found[0]


def keras_layer(kind, input_size, units, bidirectional, dtype, **options):
    """A Keras layer that returns y and the states, with new weights."""
    layer = getattr(keras.layers, kind)(units, return_sequences=True, return_state=True, dtype=dtype, **options)
    layer = keras.layers.Bidirectional(layer, dtype=dtype) if bidirectional else layer
    layer.build((None, None, input_size))
    return layer


def keras_state(state):
    """The list of states in Keras: h (and c) of each direction in turn."""
    return [as_tensor(member[d]) for d in range(len(members(state)[0])) for member in members(state)]


def as_tensor(array):
    """A tensor of the same dtype: Keras would convert NumPy's float64 to float32."""
    return keras.ops.convert_to_tensor(array, array.dtype.name)


def our_state(states, has_c):
    """The state in fastrnn's layout, as in docs/coming-from.md."""
    return (np.stack(states[::2]), np.stack(states[1::2])) if has_c else np.stack(states)


def outputs(layer, x, state, **options):
    """y and the final states in fastrnn's layout."""
    y, *states = layer(as_tensor(x), initial_state=keras_state(state), **options)
    y, *states = (keras.ops.convert_to_numpy(array) for array in (y, *states))
    return y, *members(our_state(states, isinstance(state, tuple)))


@given(
    kind=kinds, I=widths, H=widths, bidirectional=st.booleans(), dtype=dtypes, use_bias=st.booleans(), T=steps,
    B=batches, seed=seeds,
)  # fmt: skip
def test_a_layer_takes_the_weights_and_gives_the_same_numbers(kind, I, H, bidirectional, dtype, use_bias, T, B, seed):
    name, activation = kind
    theirs = keras_layer(name, I, H, bidirectional, dtype, use_bias=use_bias, activation=activation)
    rng = np.random.default_rng(seed)
    theirs.set_weights([single(random_weights(rng, w.shape, I + H).astype(dtype)) for w in theirs.get_weights()])
    ours = convert.from_keras(type(theirs).__name__, theirs.get_weights(), theirs.get_config())
    assert ours.bidirectional == bidirectional
    assert ours.bias == use_bias
    x, state = exact_input(ours, T, B, seed)
    y, final = ours(x, state)
    assert_agree(ours, T, (y, *members(final)), outputs(theirs, x, state))
    assert_same_arrays(convert.to_keras(ours), theirs.get_weights())


@given(layer=layers(counts=(1, 2), batch_first=True), T=steps, B=batches, seed=seeds)
def test_layers_of_keras_take_the_weights_and_give_the_same_numbers(layer, T, B, seed):
    for array in layer.parameters.values():
        array[...] = single(array)
    x, state = exact_input(layer, T, B, seed)
    y, final = layer(x, state)
    D, found, ends = 1 + layer.bidirectional, x, []
    activation = "relu" if layer._cell == "rnn_relu" else "tanh"
    for number, part in enumerate(convert.unstack(layer)):
        options = {"use_bias": layer.bias, "activation": activation}
        sizes = part.input_size, part.hidden_size, part.bidirectional
        theirs = keras_layer(CLASSES[layer._cell], *sizes, layer.dtype.name, **options)
        theirs.set_weights(convert.to_keras(part))
        own = tuple(member[number * D : (number + 1) * D] for member in members(state))
        found, *end = outputs(theirs, found, own if len(own) == 2 else own[0])
        ends.append(end)
    expected = found, *(np.concatenate(states) for states in zip(*ends, strict=True))
    assert_agree(layer, T, (y, *members(final)), expected)


@given(kind=kinds, bidirectional=st.booleans(), seed=seeds, lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_a_mask_of_padding_is_lengths(kind, bidirectional, seed, lengths):
    """Beyond the end of a sequence fastrnn returns zeros, as Keras does with zero_output_for_mask."""
    name, activation = kind
    theirs = keras_layer(name, 3, 4, bidirectional, "float32", activation=activation)
    ours = convert.from_keras(type(theirs).__name__, theirs.get_weights(), theirs.get_config())
    x, state = exact_input(ours, 5, len(lengths), seed)
    mask = np.arange(5) < np.array(lengths)[:, np.newaxis]
    y, final = ours(x, state, lengths=lengths)
    expected, *states = outputs(theirs, x, state, mask=mask)
    assert_agree(ours, 5, (y, *members(final)), (np.where(mask[..., np.newaxis], expected, 0), *states))


REFUSED = [
    ("GRU", {"reset_after": False}, r"config\['reset_after'\]: expected True, got False"),
    ("LSTM", {"activation": "relu"}, r"config\['activation'\]: expected 'tanh', got 'relu'"),
    ("GRU", {"recurrent_activation": "hard_sigmoid"}, r"config\['recurrent_activation'\]: expected 'sigmoid'"),
    ("SimpleRNN", {"activation": "linear"}, r"config\['activation'\]: expected 'tanh' or 'relu', got 'linear'"),
    ("LSTM", {"dropout": 0.5}, r"config\['dropout'\]: expected 0, got 0.5; it acts in training only"),
    ("LSTM", {"recurrent_dropout": 0.5}, r"config\['recurrent_dropout'\]: expected 0, got 0.5"),
    ("GRU", {"go_backwards": True}, r"config\['go_backwards'\]: expected False, got True"),
]


@pytest.mark.parametrize(("kind", "options", "text"), REFUSED)
def test_what_keras_can_and_fastrnn_cannot_is_refused(kind, options, text):
    layer = keras_layer(kind, 3, 4, False, "float32", **options)
    with pytest.raises(ValueError, match=text):
        convert.from_keras(kind, layer.get_weights(), layer.get_config())


def test_a_gru_that_resets_before_the_product_is_known_by_its_bias():
    layer = keras_layer("GRU", 3, 4, False, "float32", reset_after=False)
    with pytest.raises(
        ValueError, match=r"weights\[2\]: expected shape .* = \(2, 12\), got \(12,\): a GRU with reset_a"
    ):
        convert.from_keras("GRU", layer.get_weights())


@pytest.mark.parametrize("mode", ["sum", "mul", "ave", None])
def test_directions_that_are_merged_otherwise_are_refused(mode):
    layer = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True), merge_mode=mode)
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match=r"config\['merge_mode'\]: expected 'concat', got"):
        convert.from_keras("Bidirectional", layer.get_weights(), layer.get_config())


def test_directions_that_differ_are_refused():
    backward = keras.layers.SimpleRNN(4, activation="relu", go_backwards=True, return_sequences=True)
    layer = keras.layers.Bidirectional(keras.layers.SimpleRNN(4, return_sequences=True), backward_layer=backward)
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match="config: expected the same activation in both directions"):
        convert.from_keras("Bidirectional", layer.get_weights(), layer.get_config())


def test_half_precision_of_keras_is_refused():
    layer = keras_layer("LSTM", 3, 4, False, "float16", recurrent_initializer="zeros")
    with pytest.raises(TypeError, match=r"weights\[0\]: expected float32 or float64, got float16"):
        convert.from_keras("LSTM", layer.get_weights())


def test_a_saved_layer_of_keras_becomes_one_of_fastrnn(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, return_sequences=True)])
    model.save(tmp_path / "model.keras")
    lstm = keras.saving.load_model(tmp_path / "model.keras").layers[0]
    layer = convert.from_keras(type(lstm).__name__, lstm.get_weights(), lstm.get_config())
    x, _ = exact_input(layer, 5, 2, 0)
    assert isinstance(layer, fastrnn.LSTM)
    assert_agree(layer, 5, [layer(x)[0]], [model.predict(x, verbose=0)])

"""fastrnn.testing: correct layers pass, and each kind of bug is found and named."""

import re

import fastrnn
import numpy as np
import pytest
from fastrnn import _core, config
from fastrnn.testing import assert_gradients, assert_reproducible, assert_values
from hypothesis import given
from hypothesis import strategies as st
from strategies import KINDS, pair, ragged_stacks, stacks

T, B, I, H = 5, 3, 4, 6


def layer_and_input(kind=fastrnn.LSTM, dtype=np.float32, **options):
    x = np.random.default_rng(1).standard_normal((T, B, I)).astype(dtype)
    return kind(I, H, dtype=dtype, seed=0, **options), x


@given(drawn=ragged_stacks())
def test_gradients_of_ragged_stacks_pass(backend, drawn):
    cell, layer, a, lengths, resets = drawn
    x = np.nan_to_num(a["x"])
    assert_gradients(layer, x, pair(cell, a["h0"], a["c0"]), lengths=lengths, resets=resets)


@given(drawn=stacks())
def test_gradients_of_every_layout_pass(backend, drawn):
    cell, layer, a = drawn
    assert_gradients(layer, a["x"], pair(cell, a["h0"], a["c0"]))


@given(drawn=ragged_stacks(), truncation=st.sampled_from([None, 2, (2, 3)]))
def test_what_is_reproducible_passes(backend, drawn, truncation):
    cell, layer, a, lengths, resets = drawn
    options = {"lengths": lengths, "resets": resets, "truncation": truncation}
    assert_reproducible(layer, a["x"], pair(cell, a["h0"], a["c0"]), **options)


@given(drawn=stacks())
def test_what_is_reproducible_passes_in_every_layout(backend, drawn):
    cell, layer, a = drawn
    assert_reproducible(layer, a["x"], pair(cell, a["h0"], a["c0"]))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_one_sequence_without_a_batch_axis_passes(kind):
    layer = kind(I, H, seed=0)
    x = np.random.default_rng(1).standard_normal((T, I)).astype(np.float32)
    assert_gradients(layer, x)
    assert_reproducible(layer, x)


@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0", "x", "h0"])
def test_a_wrong_gradient_is_found_and_named(monkeypatch, name):
    layer, x = layer_and_input(dtype=np.float64)
    backward = layer.backward

    def wrong(*arguments, **options):
        gradients = backward(*arguments, **options)
        array = {"x": gradients.x, "h0": gradients.state[0]}.get(name, gradients.parameters.get(name))
        array *= 1 + 1e-9
        return gradients

    monkeypatch.setattr(layer, "backward", wrong)
    with pytest.raises(AssertionError, match=f"gradient of {name}: expected .*, got .*, allowed"):
        assert_gradients(layer, x)


def perturb(monkeypatch, layer, name, happens):
    """The last bit of one element of an output changes whenever `happens(x, state)`."""
    forward, backward = layer.forward, layer.backward

    def flip(array):
        array.view(f"u{array.dtype.itemsize}")[...].flat[-1] ^= 1

    def wrong_forward(x, state=None, **options):
        y, final, tape = forward(x, state, **options)
        layer.wrong = happens(x, state)
        if layer.wrong and name == "y":
            y = y.copy()
            flip(y)
        return y, final, tape

    def wrong_backward(*arguments, **options):
        gradients = backward(*arguments, **options)
        if layer.wrong and name != "y":
            flip(gradients.x if name == "dx" else gradients.parameters[name[1:]])
        return gradients

    monkeypatch.setattr(layer, "forward", wrong_forward)
    monkeypatch.setattr(layer, "backward", wrong_backward)


FAULTS = {
    # as set, though a build without OpenMP has one, and all of them, though the work is small
    "on 3 threads": lambda x, state: config._threads == 3 and config.cut_index() == _core.CUTS.index("all"),
    "of sequence 0 alone": lambda x, state: x.shape[1] == 1,
    "in pieces of 1 and 4 steps": lambda x, state: len(x) == 4,
    "with arrays in other memory (gaps)": lambda x, state: x.strides[1] == (I + 3) * 4,
    "with arrays in other memory (batch_first)": lambda x, state: x.strides[1] > x.strides[0],
    "with arrays in other memory (shifted)": lambda x, state: x.base is not None and x.base.size == T * B * I + 1,
}


@pytest.mark.parametrize("name", ["y", "dx"])
@pytest.mark.parametrize("how", FAULTS)
def test_one_bit_that_changes_is_found_and_named(monkeypatch, how, name):
    layer, x = layer_and_input()
    perturb(monkeypatch, layer, name, FAULTS[how])
    message = f"{name} {re.escape(how)}: 1 of \\d+ elements differ, first at .*: expected .*, got "
    with pytest.raises(AssertionError, match=message):
        assert_reproducible(layer, x)


@pytest.mark.parametrize("name", ["y", "dx", "dweight_hh_l0"])
def test_one_bit_that_changes_with_the_backend_is_found_and_named(monkeypatch, fma_backends, name):
    layer, x = layer_and_input(bidirectional=True)
    other = fma_backends[-1]
    index = [b.name for b in _core.backends()].index(other)
    perturb(monkeypatch, layer, name, lambda x, state: config.backend_index() == index)
    with config.use_backend(fma_backends[0]), pytest.raises(AssertionError, match=f"{name} with {other}: 1 of"):
        assert_reproducible(layer, x)


def test_the_sign_of_a_zero_is_a_bit(monkeypatch):
    layer, x = layer_and_input(KINDS["rnn_relu"])
    forward = layer.forward

    def wrong(*arguments, **options):
        y, final, tape = forward(*arguments, **options)
        return (np.where(y == 0, -y, y) if config._threads == 3 else y), final, tape

    monkeypatch.setattr(layer, "forward", wrong)
    with pytest.raises(AssertionError, match=r"y on 3 threads: .* expected 0x0.0p\+0, got -0x0.0p\+0"):
        assert_reproducible(layer, x)


@pytest.mark.parametrize(("check", "text"), [(assert_values, "y: off by nan"), (assert_gradients, "got nan")])
def test_nan_where_the_reference_has_numbers_is_found(monkeypatch, check, text):
    layer, x = layer_and_input()
    call, backward = fastrnn.LSTM.__call__, fastrnn.LSTM.backward

    def wrong_call(*arguments, **options):
        y, final = call(*arguments, **options)
        y[1, 1, 1] = np.nan
        return y, final

    def wrong_backward(*arguments, **options):
        gradients = backward(*arguments, **options)
        gradients.x[1, 1, 1] = np.nan
        return gradients

    monkeypatch.setattr(fastrnn.LSTM, "__call__", wrong_call)
    monkeypatch.setattr(fastrnn.LSTM, "backward", wrong_backward)
    with pytest.raises(AssertionError, match=text):
        check(layer, x)


@pytest.mark.parametrize("check", [assert_gradients, assert_reproducible])
def test_a_layer_with_dropout_is_refused(check):
    layer, x = layer_and_input(num_layers=2, dropout=0.5)
    with pytest.raises(ValueError, match=r"layer: expected dropout 0, got 0\.5"):
        check(layer, x)


def test_number_of_threads_is_as_before_even_after_a_failure(monkeypatch):
    layer, x = layer_and_input()
    fastrnn.set_num_threads(2)
    perturb(monkeypatch, layer, "y", FAULTS["on 3 threads"])
    with pytest.raises(AssertionError):
        assert_reproducible(layer, x)
    assert config._threads == 2
    assert config.cut_index() == 0

"""Values against the forward-only reference."""

import bounds
import fastrnn
import numpy as np
import pytest
from fastrnn.testing import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import make, problems


def double(array):
    return array.astype(np.longdouble)


@given(p=problems(), reverse=st.booleans())
def test_outputs_and_final_state_equal_the_reference(backend, p, reverse):
    cell = getattr(fastrnn, p.cell)
    y, state = cell(p.x, *p.weights, p.state, reverse=reverse)
    expected = reference.layer(p.cell, *map(double, (p.x, *p.weights, p.h0, p.c0)), reverse=reverse)
    found = (y, *state) if p.has_c else (y, state)
    limit = bounds.of_values(p.x.dtype, p.I, p.H, p.T)
    for a, b in zip(found, expected, strict=False):
        assert a.dtype == p.x.dtype
        bounds.assert_within(a, b, limit)


@given(p=problems())
def test_training_gives_the_bits_of_inference(backend, p):
    cell = getattr(fastrnn, p.cell)
    y, state = cell(p.x, *p.weights, p.state)
    y_training, state_training, _ = cell.forward(p.x, *p.weights, p.state)
    np.testing.assert_array_equal(y, y_training)
    np.testing.assert_array_equal(state, state_training)


@given(p=problems())
def test_absent_biases_and_state_are_zeros(backend, p):
    cell = getattr(fastrnn, p.cell)
    zero = np.zeros_like(p.h0)
    state = (zero, zero) if p.has_c else zero
    nothing = cell(p.x, p.w_ih, p.w_hh)
    zeros = cell(p.x, p.w_ih, p.w_hh, np.zeros_like(p.b_ih), np.zeros_like(p.b_hh), state)
    np.testing.assert_array_equal(nothing[0], zeros[0])
    np.testing.assert_array_equal(nothing[1], zeros[1])


@pytest.mark.parametrize(("T", "B", "I"), [(0, 3, 5), (4, 0, 5), (4, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_empty_sequences_and_batches_pass_the_state_through(backend, name, T, B, I):
    p = make(name, T, B, I, 6, "float32", 0)
    cell = getattr(fastrnn, name)
    y, state, tape = cell.forward(p.x, *p.weights, p.state)
    assert y.shape == (T, B, 6)
    if T == 0:
        np.testing.assert_array_equal(state, p.state)
    gradients = cell.backward(tape, p.dy, p.dstate)
    assert gradients.x.shape == p.x.shape
    if T == 0:
        np.testing.assert_array_equal(gradients.state, p.dstate)
    if T * B == 0:
        assert not any(g.any() for g in (gradients.w_ih, gradients.w_hh, gradients.b_ih, gradients.b_hh))

"""Gradients against the complex-step derivative of the reference: f'(p) v = Im f(p + 1e-30 i v) / 1e-30."""

import bounds
import fastrnn
import numpy as np
from fastrnn.testing import gradients, reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import NAMES, problems


def loss(p, arrays, reverse, with_dy):
    y, h_n, c_n = reference.layer(p.cell, *(arrays[name] for name in NAMES), reverse=reverse)
    value = (p.dh_n.astype(float) * h_n).sum()
    if with_dy:
        value = value + (p.dy.astype(float) * y).sum()
    return value + (p.dc_n.astype(float) * c_n).sum() if p.has_c else value


def derivative(p, name, direction, reverse, with_dy):
    arrays = {key: p.arrays[key].astype(float) for key in NAMES}
    return gradients.derivative(lambda moved: loss(p, moved, reverse, with_dy), arrays, name, direction)


def by_name(p, returned):
    states = returned.state if p.has_c else (returned.state,)
    found = {name: getattr(returned, name) for name in ("x", "w_ih", "w_hh", "b_ih", "b_hh")}
    return found | dict(zip(("h0", "c0"), states, strict=False))


@given(p=problems(), reverse=st.booleans(), with_dy=st.booleans())
def test_gradients_are_the_derivative_of_the_reference(backend, p, reverse, with_dy):
    cell = getattr(fastrnn, p.cell)
    _, _, tape = cell.forward(p.x, *p.weights, p.state, reverse=reverse)
    by_backward = by_name(p, cell.backward(tape, p.dy if with_dy else None, p.dstate))
    rng = np.random.default_rng(0)
    for name, found in by_backward.items():
        if found.size == 0:
            continue
        assert found.shape == p.arrays[name].shape
        found = found.astype(float)
        size = max(1.0, np.abs(found).max())
        limit = bounds.of_gradients(p.x.dtype, p.I, p.H, p.T, p.B)
        direction = rng.standard_normal(found.shape)
        expected = derivative(p, name, direction, reverse, with_dy)
        norm = np.sqrt((direction**2).sum())
        assert abs((found * direction).sum() - expected) <= limit * size * norm, name
        for _ in range(2):
            one = np.zeros(found.shape)
            index = tuple(rng.integers(0, n) for n in found.shape)
            one[index] = 1
            assert abs(found[index] - derivative(p, name, one, reverse, with_dy)) <= limit * size, (name, index)


@given(p=problems())
def test_only_the_wanted_gradients_are_computed_and_they_do_not_change(backend, p):
    cell = getattr(fastrnn, p.cell)
    _, _, tape = cell.forward(p.x, *p.weights, p.state)
    everything = by_name(p, cell.backward(tape, p.dy, p.dstate))
    for wanted in ("x", "state", "w_ih", "w_hh", "b_ih", "b_hh"):
        only = cell.backward(tape, p.dy, p.dstate, wanted=(wanted,))
        for name in ("x", "state", "w_ih", "w_hh", "b_ih", "b_hh"):
            found = getattr(only, name)
            if name != wanted:
                assert found is None
            elif name == "state":
                np.testing.assert_array_equal(found[0] if p.has_c else found, everything["h0"])
            else:
                np.testing.assert_array_equal(found, everything[name])


@given(p=problems())
def test_parameter_gradients_add_to_the_arrays_given(backend, p):
    cell = getattr(fastrnn, p.cell)
    _, _, tape = cell.forward(p.x, *p.weights, p.state)
    into = fastrnn.WeightGradients(*(np.ones_like(w) for w in p.weights))
    cell.backward(tape, p.dy, p.dstate, into=into)
    fresh = cell.backward(tape, p.dy, p.dstate)
    eps = np.finfo(p.x.dtype).eps
    for name, total in into._asdict().items():
        alone = getattr(fresh, name)
        # The sum starts from 1 instead of 0, so each of its T*B additions may round differently.
        limit = 2 * eps * p.T * p.B * (1 + np.abs(alone).max(initial=0) + np.sqrt(p.T * p.B) * 10)
        assert np.abs(total - 1 - alone).max(initial=0) <= limit


@given(p=problems())
def test_a_tape_can_be_used_twice_and_keeps_its_weights(backend, p):
    cell = getattr(fastrnn, p.cell)
    _, _, tape = cell.forward(p.x, *p.weights, p.state)
    first = by_name(p, cell.backward(tape, p.dy, p.dstate))
    for w in p.weights:
        w *= 3
    second = by_name(p, cell.backward(tape, p.dy, p.dstate))
    for name, gradient in first.items():
        np.testing.assert_array_equal(gradient, second[name])

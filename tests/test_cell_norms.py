"""Sums over units: layer_norm and rms_norm on arrays and in programs, their phases, and their gradients."""

import numpy as np
import pytest
from cell_cases import assert_layer_gradients, layer_norm_lstm
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import sigmoid
from fastrnn.cell.names import Names
from fastrnn.cell.norms import layer_norm, rms_norm
from fastrnn.cell.written_cell import WrittenCell

named = pytest.mark.parametrize


def phases(direction):
    return [[(one.kind, len(one.args)) for one in phase.sums] for phase in direction.phases]


# ---- arrays ----


def test_layer_norm_has_the_mean_0_and_the_biased_variance_1():
    x = np.random.default_rng(0).standard_normal((3, 50)) * 4 + 7
    found = layer_norm(x, eps=0.0)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-14)
    np.testing.assert_allclose(found.var(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(layer_norm(x, 2.0, 3.0, eps=0.0), found * 2 + 3, rtol=1e-12)


def test_rms_norm_has_the_mean_square_1():
    x = np.random.default_rng(0).standard_normal((3, 50)) * 4 + 7
    np.testing.assert_allclose(np.square(rms_norm(x, eps=0.0)).mean(-1), 1, rtol=1e-14)
    np.testing.assert_allclose(rms_norm(x, np.full(50, 2.0)), 2 * rms_norm(x), rtol=1e-15)


def test_the_halves_of_all_gates_have_one_mean_and_one_variance():
    x = np.random.default_rng(0).standard_normal((3, 8))
    gates = Names("gate", "ab", {"a": x[:, :4], "b": x[:, 4:]}.__getitem__)
    found = layer_norm(gates)
    np.testing.assert_allclose(np.concatenate([found.a, found.b], -1), layer_norm(x), rtol=1e-15)
    with pytest.raises(TypeError, match="layer_norm: gamma: expected members a, b, got ndarray"):
        layer_norm(gates, np.ones(4))


# ---- programs ----


def test_layer_norm_lstm_has_three_phases_each_way_with_one_exchange_for_each_norm():
    program = layer_norm_lstm.program
    assert phases(program.forward) == [[], [("moments", 4), ("moments", 4)], [("moments", 1)]]
    assert phases(program.backward) == [[], [("mean", 1)] * 2, [("mean", 1)] * 4]


def test_what_is_the_same_for_all_units_is_saved_as_one_number():
    columns = [one.columns for one in layer_norm_lstm.program.saved]
    assert columns.count("one") == 4  # 1/sqrt(variance + eps) of three norms, and the mean of c
    assert [one.columns for one in layer_norm_lstm.program.saved if one.state == "c"] == ["units"]


def test_gate_vectors_are_vectors_of_each_gate():
    assert layer_norm_lstm.program.vectors[2:6] == ("gamma_x_i", "gamma_x_f", "gamma_x_g", "gamma_x_o")
    with pytest.raises(ValueError, match="vectors: expected different names"):
        cell(gates="a", vectors=("p_a",), gate_vectors=("p",))
    with pytest.raises(AttributeError, match="q: no vector of this name; declared: p_a"):
        cell(gates="a", gate_vectors=("p",))(lambda a, v: (a.a * v.q.a, (a.a,)))


def mean_of_square(a, s):
    h = a.a / (1 + np.mean(np.square(a.a), axis=-1, keepdims=True)) + s.h / 2
    return h, (h,)


def softmax(a, s):
    e = np.exp(a.a - s.h)
    h = e / np.sum(e, axis=-1, keepdims=True)
    return h, (h,)


def normed_product(a, s):
    n = np.tanh(layer_norm(a.input.n) + rms_norm(a.product.n(sigmoid(a.r) * s.h)))
    return n, (n,)


def norm_of_a_norm(a, s):
    h = np.tanh(rms_norm(layer_norm(a.a + s.h) + a.b))
    return h, (h,)


def sum_in_the_output(a, s):
    h = np.tanh(a.a + s.h)
    return h * np.sum(h, axis=-1, keepdims=True), (h,)


@named(
    ("step", "gates"),
    [(mean_of_square, "a"), (softmax, "a"), (normed_product, "rn"), (norm_of_a_norm, "ab"), (sum_in_the_output, "a")],
)
def test_steps_with_sums_agree_with_numpy_and_the_complex_step(step, gates):
    written = cell(gates=gates)(step)
    rng = np.random.default_rng(0)
    arrays = {"input": {g: rng.standard_normal((3, 5)) for g in gates}}
    arrays |= {"state": {g: rng.standard_normal((3, 5)) for g in gates}}
    arrays |= {"product": {g: lambda v: v * 0.7 for g in gates}}
    states = {"h": rng.standard_normal((3, 5))}
    expected, (h,) = written(arrays, states)
    found, (found_h,) = WrittenCell.from_text(written.text)(a=arrays, s=states)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_allclose(found_h, h, rtol=1e-14)
    assert_layer_gradients(written)


def test_layer_norm_lstm_agrees_with_numpy():
    rng = np.random.default_rng(0)
    program = layer_norm_lstm.program
    a = {part: {g: rng.standard_normal((3, 5)) for g in "ifgo"} for part in ("input", "state")}
    s = {name: rng.standard_normal((3, 5)) for name in "hc"}
    v = {name: rng.standard_normal(5) for name in program.vectors}
    expected, after = layer_norm_lstm(a, s, v)
    found, found_after = WrittenCell.from_text(layer_norm_lstm.text)(a, s, v)
    for one, other in zip((found, *found_after), (expected, *after), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


@named(
    "step",
    [
        lambda a, o: (a.a * np.sum(o.k, axis=-1, keepdims=True), (a.a,)),
        lambda a, o: (a.a * layer_norm(o.k * 2), (a.a,)),
        lambda a, o: (a.a * np.mean(np.mean(a.a * o.k, axis=-1, keepdims=True), axis=-1, keepdims=True), (a.a,)),
    ],
)
def test_a_sum_of_what_is_the_same_for_all_units_is_refused(step):
    with pytest.raises(TypeError, match="a sum over units: expected vectors"):
        cell(gates="a", options={"k": 1.0})(step)


def test_a_norm_of_a_mask_is_refused():
    with pytest.raises(TypeError, match=r"fastrnn\.layer_norm of True and False"):
        cell(gates="a")(lambda a: (layer_norm(a.a > 0), (a.a,)))


def test_nine_sums_in_a_row_are_too_many_phases():
    def step(a):
        h = a.a
        for _ in range(8):
            h = rms_norm(h)
        return h, (h,)

    with pytest.raises(ValueError, match="expected at most 8 phases, got 9"):
        cell(gates="a")(step)

"""Integers through rnn_relu are exact; NaN and infinity stay in their own sequence."""

import numpy as np
from core_call import CoreCall, same_bits
from fastrnn.testing import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, dtypes, input_sizes, make, problems, seeds, widths


@given(
    size=st.tuples(st.sampled_from([1, 2, 3]), batches, input_sizes, widths), dtype=dtypes, seed=seeds,
    threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_small_integers_are_exact_in_values_and_gradients(backend, size, dtype, seed, threads):
    """Every sum stays below 2^24, so rounding cannot hide a missing or doubled term."""
    p = make("rnn_relu", *size, dtype, seed)
    rng = np.random.default_rng(seed)
    sparse = {"w_ih": 1.0, "w_hh": min(1.0, 2 / p.H)}
    for name, array in p.arrays.items():
        values = rng.integers(-2, 3, array.shape) * (rng.random(array.shape) < sparse.get(name, 1.0))
        array[...] = values
    exact = {name: array.astype(np.int64) for name, array in p.arrays.items()}
    y, h_n, _ = reference.layer("rnn_relu", *(exact[n] for n in ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0")))
    found = CoreCall(p, threads).outputs
    np.testing.assert_array_equal(found["y"], y)
    np.testing.assert_array_equal(found["h_n"], h_n)
    da, dh = np.zeros_like(y), exact["dh_n"]
    for t in reversed(range(p.T)):
        da[t] = (dh + exact["dy"][t]) * (y[t] > 0)
        dh = da[t] @ exact["w_hh"]
    h_prev = np.concatenate([exact["h0"][None], y[:-1]])
    expected = {
        "dx": da @ exact["w_ih"], "dh0": dh, "db_ih": da.sum((0, 1)), "db_hh": da.sum((0, 1)),
        "dw_ih": np.einsum("tbg,tbi->gi", da, exact["x"]), "dw_hh": np.einsum("tbg,tbh->gh", da, h_prev),
    }  # fmt: skip
    assert max(np.abs(e).max(initial=0) for e in expected.values()) < 2**24
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@given(
    p=problems(batches=st.sampled_from([2, 3, 7, 13])), bad=st.sampled_from([np.nan, np.inf, -np.inf]), data=st.data()
)
def test_a_bad_number_reaches_neither_neighbours_nor_the_past(backend, p, bad, data):
    clean = CoreCall(p).outputs
    t, b = data.draw(st.integers(0, p.T - 1)), data.draw(st.integers(0, p.B - 1))
    where = "x" if p.I and data.draw(st.booleans()) else "dy"
    p.arrays[where][t, b, data.draw(st.integers(0, p.arrays[where].shape[2] - 1))] = bad
    found = CoreCall(p).outputs
    others = [j for j in range(p.B) if j != b]
    for name in ("y", "dx"):
        assert same_bits(found[name][:, others], clean[name][:, others]), name
    for name in (k for k in ("h_n", "c_n", "dh0", "dc0") if k in clean):
        assert same_bits(found[name][others], clean[name][others]), name
    assert same_bits(found["y"][:t, b], clean["y"][:t, b])
    if where == "dy":
        assert same_bits(found["y"], clean["y"])
        assert same_bits(found["dx"][t + 1 :], clean["dx"][t + 1 :])


def test_nan_goes_through_every_cell(backend):
    for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        p = make(cell, 2, 1, 3, 5, "float32", 0)
        p.arrays["x"][0, 0, 0] = np.nan
        assert np.isnan(CoreCall(p).outputs["y"][0]).all(), cell

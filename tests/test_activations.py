"""tanh and sigmoid of every backend: errors of at most 4 ULP, correct special values, equal bits with FMA.

The sweep over every float32 is benchmarks/sweep_activations.py.
"""

import numpy as np
import pytest
from core_call import same_bits
from fastrnn import _core, config
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

FUNCTIONS = ("tanh", "sigmoid")
DTYPES = ("float32", "float64")
LIMIT = 4


def activate(name, x):
    return _core.activate(config.backend_index(), name, x)


def reference(name, x):
    """The exact value in long double, computed without cancellation."""
    x = x.astype(np.longdouble)
    if name == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def ulps(found, expected):
    """Errors in units of the spacing of the result's type."""
    info = np.finfo(found.dtype)
    _, exponent = np.frexp(np.abs(expected))
    spacing = np.ldexp(np.longdouble(1), np.maximum(exponent - info.nmant - 1, info.minexp - info.nmant))
    return np.abs(found.astype(np.longdouble) - expected) / spacing


def dense_sample(dtype):
    """Every exponent with many mantissas, both signs, a fine comb where the functions bend, and both sides of each
    point where the reduction changes to the next multiple of ln 2."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    exponents = np.arange(info.minexp - info.nmant, info.maxexp)
    mantissas = np.concatenate([[1.0, 2 - info.eps], rng.uniform(1, 2, 2000 if dtype == "float32" else 300)])
    with np.errstate(under="ignore"):
        grid = np.ldexp(mantissas[None, :].astype(dtype), exponents[:, None]).ravel()
    comb = rng.uniform(0, (info.nmant - info.minexp) * 0.71, 200_000).astype(dtype)
    near = rng.uniform(0, 20, 200_000).astype(dtype)
    turns = (np.arange(1, 4 * (info.nmant - info.minexp)) * np.log(2) / 4).astype(dtype)
    turns = (turns[:, None] * (1 + np.arange(-20, 21, dtype=dtype) * info.eps)).ravel()
    positive = np.concatenate([grid, comb, near, turns])
    return np.concatenate([positive, -positive])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation_is_within_four_ulp(backend, name, dtype):
    x = dense_sample(dtype)
    assert ulps(activate(name, x), reference(name, x)).max() <= LIMIT


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_activation_is_within_four_ulp_of_anything(backend, dtype, data):
    x = data.draw(arrays(dtype, 40, elements=st.floats(width=int(dtype[-2:]), allow_nan=False)))
    for name in FUNCTIONS:
        assert ulps(activate(name, x), reference(name, x)).max() <= LIMIT


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(backend, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, tiny, -tiny, 1e30, -1e30], dtype)
    tanh, sigmoid = activate("tanh", x), activate("sigmoid", x)
    assert same_bits(tanh[:4], np.array([0.0, -0.0, 1, -1], dtype))
    assert same_bits(sigmoid[:4], np.array([0.5, 0.5, 1, 0], dtype))
    assert np.isnan(tanh[4:6]).all()
    assert np.isnan(sigmoid[4:6]).all()
    assert same_bits(tanh[6:], np.array([tiny, -tiny, 1, -1], dtype))
    assert same_bits(sigmoid[6:], np.array([0.5, 0.5, 1, 0], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ranges_and_symmetry(backend, dtype):
    x = dense_sample(dtype)
    tanh, sigmoid = activate("tanh", x), activate("sigmoid", x)
    assert same_bits(activate("tanh", -x), -tanh)
    assert (np.abs(tanh) <= 1).all()
    assert ((sigmoid >= 0) & (sigmoid <= 1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_is_graded_down_to_the_subnormals(backend, dtype):
    info = np.finfo(dtype)
    x = -np.linspace(-info.minexp * np.log(2), (info.nmant - info.minexp) * np.log(2) - 0.1, 1000).astype(dtype)
    sigmoid = activate("sigmoid", x)
    assert (sigmoid > 0).all()
    assert (sigmoid[1:] < info.tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_deep_saturation_is_exact(backend, dtype):
    info = np.finfo(dtype)
    far = [info.max, np.inf]
    above = np.append(np.geomspace((info.nmant + 3) * np.log(2), info.max / 2, 10_000), far).astype(dtype)
    below = -np.append(np.geomspace((info.nmant - info.minexp + 1.2) * np.log(2), info.max / 2, 10_000), far).astype(
        dtype
    )
    assert (activate("tanh", above) == 1).all()
    assert (activate("sigmoid", above) == 1).all()
    assert same_bits(activate("sigmoid", below), np.zeros_like(below))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_nan_stays_a_nan(backend, dtype):
    """Quiet and signalling NaN, of either sign, in every lane of a vector of ordinary numbers."""
    unsigned, exponent = {"float32": (np.uint32, 0x7F800000), "float64": (np.uint64, 0x7FF0000000000000)}[dtype]
    quiet = 1 << (np.finfo(dtype).nmant - 1)
    sign = 1 << (np.dtype(dtype).itemsize * 8 - 1)
    for payload in (1, quiet - 1, quiet, 2 * quiet - 1, quiet | 0x55):
        for bits in (exponent | payload, sign | exponent | payload):
            for lane in range(17):
                x = np.ones(17, dtype)
                x.view(unsigned)[lane] = bits
                for name in FUNCTIONS:
                    assert np.flatnonzero(np.isnan(activate(name, x))).tolist() == [lane]


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_of_backends_with_fma_agree_in_every_bit(fma_backends, dtype):
    x = dense_sample(dtype)
    best, *others = ([b.name for b in _core.backends()].index(name) for name in fma_backends)
    for other in others:
        for name in FUNCTIONS:
            assert same_bits(_core.activate(best, name, x), _core.activate(other, name, x))

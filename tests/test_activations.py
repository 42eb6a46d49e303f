"""The functions of one number of every backend: errors of at most 4 ULP or the bits of NumPy, correct special values,
equal bits with FMA.

The sweep over every float32 is benchmarks/sweep_activations.py.
"""

from functools import lru_cache

import numpy as np
import pytest
from core_call import same_bits
from fastrnn import _core, config
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

DTYPES = ("float32", "float64")
LIMIT = 4
INF, NAN = np.inf, np.nan


def exact_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


REFERENCE = {
    "tanh": np.tanh,
    "sigmoid": exact_sigmoid,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "softplus": lambda x: np.logaddexp(0, x),
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
}
FUNCTIONS = tuple(REFERENCE)

# Functions without a rounding, or with one: NumPy in the same dtype has their bits.
SAME_AS_NUMPY = {
    "relu": lambda x: np.where(x <= 0, x.dtype.type(0), x),
    "abs": np.abs,
    "sign": np.sign,
    "sqrt": np.sqrt,
}

# Results at 0, -0, inf, -inf. None: not one of 0, 1, -1 and the infinities, but within 4 ULP.
AT_ENDS = {
    "tanh": (0.0, -0.0, 1.0, -1.0),
    "sigmoid": (0.5, 0.5, 1.0, 0.0),
    "exp": (1.0, 1.0, INF, 0.0),
    "expm1": (0.0, -0.0, INF, -1.0),
    "log": (-INF, -INF, INF, NAN),
    "log1p": (0.0, -0.0, INF, NAN),
    "softplus": (None, None, INF, 0.0),
    "log_sigmoid": (None, None, -0.0, -INF),
}


def activate(name, x):
    return _core.activate(config.backend_index(), name, x)


def reference(name, x):
    """The exact value in long double, computed without cancellation."""
    with np.errstate(all="ignore"):
        return REFERENCE[name](x.astype(np.longdouble))


def ulps(found, expected):
    """Errors in units of the spacing of the result's type; infinite for a wrong infinity, NaN or sign of zero."""
    info = np.finfo(found.dtype)
    limit = np.longdouble(info.max) * (1 + np.longdouble(info.epsneg) / 2)  # rounds to infinity
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(np.abs(expected))
        spacing = np.ldexp(np.longdouble(1), np.maximum(exponent - info.nmant - 1, info.minexp - info.nmant))
        expected = np.where(np.abs(expected) >= limit, np.copysign(np.longdouble(INF), expected), expected)
        error = np.abs(found.astype(np.longdouble) - expected) / spacing
    error[(found == expected) | (np.isnan(found) & np.isnan(expected))] = 0
    error[np.isnan(error) | (~np.isnan(found) & (np.signbit(found) != np.signbit(expected)))] = INF
    return error


def dense_sample(dtype):
    """Every exponent with many mantissas, both signs, a fine comb where the functions bend, both sides of each point
    where the reduction changes to the next multiple of ln 2, and the neighbours of 1."""
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
    ones = (1 + np.arange(-2000, 2000) * info.epsneg).astype(dtype)
    positive = np.concatenate([grid, comb, near, turns, ones])
    return np.concatenate([positive, -positive])


@lru_cache(maxsize=len(FUNCTIONS) * len(DTYPES))
def expected_of_sample(name, dtype):
    return reference(name, dense_sample(dtype))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_function_is_within_four_ulp(backend, name, dtype):
    assert ulps(activate(name, dense_sample(dtype)), expected_of_sample(name, dtype)).max() <= LIMIT


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_function_is_within_four_ulp_of_anything(backend, dtype, data):
    x = data.draw(arrays(dtype, 40, elements=st.floats(width=int(dtype[-2:]), allow_nan=False)))
    for name in FUNCTIONS:
        assert ulps(activate(name, x), reference(name, x)).max() <= LIMIT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_function_has_the_bits_of_numpy(backend, name, dtype):
    ends = np.array([0.0, -0.0, INF, -INF], dtype)
    x = np.concatenate([ends, dense_sample(dtype)])
    with np.errstate(invalid="ignore"):
        expected = SAME_AS_NUMPY[name](x)
    found = activate(name, x)
    valid = ~np.isnan(expected)
    assert same_bits(found[valid], expected[valid])
    assert np.isnan(found[~valid]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_at_the_ends(backend, name, dtype):
    x = np.array([0.0, -0.0, INF, -INF], dtype)
    for found, expected in zip(activate(name, x), AT_ENDS[name], strict=True):
        if expected is not None:
            np.testing.assert_equal(found, np.dtype(dtype).type(expected))  # tells -0 from 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormal_and_huge_numbers(backend, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, -tiny, 1e30, -1e30], dtype)
    huge = np.log(x[2].astype(np.longdouble)).astype(dtype)
    for name, expected in {
        "tanh": [tiny, -tiny, 1, -1],
        "sigmoid": [0.5, 0.5, 1, 0],
        "exp": [1, 1, INF, 0],
        "expm1": [tiny, -tiny, INF, -1],
        "softplus": [None, None, 1e30, 0],
        "log_sigmoid": [None, None, -0.0, -1e30],
        "log": [None, NAN, huge, NAN],
        "log1p": [tiny, -tiny, huge, NAN],
    }.items():
        for found, value in zip(activate(name, x), expected, strict=True):
            if value is not None:
                np.testing.assert_equal(found, np.dtype(dtype).type(value))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials_overflow_where_the_exact_value_does(backend, dtype):
    last = np.log(np.longdouble(np.finfo(dtype).max)).astype(dtype)
    if np.exp(last.astype(np.longdouble)) > np.finfo(dtype).max:
        last = np.nextafter(last, -last)
    x = np.array([last, np.nextafter(last, np.dtype(dtype).type(INF))])
    for name in ("exp", "expm1"):
        assert np.isfinite(activate(name, x)).tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_logarithms_of_their_border(backend, dtype):
    one = np.dtype(dtype).type(1)
    x = np.array([1, -1, np.nextafter(-one, -2 * one)], dtype)
    np.testing.assert_equal(activate("log", x), np.array([0.0, NAN, NAN], dtype))
    np.testing.assert_equal(activate("log1p", x)[1:], np.array([-INF, NAN], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_ranges_and_symmetry(backend, dtype):
    x = dense_sample(dtype)
    tanh, sigmoid = activate("tanh", x), activate("sigmoid", x)
    assert same_bits(activate("tanh", -x), -tanh)
    assert (np.abs(tanh) <= 1).all()
    assert ((sigmoid >= 0) & (sigmoid <= 1)).all()
    assert (activate("expm1", x) >= -1).all()
    assert same_bits(activate("log_sigmoid", x), -activate("softplus", -x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sigmoid", "exp", "softplus", "log_sigmoid"])
def test_results_are_graded_down_to_the_subnormals(backend, name, dtype):
    info = np.finfo(dtype)
    x = -np.linspace(-info.minexp * np.log(2), (info.nmant - info.minexp) * np.log(2) - 0.1, 1000).astype(dtype)
    y = -activate(name, -x) if name == "log_sigmoid" else activate(name, x)
    assert (y > 0).all()
    assert (y[1:] < info.tiny).all()


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
    assert (activate("expm1", -above) == -1).all()
    assert same_bits(activate("softplus", above), above)
    for name in ("sigmoid", "exp", "softplus"):
        assert same_bits(activate(name, below), np.zeros_like(below))


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
                for name in (*FUNCTIONS, *SAME_AS_NUMPY):
                    assert np.flatnonzero(np.isnan(activate(name, x))).tolist() == [lane]


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_of_backends_with_fma_agree_in_every_bit(fma_backends, dtype):
    x = dense_sample(dtype)
    best, *others = ([b.name for b in _core.backends()].index(name) for name in fma_backends)
    for other in others:
        for name in FUNCTIONS:
            found, expected = _core.activate(other, name, x), _core.activate(best, name, x)
            valid = ~np.isnan(expected)
            assert same_bits(found[valid], expected[valid])
            assert np.isnan(found[~valid]).all()

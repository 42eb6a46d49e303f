"""The NumPy interpreter: complex functions are accurate in both parts, and the real part decides at edges."""

import numpy as np
import pytest
from cell_cases import STEP, run_layer
from cell_cases import layer_arrays as arrays_of
from fastrnn.cell import complex_functions, interpret
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm

named = pytest.mark.parametrize

LONG = np.longdouble


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _log_range(low, high):
    positive = np.geomspace(low, high, 200)
    return np.concatenate([-positive[::-1], positive])


WIDE = _log_range(1e-20, 600)
# name: (points, function, derivative), where the derivative is written without cancellation
FUNCTIONS = {
    "exp": (WIDE, np.exp, np.exp),
    "expm1": (WIDE, np.expm1, np.exp),
    "log": (np.abs(WIDE), np.log, lambda x: 1 / x),
    "log1p": (np.concatenate([WIDE[WIDE > -0.9], [-0.999999]]), np.log1p, lambda x: 1 / (1 + x)),
    "sqrt": (np.abs(WIDE), np.sqrt, lambda x: 1 / (2 * np.sqrt(x))),
    "tanh": (WIDE, np.tanh, lambda x: 4 * _sigmoid(2 * x) * _sigmoid(-2 * x)),
    "sigmoid": (WIDE, _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "softplus": (WIDE, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), _sigmoid),
    "log_sigmoid": (WIDE, lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), lambda x: _sigmoid(-x)),
}


@named("name", FUNCTIONS)
def test_complex_functions_are_accurate_in_both_parts(name):
    points, function, derivative = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        found = getattr(complex_functions, name)(points + 1j * STEP)
    np.testing.assert_allclose(found.real, function(points.astype(LONG)).astype(float), rtol=1e-14)
    # The smallest imaginary parts are subnormal.
    np.testing.assert_allclose(
        found.imag / STEP, derivative(points.astype(LONG)).astype(float), rtol=1e-13, atol=1e-280
    )


@named("name", [*FUNCTIONS, "relu", "absolute", "sign"])
def test_a_value_that_does_not_move_has_no_imaginary_part_and_nan_stays(name):
    points = np.array([0.0, 1.0, np.inf, -np.inf, 800.0, -800.0, np.nan])
    real = {"relu": lambda x: np.where(x <= 0, 0, x), "absolute": np.abs, "sign": np.sign}
    with np.errstate(all="ignore"):
        found = getattr(complex_functions, name)(points + 0j)
        expected = real.get(name) or FUNCTIONS[name][1]
        np.testing.assert_allclose(found.real, expected(points), rtol=1e-14)
    assert not np.any(found.imag[np.isfinite(found.real)])


def moved(*values):
    return [np.array([value + 1j * STEP * (n + 1)]) for n, value in enumerate(values)]


@named(
    ("op", "values", "expected"),
    [
        ("max", (1.0, 1.0), 1.5),
        ("min", (1.0, 1.0), 1.5),
        ("max", (1.0, 2.0), 2),
        ("min", (1.0, 2.0), 1),
        ("abs", (0.0,), 0),
        ("abs", (-2.0,), -1),
        ("sign", (3.0,), 0),
        ("relu", (0.0,), 0),
        ("clip", (1.0, 1.0, 2.0), 1),
        ("clip", (2.0, 1.0, 2.0), 1),
        ("clip", (0.0, 1.0, 2.0), 2),
        ("clip", (3.0, 1.0, 2.0), 3),
        ("clip", (1.5, 2.0, 1.0), 3),
    ],
)
def test_the_real_part_decides_at_edges(op, values, expected):
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(interpret.evaluate(op, *moved(*values)).imag / STEP, expected, rtol=1e-15)


@named("op", ["max", "min", "clip"])
@named("place", [0, 1])
def test_nan_passes_min_max_and_clip(op, place):
    for dtype in (float, complex):
        args = [np.array([1.0], dtype)] * (3 if op == "clip" else 2)
        args[place] = np.array([np.nan], dtype)
        assert np.isnan(interpret.evaluate(op, *args).real).all()


def test_comparisons_see_the_real_part():
    a, b = np.array([1.0 + 1e-30j]), np.array([1.0 + 0j])
    assert interpret.evaluate("eq", a, b)
    assert interpret.evaluate("le", a, b)
    assert not interpret.evaluate("lt", b, a)


def logistic(a):
    return (np.tanh(a / 2) + 1) / 2


def lstm_equations(gx, gh, h, c):
    """Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000), as docs/math.md writes them."""
    i, f, g, o = np.split(gx + gh, 4, axis=-1)
    c = logistic(f) * c + logistic(i) * np.tanh(g)
    return logistic(o) * np.tanh(c), c


def gru_equations(gx, gh, h, c):
    """Cho et al. (2014) with the reset gate after the product."""
    (x_r, x_z, x_n), (h_r, h_z, h_n) = np.split(gx, 3, axis=-1), np.split(gh, 3, axis=-1)
    r, z = logistic(x_r + h_r), logistic(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return (1 - z) * n + z * h, c


@named(("written", "equations"), [(lstm, lstm_equations), (gru, gru_equations)])
def test_a_layer_is_a_loop_over_the_textbooks_equations(written, equations):
    arrays = arrays_of(written.program, 5, 3, 2, 4)
    record = run_layer(written.program, arrays)
    h, c = arrays["initial.h"], arrays.get("initial.c", arrays["initial.h"])
    for x, y in zip(arrays["x"], record.y, strict=True):
        gates = x @ arrays["w_ih"].T + arrays["b_ih"], h @ arrays["w_hh"].T + arrays["b_hh"]
        h, c = equations(*gates, h, c)
        np.testing.assert_allclose(y, h, rtol=1e-13, atol=1e-14)
    np.testing.assert_array_equal(record.final["h"], record.y[-1])

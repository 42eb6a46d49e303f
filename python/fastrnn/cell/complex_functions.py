"""Elementary functions of complex arrays, accurate in both parts: for x + iy with a tiny y, y f'(x) is as good as f(x).

NumPy's complex log1p(1e-20) is 0, and its abs loses the imaginary part. Where a function has an edge, or no real value,
the real part alone decides: the imaginary part is that of the derivative of CELLS, halved at ties of min and max.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]


def _joined(real: _Array, imag: _Array) -> _Array:
    joined = np.empty(np.broadcast(real, imag).shape, np.result_type(real, np.complex64))
    joined.real, joined.imag = real, imag
    return joined


def _scaled(size: _Array, factor: _Array) -> _Array:
    """size*factor, and 0 for the factor 0 even if the size is infinite: where nothing moves, no derivative appears."""
    return np.where(factor == 0, 0, size * factor)


def _magnitude(z: _Array) -> _Array:
    """Whichever of z and -z has a real part of at least 0. Unlike `absolute`, it is not flat at 0."""
    return np.where(z.real < 0, -z, z)


def exp(z: _Array) -> _Array:
    size = np.exp(z.real)
    return _joined(_scaled(size, np.cos(z.imag)), _scaled(size, np.sin(z.imag)))


def expm1(z: _Array) -> _Array:
    # e^x cos y - 1 = (e^x - 1) cos y - 2 sin^2(y/2)
    real = np.expm1(z.real) * np.cos(z.imag) - 2 * np.sin(z.imag / 2) ** 2
    return _joined(real, _scaled(np.exp(z.real), np.sin(z.imag)))


def log(z: _Array) -> _Array:
    real = np.where(z.real < 0, np.nan, np.log(np.hypot(z.real, z.imag)))
    return _joined(real, np.arctan2(z.imag, z.real))


def log1p(z: _Array) -> _Array:
    x, y = z.real, z.imag
    near = np.log1p(x * (2 + x) + y * y) / 2
    real = np.where(np.abs(x) < 0.5, near, np.log(np.hypot(1 + x, y)))
    return _joined(np.where(x < -1, np.nan, real), np.arctan2(y, 1 + x))


def sqrt(z: _Array) -> _Array:
    root: _Array = np.sqrt(z)
    return _joined(np.where(z.real < 0, np.nan, root.real), root.imag)


def tanh(z: _Array) -> _Array:
    """(e^2|z| - 1)/(e^2|z| + 1) from expm1(-2|z|), with the sign by the real part."""
    size = _magnitude(z)
    e = expm1(-(size + size))  # a product with 2 would make NaN of infinity
    t: _Array = -e / (2 + e)
    return np.where(z.real < 0, -t, t)


def sigmoid(z: _Array) -> _Array:
    e = exp(-_magnitude(z))
    positive: _Array = 1 / (1 + e)
    return np.where(z.real < 0, e * positive, positive)


def softplus(z: _Array) -> _Array:
    """max(z, 0) + log1p(e^-|z|)."""
    result: _Array = relu(z) + log1p(exp(np.where(z.real > 0, -z, z)))
    return result


def log_sigmoid(z: _Array) -> _Array:
    return -softplus(-z)


def relu(z: _Array) -> _Array:
    return np.where(z.real <= 0, 0, z)


def absolute(z: _Array) -> _Array:
    result: _Array = np.where(z.real > 0, z, np.where(z.real < 0, -z, z.real + 0j))
    return result


def sign(z: _Array) -> _Array:
    result: _Array = np.sign(z.real) + 0j
    return result


def minimum(a: _Array, b: _Array) -> _Array:
    smaller: _Array = -maximum(-a, -b)
    return smaller


def maximum(a: _Array, b: _Array) -> _Array:
    tie = _joined(np.maximum(a.real, b.real), (a.imag + b.imag) / 2)  # or NaN
    return np.where(a.real > b.real, a, np.where(a.real < b.real, b, tie))


def clip(a: _Array, low: _Array, high: _Array) -> _Array:
    at_least = np.where(a.real < low.real, low, a)
    clipped = np.where(at_least.real > high.real, high, at_least)
    return np.where(np.isnan(low.real) | np.isnan(high.real), np.nan, clipped)

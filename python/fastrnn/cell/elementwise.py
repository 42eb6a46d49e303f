"""sigmoid, relu, softplus and log_sigmoid: functions that NumPy lacks, on arrays, numbers and traced values.

They are accurate to a few units in the last place everywhere, propagate NaN and raise no warnings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import complex_functions
from .tracer import Tracer

_Array = NDArray[Any]


def _function(name: str, real: Callable[[_Array], _Array], x: Any) -> Any:
    """The function `name` of x: an operation of the trace, or `real`, or its complex counterpart."""
    if isinstance(x, Tracer):
        return x._apply(f"fastrnn.{name}", name, x)
    x = np.asarray(x)
    if x.dtype.kind not in "fc":
        if x.dtype.kind not in "iu":
            raise TypeError(f"fastrnn.{name}: expected numbers, got {x.dtype}")
        x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        return (getattr(complex_functions, name)(x) if x.dtype.kind == "c" else real(x))[()]


def sigmoid(x: Any) -> Any:
    """1/(1 + exp(-x)).

    Parameters
    ----------
    x : array, number or traced value

    Returns
    -------
    The same kind, shape and precision; integers become float64.
    """
    return _function("sigmoid", _sigmoid, x)


def relu(x: Any) -> Any:
    """max(x, 0), with the derivative 0 at 0; NaN stays NaN.

    Parameters
    ----------
    x : array, number or traced value

    Returns
    -------
    The same kind, shape and precision; integers become float64.
    """
    return _function("relu", _relu, x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x)); the derivative is sigmoid(x).

    Parameters
    ----------
    x : array, number or traced value

    Returns
    -------
    The same kind, shape and precision; integers become float64.
    """
    return _function("softplus", _softplus, x)


def log_sigmoid(x: Any) -> Any:
    """log(sigmoid(x)) = -softplus(-x).

    Parameters
    ----------
    x : array, number or traced value

    Returns
    -------
    The same kind, shape and precision; integers become float64.
    """
    return _function("log_sigmoid", lambda one: -_softplus(-one), x)


def _sigmoid(x: _Array) -> _Array:
    one, e = x.dtype.type(1), np.exp(-np.abs(x))
    result: _Array = np.where(x < 0, e, one) / (one + e)
    return result


def _relu(x: _Array) -> _Array:
    return np.where(x <= 0, x.dtype.type(0), x)


def _softplus(x: _Array) -> _Array:
    result: _Array = _relu(x) + np.log1p(np.exp(-np.abs(x)))
    return result

"""Compare a layer's outputs and final states with the reference, within a bound that follows from the sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import GRU, LSTM, RNN
from . import reference

_Array = NDArray[Any]

ACTIVATIONS = 8  # roundings of a step after its product, in units of eps


def bound_of_values(dtype: np.dtype[Any], I: int, H: int, T: int, layers: int = 1) -> float:
    """The largest allowed error of an output or a state, relative to the largest of them or 1.

    A pre-activation is a chain of K = I + H + 2 fused multiply-adds. Assume that its roundings are independent and
    unbiased, each at most u*S, where u = eps/2 and S is the largest partial sum. By Hoeffding's inequality their sum
    exceeds lambda*sqrt(K)*u*S with probability below 2*exp(-lambda^2/2) (Higham & Mary 2019); lambda is 4 here. After
    the product, a step has at most four activations of 4 ULP, with derivatives of at most 1 or 1/4, and six roundings.
    They add at most 2*8*eps. With weights of their initial size, a step passes on an error of about the size that it
    received. In the worst case the errors of T steps add up, and so do those of stacked layers.
    """
    return float(2 * np.finfo(dtype).eps * (np.sqrt(I + H + 2) + ACTIVATIONS) * T * layers)


def members(state: Any) -> tuple[_Array, ...]:
    """(h, c) or (h,)."""
    return state if isinstance(state, tuple) else (state,)


def check_layer(layer: LSTM | GRU | RNN) -> None:
    """TypeError for a layer without a reference here."""
    if not isinstance(layer, LSTM | GRU | RNN):
        raise TypeError(f"layer: expected a fastrnn.LSTM, GRU or RNN, got {type(layer).__name__}")


def time_first(layer: LSTM | GRU | RNN, x: _Array, sequences: _Array) -> _Array:
    """Convert an array in the layout of x to (T, B, …)."""
    if x.ndim == 2:
        return sequences[:, None]
    return sequences.swapaxes(0, 1) if layer.batch_first else sequences


def by_name(h: str, c: str, x: _Array, states: Sequence[_Array]) -> dict[str, _Array]:
    """States with a batch axis, in float64; the reference needs a c for every cell."""
    batched = [s[:, None].astype(float) if x.ndim == 2 else s.astype(float) for s in states]
    return {h: batched[0], c: batched[-1]}


def assert_values(
    layer: LSTM | GRU | RNN, x: _Array, state: Any = None, *, lengths: Any = None, resets: Any = None
) -> None:
    """Check a layer's outputs and final states.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        With weights of their initial size; with larger weights errors may grow in each step. Dropout has no effect.
    x, state, lengths, resets : as for a call of the layer
        The arguments of the call.

    Raises
    ------
    AssertionError
        If an error is too large; the message has the name, the largest error, and the allowed error
        (`bound_of_values`).
    TypeError
        If `layer` is no such layer.
    """
    check_layer(layer)
    y, final = layer(x, state, lengths=lengths, resets=resets)
    finals = members(final)
    given = (None, None) if state is None else members(state)
    initial = by_name("h", "c", x, [np.zeros_like(f) if s is None else s for s, f in zip(given, finals, strict=False)])
    double = {name: array.astype(np.longdouble) for name, array in layer.parameters.items()}
    expected = reference.stack(
        layer._cell,
        time_first(layer, x, x).astype(np.longdouble),
        double,
        initial["h"],
        initial["c"],
        layer.num_layers,
        layer.bidirectional,
        lengths=lengths,
        resets=None if resets is None else time_first(layer, x, np.asarray(resets)),
    )
    T, _, I = time_first(layer, x, x).shape
    limit = bound_of_values(layer.dtype, max(I, 2 * layer.hidden_size), layer.hidden_size, T, layer.num_layers)
    found = [time_first(layer, x, y)] + [f[:, None] if x.ndim == 2 else f for f in finals]
    for name, a, b in zip(("y", "h_n", "c_n"), found, expected, strict=False):
        off = float(np.abs(a - b).max(initial=0))
        allowed = limit * max(1.0, float(np.abs(b).max(initial=0)))
        if not off <= allowed:
            raise AssertionError(f"{name}: off by {off:.3g}, allowed {allowed:.3g}")

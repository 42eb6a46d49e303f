"""Compare a layer's gradients with the complex-step derivative of the reference: f'(p) v = Im f(p + i s v) / s.

With s = 1e-30 the derivative is exact to rounding: nothing is subtracted, and s^2 vanishes (Squire & Trapp 1998).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..layers import GRU, LSTM, RNN
from . import reference
from .values import ACTIVATIONS, by_name, check_layer, members, time_first

_Array = NDArray[Any]

STEP = 1e-30


class _Loss(Protocol):
    def __call__(self, given: dict[str, _Array]) -> Any: ...


def bound(dtype: np.dtype[Any], I: int, H: int, T: int, B: int, layers: int = 1) -> float:
    """The largest allowed error of a gradient, relative to the largest of its tensor or 1.

    Forward and backward have chains of K = I + 5H + 2 products, whose roundings add up as sqrt(K) (Higham & Mary 2019);
    a parameter's gradient sums T*B such terms. The bound assumes that a step passes on an error of about the size that
    it received, which holds for weights of their initial size.
    """
    K = I + 5 * H + 2
    return float(4 * np.finfo(dtype).eps * (np.sqrt(K) + ACTIVATIONS) * T * layers * np.sqrt(T * B))


def _reference_loss(layer: LSTM | GRU | RNN, dy: _Array, dstate: dict[str, _Array], lengths: Any, resets: Any) -> _Loss:
    """sum(dy * y) + sum(dstate * state) as a function of x, h0, c0 and the parameters, by name."""

    def loss(given: dict[str, _Array]) -> Any:
        x, h0, c0 = given["x"], given["h0"], given["c0"]
        stack = layer.num_layers, layer.bidirectional
        y, h_n, c_n = reference.stack(layer._cell, x, given, h0, c0, *stack, lengths=lengths, resets=resets)
        value = (dy * y).sum() + (dstate["h"] * h_n).sum()
        return value + (dstate["c"] * c_n).sum() if "c" in layer._row.states else value

    return loss


def derivative(loss: _Loss, given: dict[str, _Array], name: str, direction: _Array) -> float:
    """The derivative of `loss` at `given` for a change of the array `name` in `direction`."""
    moved = given | {name: given[name] + 1j * STEP * direction}
    return float(np.imag(loss(moved)) / STEP)


def _require_derivative(
    loss: _Loss, given: dict[str, _Array], name: str, found: _Array, limit: float, rng: np.random.Generator
) -> None:
    """Check a random direction, which covers every element, and two single elements."""
    single = [np.zeros(found.shape) for _ in range(2)]
    for one in single:
        one[tuple(rng.integers(0, n) for n in found.shape)] = 1
    size = max(1.0, float(np.abs(found).max()))
    for direction in [rng.standard_normal(found.shape), *single]:
        expected = derivative(loss, given, name, direction)
        got = float((found * direction).sum())
        allowed = limit * size * float(np.sqrt((direction**2).sum()))
        if not abs(got - expected) <= allowed:
            raise AssertionError(f"gradient of {name}: expected {expected:.9g}, got {got:.9g}, allowed ±{allowed:.2g}")


def assert_gradients(
    layer: LSTM | GRU | RNN,
    x: _Array,
    state: Any = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    seed: int = 0,
    tolerance: float | None = None,
) -> None:
    """Check a layer's gradients of x, of the initial state and of every parameter.

    The loss is ``sum(dy * y) + sum(dstate * final state)`` with random dy and dstate.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        A layer without dropout. The reference runs in Python, so use few steps and units.
    x, state, lengths, resets : as for a call of the layer
        The layer runs forward and backward on them.
    seed : int
        The seed of the loss and of the directions of the comparison: a random direction, and two single elements.
    tolerance : float, optional
        The largest allowed error of a derivative, relative to the largest gradient of its tensor or 1. The default is
        derived from the sizes (`bound`), for weights of their initial size; with larger weights errors may grow in each
        step.

    Raises
    ------
    AssertionError
        If an error is too large; the message has the name, the expected and the found value, and the allowed error.
    TypeError
        If `layer` is no such layer.
    ValueError
        If the layer has dropout.
    """
    check_layer(layer)
    if layer.dropout:
        raise ValueError(f"layer: expected dropout 0, got {layer.dropout}")
    rng = np.random.default_rng(seed)
    y, final, tape = layer.forward(x, state, lengths=lengths, resets=resets)
    finals = members(final)
    dy = rng.standard_normal(y.shape).astype(layer.dtype)
    dfinals = tuple(rng.standard_normal(one.shape).astype(layer.dtype) for one in finals)
    gradients = layer.backward(tape, dy, dfinals if len(dfinals) == 2 else dfinals[0])
    given = {"x": time_first(layer, x, x).astype(float)} | {k: v.astype(float) for k, v in layer.parameters.items()}
    initial = (None, None) if state is None else members(state)
    given |= by_name(
        "h0", "c0", x, [np.zeros_like(f) if s is None else s for s, f in zip(initial, finals, strict=False)]
    )
    dstate = by_name("h", "c", x, dfinals)
    sequence_resets = None if resets is None else time_first(layer, x, np.asarray(resets))
    loss = _reference_loss(layer, time_first(layer, x, dy).astype(float), dstate, lengths, sequence_resets)
    found = {"x": time_first(layer, x, gradients.x)} | gradients.parameters
    found |= by_name("h0", "c0", x, members(gradients.state))
    T, B, I = given["x"].shape
    wide = max(I, 2 * layer.hidden_size)
    derived = bound(layer.dtype, wide, layer.hidden_size, max(T, 1), max(B, 1), layer.num_layers)
    limit = derived if tolerance is None else tolerance
    for name in (n for n in found if found[n].size and (n != "c0" or "c" in layer._row.states)):
        _require_derivative(loss, given, name, found[name].astype(float), limit, rng)

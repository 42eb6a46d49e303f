"""Norms over units of arrays and traced values: `layer_norm` (Ba et al. 2016), `rms_norm` (Zhang & Sennrich 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .names import Names
from .tracer import Tracer, total


def layer_norm(x: Any, gamma: Any = None, beta: Any = None, *, eps: float = 1e-5, by_head: bool = False) -> Any:
    """(x - mean)/sqrt(variance + eps) * gamma + beta, with the mean and the biased variance over all units.

    Parameters
    ----------
    x : array (..., H), traced value, or ``a.input`` or ``a.state``
        The halves of all gates have one mean and one variance, over G*H units.
    gamma, beta : vector, optional
        For the halves of all gates: members by gate.
    eps : float
    by_head : bool
        Each head of a layer with ``heads`` has a mean and a variance of its own, over its units. On plain arrays the
        last axis is one head.

    Returns
    -------
    array or traced value, or an object with members by gate

    Raises
    ------
    TypeError
        If gamma or beta has no members by gate where x has.
    """
    _require_bool("layer_norm", by_head)

    def normalise(vectors: Sequence[Any]) -> list[Any]:
        mean, variance = _moments(vectors, by_head)
        scale = np.reciprocal(np.sqrt(variance + eps))
        return [(one - mean) * scale for one in vectors]

    return _norm("layer_norm", normalise, x, gamma, beta)


def rms_norm(x: Any, gamma: Any = None, *, eps: float = 1e-5, by_head: bool = False) -> Any:
    """x/sqrt(mean(x^2) + eps) * gamma, with the mean over all units.

    Parameters
    ----------
    x, gamma, eps, by_head
        As for `layer_norm`.

    Returns
    -------
    array or traced value, or an object with members by gate

    Raises
    ------
    TypeError
        As for `layer_norm`.
    """
    _require_bool("rms_norm", by_head)

    def normalise(vectors: Sequence[Any]) -> list[Any]:
        scale = np.reciprocal(np.sqrt(_mean("rms_norm", [np.square(one) for one in vectors], by_head) + eps))
        return [one * scale for one in vectors]

    return _norm("rms_norm", normalise, x, gamma, None)


def _require_bool(name: str, by_head: Any) -> None:
    """The number of heads belongs to the layer."""
    if not isinstance(by_head, bool):
        raise TypeError(f"{name}: by_head: expected True or False, got {by_head!r}")


def _mean(name: str, vectors: Sequence[Any], by_head: bool) -> Any:
    if isinstance(vectors[0], Tracer):
        return total("mean", f"fastrnn.{name}", vectors, by_head)
    return np.concatenate(vectors, axis=-1).mean(-1, keepdims=True)


def _moments(vectors: Sequence[Any], by_head: bool) -> tuple[Any, Any]:
    if isinstance(vectors[0], Tracer):
        mean, variance = (total(kind, "fastrnn.layer_norm", vectors, by_head) for kind in ("moments", "variance"))
        return mean, variance
    mean = _mean("layer_norm", vectors, by_head)
    return mean, _mean("layer_norm", [np.square(one - mean) for one in vectors], by_head)


def _norm(name: str, normalise: Callable[[Sequence[Any]], list[Any]], x: Any, gamma: Any, beta: Any) -> Any:
    if not isinstance(x, Names):
        x = x if isinstance(x, Tracer) else np.asarray(x)
        return _affine(normalise([x])[0], gamma, beta)
    gates = x._names
    parts = dict(zip(gates, normalise([getattr(x, gate) for gate in gates]), strict=True))
    for argument, value in (("gamma", gamma), ("beta", beta)):
        if value is not None and not isinstance(value, Names):
            raise TypeError(f"{name}: {argument}: expected members {', '.join(gates)}, got {type(value).__name__}")
    for gate in gates:
        own = (None if one is None else getattr(one, gate) for one in (gamma, beta))
        parts[gate] = _affine(parts[gate], *own)
    return Names("gate", gates, parts.__getitem__)


def _affine(x: Any, gamma: Any, beta: Any) -> Any:
    if gamma is not None:
        x = x * gamma
    return x if beta is None else x + beta

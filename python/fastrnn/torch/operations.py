"""The operations of programs in torch's operations, which can be differentiated any number of times.

The derivatives at edges are those of `cell/derivatives.py`. A few of torch's functions have others, or are not accurate
enough, so they are not used: `clamp` at equal bounds, and `softplus` above 20.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def _clip(a: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """min(max(a, low), high), which is NaN if one of the bounds is."""
    at_least = torch.where(a < low, low, a)
    clipped = torch.where((a > high) | (high < low), high, at_least)
    return torch.where(low.isnan(), low, torch.where(high.isnan(), high, clipped))


def _sign(a: Tensor) -> Tensor:
    return torch.where(a.isnan(), a.detach(), torch.sign(a))


def _softplus(a: Tensor) -> Tensor:
    return -functional.logsigmoid(-a)


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "fma": lambda a, b, c: torch.addcmul(c, a, b),
    "fms": lambda a, b, c: a * b - c,
    "fnma": lambda a, b, c: torch.addcmul(c, a, b, value=-1),
    "min": torch.minimum,
    "max": torch.maximum,
    "clip": _clip,
    "abs": torch.abs,
    "sign": _sign,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softplus": _softplus,
    "log_sigmoid": functional.logsigmoid,
    "lt": torch.lt,
    "le": torch.le,
    "eq": torch.eq,
    "ne": torch.ne,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
    "select": torch.where,
    "one_minus": lambda a: 1 - a,
    "dsigmoid": lambda d, s: d * (s * (1 - s)),
    "dtanh": lambda d, t: d * (1 - t * t),
    "mul3": lambda a, b, c: (a * b) * c,
    "fma_dtanh": lambda d, t, c: torch.addcmul(c, d, 1 - t * t),
}

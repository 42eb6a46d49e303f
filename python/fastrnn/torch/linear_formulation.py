"""The linear recurrence and its gradients in torch's operations: differentiable any number of times.

Lengths (B,) and resets (T, B) or (T,) are tensors or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

Maybe: TypeAlias = Tensor | None
Marks: TypeAlias = "tuple[Maybe, Maybe]"  # lengths and resets


def loop(a: Tensor, b: Tensor, h0: Maybe, lengths: Maybe, resets: Maybe, reverse: bool) -> Tensor:
    """The recurrence step by step. A product and a sum are rounded twice."""
    shape = torch.broadcast_shapes(a.shape, b.shape)
    a, b, T = a.expand(shape), b.expand(shape), shape[0]
    if T == 0:
        return b.clone()
    exists, first, behind = _conditions(b, (lengths, resets), reverse)
    starts = ~exists | (behind | first if h0 is None else behind)  # nothing passes here, not even a factor that is NaN
    zero = torch.zeros((), dtype=b.dtype, device=b.device)
    state = zero if h0 is None else h0
    steps: list[Any] = [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        passed, factor = torch.where(starts[t], zero, state), torch.where(starts[t], zero, a[t])
        after = torch.where(starts[t], b[t], factor * passed + b[t])
        state = torch.where(exists[t], after, state)
        steps[t] = torch.where(exists[t], after, zero)
    return torch.stack(steps)


def _conditions(like: Tensor, marks: Marks, reverse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Booleans that broadcast to h: the steps that exist, first steps, and steps behind a reset."""
    T, rank = like.shape[0], like.dim()
    lengths, resets = (None if one is None else one.to(like.device) for one in marks)
    steps = torch.arange(T, device=like.device).reshape(T, *(1,) * (rank - 1))
    ends = T if lengths is None else lengths.reshape(-1, *(1,) * (rank - 2))
    exists = steps < ends
    first = (steps == ends - 1) if reverse else (steps == 0) & exists
    if resets is None or T == 0:
        return exists, first, torch.zeros_like(first)
    resets = resets.reshape(*resets.shape, *(1,) * (rank - resets.dim()))
    if reverse:
        resets = torch.cat((resets[1:], torch.zeros_like(resets[:1])))
        return exists, first, resets & (steps + 1 < ends)
    return exists, first, resets & exists


def gradients(
    recurrence: Callable[..., Tensor],
    a: Tensor,
    b_shape: Any,
    h0: Maybe,
    h: Maybe,
    dh: Tensor,
    marks: Marks,
    reverse: bool,
    wanted: list[bool],
) -> tuple[Maybe, Maybe, Maybe]:
    """The gradients of a, b and h0 as differentiable functions of a, h0, h and dh.

    The gradient of b is the recurrence itself, in the other direction. recurrence: computes it.
    """
    exists, first, behind = _conditions(dh, marks, reverse)
    is_constant = a.dim() < dh.dim() or a.shape[0] == 1
    later = a if is_constant else a.roll(1 if reverse else -1, 0)  # the step that comes around starts anew: not read
    g = recurrence(later, dh, lengths=marks[0], resets=marks[1], reverse=not reverse)
    da = dh0 = None
    zero = torch.zeros((), dtype=dh.dtype, device=dh.device)
    if wanted[0] and h is not None:
        earlier = h.roll(-1 if reverse else 1, 0)
        earlier = torch.where(first, zero if h0 is None else h0, earlier)
        passes = exists & ~(behind | first if h0 is None else behind)
        da = torch.where(passes, g * torch.where(passes, earlier, zero), zero).sum_to_size(a.shape)
    if wanted[2] and h0 is not None:
        passes = first & ~behind
        dh0 = (g * torch.where(passes, a, zero)).sum(0).sum_to_size(h0.shape)
    return da, g.sum_to_size(b_shape) if wanted[1] else None, dh0

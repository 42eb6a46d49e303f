"""A loop as a function of autograd with fast derivatives of the first and the second order; see `linearised.py`.

Derivatives beyond the second order, dual numbers and batched gradients use autograd of the loop, operation by
operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional

from .linearised import Linearised, zeros
from .loop import Inputs, Loop, Maybe, Twice


def is_transformed(tensors: Sequence[Maybe]) -> bool:
    """Whether there are dual numbers, transforms of torch.func, or several gradients at once (is_grads_batched)."""
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return True
    is_batched = torch._C._functorch.is_legacy_batchedtensor
    return any(tensor is not None and is_batched(tensor) for tensor in tensors)


def run(loop: Loop, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
    """The output of each row, and the final states."""
    y, *final = _Run.apply(loop, *inputs.flat())
    return y, final


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loop: Loop, *tensors: Any) -> tuple[Tensor, ...]:  # type: ignore[override]
        y, final, earlier = loop.run(Inputs.of(loop, tensors))
        ctx.loop, ctx.count = loop, len(tensors)
        ctx.save_for_backward(*tensors, *(torch.cat(one) for one in zip(*earlier, strict=True)))
        return y, *(one.clone() for one in final)  # no tensor twice, and no input

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        loop, saved = ctx.loop, ctx.saved_tensors
        if is_transformed(d):
            return None, *_first_order(loop, saved[: ctx.count], d, torch.is_grad_enabled())
        return None, *_Gradients.apply(loop, 1 + loop.states + ctx.count, *d, *saved)


class _Gradients(torch.autograd.Function):
    """The gradients of a loop's inputs, as functions of `count` tensors: d, of the output and the final states; inputs.

    The other tensors are the states before each step and the gates. They are constants here, since the inputs determine
    them.
    """

    @staticmethod
    def forward(ctx: Any, loop: Loop, count: int, *tensors: Any) -> tuple[Maybe, ...]:  # type: ignore[override]
        dy, *d_final = tensors[: 1 + loop.states]
        linearised = Linearised(loop, Inputs.of(loop, tensors[1 + loop.states : count]), tensors[count:])
        adjoints, d_initial = linearised.backward(dy, d_final)
        ctx.loop, ctx.count, ctx.linearised, ctx.adjoints = loop, count, linearised, adjoints
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        return linearised.gradients(adjoints, d_initial, dy).flat()

    @staticmethod
    def backward(ctx: Any, *v: Maybe) -> tuple[Any, ...]:  # type: ignore[override]
        loop, saved = ctx.loop, ctx.saved_tensors
        constants = [None] * (len(saved) - ctx.count)
        if torch.is_grad_enabled() or is_transformed(v):
            return None, None, *_second_order(loop, saved[: ctx.count], v), *constants
        of_dy, of_final, found = ctx.linearised.second_order(saved[0], ctx.adjoints, Inputs.of(loop, v))
        return None, None, of_dy, *of_final, *found.flat(), *constants


def project(x: Tensor, w: Tensor, b: Maybe, twice: Twice, passes_on: bool) -> Tensor:
    """As `torch.nn.functional.linear`. passes_on: other gradients are computed from that of x."""
    projected: Tensor = _Project.apply(x, w, b, twice, passes_on)
    return projected


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Maybe, twice: Twice, passes_on: bool) -> Tensor:  # type: ignore[override]
        ctx.twice, ctx.passes_on = twice, passes_on
        ctx.save_for_backward(x, w, b)
        return functional.linear(x, w, b)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        x, w, b = ctx.saved_tensors
        if is_transformed([d]):
            return d @ w, d.t() @ x, None if b is None else d.sum(0), None, None
        return *_ProjectGradients.apply(d, x, w, b, ctx.twice.skips, ctx.passes_on), None, None


class _ProjectGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Tensor, x: Tensor, w: Tensor, b: Maybe, skips: bool, passes_on: bool) -> tuple[Maybe, ...]:  # type: ignore[override]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(d, x, w)
        of_x = d @ w if passes_on or not skips else zeros(x)
        if skips:
            return of_x, zeros(w), None if b is None else zeros(b)
        return of_x, d.t() @ x, None if b is None else d.sum(0)

    @staticmethod
    def backward(ctx: Any, v_x: Maybe, v_w: Maybe, v_b: Maybe) -> tuple[Any, ...]:  # type: ignore[override]
        d, x, w = ctx.saved_tensors
        of_d = None if v_w is None else functional.linear(x, v_w, v_b)
        if of_d is None and v_b is not None:
            of_d = v_b.expand(d.shape)
        if v_x is not None:
            of_d = v_x @ w.t() if of_d is None else torch.addmm(of_d, v_x, w.t())
        return of_d, None if v_w is None else d @ v_w, None if v_x is None else d.t() @ v_x, None, None, None


def _first_order(loop: Loop, inputs: Sequence[Maybe], d: Sequence[Tensor], again: bool) -> list[Maybe]:
    """The gradients of the inputs by autograd."""
    with torch.enable_grad():
        aliases = _aliases(inputs)
        y, final, _ = loop.run(Inputs.of(loop, aliases))
        return _gradients([y, *final], aliases, d, again)


def _second_order(loop: Loop, tensors: Sequence[Maybe], v: Sequence[Maybe]) -> list[Maybe]:
    """The gradients of d and of the inputs by autograd."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = _aliases(tensors)
        d, inputs = aliases[: 1 + loop.states], aliases[1 + loop.states :]
        y, final, _ = loop.run(Inputs.of(loop, inputs))
        return _gradients(_gradients([y, *final], inputs, d, True), aliases, v, again)


def _aliases(tensors: Sequence[Maybe]) -> list[Maybe]:
    return [None if one is None else one.view_as(one) for one in tensors]


def _gradients(outputs: Sequence[Maybe], inputs: Sequence[Maybe], d: Sequence[Maybe], again: bool) -> list[Maybe]:
    """Of each input, None if there is none; again: for derivatives of the gradients."""
    pairs = [
        (one, weight)
        for one, weight in zip(outputs, d, strict=True)
        if one is not None and weight is not None and one.requires_grad
    ]
    places = [j for j, one in enumerate(inputs) if one is not None and one.requires_grad]
    found: list[Maybe] = [None] * len(inputs)
    if pairs and places:
        chosen: Any = [inputs[j] for j in places]
        ones, weights = [one for one, _ in pairs], [weight for _, weight in pairs]
        gradients = torch.autograd.grad(ones, chosen, weights, create_graph=again, allow_unused=True)
        for place, one in zip(places, gradients, strict=True):
            found[place] = one
    return found

"""The same recurrence in torch's operations, step by step: slow, but differentiable any number of times.

It is the fallback where kernels cannot run: gradients of gradients, forward-mode differentiation, the transforms of
torch.func, and other devices and types. Every cell runs as its program (`one_direction.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .loop import Twice
from .one_direction import OneDirection
from .plan import Plan
from .rows import Rows
from .second_order import is_transformed
from .steps import step_of


def run(
    plan: Plan,
    x: Tensor,
    initial: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None] | None,
    twice: Twice | None = None,
) -> tuple[Tensor, ...]:
    """Y and the final states, in the user's layout, as the kernels compute them.

    weights: as the operator has them. twice: for faster derivatives of the first and second order, of plain tensors.
    """
    refuse_truncation(plan)
    network, rows = plan.network, Rows(plan.batches[0])
    count, names, inputs = network.layers * network.directions, network.parameters, network.row.inputs
    states = [
        rows.states_inside(plan, member, x, start) for member, start in zip(initial, network.row.starts, strict=True)
    ]
    given = [rows.inside(plan, one) for one in weights[count * len(names) :]]
    x = rows.inside(plan, x)
    finals: list[list[Tensor]] = []
    for layer in range(network.layers):
        outputs = []
        for direction, batch in enumerate(plan.batches):
            j = layer * network.directions + direction
            own = dict(zip(names, weights[j * len(names) : (j + 1) * len(names)], strict=True))
            of_step = dict(zip(inputs, given[j * len(inputs) : (j + 1) * len(inputs)], strict=True))
            one = OneDirection(step_of(network.cell), own, plan.options, of_step, x, twice, layer > 0)
            y, final = one.run([member[j] for member in states], batch, rows)
            outputs.append(y)
            finals.append(final)
        x = torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0]
        if masks is not None and layer < network.layers - 1 and masks[layer] is not None:
            mask: Any = masks[layer]
            x = x * rows.mask_inside(mask)
    last = [torch.stack(members) for members in zip(*finals, strict=True)]
    return rows.as_user(plan, x), *(rows.states_as_user(plan, member) for member in last)


def refuse_truncation(plan: Plan) -> None:
    if plan.truncation is not None:
        raise NotImplementedError(
            "truncation: expected None for gradients of gradients, for forward-mode differentiation, for transforms of"
            " torch.func, and where the CPU kernels do not run"
        )


def gradients(
    plan: Plan,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor | None] | None,
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
    skips: bool = False,
) -> list[Tensor | None]:
    """What backward returns for x, the states and the weights (`inputs`), as differentiable functions of them and of d.

    One input may be computed from another, or be the same tensor. The gradient of each input is the partial derivative
    with the other inputs held fixed, since autograd itself adds the gradient that passes from one input to another. So
    the recurrence runs on aliases of the inputs, one alias for each argument. No alias is computed from another alias,
    and each alias is computed from its input, so the gradients can be differentiated again.

    skips: nobody reads the gradients, which will be differentiated; see `Twice`.
    """
    in_a_transform = torch._C._are_functorch_transforms_active()
    twice = Twice(skips) if torch.is_grad_enabled() and not is_transformed(d) else None
    places = [place for place, one in enumerate(inputs) if one is not None]

    def outputs_of(*given: Tensor) -> tuple[Tensor, ...]:
        filled: list[Any] = [None] * len(inputs)
        for place, one in zip(places, given, strict=True):
            filled[place] = one
        x, *rest = filled
        count = len(plan.network.row.states)
        return run(plan, x, rest[:count], rest[count:], masks, twice)

    present: list[Any] = [inputs[place] for place in places]
    differentiate = _in_a_transform if in_a_transform else _on_aliases
    found = dict(zip(places, differentiate(outputs_of, present, d, [wanted[place] for place in places]), strict=True))
    if twice is not None:
        twice.skips = False
    return [found.get(place) for place in range(len(inputs))]


def gradients_of_gradients(
    plan: Plan,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor | None] | None,
    d: Sequence[Tensor | None],
    v: Sequence[Tensor | None],
    asked: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of d and of the inputs, for gradients v of what `gradients` returns; None stands for zero."""
    wanted = [one is not None for one in v]
    tensors = [*d, *inputs]
    places = [place for place, one in enumerate(tensors) if one is not None]

    def gradients_of(*given: Tensor) -> tuple[Tensor, ...]:
        filled: list[Any] = [None] * len(tensors)
        for place, one in zip(places, given, strict=True):
            filled[place] = one
        found = gradients(plan, filled[len(d) :], masks, filled[: len(d)], wanted, skips=True)
        chosen = zip(found, filled[len(d) :], wanted, strict=True)
        return tuple([torch.zeros_like(one) if g is None else g for g, one, is_wanted in chosen if is_wanted])

    found: dict[int, Tensor | None] = {}
    if any(wanted):
        present: list[Any] = [tensors[place] for place in places]
        differentiate = _in_a_transform if torch._C._are_functorch_transforms_active() else _on_aliases
        weights, chosen = [one for one in v if one is not None], [asked[place] for place in places]
        found = dict(zip(places, differentiate(gradients_of, present, weights, chosen), strict=True))
    every: list[Any] = [found.get(place) for place in range(len(tensors))]
    return [
        torch.zeros_like(one) if is_asked and g is None and one is not None else g
        for g, one, is_asked in zip(every, tensors, asked, strict=True)
    ]


def _on_aliases(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    is_differentiated_again = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = [one.view_as(one) for one in inputs]
        pairs = [(y, dy) for y, dy in zip(function(*aliases), d, strict=True) if dy is not None and y.requires_grad]
        if not pairs:
            return [None] * len(inputs)
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs],
                [alias for alias, is_wanted in zip(aliases, wanted, strict=True) if is_wanted],
                [dy for _, dy in pairs],
                create_graph=is_differentiated_again,
                allow_unused=True,
            )
        )
    return [next(found) if is_wanted else None for is_wanted in wanted]


def _in_a_transform(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The same inside a transform of torch.func, which makes the aliases itself.

    The transform may have begun after the inputs were made: then autograd sees no path to them.
    """
    outputs, pull_back, *_ = torch.func.vjp(function, *inputs)
    found = pull_back(tuple(torch.zeros_like(y) if dy is None else dy for y, dy in zip(outputs, d, strict=True)))
    return [one if is_wanted else None for one, is_wanted in zip(found, wanted, strict=True)]

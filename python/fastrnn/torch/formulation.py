"""The same recurrence in torch's operations, step by step: slow, but differentiable any number of times.

It is the fallback where kernels cannot run: gradients of gradients, forward-mode differentiation, the transforms of
torch.func, and `lengths` and `resets` on other devices and types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .._check import Array
from ..schedule import Batch, PackedBatch
from .plan import Plan

# One step: the new states from w_ih x + b_ih and w_hh h + b_hh, both (B, G*H), and the states.
Step = Callable[[Tensor, Tensor, list[Tensor]], list[Tensor]]


def _rnn_tanh(of_input: Tensor, of_state: Tensor, _: list[Tensor]) -> list[Tensor]:
    return [torch.tanh(of_input + of_state)]


def _rnn_relu(of_input: Tensor, of_state: Tensor, _: list[Tensor]) -> list[Tensor]:
    return [torch.relu(of_input + of_state)]


def _lstm(of_input: Tensor, of_state: Tensor, states: list[Tensor]) -> list[Tensor]:
    i, f, g, o = (of_input + of_state).chunk(4, 1)
    c = torch.sigmoid(f) * states[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def _gru(of_input: Tensor, of_state: Tensor, states: list[Tensor]) -> list[Tensor]:
    (x_r, x_z, x_n), (h_r, h_z, h_n) = of_input.chunk(3, 1), of_state.chunk(3, 1)
    r, z = torch.sigmoid(x_r + h_r), torch.sigmoid(x_z + h_z)
    n = torch.tanh(x_n + r * h_n)
    return [(1 - z) * n + z * states[0]]


STEPS: dict[str, Step] = {"rnn_tanh": _rnn_tanh, "rnn_relu": _rnn_relu, "lstm": _lstm, "gru": _gru}


def run(
    plan: Plan,
    x: Tensor,
    initial: Sequence[Tensor | None],
    weights: Sequence[Tensor],
    masks: Sequence[Tensor | None] | None,
) -> tuple[Tensor, ...]:
    """Y and the final states, in the user's layout, as the kernels compute them."""
    if plan.truncation is not None:
        raise NotImplementedError(
            "truncation: expected None for gradients of gradients, for forward-mode differentiation, for transforms of"
            " torch.func, and where the CPU kernels do not run"
        )
    network, batch = plan.network, plan.batches[0]
    D, names = network.directions, network.parameters
    each = len(names)
    x = _padded(plan, x)
    states = [_states(plan, member, x) for member in initial]
    finals: list[list[Tensor]] = []
    for layer in range(network.layers):
        outputs = []
        for direction, one in enumerate(plan.batches):
            j = layer * D + direction
            parameters = dict(zip(names, weights[j * each : (j + 1) * each], strict=True))
            y, final = _one_direction(STEPS[network.cell], x, [member[j] for member in states], parameters, one)
            outputs.append(y)
            finals.append(final)
        x = torch.cat(outputs, 2) if D == 2 else outputs[0]
        if masks is not None and layer < network.layers - 1 and masks[layer] is not None:
            mask: Any = masks[layer]
            x = x * _padded_inside(plan, mask)
    last = [torch.stack(members) for members in zip(*finals, strict=True)]
    return _as_user(plan, x, batch), *(_without(plan, member) for member in last)


def _one_direction(
    step: Step, x: Tensor, state: list[Tensor], parameters: dict[str, Tensor], batch: Batch
) -> tuple[Tensor, list[Tensor]]:
    T = x.shape[0]
    projected = functional.linear(x, parameters["w_ih"], parameters.get("b_ih"))
    w_hh, b_hh = parameters["w_hh"], parameters.get("b_hh")
    ys: list[Tensor] = []
    for t in reversed(range(T)) if batch.reverse else range(T):
        state = _started(state, batch, t)
        new = step(projected[t], functional.linear(state[0], w_hh, b_hh), state)
        valid = _column(batch.all_lengths > t, x)
        if valid is None:
            state = new
            ys.append(new[0])
        else:
            state = [torch.where(valid, after, before) for after, before in zip(new, state, strict=True)]
            ys.append(torch.where(valid, new[0], torch.zeros_like(new[0])))
    if batch.reverse:
        ys.reverse()
    return torch.stack(ys), state


def _started(state: list[Tensor], batch: Batch, t: int) -> list[Tensor]:
    """The state before step t: zero where an episode starts; see `Batch._cuts`."""
    if batch.resets is None:
        return state
    at = t + 1 if batch.reverse else t
    if at == batch.T:
        return state
    marks = batch.resets[at] & (batch.all_lengths > at)
    kept = _column(~marks, state[0])
    return state if kept is None else [torch.where(kept, member, torch.zeros_like(member)) for member in state]


def _column(which: Array, like: Tensor) -> Tensor | None:
    """Booleans (B, 1) as a tensor on the device of `like`; None if all are true."""
    return None if which.all() else torch.from_numpy(np.ascontiguousarray(which)).to(like.device)[:, None]


def gradients(
    plan: Plan,
    inputs: Sequence[Tensor | None],
    masks: Sequence[Tensor | None] | None,
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """What backward returns for x, the states and the weights (`inputs`), as differentiable functions of them and of d.

    One input may be computed from another, or be the same tensor. The gradient of each input is the partial derivative
    with the other inputs held fixed, since autograd itself adds the gradient that passes from one input to another. So
    the recurrence runs on aliases of the inputs, one alias for each argument. No alias is computed from another alias,
    and each alias is computed from its input, so the gradients can be differentiated again.
    """
    places = [place for place, one in enumerate(inputs) if one is not None]

    def outputs_of(*given: Tensor) -> tuple[Tensor, ...]:
        filled: list[Any] = [None] * len(inputs)
        for place, one in zip(places, given, strict=True):
            filled[place] = one
        x, *rest = filled
        count = len(plan.network.row.states)
        return run(plan, x, rest[:count], rest[count:], masks)

    present: list[Any] = [inputs[place] for place in places]
    differentiate = _in_a_transform if torch._C._are_functorch_transforms_active() else _on_aliases
    found = dict(zip(places, differentiate(outputs_of, present, d, [wanted[place] for place in places]), strict=True))
    return [found.get(place) for place in range(len(inputs))]


def _on_aliases(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    d: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    is_differentiated_again = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = [one.view_as(one) for one in inputs]
        pairs = [(y, dy) for y, dy in zip(function(*aliases), d, strict=True) if dy is not None]
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


# ---- between the user's layout and (T, B, n) ----


def _padded(plan: Plan, x: Tensor) -> Tensor:
    if plan.kind == "packed":
        return _padded_inside(plan, x[:, None])
    if plan.kind == "batch_first":
        return x.transpose(0, 1)
    return _with(plan, x)


def _with(plan: Plan, tensor: Tensor) -> Tensor:
    """Add the axes that the user's layout lacks."""
    if plan.kind == "unbatched":
        return tensor.unsqueeze(1)
    if plan.kind == "unbatched_step":
        return tensor[None, None]
    return tensor[None] if plan.kind == "step" else tensor


def _without(plan: Plan, tensor: Tensor) -> Tensor:
    if plan.kind == "unbatched":
        return tensor.squeeze(1)
    if plan.kind == "unbatched_step":
        return tensor[0, 0]
    return tensor[0] if plan.kind == "step" else tensor


def _padded_inside(plan: Plan, rows: Tensor) -> Tensor:
    """Convert rows (N, 1, n) of a packed sequence to (T, B, n); other tensors already have this form."""
    batch = plan.batches[0]
    if plan.kind != "packed":
        return rows
    if not isinstance(batch, PackedBatch):
        return rows.reshape(batch.T, batch.B, -1)
    index, valid = _rows_of(batch)
    where = torch.from_numpy(index).to(rows.device)
    padded = rows[:, 0].index_select(0, where).unflatten(0, (batch.T, batch.B))
    return torch.where(torch.from_numpy(valid).to(rows.device)[:, :, None], padded, torch.zeros_like(padded))


def _rows_of(batch: PackedBatch) -> tuple[Array, Array]:
    """The packed row of each (t, b), or 0 without a row; and booleans for rows that exist."""
    valid = np.arange(batch.T)[:, None] < batch.all_lengths
    index = np.where(valid, np.cumsum(valid).reshape(valid.shape) - 1, 0)
    return index.ravel(), valid


def _states(plan: Plan, member: Tensor | None, x: Tensor) -> Tensor:
    if member is not None:
        return _with(plan, member)
    network = plan.network
    return x.new_zeros(network.layers * network.directions, plan.batches[0].B, network.hidden_size)


def _as_user(plan: Plan, y: Tensor, batch: Batch) -> Tensor:
    if plan.kind == "packed":
        if not isinstance(batch, PackedBatch):
            return y.flatten(0, 1)
        chosen = torch.from_numpy(np.flatnonzero(_rows_of(batch)[1])).to(y.device)
        return y.flatten(0, 1).index_select(0, chosen)
    if plan.kind == "batch_first":
        return y.transpose(0, 1)
    return _without(plan, y)

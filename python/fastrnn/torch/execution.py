"""A plan carried out on NumPy views of tensors: up the stack, and down again.

`kept` is what forward leaves for backward, in this order: for each layer and direction its reserve (where the cell has
one); for each layer but the last its output and, with dropout, the masked output that the next layer read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .. import _core, memory
from .._check import Array
from .._kernel import (
    States,
    WeightGradients,
    Weights,
    in_order,
    make_problem,
    pack_backward,
    pass_empty_through,
    scratch_of,
)
from ..backward import BackwardStack, StateGradients, run_backward_stack
from ..schedule import Batch
from ..tape import CellTape
from ..truncation import stages_of
from .core_calls import has_reserve, new_reserve, whole_problem
from .plan import Network, Plan
from .tensors import new_tensor


class Outcome(NamedTuple):
    """y, h_n and, for the LSTM, c_n in the user's shape, and what backward needs."""

    outputs: tuple[Tensor, ...]
    kept: list[Array]


class Kept(NamedTuple):
    """The same by name."""

    reserves: list[Array | None]  # of each layer and direction
    inputs: list[Array]  # of each layer, inside, with dropout applied
    outputs: list[Array]


def run_forward(
    plan: Plan,
    x: Array,
    h0: Array | None,
    c0: Array | None,
    packed: Sequence[NDArray[np.uint8]],
    masks: Sequence[Array | None] | None,
    *,
    training: bool,
) -> Outcome:
    """`x` and the states in the user's layout; `masks` inside, one for each layer but the last."""
    network, batches = plan.network, plan.batches
    D, H = network.directions, network.hidden_size
    made = [new_tensor(plan.sequence_shape(D * H), x.dtype, zero=plan.has_padding)]
    made += [new_tensor(plan.states_shape(), x.dtype) for _ in range(2 if network.has_c else 1)]
    y, h_n, *c_n = (array for _, array in made)
    initial, final = _states_inside(plan, h0, c0), _states_inside(plan, h_n, c_n[0] if c_n else None)
    x, reserves, between = plan.inside(x), [], []
    for layer in range(network.layers):
        is_last = layer == network.layers - 1
        top = plan.inside(y) if is_last else _like_output(plan, x, D * H)
        for direction, batch in enumerate(batches):
            j = layer * D + direction
            half = top[:, :, direction * H : (direction + 1) * H] if D == 2 else top
            reserve = _run_cell(network.cell, x, H, packed[j], half, _one(initial, j), _one(final, j), batch, training)
            if reserve is not None:
                reserves.append(reserve)
        if not is_last:
            mask = None if masks is None else masks[layer]
            x = top if mask is None else top * mask
            between += [top] if mask is None else [top, x]
    return Outcome(tuple([tensor for tensor, _ in made]), [*reserves, *between])


def _run_cell(
    cell: str,
    x: Array,
    H: int,
    packed: NDArray[np.uint8],
    y: Array,
    initial: States,
    final: States,
    batch: Batch,
    training: bool,
) -> NDArray[np.uint8] | None:
    """One layer in one direction; returns its reserve."""
    if batch.flipped:
        x, y = in_order(x, batch), in_order(y, batch)
    problem = whole = whole_problem(cell, x, H)
    reserve = new_reserve(cell, x, H) if training and has_reserve(cell) else None
    if batch.dense:
        scratch = scratch_of(problem.scratch_forward)
        _core.forward(problem, packed, x, *initial, y, *final, reserve, scratch)
        return reserve
    pass_empty_through(batch, initial, final)
    for part in batch.forward_parts:
        problem = make_problem(cell, x, H, part, backend=whole.backend, states=batch.B)
        _core.forward(problem, packed, x, *initial, y, *final, reserve, scratch_of(problem.scratch_forward))
    return reserve


def read_kept(plan: Plan, x: Array, y: Array, masks: Sequence[Array | None] | None, kept: Sequence[Array]) -> Kept:
    """`kept` by name; x and y in the user's layout."""
    network = plan.network
    count = network.layers * network.directions
    saves = has_reserve(network.cell)
    reserves: list[Array | None] = [*kept[:count]] if saves else [None] * count
    rest = iter(kept[count:] if saves else kept)
    inputs, outputs = [plan.inside(x)], []
    for layer in range(network.layers - 1):
        outputs.append(next(rest))
        inputs.append(outputs[-1] if masks is None or masks[layer] is None else next(rest))
    return Kept(reserves, inputs, [*outputs, plan.inside(y)])


class Wanted(NamedTuple):
    """Which gradients are asked for; `weights` in the order of the parameters."""

    x: bool
    states: bool
    weights: Sequence[bool]


class Gradients(NamedTuple):
    """In the user's layout; None where not asked for."""

    x: Array | None
    h0: Array | None
    c0: Array | None
    weights: list[Array | None]


def run_backward(
    plan: Plan,
    kept: Kept,
    h0: Array | None,
    c0: Array | None,
    weights: Sequence[Array],
    masks: Sequence[Array | None] | None,
    d: tuple[Array | None, Array | None, Array | None],
    wanted: Wanted,
) -> Gradients:
    """D = (dy, dh_n, dc_n) in the user's layout, None standing for zero."""
    network = plan.network
    initial = _states_inside(plan, h0, c0)
    dy = None if d[0] is None else plan.inside(d[0])
    d_final = _states_inside(plan, d[1], d[2])
    dx_user = memory.empty(plan.sequence_shape(kept.inputs[0].shape[2]), kept.inputs[0].dtype) if wanted.x else None
    dh0 = memory.empty(plan.states_shape(), kept.inputs[0].dtype) if wanted.states else None
    dc0 = memory.empty(dh0.shape, dh0.dtype) if dh0 is not None and network.has_c else None
    into = [memory.empty(w.shape, w.dtype) if asked else None for w, asked in zip(weights, wanted.weights, strict=True)]
    dx = None if dx_user is None else plan.inside(dx_user)
    d_initial = _states_inside(plan, dh0, dc0)
    if network.layers == network.directions == 1 and plan.batches[0].dense and plan.truncation is None:
        _backward_alone(network, kept, initial, weights, dy, d_final, dx, d_initial, into)
        return Gradients(dx_user, dh0, dc0, into)
    each = network.tensors_each
    down = BackwardStack(
        _tapes(plan, kept, initial, weights),
        [stages_of(batch, plan.truncation) for batch in plan.batches],
        [None] * network.layers if masks is None else [None, *masks],
        [WeightGradients(*into[j : j + each]) for j in range(0, len(into), each)],
        lambda n: memory.empty((*kept.inputs[0].shape[:2], n), kept.inputs[0].dtype),
    )
    run_backward_stack(down, dy, dx, StateGradients(d_final, d_initial), overwrite=True)
    if wanted.states:
        pass_empty_through(plan.batches[0], d_final, d_initial)
    return Gradients(dx_user, dh0, dc0, into)


def _backward_alone(
    network: Network,
    kept: Kept,
    initial: States,
    weights: Sequence[Array],
    dy: Array | None,
    d_final: States,
    dx: Array | None,
    d_initial: States,
    into: list[Array | None],
) -> None:
    """One layer in one direction over a dense batch: the same as a sweep, without what stacks and schedules need.

    At T=B=1, H=64 a sweep's Python takes as long as the kernel; `benchmarks/pytorch.py` has the case.
    """
    x, H = kept.inputs[0], network.hidden_size
    problem, packed = whole_problem(network.cell, x, H), pack_backward(network.cell, Weights(*weights))
    _core.backward(
        problem,
        packed,
        x,
        *_one(initial, 0),
        kept.outputs[0],
        kept.reserves[0],
        dy,
        *_one(d_final, 0),
        dx,
        *_one(d_initial, 0),
        *WeightGradients(*into),
        scratch_of(problem.scratch_backward),
        overwrite=True,
    )


def _tapes(plan: Plan, kept: Kept, initial: States, weights: Sequence[Array]) -> list[CellTape]:
    """The core's tapes, with weights packed for backward."""
    network, tapes = plan.network, []
    D, H, each = network.directions, network.hidden_size, network.tensors_each
    bias = (network.has_bias, network.has_bias)
    for j in range(network.layers * D):
        batch, layer = plan.batches[j % D], j // D
        x = in_order(kept.inputs[layer], batch)
        y = in_order(kept.outputs[layer][:, :, (j % D) * H : (j % D + 1) * H], batch)
        packed = pack_backward(network.cell, Weights(*weights[j * each : (j + 1) * each]))
        problem = whole_problem(network.cell, x, H)
        reserve, sizes = kept.reserves[j], (*x.shape, H)
        tapes.append(
            CellTape(network.cell, problem, packed, x, *_one(initial, j), y, reserve, sizes, x.dtype, bias, batch)
        )
    return tapes


def _like_output(plan: Plan, x: Array, n: int) -> Array:
    """A layer's output, inside; zero where there is padding."""
    return (memory.zeros if plan.has_padding else memory.empty)((*x.shape[:2], n), x.dtype)


def _states_inside(plan: Plan, h: Array | None, c: Array | None) -> States:
    return States(*(None if member is None else plan.states_inside(member) for member in (h, c)))


def _one(states: States, j: int) -> States:
    h, c = states
    return States(None if h is None else h[j], None if c is None else c[j])

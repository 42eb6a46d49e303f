"""A bound of the rounding errors of a step, for comparing two computations of it.

Each operation adds a few roundings of its result, and passes on the errors of its arguments times its slopes. To first
order that is eps * sum |adjoint * value| over the trace.
"""

import numpy as np
from fastrnn.cell import interpret
from fastrnn.cell.program import COMPARISONS, LOGIC

ROUNDINGS = 8  # of a result: two computations, each of at most 4 units in the last place
STEP = 1e-30


def step_bounds(program, given, product, product_bound, heads=1):
    """The bound of each output of a step forward, by name.

    `product(k, v)` is the product of `interpret.forward`, and `product_bound(k, v)` the same with absolute values.
    """
    dtype = np.result_type(*(one for one in given.values() if isinstance(one, np.ndarray)))
    values, errors, unsure = [], [], {}
    known = {name: (np.asarray(one, dtype), np.zeros(())) for name, one in given.items()}
    begin, count = 0, 0
    shape = np.broadcast_shapes(*(one.shape for one, _ in known.values()))
    for phase in program.forward.phases:
        if phase.product is not None:
            index = program.forward.outputs[f"operand.{phase.product}"]
            found = product(phase.product, values[index])
            passed = product_bound(phase.product, np.broadcast_to(errors[index], values[index].shape))
            own = product_bound(phase.product, np.abs(values[index])) * np.finfo(dtype).eps * shape[-1]
            known[f"product.{phase.product}"] = found, passed + ROUNDINGS * own
        for one in phase.sums:
            by_head = (*shape[:-1], heads, shape[-1] // heads) if one.by_head else (*shape[:-1], 1, shape[-1])
            terms, passed = (
                np.concatenate([np.broadcast_to(of[arg], shape).reshape(by_head) for arg in one.args], -1)
                for of in (values, errors)
            )
            _add_sum(known, count, one, terms, passed, shape, np.finfo(dtype).eps)
            count += 1
        for number in range(begin, phase.end):
            _add_value(known, values, errors, unsure, program.forward.values[number], dtype)
        begin = phase.end
    return {name: np.broadcast_to(errors[index], shape) for name, index in program.forward.outputs.items()}


def _add_sum(known, number, one, terms, passed, shape, eps):
    """terms, passed: the values and their errors (..., heads, units of a head)."""

    def readable(total):
        return np.repeat(total, shape[-1] // terms.shape[-2], axis=-1).reshape(shape)

    size = 1 if one.kind == "sum" else terms.shape[-1]
    total = terms.sum(-1, keepdims=True) / size
    own = ROUNDINGS * eps * terms.shape[-1]
    error = (passed.sum(-1, keepdims=True) + own * np.abs(terms).sum(-1, keepdims=True)) / size
    known[f"sum.{number}"] = readable(total), readable(error)
    if one.kind == "moments":
        away = np.abs(terms - total)
        variance = np.square(away).mean(-1, keepdims=True)
        moved = 2 * (away * (passed + error)).mean(-1, keepdims=True) + np.square(error)
        known[f"variance.{number}"] = readable(variance), readable(moved + own * variance)


def _add_value(known, values, errors, unsure, value, dtype):
    number = len(values)
    if value.op == "read":
        found, error = known[value.name]
    elif value.op == "constant":
        found, error = np.asarray(value.number, dtype), np.zeros(())
    else:
        args = [values[arg] for arg in value.args]
        found = interpret.evaluate(value.op, *args)
        error = np.zeros(())
        if value.op in COMPARISONS:
            allowed = errors[value.args[0]] + errors[value.args[1]]
            same = value.args[0] == value.args[1]
            unsure[number] = (np.abs(args[0] - args[1]) <= allowed) & (allowed > 0) & (not same)
        elif value.op in LOGIC:
            unsure[number] = np.any(np.broadcast_arrays(*(unsure[arg] for arg in value.args)), axis=0)
        else:
            error = ROUNDINGS * np.finfo(dtype).eps * np.abs(found)
            for place, arg in enumerate(value.args):
                if arg not in unsure:
                    error = error + np.abs(_slope(value.op, args, place)) * errors[arg]
            if value.op == "select":
                error = error + np.where(unsure[value.args[0]], np.abs(args[1] - args[2]), 0)
    values.append(found)
    errors.append(error)


def _slope(op, args, place):
    """The derivative for an argument, and 1 at the edges of operations with slopes of at most 1."""
    moved = list(args)
    moved[place] = args[place] + 1j * STEP
    slope = interpret.evaluate(op, *moved).imag / STEP
    return np.where(slope == 0, 1, slope) if op in ("abs", "relu", "min", "max", "clip") else slope

"""Strategies for small random cells: a list of operations, as a NumPy step that runs it."""

from dataclasses import dataclass

import numpy as np
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import log_sigmoid, relu, sigmoid, softplus
from fastrnn.cell.norms import layer_norm, rms_norm
from hypothesis import strategies as st

# Functions that are finite for any finite arguments of moderate size; others have their arguments guarded.
UNARY = {
    "neg": lambda x: -x,
    "abs": np.abs,
    "sign": np.sign,
    "sqrt": lambda x: np.sqrt(np.square(x) + 0.3),
    "reciprocal": lambda x: np.reciprocal(np.square(x) + 0.4),
    "exp": lambda x: np.exp(np.minimum(x, 2.0)),
    "expm1": lambda x: np.expm1(np.minimum(x, 2.0)),
    "log": lambda x: np.log(np.abs(x) + 0.2),
    "log1p": lambda x: np.log1p(np.abs(x)),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "softplus": softplus,
    "log_sigmoid": log_sigmoid,
    "square": np.square,
    "one_minus": lambda x: 1 - x,
    "clip": lambda x: np.clip(x, -0.5, 0.75),
    "cube": lambda x: np.clip(x, -2, 2) ** 3,
    "inverse_square": lambda x: (np.abs(x) + 0.5) ** -2,
}
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (np.abs(y) + 0.5),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "clip_between": lambda x, y: np.clip(x, y, 0.5),
    "where_less": lambda x, y: np.where(x < y, np.tanh(x), y * 0.5),
    "where_not_equal": lambda x, y: np.where((x != y) & ~(y >= 1), x, -y),
    "where_outside": lambda x, y: np.where((x > 0.5) | (y <= -0.5), y, x),
    "affine": lambda x, y: 2 * x - y / 3,
}


# Sums over units: each begins a phase.
SUMS = {
    "centred": lambda x: x - np.mean(x, axis=-1, keepdims=True),
    "share": lambda x: np.exp(np.minimum(x, 2.0)) / np.sum(np.exp(np.minimum(x, 2.0)), axis=-1, keepdims=True),
    "layer_norm": layer_norm,
    "rms_norm": lambda x: rms_norm(x, eps=0.1),
}
FUNCTIONS = UNARY | BINARY | SUMS


@dataclass(frozen=True)
class Drawn:
    """A cell, its step, and the operations that the step runs."""

    cell: object
    step: object
    operations: tuple

    def __repr__(self):
        return f"{self.operations}\n{self.cell!r}"


def _bounded(x):
    """x/(1 + |x|/4): keeps values moderate through several operations."""
    return x / (1 + np.abs(x) / 4)


@st.composite
def small_cells(draw, products=True, sums=True):
    """A cell of 1 to 3 gates and 1 to 3 states, with up to two vectors, an input and an option."""
    gates, states = "abc"[: draw(st.integers(1, 3))], "hcm"[: draw(st.integers(1, 3))]
    vectors, has_input = ("u", "w")[: draw(st.integers(0, 2))], draw(st.booleans())
    halves = draw(st.sampled_from(["none", "input", "both"] + ["product"] * products))
    place = st.integers(0, 99)
    one, two = (
        st.tuples(st.sampled_from(sorted(UNARY)), place),
        st.tuples(st.sampled_from(sorted(BINARY)), place, place),
    )
    operations = draw(st.lists(one | two, max_size=8))
    if sums:
        operations += draw(st.lists(st.tuples(st.sampled_from(sorted(SUMS)), place), max_size=3))
        operations = draw(st.permutations(operations))
    picked = draw(st.lists(st.integers(0, 99), min_size=len(states) + 1, max_size=len(states) + 1))
    output_is_state = draw(st.booleans())

    def step(a, s, v, x, o):
        pool = [getattr(a, gate) for gate in gates[:-1]] + [getattr(s, state) for state in states]
        last = gates[-1]
        if halves in ("input", "product"):
            pool.append(getattr(a.input, last))
        if halves == "both":
            pool += [getattr(a.input, last) * 0.5, getattr(a.state, last)]
        if halves in ("none", "both"):
            pool.append(getattr(a, last))
        pool += [getattr(v, vector) for vector in vectors] + ([x.mask, o.gain] if has_input else [])
        leaves = len(pool)
        for number, (name, *places) in enumerate(operations):
            args = [pool[place % len(pool)] for place in places]
            if name in SUMS:
                args[0] = args[0] + getattr(s, states[-1])  # a vector, if it was a number
            pool.append(_bounded(FUNCTIONS[name](*args)))
            if halves == "product" and number == len(operations) // 2:
                pool.append(_bounded(getattr(a.product, last)(np.tanh(pool[-1] * s.h))))
        if halves == "product" and not operations:
            pool.append(getattr(a.product, last)(s.h))
        total = pool[0] * 0.3
        for leaf in pool[1:leaves] + pool[leaves:] * (halves == "product"):
            total = total + leaf * 0.3
        results = [pool[place % len(pool)] for place in picked]
        results[1] = np.tanh(results[1] + total)  # all that is declared is used
        output = results[1] if output_is_state else results[0] * np.float64(0.5)
        return output, tuple(results[1:])

    made = cell(
        gates=gates, states={name: 0.25 * n for n, name in enumerate(states)}, vectors=vectors,
        inputs={"mask": draw(st.sampled_from(["units", "one"]))} if has_input else (),
        input_gradients=("mask",) if has_input else (), options={"gain": 0.5} if has_input else None,
    )(step)  # fmt: skip
    return Drawn(made, step, tuple(operations))

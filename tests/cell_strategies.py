"""Strategies for small random cells: a list of operations, as a NumPy step that runs it."""

from dataclasses import dataclass

import numpy as np
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import log_sigmoid, relu, sigmoid, softplus
from fastrnn.cell.norms import layer_norm, rms_norm
from hypothesis import reject
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
    "layer_norm_by_head": lambda x: layer_norm(x, by_head=True),
    "rms_norm_by_head": lambda x: rms_norm(x, eps=0.1, by_head=True),
}
FUNCTIONS = UNARY | BINARY | SUMS


@dataclass(frozen=True)
class Plan:
    """What a random step does: its names, its operations on a growing pool of values, and the results in the pool."""

    gates: str
    states: str
    vectors: tuple
    has_input: bool
    halves: str  # which halves of the last gate the step reads: none, input, both, or its product
    operations: tuple  # (function, places of arguments …)
    results: tuple
    output_is_state: bool

    def leaves(self, a, s, v, x, o):
        """The values that the step starts from."""
        last = self.gates[-1]
        pool = [getattr(a, gate) for gate in self.gates[:-1]] + [getattr(s, state) for state in self.states]
        if self.halves in ("input", "product"):
            pool.append(getattr(a.input, last))
        if self.halves == "both":
            pool += [getattr(a.input, last) * 0.5, getattr(a.state, last)]
        if self.halves in ("none", "both"):
            pool.append(getattr(a, last))
        return pool + [getattr(v, one) for one in self.vectors] + ([x.mask, o.gain] if self.has_input else [])

    def step(self, a, s, v, x, o):
        pool = self.leaves(a, s, v, x, o)
        used = list(pool)  # all that is declared has an effect
        if self.halves == "product":
            vector = pool[self.results[0] % len(pool)] * s.h
            vector = np.tanh(vector) if self.results[0] % 3 else vector  # backward multiplies a product again
            pool.append(_bounded(getattr(a.product, self.gates[-1])(vector)))
            used.append(pool[-1])
        for name, *places in self.operations:
            args = [pool[place % len(pool)] for place in places]
            if name in SUMS:
                args[0] = args[0] + getattr(s, self.states[-1])  # a vector, if it was a number
            pool.append(_bounded(FUNCTIONS[name](*args)))
        output, h, *others = (pool[place % len(pool)] for place in self.results)
        h = np.tanh(h + sum(one * 0.3 for one in used[1:]) + used[0])
        return h if self.output_is_state else output * np.float64(0.5), (h, *others)


@dataclass(frozen=True)
class Drawn:
    """A cell and its plan."""

    cell: object
    plan: Plan

    def __repr__(self):
        return f"{self.plan}\n{self.cell!r}"


def _bounded(x):
    """x/(1 + |x|/4): keeps values moderate through several operations."""
    return x / (1 + np.abs(x) / 4)


@st.composite
def plans(draw, one_phase=False):
    """one_phase: neither a product in the step nor a sum over units."""
    place = st.integers(0, 99)
    one = st.tuples(st.sampled_from(sorted(UNARY)), place)
    two = st.tuples(st.sampled_from(sorted(BINARY)), place, place)
    sums = st.tuples(st.sampled_from(sorted(SUMS)), place)
    operations = draw(
        st.permutations(draw(st.lists(one | two, max_size=8)) + draw(st.lists(sums, max_size=0 if one_phase else 3)))
    )
    states = "hcm"[: draw(st.integers(1, 3))]
    return Plan(
        gates="abc"[: draw(st.integers(1, 3))],
        states=states,
        vectors=("u", "w")[: draw(st.integers(0, 2))],
        has_input=draw(st.booleans()),
        halves=draw(st.sampled_from(["none", "input", "both"] + ["product"] * (not one_phase))),
        operations=tuple(operations),
        results=draw(st.tuples(*[place] * (len(states) + 1))),
        output_is_state=draw(st.booleans()),
    )


@st.composite
def small_cells(draw, one_phase=False):
    """A cell of 1 to 3 gates and 1 to 3 states, with up to two vectors, an input and an option."""
    plan = draw(plans(one_phase))
    try:
        made = cell(
            gates=plan.gates,
            states={name: 0.25 * n for n, name in enumerate(plan.states)},
            vectors=plan.vectors,
            inputs={"mask": draw(st.sampled_from(["units", "one"]))} if plan.has_input else (),
            input_gradients=("mask",) if plan.has_input else (),
            options={"gain": 0.5} if plan.has_input else None,
        )(plan.step)
    except ValueError as error:
        if "expected at most" not in str(error):
            raise
        reject()  # beyond a limit
    return Drawn(made, plan)


INTEGER = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where_less": lambda x, y: np.where(x < y, x, -y),
    "relu": lambda x, _: relu(x),
    "abs": lambda x, _: np.abs(x),
}


@st.composite
def cells_of_integers(draw):
    """A cell of few operations that keep integers exact; states are clipped to small integers."""
    place = st.integers(0, 99)
    operations = draw(st.lists(st.tuples(st.sampled_from(sorted(INTEGER)), place, place), min_size=1, max_size=4))
    results = draw(st.tuples(place, place))

    def step(a, s, v):
        pool = [a.b + 0, a.input.a, a.state.a, s.h, s.c, v.u]
        for name, one, other in operations:
            pool.append(INTEGER[name](pool[one % len(pool)], pool[other % len(pool)]))
        h = np.clip(pool[-1] + pool[results[0] % len(pool)] + sum(pool[:6]), -2, 2)
        return h, (h, np.clip(pool[results[1] % len(pool)] - pool[0], -2, 2))

    return cell(gates="ab", states="hc", vectors=("u",))(step)

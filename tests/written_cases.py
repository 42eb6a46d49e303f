"""Drawn problems of written cells, as arguments of `fastrnn.recurrent`, and the reference: the NumPy loop."""

from dataclasses import dataclass

import fastrnn
import numpy as np
from cell_strategies import small_cells
from fastrnn.cell import loop
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.lower import lower
from hypothesis import reject
from hypothesis import strategies as st
from program_cases import WRITTEN

peephole, masked, own_output = (WRITTEN[name] for name in ("peephole_lstm", "masked", "own_output"))
WEIGHTS = "w_ih", "w_hh", "b_ih", "b_hh"
SHIPPED = [lstm, peephole, masked, own_output]


@st.composite
def written_cells(draw):
    """A random cell, or one of a few; only cells that C runs."""
    found = draw(st.one_of(st.sampled_from(SHIPPED), small_cells(one_phase=True), small_cells()))
    found = getattr(found, "cell", found)
    try:
        lower(found.program)
    except ValueError as error:  # more registers or constants than there are
        if "expected at most" not in str(error):
            raise
        reject()
    return found


@dataclass
class Case:
    """A call's arguments, and the gradients of its results; all arrays are read-only."""

    cell: object
    x: np.ndarray
    weights: dict
    state: dict
    vectors: dict
    inputs: dict
    dy: np.ndarray
    dstate: dict
    heads: int = 1

    @property
    def run(self):
        return fastrnn.recurrent(self.cell, self.heads)

    def part(self, t=slice(None), b=slice(None), state=None):
        """The case of these steps and sequences; state: in place of the initial one."""
        state = {name: one[b] for name, one in self.state.items()} if state is None else state
        inputs = {name: one[t, b] for name, one in self.inputs.items()}
        dstate = {name: one[b] for name, one in self.dstate.items()}
        sequences = self.dy[t, b], dstate
        return Case(self.cell, self.x[t, b], self.weights, state, self.vectors, inputs, *sequences, self.heads)

    @property
    def arguments(self):
        return (self.x, *self.weights.values(), members(self.state)), {"vectors": self.vectors, "inputs": self.inputs}

    def infer(self, **more):
        arguments, named = self.arguments
        y, final = self.run(*arguments, **named, **more)
        return {"y": y} | states_by_name(self.cell, final)

    def train(self, truncation=None, **more):
        """All results and gradients by name."""
        arguments, named = self.arguments
        y, final, tape = self.run.forward(*arguments, **named, **more)
        gradients = self.run.backward(tape, self.dy, members(self.dstate), truncation=truncation)
        return {"y": y} | states_by_name(self.cell, final) | gradients_by_name(self.cell, gradients)


def members(states):
    found = tuple(states.values())
    return found if len(found) > 1 else found[0]


def states_by_name(cell, found, ending="_n"):
    names = [f"{one.name}{ending}" for one in cell.program.states]
    return dict(zip(names, found if len(names) > 1 else (found,), strict=True))


def gradients_by_name(cell, g):
    found = {"dx": g.x} | {f"d{name}": one for name, one in states_by_name(cell, g.state, "0").items()}
    found |= {f"d{name}": getattr(g, name) for name in WEIGHTS}
    return found | {f"d{name}": one for name, one in (g.vectors | g.inputs).items()}


def make(cell, T, B, I, width, dtype, seed=0, heads=1):
    """width: the units of a head."""
    rng, program, H = np.random.default_rng(seed), cell.program, width * heads
    G, scale = len(program.gates), 1 / np.sqrt(I + H)

    def draw(*shape, scale=1.0):
        array = (rng.standard_normal(shape) * scale).astype(dtype)
        array.flags.writeable = False
        return array

    weights = {"w_ih": draw(G * H, I, scale=scale), "w_hh": draw(G * H, width, scale=scale),
               "b_ih": draw(G * H), "b_hh": draw(G * H)}  # fmt: skip
    return Case(
        cell, draw(T, B, I), weights, {one.name: draw(B, H) for one in program.states},
        {name: draw(H) for name in program.vectors},
        {one.name: draw(T, B, 1 if one.columns == "one" else H) for one in program.inputs},
        draw(T, B, H), {one.name: draw(B, H) for one in program.states}, heads,
    )  # fmt: skip


def reference(case):
    """What `train` returns, by the NumPy loop."""
    program = case.cell.program
    weights = loop.Weights(*case.weights.values(), case.vectors)
    record = loop.forward(program, case.x, weights, case.state, case.inputs)
    g = loop.backward(record, case.dy, case.dstate)
    found = {"y": record.y, "dx": g.x} | {f"{name}_n": one for name, one in record.final.items()}
    found |= {f"d{name}0": one for name, one in g.initial.items()}
    found |= {f"d{name}": getattr(g.weights, name) for name in WEIGHTS}
    found |= {f"d{name}": one for name, one in g.weights.vectors.items()}
    columns = {one.name: one.columns for one in program.inputs}
    for name, one in g.inputs.items():
        found[f"d{name}"] = one.sum(-1, keepdims=True) if columns[name] == "one" else one
    return found

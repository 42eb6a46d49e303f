"""Cells against libraries that nobody here wrote: onnxruntime, TensorFlow 1's cells, Keras and haste.

`check_oracles.py` runs the libraries; oracle_cases.py has the arguments and reads what they returned.
"""

import bounds
import cell_cases
import fastrnn
import numpy as np
import pytest
from fastrnn.cell import loop
from oracle_cases import GATES, ORACLES, STATES, VECTORS, B, H, I, T, arguments_of, read, results_of

oracles = pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)


class Case:
    """The arguments of an oracle's call, for each of the ways to run the cell."""

    def __init__(self, oracle):
        self.oracle, self.cell = oracle, getattr(cell_cases, oracle.cell)
        self.given = given = arguments_of(oracle.cell, oracle.dtype)
        self.states = {state: given[f"{state}0"] for state in STATES[oracle.cell]}
        self.d_final = {state: given[f"d{state}_n"] for state in STATES[oracle.cell]}
        self.vectors = {name: given[name] for name in VECTORS[oracle.cell]}
        zero = np.zeros(len(self.cell.program.gates) * H, oracle.dtype)
        self.matrices = given["w_ih"], given["w_hh"], given.get("b_ih", zero), zero

    def assert_agrees(self, found, names):
        """The library rounds too, so the limit is twice the bound of one side."""
        _, expected = read(self.oracle)
        dtype = self.oracle.dtype
        for name in names:
            values = name == "y" or name.endswith("_n")
            limit = bounds.of_values(dtype, I, H, T) if values else bounds.of_gradients(dtype, I, H, T, B)
            bounds.assert_within(found[name], expected[name], 2 * limit, f"{self.oracle.name}: {name}")

    def by_function(self):
        """The outputs of the cell's NumPy function, in a loop over the steps."""
        gates = self.cell.program.gates
        w_ih, w_hh, b_ih, _ = (dict(zip(gates, np.split(one, len(gates)), strict=True)) for one in self.matrices)
        state, y = dict(self.states), []
        for x in self.given["x"]:
            h = state["h"]
            halves = {
                "input": {gate: x @ one.T + b_ih[gate] for gate, one in w_ih.items()},
                "state": {gate: h @ one.T for gate, one in w_hh.items()},
                "product": {gate: lambda vector, one=one: vector @ one.T for gate, one in w_hh.items()},
            }
            output, after = self.cell(halves, state, *([self.vectors] if self.vectors else []))
            state = dict(zip(self.states, after, strict=True))
            y.append(output)
        return {"y": np.stack(y)} | {f"{name}_n": one for name, one in state.items()}

    def by_program(self):
        """The outputs and gradients of the program in NumPy."""
        weights = loop.Weights(*self.matrices, self.vectors)
        record = loop.forward(self.cell.program, self.given["x"], weights, self.states)
        g = loop.backward(record, self.given["dy"], self.d_final)
        found = {"y": record.y, "dx": g.x} | {f"{name}_n": one for name, one in record.final.items()}
        found |= {f"d{name}0": one for name, one in g.initial.items()}
        found |= {f"d{name}": getattr(g.weights, name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")}
        return found | {f"d{name}": one for name, one in g.weights.vectors.items()}

    def in_c(self):
        """The outputs and gradients of `fastrnn.recurrent`."""

        def by_state(members, form):
            named = zip(self.states, members if len(self.states) > 1 else (members,), strict=True)
            return {form.format(name): one for name, one in named}

        def one_or_all(members):
            return members if len(members) > 1 else members[0]

        run, states = fastrnn.recurrent(self.cell), one_or_all(tuple(self.states.values()))
        y, final, tape = run.forward(self.given["x"], *self.matrices, states, vectors=self.vectors)
        g = run.backward(tape, self.given["dy"], one_or_all(tuple(self.d_final.values())))
        found = {"y": y, "dx": g.x, "dw_ih": g.w_ih, "dw_hh": g.w_hh, "db_ih": g.b_ih, "db_hh": g.b_hh}
        found |= by_state(final, "{}_n") | by_state(g.state, "d{}0")
        return found | {f"d{name}": one for name, one in g.vectors.items()}


@oracles
def test_a_file_has_the_cells_tables_and_names_its_library(oracle):
    program = getattr(cell_cases, oracle.cell).program
    assert "".join(program.gates) == GATES[oracle.cell]
    assert "".join(one.name for one in program.states) == STATES[oracle.cell]
    assert program.vectors == VECTORS[oracle.cell]
    source, arrays = read(oracle)
    assert oracle.library in source
    assert any(part.isdigit() for part in source.replace(" ", ".").split("."))
    assert list(arrays) == results_of(oracle.cell, oracle.has_gradients)


@oracles
def test_the_function_of_a_cell_has_the_values_of_the_library(oracle):
    case = Case(oracle)
    case.assert_agrees(case.by_function(), results_of(oracle.cell, False))


@oracles
def test_the_program_in_numpy_has_the_values_and_gradients_of_the_library(oracle):
    case = Case(oracle)
    assert_agrees_in_all(case, case.by_program())


@oracles
def test_a_call_has_the_values_and_gradients_of_the_library(backend, oracle):
    case = Case(oracle)
    assert_agrees_in_all(case, case.in_c())


def assert_agrees_in_all(case, found):
    case.assert_agrees(found, results_of(case.oracle.cell, case.oracle.has_gradients))
    if case.oracle.has_gradients and "b_ih" in case.given:  # the biases of both products are added
        case.assert_agrees({"db_ih": found["db_hh"]}, ["db_ih"])


def test_every_cell_that_proves_the_design_has_gradients_of_another_library():
    assert {one.cell for one in ORACLES if one.has_gradients} == {one.program.name for one in cell_cases.PROOF}

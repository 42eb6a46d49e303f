"""A layer of any program as a plain loop over T in NumPy: the reference for tests, not fast.

Dense sequences, one layer, one direction. Arrays may be complex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import interpret
from .program import Program

_Array = NDArray[Any]


@dataclass
class Weights:
    """The parameters of a layer: w_ih (G*H, I), w_hh (G*H, H), b_ih and b_hh (G*H), and the vectors (H) by name.

    With heads, w_hh is (G*H, H/heads): a row multiplies the units of its unit's head alone.
    """

    w_ih: _Array
    w_hh: _Array
    b_ih: _Array
    b_hh: _Array
    vectors: Mapping[str, _Array]

    def rows(self, program: Program, gate: str) -> slice:
        """The rows of a gate."""
        H, number = self.units(program), program.gates.index(gate)
        return slice(number * H, (number + 1) * H)

    def units(self, program: Program) -> int:
        """H."""
        return len(self.w_hh) // len(program.gates)

    def heads(self, program: Program) -> int:
        return self.units(program) // int(self.w_hh.shape[1])

    def of_heads(self, rows: slice) -> _Array:
        """The rows of w_hh of a gate, by head: (heads, H/heads, H/heads)."""
        width = self.w_hh.shape[1]
        return self.w_hh[rows].reshape(-1, width, width)

    def multiply(self, rows: slice, vector: _Array) -> _Array:
        """w_hh times a vector (..., H), for the rows of a gate."""
        return _by_head("...hk,huk->...hu", vector, self.of_heads(rows))

    def multiply_transposed(self, rows: slice, d: _Array) -> _Array:
        """The gradient of the vector."""
        return _by_head("...hu,huk->...hk", d, self.of_heads(rows))

    def add_gradient(self, rows: slice, d: _Array, vector: _Array) -> None:
        """Add the gradient of w_hh to these rows; d and the vector are (B, H)."""
        heads = self.of_heads(rows)  # a view
        heads += np.einsum("bhu,bhk->huk", *(one.reshape(len(one), *heads.shape[:2]) for one in (d, vector)))


def _by_head(subscripts: str, vector: _Array, matrices: _Array) -> _Array:
    by_head = vector.reshape(*vector.shape[:-1], *matrices.shape[:2])
    result: _Array = np.einsum(subscripts, by_head, matrices).reshape(vector.shape)
    return result


@dataclass
class Record:
    """A layer's forward pass: the arguments, and for each step the states before it and the outputs of the program."""

    program: Program
    x: _Array
    weights: Weights
    fixed: Mapping[str, _Array]  # reads that are the same in each step
    inputs: Mapping[str, _Array]
    before: list[dict[str, _Array]]
    outputs: list[dict[str, _Array]]
    y: _Array
    final: dict[str, _Array]

    def reads(self, t: int, state: Mapping[str, _Array]) -> dict[str, _Array]:
        """The reads that forward and backward share."""
        reads = dict(self.fixed) | {f"before.{name}": one for name, one in state.items()}
        return reads | {f"input.{name}": one[t] for name, one in self.inputs.items()}

    def kept(self, t: int) -> dict[str, _Array]:
        """The reads of backward that forward left."""
        saved = {name: one for name, one in self.outputs[t].items() if name.startswith("saved.")}
        return self.reads(t, self.before[t]) | saved | {"y": self.y[t]}

    def product(self, number: int, vector: _Array) -> _Array:
        rows = self.weights.rows(self.program, self.program.products[number].gate)
        return self.weights.multiply(rows, vector) + self.weights.b_hh[rows]

    def product_gradient(self, number: int, slot: _Array) -> _Array:
        rows = self.weights.rows(self.program, self.program.products[number].gate)
        return self.weights.multiply_transposed(rows, slot)


@dataclass
class LayerGradients:
    """Gradients of a layer, by the names of its arguments; `inputs` are (T, B, H)."""

    x: _Array
    weights: Weights
    initial: dict[str, _Array]
    inputs: dict[str, _Array]


def forward(
    program: Program,
    x: _Array,
    weights: Weights,
    initial: Mapping[str, _Array] | None = None,
    inputs: Mapping[str, _Array] | None = None,
    options: Mapping[str, float] | None = None,
) -> Record:
    """Run a layer.

    Parameters
    ----------
    program : Program
    x : ndarray (T, B, I)
    weights : Weights
    initial : mapping of str to ndarray (B, H), optional
        States by name; the default of each is its start value.
    inputs : mapping of str to ndarray (T, B, H) or (T, B, 1), optional
    options : mapping of str to float, optional
        The defaults are the program's.

    Returns
    -------
    Record
        With `y` (T, B, H) and the `final` states by name.
    """
    T, B, H = *x.shape[:2], weights.units(program)
    initial, inputs, options = initial or {}, inputs or {}, options or {}
    arrays = [x, weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh, *weights.vectors.values()]
    dtype = np.result_type(*arrays, *initial.values(), *inputs.values())
    state = {one.name: np.full((B, H), one.start, dtype) for one in program.states} | dict(initial)
    fixed = {f"vector.{name}": one for name, one in weights.vectors.items()}
    fixed |= {f"option.{one.name}": np.asarray(options.get(one.name, one.default), dtype) for one in program.options}
    record = Record(program, x, weights, fixed, inputs, [], [], np.zeros((T, B, H), dtype), state)
    for t in range(T):
        reads = record.reads(t, state) | gates(record, x[t], state[program.states[0].name])
        outputs = interpret.forward(program, reads, record.product, weights.heads(program))
        outputs = {name: np.broadcast_to(one, (B, H)) for name, one in outputs.items()}
        record.before.append(state)
        record.outputs.append(outputs)
        state = {one.name: outputs[f"after.{one.name}"] for one in program.states}
        record.y[t] = outputs["y" if program.output is None else f"after.{program.output}"]
    record.final = state
    return record


def gates(record: Record, x: _Array, h: _Array) -> dict[str, _Array]:
    """The pre-activations, or their halves, before the step."""
    program, weights = record.program, record.weights
    multiplied = {product.gate for product in program.products}
    reads: dict[str, _Array] = {}
    for gate in program.gates:
        rows = weights.rows(program, gate)
        of_input = x @ weights.w_ih[rows].T + weights.b_ih[rows]
        if gate not in multiplied:
            of_state = weights.multiply(rows, h) + weights.b_hh[rows]
            reads |= {f"gate_state.{gate}": of_state, f"gate.{gate}": of_input + of_state}
        reads[f"gate_input.{gate}"] = of_input
    return reads


def backward(record: Record, dy: _Array | None = None, d_final: Mapping[str, _Array] | None = None) -> LayerGradients:
    """Differentiate sum(dy*y) + sum(d_final*final).

    Parameters
    ----------
    record : Record
        From `forward`.
    dy : ndarray (T, B, H), optional
    d_final : mapping of str to ndarray (B, H), optional
        By state; the default is zero.

    Returns
    -------
    LayerGradients
    """
    program, weights = record.program, record.weights
    T, h = len(record.outputs), program.states[0].name
    dy = np.zeros_like(record.y) if dy is None else dy
    d_state = {name: np.zeros_like(one) for name, one in record.final.items()} | dict(d_final or {})
    vectors = {name: np.zeros_like(one) for name, one in weights.vectors.items()}
    inputs = {one.name: np.zeros_like(record.y) for one in program.inputs if one.gradient}
    w_ih, w_hh, b_ih, b_hh = map(np.zeros_like, (weights.w_ih, weights.w_hh, weights.b_ih, weights.b_hh))
    found = LayerGradients(np.zeros_like(record.x), Weights(w_ih, w_hh, b_ih, b_hh, vectors), {}, inputs)
    for t in reversed(range(T)):
        if program.output is not None:
            d_state[program.output] = d_state[program.output] + dy[t]
        reads = record.kept(t) | {f"d_after.{name}": one for name, one in d_state.items()} | {"dy": dy[t]}
        outputs = interpret.backward(program, reads, record.product_gradient, weights.heads(program))
        outputs = {name: np.broadcast_to(one, dy[t].shape) for name, one in outputs.items()}
        d_state = {one.name: outputs.get(f"before.{one.name}", np.zeros_like(dy[t])) for one in program.states}
        d_state[h] = d_state[h] + _add_slots(record, found, outputs, t)
        for name in vectors:
            vectors[name] += outputs[f"vector.{name}"].sum(0)
        for name in inputs:
            inputs[name][t] = outputs[f"input.{name}"]
    found.initial = d_state
    return found


def _add_slots(record: Record, found: LayerGradients, outputs: Mapping[str, _Array], t: int) -> _Array:
    """Add the products of a step's slots to the gradients; return the gradient of h by way of w_hh."""
    program, weights, to = record.program, record.weights, found.weights
    kept = record.kept(t)
    h = record.before[t][program.states[0].name]
    dh = np.zeros_like(h)
    for number, slot in enumerate(program.slots):
        d, rows = outputs[f"slot.{number}"], weights.rows(program, slot.gate)
        if slot.to_input:
            found.x[t] += d @ weights.w_ih[rows]
            to.w_ih[rows] += d.T @ record.x[t]
            to.b_ih[rows] += d.sum(0)
        if slot.operand is None:
            continue
        operand = h
        if isinstance(slot.operand, int):
            operand = np.prod([kept[name] for name in program.products[slot.operand].operand], axis=0)
        else:
            dh = dh + weights.multiply_transposed(rows, d)
        to.add_gradient(rows, d, operand)
        to.b_hh[rows] += d.sum(0)
    return dh

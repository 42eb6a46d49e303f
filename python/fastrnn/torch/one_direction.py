"""One layer in one direction as a loop over steps in torch's operations.

As in the core, the rows (t, b) of sequences come step by step, and within a step the longest sequence first. So padding
is never read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..schedule import Batch
from . import second_order
from .loop import Inputs, Loop, Twice
from .rows import Rows
from .steps import Step
from .visits import States, visits


def dense(w_hh: Tensor, heads: int) -> Tensor:
    """A block-diagonal w_hh (G*H, H/heads) as (G*H, H), with zeros between the heads."""
    if heads == 1:
        return w_hh
    width = w_hh.shape[1]
    blocks = w_hh.reshape(-1, heads, width, 1, width)
    inside = torch.eye(heads, dtype=torch.bool, device=w_hh.device).view(heads, 1, heads, 1)
    return torch.where(inside, blocks, torch.zeros_like(blocks)).reshape(-1, heads * width)


class OneDirection:
    """One layer in one direction.

    Everything that does not depend on the state is computed for all rows at once: a step begins with one product.

    Parameters
    ----------
    step : Step
    parameters : dict of str to Tensor
        By the names of the cell's row; biases may be absent.
    options : sequence of float
    inputs : dict of str to Tensor (rows, H) or (rows, 1)
        The inputs of each step.
    x : Tensor (rows, I)
    twice : Twice, optional
        For faster derivatives of the first and second order; ignored for programs that are not elementwise.
    passes_on : bool
        Whether other gradients are computed from the gradient of x.
    """

    def __init__(
        self,
        step: Step,
        parameters: dict[str, Tensor],
        options: Sequence[float],
        inputs: dict[str, Tensor],
        x: Tensor,
        twice: Twice | None = None,
        passes_on: bool = True,
    ) -> None:
        self.step = step
        self.parameters = parameters = parameters | {"w_hh": dense(parameters["w_hh"], step.heads)}
        self.hidden_size = parameters["w_hh"].shape[1]
        program, reads = step.program, step.reads
        self.starts = [x.new_full((), one.start) for one in program.states]
        self.constants = step.constants_like(x)
        self.options = {
            f"option.{one.name}": x.new_full((), number) for one, number in zip(program.options, options, strict=True)
        }
        self.vectors = {f"vector.{name}": parameters[name] for name in program.vectors}
        self.whole = [gate for gate in program.gates if f"gate.{gate}" in reads]
        self.halves = [gate for gate in program.gates if f"gate_state.{gate}" in reads]
        self.gates = [f"gate.{gate}" for gate in self.whole] + [f"gate_state.{gate}" for gate in self.halves]
        self.twice = twice if step.is_elementwise else None
        matrices = parameters["w_ih"], parameters.get("b_ih")
        if self.twice is None:
            projected = functional.linear(x, *matrices)
        else:
            projected = second_order.project(x, *matrices, self.twice, passes_on)
        # For each row, what a step reads.
        self.by_row = {f"input.{name}": one for name, one in inputs.items()}
        self.by_row |= {
            f"gate_input.{gate}": projected[:, self._rows(gate)]
            for gate in program.gates
            if f"gate_input.{gate}" in reads
        }
        self.base = self._base(projected)
        self.w_hh = self._of_gates(parameters["w_hh"], self.whole + self.halves)

    def _rows(self, gate: str) -> slice:
        first = self.step.program.gates.index(gate) * self.hidden_size
        return slice(first, first + self.hidden_size)

    def _of_gates(self, parameter: Tensor, gates: list[str]) -> Tensor | None:
        """The rows of these gates."""
        if tuple(gates) == self.step.program.gates:
            return parameter
        return torch.cat([parameter[self._rows(gate)] for gate in gates]) if gates else None

    def _base(self, projected: Tensor) -> Tensor | None:
        """What the recurrent product adds to: all of it but the product, for each row."""
        b_hh = self.parameters.get("b_hh")
        found = None
        if self.whole:
            found = projected
            if tuple(self.whole) != self.step.program.gates:
                found = torch.cat([projected[:, self._rows(gate)] for gate in self.whole], 1)
            bias = None if b_hh is None else self._of_gates(b_hh, self.whole)
            found = found if bias is None else found + bias
        if self.halves:
            width = len(self.halves) * self.hidden_size
            bias = projected.new_zeros(width) if b_hh is None else self._of_gates(b_hh, self.halves)
            assert bias is not None
            half = bias.expand(projected.shape[0], width)
            found = half if found is None else torch.cat([found, half], 1)
        return found

    def _product(self, number: int, vector: Tensor) -> Tensor:
        """A second product: of a vector of the step."""
        rows, b_hh = self._rows(self.step.program.products[number].gate), self.parameters.get("b_hh")
        return functional.linear(vector, self.parameters["w_hh"][rows], None if b_hh is None else b_hh[rows])

    def run(self, initial: States, batch: Batch, rows: Rows) -> tuple[Tensor, States]:
        """The output of each row, and the final states; sequences in the order of `rows`."""
        steps = visits(batch, rows, initial[0].device)
        if not steps:
            return initial[0][:0], initial
        loop = Loop(
            self.step,
            self.constants,
            self.starts,
            self.options,
            self.gates,
            [*self.by_row, *self.vectors],
            len(self.vectors),
            rows.sizes,
            steps,
            self.twice,
        )
        inputs = Inputs(self.base, self.w_hh, [*self.by_row.values(), *self.vectors.values()], initial)
        if self.twice is not None:
            return second_order.run(loop, inputs)
        y, final, _ = loop.run(inputs, self._product)
        return y, final

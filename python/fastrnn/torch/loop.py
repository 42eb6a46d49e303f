"""The loop over the steps of one direction, and its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .steps import Multiply, Step
from .visits import States, Visit, sweep

Maybe: TypeAlias = Tensor | None


class Inputs(NamedTuple):
    """The tensors of a loop, or gradients of them."""

    base: Maybe  # (rows, G*H): what the recurrent product adds to
    w: Maybe  # (G*H, H); None without a recurrent product
    reads: list[Any]  # what a step reads beside: (rows, H), (rows, 1), and vectors (H)
    initial: list[Any]  # states (B, H)

    @classmethod
    def of(cls, loop: Loop, tensors: Sequence[Any]) -> Inputs:
        """The inverse of `flat`."""
        count = len(loop.reads)
        return cls(tensors[0], tensors[1], list(tensors[2 : 2 + count]), list(tensors[2 + count :]))

    def flat(self) -> tuple[Any, ...]:
        return self.base, self.w, *self.reads, *self.initial


class Twice:
    """Autograd takes derivatives of the first and second order, of plain tensors.

    skips: for now nobody reads the gradients, which will be differentiated. Then zeros take the place of those that no
    other gradient is computed from.
    """

    def __init__(self, skips: bool = False) -> None:
        self.skips = skips


class Loop(NamedTuple):
    """What a loop does, beside its tensors."""

    step: Step
    constants: list[Maybe]
    starts: list[Tensor]
    options: dict[str, Tensor]
    gates: list[str]  # reads that the recurrent product adds up to, in the order of the rows of w
    reads: list[str]  # the names of `Inputs.reads`; vectors come last
    vectors: int  # their number
    sizes: list[int]  # rows of each step
    steps: list[Visit]
    twice: Twice | None  # None: derivatives of any order, operation by operation

    @property
    def states(self) -> int:
        return len(self.starts)

    def ends(self) -> tuple[Tensor, Tensor, Maybe]:
        """Of each sequence with steps the first row and the last one; booleans (rows, 1) of rows that start anew."""
        sizes = np.array(self.sizes)
        numbers = np.arange(sizes[0])
        lengths = (sizes[:, None] > numbers).sum(0)
        last = (np.cumsum(sizes) - sizes)[lengths - 1] + numbers
        device = self.starts[0].device
        both = [torch.from_numpy(one).to(device) for one in (numbers, last)]
        if len(self.steps) > 1 and self.steps[0].t > 0:
            both.reverse()
        if all(one.restarts is None for one in self.steps):
            return both[0], both[1], None
        restarts = {one.t: one.restarts for one in self.steps}
        none = torch.zeros((int(sizes[0]), 1), dtype=torch.bool, device=device)
        marks = [restarts[t] for t in range(len(self.sizes))]
        return (
            both[0],
            both[1],
            torch.cat([none[:n] if m is None else m for m, n in zip(marks, self.sizes, strict=True)]),
        )

    def known(self, reads: Sequence[Tensor], earlier: Sequence[Tensor]) -> dict[str, Tensor]:
        """The reads of a step without its gates."""
        known = self.options | dict(zip(self.reads, reads, strict=True))
        return known | {f"before.{one.name}": s for one, s in zip(self.step.program.states, earlier, strict=True)}

    def run(self, inputs: Inputs, product: Multiply | None = None) -> tuple[Tensor, States, list[States]]:
        """The output of each row, the final states, and of each step the states before it and the gates, if any.

        product: see `Step`.
        """
        base, w, reads, initial = inputs
        by_row = len(reads) - self.vectors
        by_step = [one.split(self.sizes) for one in reads[:by_row]]
        bases, w = None if base is None else base.split(self.sizes), None if w is None else w.t()
        ys, earlier = [initial[0]] * len(self.steps), [initial] * len(self.steps)

        def advance(visit: Visit, states: States) -> States:
            if visit.restarts is not None:
                states = [
                    torch.where(visit.restarts, start, one) for start, one in zip(self.starts, states, strict=True)
                ]
            known = self.known([*(one[visit.t] for one in by_step), *reads[by_row:]], states)
            earlier[visit.t] = states
            if bases is not None and w is not None:
                gates = torch.addmm(bases[visit.t], states[0], w)
                known |= dict(zip(self.gates, gates.chunk(len(self.gates), 1), strict=True))
                earlier[visit.t] = [*states, gates]
            ys[visit.t], *states = self.step(self.constants, known, tuple(states[0].shape), product)
            return states

        final = sweep(self.steps, initial, advance)
        return torch.cat(ys), final, earlier

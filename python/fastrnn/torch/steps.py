"""One step of a program, forward, in torch's operations: what `cell/interpret.py` is in NumPy's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..cell.library.shipped import SHIPPED
from ..cell.program import Direction, Program, Sum
from ..cell.program_text import from_text
from .operations import OPERATIONS
from .plan import CELLS_MAX, program_and_heads

# product(k, v): w_hh v + b_hh for the rows of the gate of product k.
Multiply = Callable[[int, Tensor], Tensor]


class Instruction(NamedTuple):
    """A value that the results need; `to` is its number."""

    to: int
    function: Callable[..., Tensor]
    args: tuple[int, ...]


class Phase(NamedTuple):
    """What happens between two values that need all units."""

    product: int | None
    sums: tuple[tuple[int, Sum], ...]  # with their numbers in the step
    reads: tuple[tuple[int, str], ...]
    instructions: tuple[Instruction, ...]


class Step:
    """The forward direction of a program, without what only its own backward direction needs.

    Attributes
    ----------
    program : Program
    heads : int
        Of a block-diagonal layer.
    reads : set of str
        The names that a step reads, except products and sums.
    output : int
        The number of the state that is the output; -1 if it is none.
    is_elementwise : bool
        Whether no unit needs another one, except by the recurrent product.
    """

    def __init__(self, program: Program, heads: int = 1) -> None:
        self.program, self.heads = program, heads
        forward = program.forward
        states = [forward.outputs[f"after.{one.name}"] for one in program.states]
        y = forward.outputs["y" if program.output is None else f"after.{program.output}"]
        self.results = y, *states
        self.operands = [forward.outputs[f"operand.{n}"] for n in range(len(program.products))]
        live = _live(forward, {*self.results, *self.operands})
        constants = [(j, one.number) for j, one in enumerate(forward.values) if one.op == "constant" and j in live]
        self.constants = [(j, number) for j, number in constants if number is not None]
        self.size = len(forward.values)
        self.phases = _phases(forward, live)
        self.output = -1 if program.output is None else [one.name for one in program.states].index(program.output)
        self.is_elementwise = not any(phase.sums or phase.product is not None for phase in self.phases)
        names = (name for phase in self.phases for _, name in phase.reads)
        self.reads = {name for name in names if name.partition(".")[0] not in ("product", "sum", "variance")}

    def constants_like(self, like: Tensor) -> list[Tensor | None]:
        """Values of a step before any is computed: constants with the dtype and device of `like`."""
        values: list[Tensor | None] = [None] * self.size
        for j, number in self.constants:
            values[j] = like.new_full((), number)
        return values

    def __call__(
        self,
        constants: list[Tensor | None],
        known: Mapping[str, Tensor],
        shape: tuple[int, ...],
        product: Multiply | None = None,
    ) -> list[Tensor]:
        """The output and the states after the step, each of `shape`.

        Parameters
        ----------
        constants : list
            From `constants_like`.
        known : mapping of str to Tensor
            All `reads`, each of a shape that broadcasts to `shape`.
        shape : tuple of int
            Its last axis has the units.
        product : callable
            Needed by programs with products.
        """
        values: list[Tensor] = list(constants)  # type: ignore[arg-type]
        for phase in self.phases:
            if phase.product is not None or phase.sums:
                known = dict(known) | _of_all_units(self, phase, values, shape, product)
            for to, name in phase.reads:
                values[to] = known[name]
            for to, function, args in phase.instructions:
                values[to] = function(*[values[arg] for arg in args])
        return [one if one.shape == shape else one.expand(shape) for one in (values[j] for j in self.results)]


@lru_cache(maxsize=CELLS_MAX)
def step_of(cell: str) -> Step:
    """Of a compiled cell by name, or of a written cell's text."""
    if cell in SHIPPED:
        return Step(SHIPPED[cell].program)
    program, heads = program_and_heads(cell)
    return Step(from_text(program), heads)


def _live(direction: Direction, wanted: set[int]) -> set[int]:
    """The values that the wanted ones depend on."""
    of_sums = dict(enumerate(one for phase in direction.phases for one in phase.sums))
    live = set(wanted)
    for j in reversed(range(len(direction.values))):
        if j not in live:
            continue
        value = direction.values[j]
        live |= set(value.args)
        kind, _, number = str(value.name).partition(".")
        if value.op == "read" and kind in ("sum", "variance"):
            live |= set(of_sums[int(number)].args)
    return live


def _phases(direction: Direction, live: set[int]) -> list[Phase]:
    found, begin, sums = list[Phase](), 0, 0
    for phase in direction.phases:
        own = [j for j in range(begin, phase.end) if j in live]
        reads = tuple((j, str(direction.values[j].name)) for j in own if direction.values[j].op == "read")
        instructions = tuple(
            Instruction(j, OPERATIONS[direction.values[j].op], direction.values[j].args)
            for j in own
            if direction.values[j].op not in ("read", "constant")
        )
        numbered = [(sums + n, one) for n, one in enumerate(phase.sums)]
        read = {name.partition(".")[2] for _, name in reads if name.startswith(("sum.", "variance."))}
        kept = tuple((n, one) for n, one in numbered if str(n) in read)
        found.append(Phase(phase.product, kept, reads, instructions))
        begin, sums = phase.end, sums + len(phase.sums)
    return found


def _of_all_units(
    step: Step, phase: Phase, values: list[Tensor], shape: tuple[int, ...], product: Multiply | None
) -> dict[str, Tensor]:
    """The product and the sums that a phase begins with, by the names of their reads."""
    found: dict[str, Tensor] = {}
    if phase.product is not None:
        assert product is not None
        found[f"product.{phase.product}"] = product(phase.product, values[step.operands[phase.product]].expand(shape))
    for number, one in phase.sums:
        heads = step.heads if one.by_head else 1
        terms = torch.cat([values[arg].expand(shape).unflatten(-1, (heads, -1)) for arg in one.args], -1)
        total = terms.sum(-1, keepdim=True) if one.kind == "sum" else terms.mean(-1, keepdim=True)
        found[f"sum.{number}"] = _of_units(total, shape)
        if one.kind == "moments":
            found[f"variance.{number}"] = _of_units((terms - total).square().mean(-1, keepdim=True), shape)
    return found


def _of_units(sums: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sums of each head (..., heads, 1) as a step reads them: (..., 1), or (..., H) for several heads."""
    heads = sums.shape[-2]
    return sums[..., 0] if heads == 1 else sums.expand(*sums.shape[:-1], shape[-1] // heads).flatten(-2)

"""Instructions of a direction: values become registers, and operations become instructions.

A value that is an output is computed where the output lies, and later instructions read it there. Other values live in
registers, each from its instruction to its last use in the phase. A value that a later phase or a sum needs is kept in
memory. The result depends on the program alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass
from heapq import heappop, heappush

from .code_phases import CodePhases, is_lost_after_its_phase, reachable
from .program import OPERATIONS, Direction, Program

# Operations that only lowering makes: a; (a*b)*(c*(1 - c)), (a*b)*fma(-c, c, 1), a*tanh(b).
CODES = {name: operation.code for name, operation in OPERATIONS.items()}
CODES |= {"copy": 37, "mul_dsigmoid": 38, "mul_dtanh": 39, "mul_tanh": 40}

# Operands: a register, or the number of a read, constant or write plus one of these.
READ, CONSTANT, WRITE = 0x100, 0x200, 0x300
REGISTERS, INSTRUCTIONS, CONSTANTS, LISTED, SUMS = 32, 256, 64, 64, 16
KEPT, TERMS = 32, 8

# In the order of the C interface.
READS = (
    "gate", "gate_input", "gate_state", "before", "vector", "input", "option", "y", "dy", "d_after", "saved",
    "kept", "sum", "variance", "product", "d_product",
)  # fmt: skip
WRITES = "y", "after", "saved", "slot", "d_before", "d_vector", "d_input", "kept"
SUM_KINDS = "sum", "mean", "moments"


@dataclass(frozen=True)
class Code:
    """A direction: instructions (operation, to, a, b, c), and its lists of reads and writes (kind, index).

    `phase_ends` counts instructions. A sum is (kind, phase, kept vectors, whether it is by head). `operands` are the
    kept vectors that second products multiply.
    """

    instructions: tuple[tuple[int, int, int, int, int], ...]
    reads: tuple[tuple[int, int], ...]
    constants: tuple[float, ...]
    writes: tuple[tuple[int, int], ...]
    phase_ends: tuple[int, ...]
    sums: tuple[tuple[int, int, tuple[int, ...], bool], ...]
    operands: tuple[int, ...] = ()


# ---- lists ----


class _RegisterError(ValueError):
    """More values are live than there are registers."""


class _Registers:
    """Registers by last use: the lowest free one is the next."""

    def __init__(self, name: str) -> None:
        self.name, self.free, self.taken = name, list(range(REGISTERS)), dict[int, int]()

    def take(self, value: int) -> int:
        if not self.free:
            raise _RegisterError(f"{self.name}: expected at most {REGISTERS} live registers")
        self.taken[value] = heappop(self.free)
        return self.taken[value]

    def release(self, value: int) -> None:
        if value in self.taken:
            heappush(self.free, self.taken.pop(value))


def _numbers(program: Program) -> dict[str, list[str]]:
    """The names that each kind of vector counts."""
    states, inputs = [one.name for one in program.states], [one.name for one in program.inputs]
    gates, options = list(program.gates), [one.name for one in program.options]
    return {
        "gate": gates, "gate_input": gates, "gate_state": gates, "before": states, "after": states, "d_after": states,
        "vector": list(program.vectors), "input": inputs, "option": options,
        "d_before": states, "d_vector": list(program.vectors), "d_input": inputs,
    }  # fmt: skip


class _Lists:
    """The reads, constants and writes of a direction."""

    def __init__(self, program: Program) -> None:
        self.names = _numbers(program)
        self.reads: list[tuple[int, int]] = []
        self.constants: list[float] = []
        self.writes: list[tuple[int, int]] = []

    def index(self, kind: str, name: str) -> int:
        return self.names[kind].index(name) if kind in self.names else int(name or 0)

    def read(self, name: str) -> int:
        kind, _, rest = name.partition(".")
        return READ + _number_in(self.reads, (READS.index(kind), self.index(kind, rest)))

    def constant(self, number: float) -> int:
        for j, one in enumerate(self.constants):
            if one == number and math.copysign(1, one) == math.copysign(1, number):
                return CONSTANT + j
        self.constants.append(number)
        return CONSTANT + len(self.constants) - 1

    def write(self, name: str, side: str) -> int:
        kind, _, rest = name.partition(".")
        if side == "backward" and kind in ("before", "vector", "input"):
            kind = f"d_{kind}"
        return WRITE + _number_in(self.writes, (WRITES.index(kind), self.index(kind, rest)))


def _number_in(entries: list[tuple[int, int]], entry: tuple[int, int]) -> int:
    if entry not in entries:
        entries.append(entry)
    return entries.index(entry)


# ---- code ----


def code_of(program: Program, side: str, direction: Direction, by_library: Set[str]) -> Code:
    """The code of a direction, "forward" or "backward". `by_library` are the outputs that the library writes."""
    phases = CodePhases(program, side, direction, by_library)
    plain = list(phases.values)
    try:
        phases.fuse()
        return _Coder(program, side, phases).code()
    except _RegisterError:  # superinstructions keep their operands for longer
        phases.values = plain
        return _Coder(program, side, phases).code()


class _Coder:
    def __init__(self, program: Program, side: str, phases: CodePhases) -> None:
        self.label, self.side, self.phases = f"{program.name}, {side}", side, phases
        self.lists = _Lists(program)
        self.reachable = reachable(phases.values, phases.needed)
        self.instructions: list[tuple[int, int, int, int, int]] = []

    def code(self) -> Code:
        ends = list[int]()
        for number in range(len(self.phases.ends)):
            self._add_phase(number)
            ends.append(len(self.instructions))
        kept, lists = self.phases.kept, self.lists
        sums = tuple(
            (SUM_KINDS.index(one.kind), phase, tuple(kept[arg] for arg in one.args), one.by_head)
            for phase, one in self.phases.sums
        )
        for count, most, noun in (
            (len(self.instructions), INSTRUCTIONS, "instructions"),
            (len(lists.constants), CONSTANTS, "different constants"),
            (len(lists.reads), LISTED, "different reads"),
            (len(lists.writes), LISTED, "outputs and kept vectors"),
            (len(kept), KEPT, "kept vectors"),
            (len(sums), SUMS, "sums over units"),
            (max((len(one[2]) for one in sums), default=0), TERMS, "vectors in a sum over units"),
        ):
            if count > most:
                raise ValueError(f"{self.label}: expected at most {most} {noun}, got {count}")
        reads, constants, writes = tuple(lists.reads), tuple(lists.constants), tuple(lists.writes)
        operands = tuple(kept[value] for value in self.phases.operands)
        return Code(tuple(self.instructions), reads, constants, writes, tuple(ends), sums, operands)

    def _add_phase(self, number: int) -> None:
        phases, registers, place = self.phases, _Registers(self.label), dict[int, int]()
        own = [j for j in self.reachable if phases.phase[j] == number]
        last_use = {arg: j for j in own for arg in phases.values[j].args}
        for j in own:
            value, targets = phases.values[j], self._targets(j, number)
            if value.op in ("read", "constant"):
                place[j] = self._given(j, number) if targets or j in last_use else 0
            else:
                operands = [place[arg] if arg in place else self._given(arg, number) for arg in value.args]
                for arg in value.args:
                    if last_use[arg] == j:
                        registers.release(arg)
                place[j] = targets.pop(0) if targets else registers.take(j)
                self._add(value.op, place[j], operands)
            for to in targets:
                self._add("copy", to, [place[j]])
        for name, j in phases.outputs.items():
            if phases.when[name] == number > phases.phase[j]:
                self._add("copy", self.lists.write(name, self.side), [self._given(j, number)])

    def _targets(self, j: int, number: int) -> list[int]:
        """Where a value of this phase is written."""
        phases = self.phases
        names = [name for name, one in phases.outputs.items() if one == j and phases.when[name] == number]
        names += [f"kept.{phases.kept[j]}"] if j in phases.kept else []
        return [self.lists.write(name, self.side) for name in names]

    def _given(self, j: int, number: int) -> int:
        """The operand of a read, a constant, or a value of an earlier phase."""
        value = self.phases.values[j]
        if value.op == "constant":
            return self.lists.constant(float(value.number or 0))
        if value.op != "read" or (is_lost_after_its_phase(value) and number > self.phases.phase[j]):
            return self.lists.read(f"kept.{self.phases.kept[j]}")
        return self.lists.read(value.name or "")

    def _add(self, op: str, to: int, operands: Sequence[int]) -> None:
        a, b, c = (*operands, 0, 0, 0)[:3]
        self.instructions.append((CODES[op], to, a, b, c))

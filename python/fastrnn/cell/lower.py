"""Programs as the C interface takes them: values become registers, and operations become instructions.

A value that is an output is computed where the output lies, and later instructions read it there. Other values live in
registers, each from its instruction to its last use. The result depends on the program alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from .program import OPERATIONS, Direction, Program, Slot, Value

# Operations that only lowering makes: a; (a*b)*(c*(1 - c)), (a*b)*fma(-c, c, 1), a*tanh(b).
CODES = {name: operation.code for name, operation in OPERATIONS.items()}
CODES |= {"copy": 37, "mul_dsigmoid": 38, "mul_dtanh": 39, "mul_tanh": 40}

# Operands: a register, or the number of a read, constant or write plus one of these.
READ, CONSTANT, WRITE = 0x100, 0x200, 0x300
REGISTERS, INSTRUCTIONS, CONSTANTS = 32, 256, 64
LIMITS = {"states": 8, "gates": 8, "saved": 16, "vectors": 12, "inputs": 4, "options": 8}

# In the order of the C interface.
READS = (
    "gate", "gate_input", "gate_state", "before", "vector", "input", "option", "y", "dy", "d_after", "saved",
)  # fmt: skip
WRITES = "y", "after", "saved", "slot", "d_before", "d_vector", "d_input"


@dataclass(frozen=True)
class Code:
    """A direction: instructions (operation, to, a, b, c), and its lists of reads and writes (kind, index)."""

    instructions: tuple[tuple[int, int, int, int, int], ...]
    reads: tuple[tuple[int, int], ...]
    constants: tuple[float, ...]
    writes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Lowered:
    """A program with numbers in place of names; names remain for messages. `output` is -1 if it is no state."""

    name: str
    gates: int
    apart: int
    states: tuple[tuple[str, float], ...]
    output: int
    vectors: tuple[str, ...]
    inputs: tuple[tuple[str, bool], ...]  # whether it has one column
    options: tuple[str, ...]
    saved: tuple[str, ...]
    saved_state: tuple[int, ...]
    slots: tuple[tuple[int, int, int], ...]  # gate, whether towards the input, operand
    forward: Code
    backward: Code
    input_gradients: tuple[bool, ...] = ()
    defaults: tuple[float, ...] = ()  # of the options


def lower(program: Program) -> Lowered:
    """The program for C. ValueError names the limit that it exceeds."""
    _check_limits(program)
    states = [state.name for state in program.states]
    of_state = {saved.state: j for j, saved in enumerate(program.saved) if saved.state is not None}
    by_library = {f"saved.{j}" for j in of_state.values()}
    slots, backward = _with_all_slots(program)
    saved_names = [one.name for one in program.saved]
    if program.output != states[0] and states[0] not in of_state:  # h is an operand of the gradient of w_hh
        of_state[states[0]] = len(saved_names)
        saved_names.append(f"{states[0]}_after")
    return Lowered(
        name=program.name,
        gates=len(program.gates),
        apart=sum(1 << program.gates.index(gate) for gate in program.apart),
        states=tuple((state.name, float(state.start)) for state in program.states),
        output=-1 if program.output is None else states.index(program.output),
        vectors=program.vectors,
        inputs=tuple((one.name, one.columns == "one") for one in program.inputs),
        options=tuple(one.name for one in program.options),
        saved=tuple(saved_names),
        saved_state=tuple(of_state.get(state, -1) for state in states),
        slots=tuple(
            (program.gates.index(one.gate), int(one.to_input), -1 if one.operand is None else 0) for one in slots
        ),
        forward=_code(program, "forward", program.forward, by_library),
        backward=_code(program, "backward", backward, ()),
        input_gradients=tuple(one.gradient for one in program.inputs),
        defaults=tuple(float(one.default) for one in program.options),
    )


def _with_all_slots(program: Program) -> tuple[tuple[Slot, ...], Direction]:
    """The slots and backward, with a zero slot for each half of a gate that the step does not read."""
    to_input = {slot.gate for slot in program.slots if slot.to_input}
    to_state = {slot.gate for slot in program.slots if slot.operand is not None}
    before = [Slot(gate, gate, True, None) for gate in program.gates if gate not in to_input]
    after = [Slot(gate, gate, False, "h") for gate in program.gates if gate not in to_state]
    old, count = program.backward, len(before) + len(program.slots)
    if not before and not after:
        return program.slots, old
    zero = len(old.values)
    outputs = {f"slot.{j}": zero for j in (*range(len(before)), *range(count, count + len(after)))}
    for name, value in old.outputs.items():
        kind, _, number = name.partition(".")
        outputs[f"slot.{int(number) + len(before)}" if kind == "slot" else name] = value
    backward = Direction((*old.values, Value("constant", number=0.0)), old.phases, outputs)
    return (*before, *program.slots, *after), backward


def _check_limits(program: Program) -> None:
    for what, most in LIMITS.items():
        found = len(getattr(program, what))
        if found > most:
            noun = "saved vectors" if what == "saved" else what
            raise ValueError(f"{program.name}: expected at most {most} {noun}, got {found}")
    for name, direction in (("forward", program.forward), ("backward", program.backward)):
        if len(direction.phases) != 1 or program.products or any(phase.sums for phase in direction.phases):
            raise ValueError(
                f"{program.name}: expected one phase {name}, without sums over units and without second products, "
                f"got {len(direction.phases)} phases; such a cell runs only in its reference so far"
            )


# ---- superinstructions ----


def _reachable(values: Sequence[Value], outputs: Collection[int]) -> list[int]:
    """The values that outputs need, in order."""
    found = set(outputs)
    for j in reversed(range(len(values))):
        if j in found:
            found.update(values[j].args)
    return sorted(found)


def _fused(values: list[Value], outputs: Collection[int]) -> list[Value]:
    """The values, where an operation has taken in an operand that nothing else uses."""
    values = list(values)
    reachable = _reachable(values, outputs)
    uses = Counter(arg for j in reachable for arg in values[j].args)
    uses.update(outputs)

    def is_alone(j: int, op: str) -> bool:
        return values[j].op == op and uses[j] == 1

    for j in reachable:
        op, args = values[j].op, values[j].args
        if op in ("dsigmoid", "dtanh") and is_alone(args[0], "mul"):
            values[j] = Value(f"mul_{op}", (*values[args[0]].args, args[1]))
        elif op == "mul":
            for one, other in (args, args[::-1]):
                if is_alone(one, "tanh"):
                    values[j] = Value("mul_tanh", (other, *values[one].args))
                    break
                if is_alone(one, "mul"):
                    values[j] = Value("mul3", (*values[one].args, other))
                    break
    return values


# ---- instructions ----


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


def _code(program: Program, side: str, direction: Direction, by_library: Collection[str]) -> Code:
    """by_library: outputs that the library writes."""
    outputs = {name: value for name, value in direction.outputs.items() if name not in by_library}
    values = list(direction.values)
    try:
        return _assigned(program, side, _fused(values, outputs.values()), outputs)
    except _RegisterError:  # superinstructions keep their operands for longer
        return _assigned(program, side, values, outputs)


def _assigned(program: Program, side: str, values: Sequence[Value], outputs: Mapping[str, int]) -> Code:
    reachable = _reachable(values, outputs.values())
    last_use = {arg: j for j in reachable for arg in values[j].args}
    label = f"{program.name}, {side}"
    lists, registers, place = _Lists(program), _Registers(label), dict[int, int]()
    instructions: list[tuple[int, int, int, int, int]] = []
    for j in reachable:
        value, targets = values[j], [lists.write(name, side) for name, one in outputs.items() if one == j]
        if value.op == "read":
            place[j] = lists.read(value.name or "")
        elif value.op == "constant":
            place[j] = lists.constant(float(value.number or 0))
        else:
            operands = [place[arg] for arg in value.args]
            for arg in value.args:
                if last_use[arg] == j:
                    registers.release(arg)
            place[j] = targets.pop(0) if targets else registers.take(j)
            instructions.append(_instruction(value.op, place[j], operands))
        instructions += [_instruction("copy", to, [place[j]]) for to in targets]
    for count, most, noun in (
        (len(instructions), INSTRUCTIONS, "instructions"),
        (len(lists.constants), CONSTANTS, "different constants"),
    ):
        if count > most:
            raise ValueError(f"{label}: expected at most {most} {noun}, got {count}")
    return Code(tuple(instructions), tuple(lists.reads), tuple(lists.constants), tuple(lists.writes))


def _instruction(op: str, to: int, operands: Sequence[int]) -> tuple[int, int, int, int, int]:
    a, b, c = (*operands, 0, 0, 0)[:3]
    return CODES[op], to, a, b, c

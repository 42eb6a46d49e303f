"""Programs as the C interface takes them: numbers in place of names, and instructions in place of values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .graph import kind_of
from .instructions import Code, code_of
from .program import Direction, Program, Saved, Slot, Value

LIMITS = {"states": 8, "gates": 8, "saved": 16, "vectors": 16, "inputs": 4, "options": 8}


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
    saved = list(program.saved)
    if program.output != states[0] and states[0] not in [one.state for one in saved] and _multiplies_h(program):
        saved.append(Saved(states[0], states[0]))  # the gradient of w_hh needs h, also where it is zero
    of_state = {one.state: j for j, one in enumerate(saved) if one.state is not None}
    by_library = {f"saved.{j}" for j in of_state.values()}
    slots, backward = _with_all_slots(program)
    return Lowered(
        name=program.name,
        gates=len(program.gates),
        apart=sum(1 << program.gates.index(gate) for gate in program.apart),
        states=tuple((state.name, float(state.start)) for state in program.states),
        output=-1 if program.output is None else states.index(program.output),
        vectors=program.vectors,
        inputs=tuple((one.name, one.columns == "one") for one in program.inputs),
        options=tuple(one.name for one in program.options),
        saved=tuple(one.name for one in saved),
        saved_state=tuple(of_state.get(state, -1) for state in states),
        slots=tuple(
            (program.gates.index(one.gate), int(one.to_input), -1 if one.operand is None else 0) for one in slots
        ),
        forward=code_of(program, "forward", program.forward, by_library),
        backward=code_of(program, "backward", backward, ()),
        input_gradients=tuple(one.gradient for one in program.inputs),
        defaults=tuple(float(one.default) for one in program.options),
    )


def _multiplies_h(program: Program) -> bool:
    """Whether the step reads a product of w_hh and h."""
    reads = [kind_of(one) for one in program.forward.values]
    return "gate" in reads or "gate_state" in reads or set(program.apart) != set(program.gates)


def _with_all_slots(program: Program) -> tuple[tuple[Slot, ...], Direction]:
    """The slots and backward, with a zero slot for each half of a gate that the step does not read.

    If it reads no half of h, there are no slots of h.
    """
    to_input = {slot.gate for slot in program.slots if slot.to_input}
    to_state = {slot.gate for slot in program.slots if slot.operand is not None}
    before = [Slot(gate, gate, True, None) for gate in program.gates if gate not in to_input]
    after = [Slot(gate, gate, False, "h") for gate in program.gates if gate not in to_state and _multiplies_h(program)]
    old, count = program.backward, len(before) + len(program.slots)
    if not before and not after:
        return program.slots, old
    zero = len(old.values)
    outputs = {f"slot.{j}": zero for j in (*range(len(before)), *range(count, count + len(after)))}
    for name, value in old.outputs.items():
        kind, _, number = name.partition(".")
        outputs[f"slot.{int(number) + len(before)}" if kind == "slot" else name] = value
    phases = (*old.phases[:-1], replace(old.phases[-1], end=zero + 1))
    backward = Direction((*old.values, Value("constant", number=0.0)), phases, outputs)
    return (*before, *program.slots, *after), backward


def _check_limits(program: Program) -> None:
    for what, most in LIMITS.items():
        found = len(getattr(program, what))
        if found > most:
            noun = "saved vectors" if what == "saved" else what
            raise ValueError(f"{program.name}: expected at most {most} {noun}, got {found}")
    if program.products:
        raise ValueError(
            f"{program.name}: expected no second products, got {len(program.products)}; such a cell runs only in its "
            f"reference so far"
        )

"""Programs as the C interface takes them: numbers in place of names, and instructions in place of values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .graph import kind_of
from .instructions import READS, Code, code_of
from .program import Direction, Program, Saved, Slot, Value, slot_order

LIMITS = {"states": 8, "gates": 8, "saved": 16, "vectors": 16, "inputs": 4, "options": 8, "products": 7}


@dataclass(frozen=True)
class LoweredProduct:
    """A second product: the phases that read it and its gradient (0: none does), and the vector that it multiplies."""

    gate: int
    forward_phase: int
    kept: int
    backward_phase: int
    factors: tuple[tuple[int, int], ...]  # reads of backward (kind, index)


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
    products: tuple[LoweredProduct, ...]
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
    forward = code_of(program, "forward", program.forward, by_library)
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
        slots=tuple((program.gates.index(one.gate), int(one.to_input), _operand_number(one.operand)) for one in slots),
        products=tuple(_product(program, number, forward.operands[number]) for number in range(len(program.products))),
        forward=forward,
        backward=code_of(program, "backward", backward, frozenset()),
        input_gradients=tuple(one.gradient for one in program.inputs),
        defaults=tuple(float(one.default) for one in program.options),
    )


def _operand_number(operand: str | int | None) -> int:
    """-1 for None, 0 for h, and then second products."""
    return -1 if operand is None else 0 if isinstance(operand, str) else 1 + operand


def _product(program: Program, number: int, kept: int) -> LoweredProduct:
    product = program.products[number]
    states = [state.name for state in program.states]
    factors = list[tuple[int, int]]()
    for name in product.operand:
        kind, _, rest = name.partition(".")
        factors.append((READS.index(kind), states.index(rest) if kind == "before" else int(rest or 0)))
    return LoweredProduct(
        program.gates.index(product.gate), _phase_of(program.forward, number), kept,
        _phase_of(program.backward, number), tuple(factors),
    )  # fmt: skip


def _phase_of(direction: Direction, product: int) -> int:
    """The phase with a product; 0 if there is none."""
    return next((j for j, phase in enumerate(direction.phases) if phase.product == product), 0)


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
    old = program.backward
    if not before and not after:
        return program.slots, old
    zero = len(old.values)
    found = [(slot, old.outputs[f"slot.{j}"]) for j, slot in enumerate(program.slots)]
    added = [(slot, zero) for slot in before], [(slot, zero) for slot in after]
    slots = sorted([*added[0], *found, *added[1]], key=lambda one: slot_order(one[0]))
    outputs = {name: value for name, value in old.outputs.items() if not name.startswith("slot.")}
    outputs |= {f"slot.{j}": value for j, (_, value) in enumerate(slots)}
    phases = (*old.phases[:-1], replace(old.phases[-1], end=zero + 1))
    backward = Direction((*old.values, Value("constant", number=0.0)), phases, outputs)
    return tuple(slot for slot, _ in slots), backward


def _check_limits(program: Program) -> None:
    for what, most in LIMITS.items():
        found = len(getattr(program, what))
        if found > most:
            noun = {"saved": "saved vectors", "products": "second products"}.get(what, what)
            raise ValueError(f"{program.name}: expected at most {most} {noun}, got {found}")

"""The rules of a program's tables: names, numbers of entries, slots. Every error names the table."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from .program import FORMAT, Program

INSTRUCTIONS_MAX, REGISTERS_MAX, PHASES_MAX, SAVED_MAX, STATES_MAX, GATES_MAX = 256, 32, 8, 16, 8, 8
VECTORS_MAX, INPUTS_MAX, OPTIONS_MAX, SUMS_MAX = 16, 8, 8, 32
MATRICES = ("w_ih", "w_hh", "b_ih", "b_hh")  # parameters of every cell
RESERVED = ("input", "state", "product")  # members of the pre-activations that are no gates
SUM_KINDS = ("sum", "mean", "moments")


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def at_most(name: str, limit: int, found: int, what: str) -> None:
    require(found <= limit, f"{name}: expected at most {limit} {what}, got {found}")


def verify_tables(program: Program) -> None:
    require(program.format == FORMAT, f"program.format: expected {FORMAT}, got {program.format}")
    lists: tuple[tuple[str, Sequence[str], int], ...] = (
        ("gates", program.gates, GATES_MAX),
        ("states", [one.name for one in program.states], STATES_MAX),
        ("vectors", program.vectors, VECTORS_MAX),
        ("inputs", [one.name for one in program.inputs], INPUTS_MAX),
        ("options", [one.name for one in program.options], OPTIONS_MAX),
        ("saved", [one.name for one in program.saved], SAVED_MAX),
        ("slots", [one.name for one in program.slots], 2 * GATES_MAX),
    )
    _verify_names("name", [program.name])
    for name, names, limit in lists:
        at_most(f"program.{name}", limit, len(names), "entries")
        _verify_names(name, names)
    require(len(program.gates) > 0, "program.gates: expected at least one gate")
    require(len(program.states) > 0, "program.states: expected at least one state")
    ordered = tuple(gate for gate in program.gates if gate in program.apart)
    require(program.apart == ordered, f"program.apart: expected gates in their order, got {program.apart}")
    states = {one.name for one in program.states}
    for state in program.states:
        require(not math.isnan(state.start), f"program.states.{state.name}.start: NaN")
    require(program.output is None or program.output in states, f"program.output: no state {program.output}")
    for given in program.inputs:
        found = given.columns
        require(found in ("units", "one"), f"program.inputs.{given.name}.columns: expected units or one, got {found}")
    for option in program.options:
        require(not math.isnan(option.default), f"program.options.{option.name}.default: NaN")
    for saved in program.saved:
        require(saved.columns in ("units", "one"), f"program.saved.{saved.name}.columns: expected units or one")
        require(
            saved.columns == "units" or saved.state is None, f"program.saved.{saved.name}.columns: a state has units"
        )
    of_states = [one.state for one in program.saved if one.state is not None]
    require(set(of_states) <= states, f"program.saved: no such state in {of_states}")
    require(len(set(of_states)) == len(of_states), f"program.saved: a state twice in {of_states}")
    _verify_slots(program)


def _verify_names(name: str, names: Sequence[str]) -> None:
    """ASCII letters, digits and _; members of the arguments of a step begin with a letter."""
    first = "[A-Za-z_]" if name == "name" else "[A-Za-z]"
    for one in names:
        known = re.fullmatch(first + r"\w{0,63}", one, re.ASCII) is not None
        taken = {"gates": RESERVED, "vectors": MATRICES}.get(name, ())
        require(known and one not in taken, f"program.{name}: bad name {one!r:.80}")
    require(len(set(names)) == len(names), f"program.{name}: a name twice in {list(names)}")


def _verify_slots(program: Program) -> None:
    """Every half of a gate that is read has one slot, and a gate that is not apart has one slot for both halves."""
    halves = []
    for slot in program.slots:
        where = f"program.slots.{slot.name}"
        require(slot.gate in program.gates, f"{where}.gate: no gate {slot.gate}")
        known = slot.operand in (None, "h") or slot.operand in range(len(program.products))
        require(known, f"{where}.operand: expected h, the number of a product or null, got {slot.operand!r}")
        require(slot.to_input or slot.operand is not None, f"{where}: goes nowhere")
        whole = slot.to_input and slot.operand == "h"
        require(whole or slot.gate in program.apart, f"{where}: the gate {slot.gate} is not apart")
        halves += [(slot.gate, "input")] * slot.to_input + [(slot.gate, "state")] * (slot.operand is not None)
    require(len(set(halves)) == len(halves), "program.slots: two slots for one half of a gate")
    slotted = {gate for gate, _ in halves}
    for gate in program.gates:
        require(gate in slotted, f"program.slots: none for the gate {gate}")
    order = [(slot.to_input, slot.operand is not None) for slot in program.slots]
    ranks = [{(True, False): 0, (True, True): 1, (False, True): 2}[one] for one in order]
    require(ranks == sorted(ranks), "program.slots: expected slots of the input first, then of both, then of states")

"""The rules of a program. Every error names the place in the program, or the limit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from . import ordering
from .program import COMPARISONS, LOGIC, OPERATIONS, Direction, Program, Value
from .verify_tables import (
    GATES_MAX,
    INSTRUCTIONS_MAX,
    PHASES_MAX,
    REGISTERS_MAX,
    SUM_KINDS,
    SUMS_MAX,
    at_most,
    require,
    verify_tables,
)


def live_registers(direction: Direction) -> int:
    """The largest number of results of one phase that are needed at the same time."""
    ends = [0, *(phase.end for phase in direction.phases)]
    return max(ordering.live_registers(direction.values, range(*pair)) for pair in pairwise(ends))


def verify(program: Program) -> None:
    """Check everything that the interpreters rely on.

    Raises
    ------
    ValueError
        Names the rule that the program breaks.
    """
    verify_tables(program)
    _verify_direction(program, "forward", program.forward, _forward_reads(program), _forward_outputs(program))
    _verify_direction(program, "backward", program.backward, _backward_reads(program), _backward_outputs(program))
    _verify_products(program)
    _verify_kept_states(program)


# ---- reads and outputs ----


def _forward_reads(program: Program) -> set[str]:
    multiplied = {product.gate for product in program.products}
    apart = set(program.apart)
    names = {f"gate.{one}" for one in program.gates if one not in apart}
    names |= {f"gate_input.{one}" for one in apart} | {f"gate_state.{one}" for one in apart - multiplied}
    names |= {f"product.{n}" for n in range(len(program.products))}
    return names | _given(program) | _sums(program.forward)


def _backward_reads(program: Program) -> set[str]:
    names = {f"d_after.{one.name}" for one in program.states} | {"y"}
    names |= {f"saved.{n}" for n in range(len(program.saved))}
    names |= {f"d_product.{n}" for n in range(len(program.products))}
    names |= {"dy"} if program.output is None else set()
    return names | _given(program) | _sums(program.backward)


def _given(program: Program) -> set[str]:
    names = {f"before.{one.name}" for one in program.states} | {f"vector.{one}" for one in program.vectors}
    return names | {f"input.{one.name}" for one in program.inputs} | {f"option.{one.name}" for one in program.options}


def _sums(direction: Direction) -> set[str]:
    kinds = [one.kind for phase in direction.phases for one in phase.sums]
    names = {f"sum.{n}" for n in range(len(kinds))}
    return names | {f"variance.{n}" for n, kind in enumerate(kinds) if kind == "moments"}


def _forward_outputs(program: Program) -> tuple[list[str], set[str]]:
    """The outputs in their order, and the outputs that may be absent."""
    names = ["y"] if program.output is None else []
    names += [f"after.{one.name}" for one in program.states]
    names += [f"saved.{n}" for n in range(len(program.saved))]
    return names + [f"operand.{n}" for n in range(len(program.products))], set()


def _backward_outputs(program: Program) -> tuple[list[str], set[str]]:
    h = f"before.{program.states[0].name}"
    names = [f"slot.{n}" for n in range(len(program.slots))]
    names += [f"before.{one.name}" for one in program.states]
    names += [f"vector.{one}" for one in program.vectors]
    return names + [f"input.{one.name}" for one in program.inputs if one.gradient], {h}


# ---- directions ----


def _verify_direction(
    program: Program, name: str, direction: Direction, reads: set[str], outputs: tuple[list[str], set[str]]
) -> None:
    values, phases, where = direction.values, direction.phases, f"program.{name}"
    at_most(f"{where}.values", INSTRUCTIONS_MAX, sum(one.op in OPERATIONS for one in values), "instructions")
    at_most(f"{where}.values", 4 * INSTRUCTIONS_MAX, len(values), "values")
    at_most(f"{where}.phases", PHASES_MAX, len(phases), "phases")
    ends = [phase.end for phase in phases]
    require(len(ends) > 0 and ends == sorted(ends) and ends[0] >= 0 and ends[-1] == len(values),
            f"{where}.phases: expected ends that grow up to {len(values)}, got {ends}")  # fmt: skip
    masks: set[int] = set()
    for number, value in enumerate(values):
        _verify_value(f"{where}.values[{number}]", number, value, masks)
        if value.op == "read":
            require(value.name in reads, f"{where}.values[{number}].name: nothing named {value.name!r:.80} to read")
    names, optional = outputs
    expected = [one for one in names if one not in optional or one in direction.outputs]
    found = list(direction.outputs)
    require(found == expected, f"{where}.outputs: expected {expected}, got {found}")
    for one, number in direction.outputs.items():
        require(0 <= number < len(values), f"{where}.outputs.{one}: no value {number}")
        require(number not in masks, f"{where}.outputs.{one}: value {number} is a mask")
    _verify_phases(where, direction, len(program.products), masks)
    at_most(f"{where}.values", REGISTERS_MAX, live_registers(direction), "live registers")


def _verify_value(where: str, number: int, value: Value, masks: set[int]) -> None:
    """Check the members of a value and the kinds of its arguments; note whether it is a mask."""
    is_read, is_constant = value.op == "read", value.op == "constant"
    require(is_read or is_constant or value.op in OPERATIONS, f"{where}.op: no operation {value.op!r:.80}")
    arity = 0 if is_read or is_constant else OPERATIONS[value.op].arity
    require(len(value.args) == arity, f"{where}.args: expected {arity} for {value.op}, got {len(value.args)}")
    require(is_read == (value.name is not None), f"{where}.name: expected only for a read")
    require(is_constant == (value.number is not None), f"{where}.number: expected only for a constant")
    require(value.number is None or not math.isnan(value.number), f"{where}.number: NaN")
    for place, arg in enumerate(value.args):
        require(0 <= arg < number, f"{where}.args: expected earlier values, got {arg}")
        wants_mask = value.op in LOGIC or (value.op == "select" and place == 0)
        kind = "a mask" if wants_mask else "a number"
        require((arg in masks) == wants_mask, f"{where}.args[{place}]: expected {kind} for {value.op}")
    if value.op in COMPARISONS | LOGIC:
        masks.add(number)


def _verify_phases(where: str, direction: Direction, products: int, masks: set[int]) -> None:
    """A product and a sum are read in their phase or later, and are of values of earlier phases."""
    begin, ready, multiplied = 0, set[str](), list[int]()
    kind = "product" if where.endswith("forward") else "d_product"
    for number, phase in enumerate(direction.phases):
        place = f"{where}.phases[{number}]"
        if phase.product is not None:
            require(phase.product in range(products), f"{place}.product: no product {phase.product}")
            multiplied.append(phase.product)
            ready.add(f"{kind}.{phase.product}")
        for one in phase.sums:
            _verify_sum(f"{place}.sums", one.kind, one.args, begin, masks)
            ready |= {f"sum.{_count(ready)}", f"variance.{_count(ready)}"}
        for value in direction.values[begin : phase.end]:
            waits = value.op == "read" and str(value.name).split(".")[0] in (kind, "sum", "variance")
            require(not waits or value.name in ready, f"{place}: reads {value.name} before it exists")
        begin = phase.end
    at_most(where, SUMS_MAX, _count(ready), "sums")
    require(len(set(multiplied)) == len(multiplied), f"{where}.phases: a product twice in {multiplied}")
    complete = kind == "d_product" or len(multiplied) == products
    require(complete, f"{where}.phases: expected each of {products} products, got {multiplied}")


def _count(ready: Iterable[str]) -> int:
    return sum(name.startswith("sum.") for name in ready)


def _verify_sum(where: str, kind: str, args: tuple[int, ...], begin: int, masks: set[int]) -> None:
    require(kind in SUM_KINDS, f"{where}.kind: expected one of {', '.join(SUM_KINDS)}, got {kind!r:.80}")
    require(0 < len(args) <= GATES_MAX, f"{where}.args: expected 1 to {GATES_MAX} values, got {len(args)}")
    for arg in args:
        require(0 <= arg < begin and arg not in masks, f"{where}.args: expected numbers of earlier phases, got {arg}")


# ---- products and states ----


def _verify_products(program: Program) -> None:
    """Forward makes a product's vector before the product's phase; backward makes its slot before."""
    gates = [product.gate for product in program.products]
    require(len(set(gates)) == len(gates), f"program.products: a gate twice in {gates}")
    for number, product in enumerate(program.products):
        where = f"program.products[{number}]"
        require(product.gate in program.apart, f"{where}.gate: expected a gate that is apart, got {product.gate!r:.80}")
        _made_before(where, program.forward, number, f"operand.{number}")
        slots = [n for n, one in enumerate(program.slots) if one.operand == number]
        right = len(slots) == 1 and program.slots[slots[0]].gate == product.gate
        require(right, f"{where}: expected one slot of the gate {product.gate}")
        _made_before(where, program.backward, number, f"slot.{slots[0]}")
        readable = {name for name in _backward_reads(program) if name.split(".")[0] in ("saved", "y", "before")}
        known = 1 <= len(product.operand) <= 2 and set(product.operand) <= readable
        require(known, f"{where}.operand: expected one or two of {sorted(readable)}, got {list(product.operand)}")
    for slot in program.slots:
        own = slot.operand if isinstance(slot.operand, int) else None
        require(own is not None or slot.operand is None or slot.gate not in gates,
                f"program.slots.{slot.name}: the state half of {slot.gate} is a product's")  # fmt: skip


def _made_before(where: str, direction: Direction, product: int, output: str) -> None:
    begin = 0
    for phase in direction.phases:
        if phase.product == product:
            require(direction.outputs[output] < begin, f"{where}: {output} is not complete before the product's phase")
        begin = phase.end


def _verify_kept_states(program: Program) -> None:
    """A state that backward reads, or multiplies, is the output or a saved vector."""
    kept = {program.output} | {one.state for one in program.saved}
    read = {str(one.name) for one in program.backward.values if one.op == "read"}
    read |= {name for product in program.products for name in product.operand}
    if any(slot.operand == "h" for slot in program.slots):
        read.add(f"before.{program.states[0].name}")
    for state in program.states:
        if f"before.{state.name}" in read:
            require(state.name in kept, f"program.saved: backward reads {state.name}, which is not saved")
    for saved in program.saved:
        require(saved.state is None or saved.state != program.output, f"program.saved.{saved.name}: is the output y")

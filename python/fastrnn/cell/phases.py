"""Cutting values into phases: a phase begins where a value needs a product, or a sum over units, of earlier values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .contract import superinstructions
from .graph import SUMS, is_by_head, kind_of
from .ordering import live_registers, ordered
from .program import COMPARISONS, LOGIC, Direction, Phase, Sum, Value

PRODUCTS = ("product", "d_product")
_KEPT = frozenset({"saved", "y", "before", "vector", "input", "option"})  # reads that every phase has


def direction(values: Sequence[Value], outputs: Mapping[str, int]) -> Direction:
    """The values as a direction: with superinstructions, cut into phases. `outputs` are indices of `values`."""
    graph, new = superinstructions(values, list(outputs.values()), _levels(values))
    final, level, moved = _carry_masks(graph.values, _levels(graph.values))
    order = _order(final, level)
    place = {index: number for number, index in enumerate(order)}
    sums = _numbered_sums(final, order)
    ordered = [_emitted(final[index], place, sums) for index in order]
    phases, end = [], 0
    for number in range(max(level, default=0) + 1):
        inside = [final[index] for index in order if level[index] == number]
        end += len(inside)
        phases.append(_phase(end, inside, place, sums))
    return Direction(tuple(ordered), tuple(phases), {name: place[moved[new[index]]] for name, index in outputs.items()})


def _order(values: Sequence[Value], level: Sequence[int]) -> list[int]:
    """The values phase by phase; a phase keeps the order of the trace if that needs no more registers."""
    order = list[int]()
    for number in range(max(level, default=0) + 1):
        present = [index for index in range(len(values)) if level[index] == number]
        other = ordered(values, present)
        order += other if live_registers(values, other) < live_registers(values, present) else present
    return order


def _levels(values: Sequence[Value]) -> list[int]:
    """The phase of each value: the first in which all of its arguments are ready. A phase has at most one product."""
    level, taken = list[int](), set[int]()
    for value in values:
        own = max((level[arg] for arg in value.args), default=0)
        if value.op == "read" and value.args:
            own += 1
        if kind_of(value) in PRODUCTS:
            while own in taken:
                own += 1
            taken.add(own)
        level.append(own)
    _delay(values, level)
    return level


def _delay(values: Sequence[Value], level: list[int]) -> None:
    """Move operations on reads that every phase has to the first phase that uses them: no result crosses a barrier."""
    kept = list[bool]()
    for value in values:
        kept.append(all(kept[arg] for arg in value.args) and (value.op != "read" or kind_of(value) in _KEPT))
    first = [len(values)] * len(values)  # the phase that uses each value; len(values) if none does
    for number in reversed(range(len(values))):
        value = values[number]
        if value.args and kept[number] and first[number] < len(values):
            level[number] = first[number]
        waits = value.op == "read"  # a product or a sum takes the results of the phase before
        for arg in value.args:
            first[arg] = min(first[arg], level[number] - waits)


def _carry_masks(values: Sequence[Value], level: Sequence[int]) -> tuple[list[Value], list[int], list[int]]:
    """Pass masks to later phases as numbers, 1 or 0, since only numbers cross phases.

    Returns the values, their phases, and the new index of each value.
    """
    found, phases, moved = list[Value](), list[int](), list[int]()
    numbers, copies = dict[int, tuple[int, int]](), dict[tuple[int, int], int]()

    def add(phase: int, op: str, *args: int, number: float | None = None) -> int:
        found.append(Value(op, args, number=number))
        phases.append(phase)
        return len(found) - 1

    def carried(mask: int, phase: int) -> int:
        if mask not in numbers:
            one, zero = add(0, "constant", number=1.0), add(0, "constant", number=0.0)
            numbers[mask] = add(level[mask], "select", moved[mask], one, zero), zero
        if (mask, phase) not in copies:
            copies[mask, phase] = add(phase, "ne", *numbers[mask])
        return copies[mask, phase]

    for value, phase in zip(values, level, strict=True):
        args = tuple(
            carried(arg, phase) if values[arg].op in COMPARISONS | LOGIC and level[arg] < phase else moved[arg]
            for arg in value.args
        )
        moved.append(len(found))
        found.append(replace(value, args=args))
        phases.append(phase)
    return found, phases, moved


_SumKey = tuple[str, tuple[int, ...], bool]


def _sum_key(value: Value) -> _SumKey:
    """The mean and the variance of the same values are one sum of moments."""
    kind = kind_of(value)
    return ("moments" if kind == "variance" else kind), value.args, is_by_head(value)


def _numbered_sums(values: Sequence[Value], order: Sequence[int]) -> dict[_SumKey, int]:
    numbers = dict[_SumKey, int]()
    for index in order:
        if kind_of(values[index]) in SUMS:
            numbers.setdefault(_sum_key(values[index]), len(numbers))
    return numbers


def _phase(end: int, inside: Sequence[Value], place: Mapping[int, int], sums: Mapping[_SumKey, int]) -> Phase:
    """The phase of the values `inside`, with its product and its sums in their order."""
    product = next((int(str(one.name).partition(".")[2]) for one in inside if kind_of(one) in PRODUCTS), None)
    keys = {_sum_key(one) for one in inside} & sums.keys()
    ordered = sorted(keys, key=lambda key: sums[key])
    made = (Sum(kind, tuple(place[arg] for arg in args), by_head) for kind, args, by_head in ordered)
    return Phase(end, product, tuple(made))


def _emitted(value: Value, place: Mapping[int, int], sums: Mapping[_SumKey, int]) -> Value:
    if kind_of(value) in SUMS:
        name = "variance" if kind_of(value) == "variance" else "sum"
        return Value("read", name=f"{name}.{sums[_sum_key(value)]}")
    if value.op == "read":
        return Value("read", name=value.name)
    return Value(value.op, tuple(place[arg] for arg in value.args), value.name, value.number)

"""Cutting values into phases: a phase begins where a value needs a product, or a sum over units, of earlier values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .contract import superinstructions
from .graph import SUMS, kind_of
from .program import Direction, Phase, Sum, Value

PRODUCTS = ("product", "d_product")


# Reads that no barrier takes away, in contrast to the results of a product.
_KEPT = frozenset({"saved", "y", "before", "vector", "input", "option"})


def _levels(values: Sequence[Value]) -> list[int]:
    """The phase of each value: the first in which all of its arguments are ready. A phase has at most one product.

    An operation on kept reads alone belongs to the first phase that uses it, so that its result crosses no barrier.
    """
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
    kept = list[bool]()
    for value in values:
        kept.append(all(kept[arg] for arg in value.args) and (value.op != "read" or kind_of(value) in _KEPT))
    first = [len(values)] * len(values)  # phase that uses the value
    for number in reversed(range(len(values))):
        if values[number].args and kept[number] and first[number] < len(values):
            level[number] = first[number]
        waits = values[number].op == "read"
        for arg in values[number].args:
            first[arg] = min(first[arg], level[number] - waits)
    return level


def direction(values: Sequence[Value], outputs: Mapping[str, int]) -> Direction:
    """The values as a direction: with superinstructions, cut into phases. `outputs` are indices of `values`."""
    graph, new = superinstructions(values, list(outputs.values()), _levels(values))
    level = _levels(graph.values)
    order = sorted(range(len(graph.values)), key=lambda index: level[index])
    place = {index: number for number, index in enumerate(order)}
    sums = _numbered_sums(graph.values, order)
    ordered = [_emitted(graph.values[index], place, sums) for index in order]
    phases = []
    for number in range(max(level, default=0) + 1):
        inside = [index for index in order if level[index] == number]
        products = [str(graph.values[i].name) for i in inside if kind_of(graph.values[i]) in PRODUCTS]
        of_phase = {sums[key]: key for key in (_sum_key(graph.values[i]) for i in inside) if key in sums}
        end = sum(one <= number for one in level)
        phases.append(
            Phase(
                end,
                int(products[0].partition(".")[2]) if products else None,
                tuple(Sum(kind, tuple(place[a] for a in args)) for _, (kind, args) in sorted(of_phase.items())),
            )
        )
    return Direction(tuple(ordered), tuple(phases), {name: place[new[index]] for name, index in outputs.items()})


_SumKey = tuple[str, tuple[int, ...]]


def _sum_key(value: Value) -> _SumKey:
    """The mean and the variance of the same values are one sum of moments."""
    kind = kind_of(value)
    return ("moments" if kind == "variance" else kind), value.args


def _numbered_sums(values: Sequence[Value], order: Sequence[int]) -> dict[_SumKey, int]:
    numbers = dict[_SumKey, int]()
    for index in order:
        if kind_of(values[index]) in SUMS:
            numbers.setdefault(_sum_key(values[index]), len(numbers))
    return numbers


def _emitted(value: Value, place: Mapping[int, int], sums: Mapping[_SumKey, int]) -> Value:
    if kind_of(value) in SUMS:
        name = "variance" if kind_of(value) == "variance" else "sum"
        return Value("read", name=f"{name}.{sums[_sum_key(value)]}")
    if value.op == "read":
        return Value("read", name=value.name)
    return Value(value.op, tuple(place[arg] for arg in value.args), value.name, value.number)

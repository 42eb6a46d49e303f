"""A program as text for people: the tables, both directions as lines of operations, and the cost of a step."""

from __future__ import annotations

from collections.abc import Iterable

from .program import OPERATIONS, Direction, Program, Sum
from .saving import PRICES, cost

_SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
}
_FORMULAS = {
    "fma": "{0}*{1} + {2}", "fms": "{0}*{1} - {2}", "fnma": "{2} - {0}*{1}", "neg": "-{0}", "not": "~{0}",
    "one_minus": "1 - {0}", "dsigmoid": "{0} * ({1}*(1 - {1}))", "dtanh": "{0} * (1 - {1}*{1})",
    "mul3": "({0} * {1}) * {2}", "fma_dtanh": "{0} * (1 - {1}*{1}) + {2}", "select": "{1} where {0} else {2}",
}  # fmt: skip


def describe(program: Program) -> str:
    """The program over several lines."""
    lines = [f"cell {program.name}: gates {_list(program.gates)}"]
    states = (one.name + (f" from {one.start:g}" if one.start else "") for one in program.states)
    lines[0] += f"; states {_list(states)}; output {program.output or 'of its own'}"
    for kind, names in (
        ("apart", program.apart),
        ("vectors", program.vectors),
        ("inputs", [one.name for one in program.inputs]),
        ("options", [f"{one.name}={one.default:g}" for one in program.options]),
        ("products", [f"w_hh of {one.gate} on {' * '.join(one.operand)}" for one in program.products]),
        ("saved", [one.name for one in program.saved]),
    ):
        if names:
            lines.append(f"  {kind}: {_list(names)}")
    for name, direction in (("forward", program.forward), ("backward", program.backward)):
        operations = [value.op for value in direction.values if value.op in OPERATIONS]
        price = sum(map(cost, operations)) + PRICES[0] // 2 * len(program.saved)
        lines.append(f"  {name}: {len(operations)} instructions, cost {price}")
        lines += [f"    {line}" for line in _lines(direction)]
    return "\n".join(lines)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _lines(direction: Direction) -> Iterable[str]:
    names = [_operand(direction, number) for number in range(len(direction.values))]
    results: dict[int, list[str]] = {}
    for output, index in direction.outputs.items():
        results.setdefault(index, []).append(output)
    begin, sums = 0, 0
    for number, phase in enumerate(direction.phases):
        if len(direction.phases) > 1:
            parts = [] if phase.product is None else [f"product {phase.product}"]
            parts += [_sum(one, sums + n, names) for n, one in enumerate(phase.sums)]
            yield f"phase {number}" + (f": {_list(parts)}" if parts else "")
        sums += len(phase.sums)
        for index in range(begin, phase.end):
            value, outputs = direction.values[index], "".join(f" -> {one}" for one in results.get(index, ()))
            if value.op in OPERATIONS:
                yield f"{names[index]} = {_formula(value.op, [names[arg] for arg in value.args])}{outputs}"
            elif outputs:
                yield f"{names[index]}{outputs}"
        begin = phase.end


def _operand(direction: Direction, number: int) -> str:
    value = direction.values[number]
    if value.number is not None:
        return f"{value.number:g}"
    return value.name or f"v{number}"


def _sum(one: Sum, number: int, names: list[str]) -> str:
    by_head = " by head" if one.by_head else ""
    return f"sum.{number} = {one.kind} of {_list(names[arg] for arg in one.args)}{by_head}"


def _formula(op: str, args: list[str]) -> str:
    if op in _SIGNS:
        return f"{args[0]} {_SIGNS[op]} {args[1]}"
    return _FORMULAS[op].format(*args) if op in _FORMULAS else f"{op}({_list(args)})"

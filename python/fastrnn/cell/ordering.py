"""The order of a phase's operations, and the registers that an order needs.

An operation needs a register from its place in the order to its last use in the phase. Reads, constants and results of
earlier phases lie in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from .program import OPERATIONS, Value


def live_registers(values: Sequence[Value], inside: Sequence[int]) -> int:
    """The largest number of results that the values `inside` a phase, in this order, need at the same time."""
    last = {index: index for index in inside if values[index].op in OPERATIONS}
    for index in inside:
        last.update((arg, index) for arg in values[index].args if arg in last)
    ending = Counter(last.values())
    live = most = 0
    for index in last:
        unused = last[index] == index
        live += 1 - ending[index] + unused  # the result may take the register of an argument that ends here
        most = max(most, live)
        live -= unused
    return most


def ordered(values: Sequence[Value], inside: Sequence[int]) -> list[int]:
    """The values `inside` a phase in an order that needs few registers: greedily, what frees most comes first.

    Among equals, the value that is needed first by the latest values comes first; that keeps chains together.
    """
    members = set(inside)
    operations = [index for index in inside if values[index].op in OPERATIONS]
    users: dict[int, set[int]] = {index: set() for index in inside}
    for index in operations:
        for arg in members.intersection(values[index].args):
            users[arg].add(index)
    rank = {index: number for number, index in enumerate(_by_demand(values, operations, users))}
    waiting = {index: len({arg for arg in values[index].args if arg in rank}) for index in operations}
    ready = {index for index in operations if waiting[index] == 0}
    order = [index for index in inside if index not in rank]
    while ready:
        chosen = min(ready, key=lambda index: (_growth(values, index, users, rank), rank[index]))
        ready.remove(chosen)
        order.append(chosen)
        for user in users[chosen]:
            waiting[user] -= 1
            if waiting[user] == 0:
                ready.add(user)
        for arg in {arg for arg in values[chosen].args if arg in rank}:
            users[arg].discard(chosen)
    return order


def _growth(values: Sequence[Value], index: int, users: dict[int, set[int]], rank: Collection[int]) -> int:
    """How many more registers are in use after an operation."""
    freed = sum(len(users[arg]) == 1 for arg in {arg for arg in values[index].args if arg in rank})
    return (len(users[index]) > 0) - freed


def _by_demand(values: Sequence[Value], operations: Sequence[int], users: dict[int, set[int]]) -> list[int]:
    """The operations with their arguments before them, from each value that nothing in the phase uses."""
    order, seen, inside = list[int](), set[int](), set(operations)
    for root in operations:
        stack = [] if users[root] else [root]
        while stack:
            index = stack[-1]
            open_ = [arg for arg in values[index].args if arg in inside and arg not in seen]
            if open_:
                stack.append(open_[0])
                continue
            stack.pop()
            if index not in seen:
                seen.add(index)
                order.append(index)
    return order

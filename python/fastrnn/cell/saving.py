"""Which forward values are saved for backward, and which are computed again: the cheapest choice, from fixed costs.

Backward needs some forward values. Each is saved, or computed again from values that backward has. The cheapest choice
is a minimum cut: each value v has two nodes, "v is needed" and "v is computed again". The edge between them costs as
much as saving v. The edge from the second node to the sink costs as much as the operation. An operation that is
computed again needs its arguments. Among equally cheap choices, the cut next to backward saves later values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from .program import COMPARISONS, LOGIC, Value

# In units of an addition. Saving is a store in forward and a load in backward, of a vector that leaves the cache. A
# value that is the same for all units takes one number of a row. The later prices are for steps that would save more
# vectors than a program may.
PRICES = (16, 32, 64, 1024)
_UNIFORM = 16  # times cheaper
_COSTS = {
    **dict.fromkeys(("div", "sqrt", "reciprocal"), 5),
    **dict.fromkeys(("exp", "expm1", "log", "log1p", "tanh", "sigmoid"), 12),
    **dict.fromkeys(("softplus", "log_sigmoid"), 20),
}
_UNBOUNDED = 1 << 40


def cost(op: str) -> int:
    """The cost of an operation; reads and constants are free."""
    return 0 if op in ("read", "constant") else _COSTS.get(op, 1)


class _Network:
    """A flow network of numbered nodes."""

    def __init__(self) -> None:
        self.capacity: dict[int, dict[int, int]] = {}

    def join(self, source: int, target: int, capacity: int) -> None:
        self.capacity.setdefault(source, {})[target] = capacity
        self.capacity.setdefault(target, {}).setdefault(source, 0)

    def depths(self, source: int) -> dict[int, int]:
        """The nodes that the source can still send to, with their distances."""
        found, queue = {source: 0}, deque([source])
        while queue:
            node = queue.popleft()
            for following, capacity in self.capacity.get(node, {}).items():
                if capacity > 0 and following not in found:
                    found[following] = found[node] + 1
                    queue.append(following)
        return found

    def send(self, node: int, sink: int, flow: int, depth: dict[int, int]) -> int:
        """Send up to `flow` from a node along shortest paths; return the amount that arrives."""
        if node == sink:
            return flow
        sent = 0
        for following, capacity in self.capacity[node].items():
            if capacity > 0 and sent < flow and depth.get(following) == depth[node] + 1:
                arrived = self.send(following, sink, min(capacity, flow - sent), depth)
                self.capacity[node][following] -= arrived
                self.capacity[following][node] += arrived
                sent += arrived
        if sent == 0:
            depth[node] = -1  # a dead end
        return sent

    def cut(self, source: int, sink: int) -> Collection[int]:
        """The source's side of the minimum cut that is nearest to the source (Dinic 1970)."""
        while sink in (depth := self.depths(source)):
            self.send(source, sink, _UNBOUNDED, depth)
        return depth.keys()


def choose_saved(
    values: Sequence[Value],
    needed: Iterable[int],
    is_free: Callable[[int], bool],
    is_uniform: Callable[[int], bool],
    price: int,
) -> set[int]:
    """The values to save, so that all `needed` values can be computed from saved and free values.

    `price` is the cost of saving a vector. A uniform value is the same for all units.
    """
    source, sink = -1, -2
    network, open_, known = _Network(), list[int](), set[int]()

    def require(node: int, index: int) -> None:
        if is_free(index):
            return
        network.join(node, 2 * index, _UNBOUNDED)
        if index not in known:
            known.add(index)
            open_.append(index)

    for index in needed:
        require(source, index)
    while open_:
        index = open_.pop()
        value = values[index]
        saving = price // _UNIFORM if is_uniform(index) else price
        is_mask = value.op in COMPARISONS | LOGIC
        network.join(2 * index, 2 * index + 1, _UNBOUNDED if is_mask else saving)
        network.join(2 * index + 1, sink, _UNBOUNDED if value.op == "read" else cost(value.op))
        for arg in value.args:
            require(2 * index + 1, arg)
    side = network.cut(source, sink) if known else ()
    return {index for index in known if 2 * index in side and 2 * index + 1 not in side}

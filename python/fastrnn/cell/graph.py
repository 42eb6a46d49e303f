"""Values in the order of their computation, while a program is built: each operation once, dead values removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .program import Value

# Operations that have the same bits if their first two arguments change places.
_COMMUTATIVE = frozenset({"add", "mul", "eq", "ne", "and", "or", "fma", "fms", "fnma", "mul3"})
# Reads of sums over units: of the mean and the variance of `moments`, among others.
SUMS = ("sum", "mean", "moments", "variance")


def is_by_head(value: Value) -> bool:
    """Whether a sum is of each head."""
    return kind_of(value) in SUMS and str(value.name).endswith(".head")


def kind_of(value: Value) -> str:
    """The part of a read's name before the dot; empty for operations and constants."""
    return "" if value.name is None else value.name.partition(".")[0]


class Graph:
    """A list of values. An operation on the same arguments as before is the earlier value: its bits are the same.

    A read that waits for a phase (of a product, or of a sum over units) has arguments here: the values that the product
    or sum is of. `phases.py` removes them.
    """

    def __init__(self, values: Iterable[Value] = ()) -> None:
        self.values: list[Value] = []
        self._known: dict[object, int] = {}
        for value in values:
            self.add(value)

    def add(self, value: Value) -> int:
        args = value.args
        if value.op in _COMMUTATIVE:
            args = (*sorted(args[:2]), *args[2:])
        number = None if value.number is None else value.number.hex()  # -0.0 and 0.0 differ
        key = value.op, args, value.name, number
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(value)
        return self._known[key]

    def operation(self, op: str, *args: int) -> int:
        return self.add(Value(op, args))

    def read(self, name: str) -> int:
        return self.add(Value("read", name=name))

    def constant(self, number: float) -> int:
        return self.add(Value("constant", number=number))

    def is_constant(self, index: int, number: float) -> bool:
        value = self.values[index]
        return value.op == "constant" and value.number == number

    def extended(self) -> Graph:
        """A copy in which new operations stay apart from the present operations, but share reads and constants."""
        copy = Graph()
        copy.values = list(self.values)
        copy._known = {key: n for key, n in self._known.items() if self.values[n].op in ("read", "constant")}
        return copy


def live(values: Sequence[Value], roots: Iterable[int]) -> set[int]:
    """The indices of all values that the roots need."""
    found = set(roots)
    for number in reversed(range(len(values))):
        if number in found:
            found.update(values[number].args)
    return found


def uses(values: Sequence[Value], roots: Sequence[int]) -> Counter[int]:
    """How many live operations and roots use each value; an operation that uses a value twice counts twice."""
    counts = Counter(roots)
    for number in live(values, roots):
        counts.update(values[number].args)
    return counts


def rebuild(
    values: Sequence[Value], roots: Sequence[int], rule: Callable[[Graph, int, Value], int] | None = None
) -> tuple[Graph, dict[int, int]]:
    """The live values in a new graph, and the new index of each.

    `rule` receives the new graph, the old index and the value with its new arguments; it returns the new index.
    """
    graph, new = Graph(), dict[int, int]()
    for number in sorted(live(values, roots)):
        old = values[number]
        args = tuple([new[arg] for arg in old.args])
        value = old if args == old.args else Value(old.op, args, old.name, old.number)
        new[number] = graph.add(value) if rule is None else rule(graph, number, value)
    return graph, new

"""Rewrite rules on values: contraction to the fma family, and superinstructions.

Contraction has one rule: a product that is used once, in a sum, becomes an fma, the left product first. Each
superinstruction has the roundings of the expression that it stands for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from .graph import Graph, rebuild, uses
from .program import Value


def contract(
    values: Sequence[Value], roots: Sequence[int], is_fixed: Callable[[int], bool] = lambda _: False
) -> tuple[Graph, dict[int, int]]:
    """The live values with contracted sums, and the new index of each old value.

    A fixed product or sum stays: backward recomputes a forward value with the roundings of forward.
    """
    counts = uses(values, roots)

    def fusible(index: int) -> bool:
        return values[index].op == "mul" and counts[index] == 1 and not is_fixed(index)

    def rule(graph: Graph, old: int, value: Value) -> int:
        if value.op not in ("add", "sub") or is_fixed(old):
            return graph.add(value)
        left, right = values[old].args
        if fusible(left):
            product = graph.values[value.args[0]].args
            return graph.operation("fma" if value.op == "add" else "fms", *product, value.args[1])
        if fusible(right):
            product = graph.values[value.args[1]].args
            return graph.operation("fma" if value.op == "add" else "fnma", *product, value.args[0])
        return graph.add(value)

    return rebuild(values, roots, rule)


def superinstructions(
    values: Sequence[Value], roots: Sequence[int], level: Sequence[int]
) -> tuple[Graph, dict[int, int]]:
    """The live values with superinstructions, and the new index of each old value.

    An inner operation is absorbed only if it belongs to the same phase (`level`) and nothing else uses it.
    """
    counts = uses(values, roots)
    matched, first = rebuild(
        values, roots, lambda graph, old, value: _Match(values, counts, level, graph).match(old, value)
    )
    graph, second = rebuild(matched.values, [first[root] for root in roots])
    return graph, {old: second[new] for old, new in first.items() if new in second}


class _Match:
    def __init__(self, values: Sequence[Value], counts: Counter[int], level: Sequence[int], graph: Graph) -> None:
        self.values, self.counts, self.level, self.graph = values, counts, level, graph

    def match(self, old: int, value: Value) -> int:
        add = self.graph.operation
        if value.op == "sub" and self._is_one(value.args[0]):
            return add("one_minus", value.args[1])
        if value.op not in ("mul", "fma"):
            return self.graph.add(value)
        first, second, *rest = value.args
        old_args = self.values[old].args
        for place, (d, inner) in enumerate(((first, second), (second, first))):
            if not self._absorbed(old, old_args[1 - place]):
                continue
            s, t = self._sigmoid_slope(inner), self._tanh_slope(inner)
            if value.op == "fma" and t is not None:
                return add("fma_dtanh", d, t, *rest)
            if value.op == "mul" and t is not None:
                return add("dtanh", d, t)
            if value.op == "mul" and s is not None:
                return add("dsigmoid", d, s)
            if value.op == "mul" and self.graph.values[inner].op == "mul":
                return add("mul3", *self.graph.values[inner].args, d)
        return self.graph.add(value)

    def _absorbed(self, old: int, inner: int) -> bool:
        return self.counts[inner] == 1 and self.level[inner] == self.level[old]

    def _is_one(self, index: int) -> bool:
        return self.graph.is_constant(index, 1.0)

    def _sigmoid_slope(self, index: int) -> int | None:
        """The value s, if the value is s*(1 - s)."""
        value = self.graph.values[index]
        if value.op == "mul":
            for s, rest in (value.args, value.args[::-1]):
                if self.graph.values[rest] == Value("one_minus", (s,)):
                    return s
        return None

    def _tanh_slope(self, index: int) -> int | None:
        """The value t, if the value is 1 - t*t with one rounding."""
        value = self.graph.values[index]
        if value.op == "fnma" and value.args[0] == value.args[1] and self._is_one(value.args[2]):
            return value.args[0]
        return None

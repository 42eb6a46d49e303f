"""Reverse-mode differentiation of a traced step: the gradients of all reads, as values added to the trace's graph."""

from __future__ import annotations

from dataclasses import dataclass

from .derivatives import NO_DERIVATIVE, RULES, Site, Term
from .graph import SUMS, Graph, is_by_head, kind_of
from .program import Value
from .traced import Traced


@dataclass
class Reversed:
    """The graph of a trace and its derivative: the first `primal` values are the trace's.

    `gradients` has the gradient of each read by name, if it is not zero everywhere.
    """

    graph: Graph
    primal: int
    gradients: dict[str, int]


def differentiate(traced: Traced) -> Reversed:
    """Differentiate sum(dy*y) + sum(d_after*after) with respect to all reads of the step."""
    sweep = _Sweep(traced)
    sweep.seed()
    for index in reversed(range(len(traced.values))):
        sweep.visit(index)
    names = {str(v.name): n for n, v in enumerate(traced.values) if v.op == "read"}
    found = {name: sweep.materialized(index) for name, index in names.items() if index in sweep.gradient}
    return Reversed(sweep.graph, len(traced.values), found)


class _Sweep:
    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.graph = Graph(traced.values).extended()
        self.gradient: dict[int, Term] = {}

    def seed(self) -> None:
        if self.traced.output is None:
            self.add(self.traced.y, Term(1, self.graph.read("dy")))
        for name, index in self.traced.after.items():
            self.add(index, Term(1, self.graph.read(f"d_after.{name}")))

    def materialized(self, index: int) -> int:
        """The gradient of a value with its sign."""
        term = self.gradient[index]
        return term.value if term.sign > 0 else self.graph.operation("neg", term.value)

    def visit(self, index: int) -> None:
        value = self.traced.values[index]
        if index not in self.gradient:
            return
        if value.op == "read" and value.args:
            self._visit_waiting(index, value)
        if value.op in NO_DERIVATIVE:
            return
        sign, d = self.gradient[index]
        for arg, term in zip(value.args, RULES[value.op](Site(self.graph, index, value.args), d), strict=True):
            if term is not None:
                self.add(arg, Term(sign * term.sign, term.value))

    def add(self, index: int, term: Term) -> None:
        """Add a term to the gradient of a value."""
        if self.graph.values[index].op == "constant":
            return
        present = self.gradient.get(index)
        self.gradient[index] = term if present is None else self._sum(present, term)

    def _sum(self, first: Term, second: Term) -> Term:
        if first.sign == second.sign:
            return Term(first.sign, self.graph.operation("add", first.value, second.value))
        whole, part = (first, second) if first.sign > 0 else (second, first)
        product = self.graph.values[part.value]
        if product.op == "mul" and whole.value in product.args:  # d - d*z = d*(1 - z), without cancellation
            z = product.args[1 - product.args.index(whole.value)]
            rest = self.graph.operation("sub", self.graph.constant(1.0), z)
            return Term(1, self.graph.operation("mul", whole.value, rest))
        return Term(1, self.graph.operation("sub", whole.value, part.value))

    def _visit_waiting(self, index: int, value: Value) -> None:
        """The gradient of a product's vector is a product; the gradient of a sum's values is a sum."""
        kind, number = kind_of(value), str(value.name).partition(".")[2]
        if kind == "product":
            d = self.materialized(index)
            self.add(value.args[0], Term(1, self.graph.add(Value("read", (d,), f"d_product.{number}"))))
        elif kind in SUMS:
            self._visit_sum(kind, value, *self.gradient[index])

    def _visit_sum(self, kind: str, value: Value, sign: int, d: int) -> None:
        """With k vectors x: the slope of their mean is 1/(k*H), of their variance 2*(x - mean)/(k*H).

        By head, the width of a head takes the place of H.
        """
        of = "head" if is_by_head(value) else "d"
        summed = self.graph.add(Value("read", (d,), f"sum.{of}" if kind == "sum" else f"mean.{of}"))
        factor = {"sum": 1.0, "variance": 2 / len(value.args)}.get(kind, 1 / len(value.args))
        if factor != 1:
            summed = self.graph.operation("mul", summed, self.graph.constant(factor))
        mean = Value("read", value.args, str(value.name).replace("variance", "moments"))
        for arg in value.args:
            term = summed
            if kind == "variance":
                term = self.graph.operation("mul", summed, self.graph.operation("sub", arg, self.graph.add(mean)))
            self.add(arg, Term(sign, term))

"""Tracing: a step that is a plain NumPy function runs once on stand-ins for arrays, and becomes a list of values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .contract import contract
from .graph import SUMS, Graph, kind_of, live, rebuild
from .names import Gates, Names, Vectors
from .program import OPERATIONS, Input, Option, State, Value
from .traced import Traced
from .tracer import Tracer, constant
from .user_line import refusal
from .verify_tables import INSTRUCTIONS_MAX, at_most

PARAMETERS = ("a", "s", "v", "x", "o")


@dataclass(frozen=True)
class Tables:
    """The declared names of a cell."""

    name: str
    gates: tuple[str, ...]
    states: tuple[State, ...]
    vectors: tuple[str, ...]
    inputs: tuple[Input, ...]
    options: tuple[Option, ...]


def parameters_of(step: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a step's parameters, which are some of a, s, v, x and o. Others keep their defaults.

    Raises
    ------
    TypeError
        For another name without a default, or for * and **.
    """
    found = [
        one for one in inspect.signature(step).parameters.values() if one.name in PARAMETERS or one.default is one.empty
    ]
    for one in found:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.POSITIONAL_ONLY) or one.name not in PARAMETERS:
            raise TypeError(
                f"parameter {one}: expected some of a (pre-activations by gate), s (states before the step), "
                "v (vectors), x (inputs of each step), o (options)"
            )
    return tuple(one.name for one in found)


def trace(step: Callable[..., Any], tables: Tables) -> Traced:
    """Run a step on tracers.

    Raises
    ------
    TypeError
        For an operation that cannot be traced, or a wrong result; the message names the line of the step.
    ValueError
        For a declared name that the step does not need.
    """
    recorder = _Recorder(tables)
    given = {name: getattr(recorder, name) for name in parameters_of(step)}
    y, after = recorder.results(step(**given), step)
    values, roots = _apart(recorder.graph, [y, *after], set(recorder.products))
    graph, new = contract(values, roots)
    count = sum(value.op in OPERATIONS for value in graph.values)
    at_most("program.forward.values", INSTRUCTIONS_MAX, count, "instructions")
    traced = Traced(
        tables.name, tables.gates, tables.states, tables.vectors, tables.inputs, tables.options, tuple(graph.values),
        new[roots[0]], {s.name: new[root] for s, root in zip(tables.states, roots[1:], strict=True)},
        tuple(recorder.products),
    )  # fmt: skip
    _require_meaning(traced)
    return traced


class _Recorder:
    """The arguments of a step that is being traced."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.graph = Graph()
        self.products: list[str] = []
        self.a = Gates(tables.gates, self._gate)
        self.s = Names("state", [one.name for one in tables.states], self._reader("before"))
        self.v = Vectors(tables.vectors, tables.gates, self._reader("vector"))
        self.x = Names("input", [one.name for one in tables.inputs], self._reader("input"))
        self.o = Names("option", [one.name for one in tables.options], self._reader("option"))

    def _read(self, name: str) -> Tracer:
        return Tracer(self.graph, self.graph.read(name))

    def _reader(self, kind: str) -> Callable[[str], Tracer]:
        return lambda name: self._read(f"{kind}.{name}")

    def _gate(self, kind: str, name: str) -> Any:
        if kind != "product":
            return self._read(f"{kind}.{name}")
        return lambda vector: self._product(name, vector)

    def _product(self, gate: str, vector: Any) -> Tracer:
        where = f"a.product.{gate}(…)"
        if not isinstance(vector, Tracer):
            raise refusal(f"{where} of {type(vector).__name__}", "expected a vector that the step computed")
        operand = vector._operand(where, vector, wants_mask=False)
        if vector._graph is not self.graph:
            raise refusal(f"{where} of a value of another trace", "use the arguments of this call alone")
        number = self.products.index(gate) if gate in self.products else len(self.products)
        index = self.graph.add(Value("read", (operand,), f"product.{number}"))
        if gate not in self.products:
            self.products.append(gate)
        elif sum(value.name == f"product.{number}" for value in self.graph.values) > 1:
            raise refusal(f"{where} of a second vector", "the rows of a gate have one product; declare another gate")
        return Tracer(self.graph, index)

    def results(self, returned: Any, step: Callable[..., Any]) -> tuple[int, list[int]]:
        """The indices of the output and of the states after the step."""
        count, where = len(self.tables.states), _place(step)
        names = ", ".join(one.name for one in self.tables.states)
        expected = f"expected `return output, ({names}{',' if count == 1 else ''})`"
        if not isinstance(returned, tuple) or len(returned) != 2:
            got = f"{len(returned)} values" if isinstance(returned, tuple) else type(returned).__name__
            raise TypeError(f"results: {expected}, got {got} [{where}]")
        output, after = returned
        if count == 1 and isinstance(after, Tracer):
            after = (after,)
        if not isinstance(after, tuple | list) or len(after) != count:
            got = f"{len(after)} states" if isinstance(after, tuple | list) else type(after).__name__
            raise TypeError(f"results: {expected}, got {got} [{where}]")
        return self._result(output, where), [self._result(one, where) for one in after]

    def _result(self, value: Any, where: str) -> int:
        if isinstance(value, Tracer):
            if value._graph is not self.graph:
                raise TypeError(f"results: a value of another trace [{where}]")
            if value._is_mask:
                raise TypeError(
                    f"results: expected numbers, got True and False; write np.where(mask, 1.0, 0.0) [{where}]"
                )
            return value._index
        try:
            return self.graph.constant(constant("results", value))
        except TypeError as error:
            raise TypeError(f"{str(error).partition(' [')[0]} [{where}]") from None


def _place(step: Callable[..., Any]) -> str:
    code = getattr(step, "__code__", None)
    return "no source" if code is None else f"{code.co_filename}, line {code.co_firstlineno}: {code.co_name}"


def _apart(graph: Graph, roots: list[int], multiplied: set[str]) -> tuple[list[Value], list[int]]:
    """Replace a gate by the sum of its halves if the step reads a half of it."""
    names = {str(graph.values[index].name) for index in live(graph.values, roots) if graph.values[index].op == "read"}
    halves = {name.partition(".")[2] for name in names if name.startswith(("gate_input.", "gate_state."))} | multiplied

    def rule(new: Graph, _: int, value: Value) -> int:
        kind, gate = str(value.name).split(".") if value.op == "read" else ("", "")
        if gate in multiplied and kind in ("gate", "gate_state"):
            raise TypeError(
                f"gate {gate}: its rows of w_hh multiply a vector of the step, so h has none; read a.input.{gate}"
            )
        if kind == "gate" and gate in halves:
            return new.operation("add", new.read(f"gate_input.{gate}"), new.read(f"gate_state.{gate}"))
        return new.add(value)

    changed, place = rebuild(graph.values, roots, rule)
    return changed.values, [place[root] for root in roots]


def _require_meaning(traced: Traced) -> None:
    found, uniform = set(traced.reads), traced.uniform
    for value in traced.values:
        if kind_of(value) in SUMS and any(uniform[arg] for arg in value.args):
            raise TypeError("a sum over units: expected vectors, got a value that is the same for all units")
    for number, gate in enumerate(traced.products):
        if f"product.{number}" not in found:
            raise ValueError(f"gate {gate}: no result of the step depends on its product")
    for gate in traced.gates:
        if not {f"gate.{gate}", f"gate_input.{gate}", f"gate_state.{gate}"} & found and gate not in traced.products:
            raise ValueError(f"gate {gate}: no result of the step depends on it")
    declared = [("vector", one) for one in traced.vectors]
    declared += [("input", one.name) for one in traced.inputs] + [("option", one.name) for one in traced.options]
    for kind, name in declared:
        if f"{kind}.{name}" not in found:
            raise ValueError(f"{kind} {name}: no result of the step depends on it")

"""The result of a trace: a step forward, contracted, before it is differentiated and cut into phases."""

from __future__ import annotations

from dataclasses import dataclass

from .graph import SUMS, is_by_head, kind_of
from .program import Input, Option, State, Value


@dataclass(frozen=True)
class Traced:
    """A step forward. `y`, the states `after` the step and the `operands` of products are indices of `values`.

    A read of a product has its operand as its argument (`graph.py`). `products` names the gate of each product.
    """

    name: str
    gates: tuple[str, ...]
    states: tuple[State, ...]
    vectors: tuple[str, ...]
    inputs: tuple[Input, ...]
    options: tuple[Option, ...]
    values: tuple[Value, ...]
    y: int
    after: dict[str, int]
    products: tuple[str, ...]

    @property
    def output(self) -> str | None:
        """The state that is the output."""
        return next((name for name, index in self.after.items() if index == self.y), None)

    @property
    def roots(self) -> list[int]:
        return [self.y, *self.after.values()]

    @property
    def reads(self) -> dict[str, int]:
        """The index of each vector that the step reads."""
        return {str(value.name): n for n, value in enumerate(self.values) if value.op == "read"}

    @property
    def uniform(self) -> list[bool]:
        """Whether each value is the same for all units."""
        one_column = {f"input.{one.name}" for one in self.inputs if one.columns == "one"}
        uniform = list[bool]()
        for value in self.values:
            if value.op == "read":
                kind = kind_of(value)
                is_sum = kind in SUMS and not is_by_head(value)
                uniform.append(is_sum or kind == "option" or value.name in one_column)
            else:
                uniform.append(all(uniform[arg] for arg in value.args))
        return uniform

    @property
    def apart(self) -> tuple[str, ...]:
        """The gates of which a half is read."""
        halves = {name.partition(".")[2] for name in self.reads if name.startswith(("gate_input.", "gate_state."))}
        return tuple(gate for gate in self.gates if gate in halves | set(self.products))

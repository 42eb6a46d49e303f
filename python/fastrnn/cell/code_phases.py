"""Values in the phases of the C interface: when values are computed and outputs written, and which values are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence, Set

from .graph import kind_of
from .program import Direction, Program, Value

_OWN_PHASE = frozenset({"gate", "gate_state", "d_after", "product", "d_product"})  # reads that only their phase has


def is_lost_after_its_phase(value: Value) -> bool:
    """Whether the value is a read that only its phase has."""
    return kind_of(value) in _OWN_PHASE


class CodePhases:
    """The phases of a direction.

    Attributes
    ----------
    values : list of Value
    phase : list of int
        By value.
    outputs : dict of str to int
        Those that instructions write.
    when : dict of str to int
        The phase that writes an output.
    kept : dict of int to int
        The numbers of the values that are kept, by value.
    sums : list of (phase, Sum)
    operands : list of int
        The values that second products multiply.
    needed : list of int
        Outputs, and the values that sums are of and that second products multiply.
    """

    def __init__(self, program: Program, side: str, direction: Direction, by_library: Set[str]) -> None:
        self.values = list(direction.values)
        self.ends = [phase.end for phase in direction.phases]
        self.phase = [sum(j >= end for end in self.ends) for j in range(len(self.values))]
        operands = {name: value for name, value in direction.outputs.items() if name.startswith("operand.")}
        self.operands = [operands[f"operand.{number}"] for number in range(len(operands))]
        given = by_library | operands.keys()
        self.outputs = {name: value for name, value in direction.outputs.items() if name not in given}
        self.sums = [(number, one) for number, phase in enumerate(direction.phases) for one in phase.sums]
        self.needed = [*self.outputs.values(), *(arg for _, one in self.sums for arg in one.args), *self.operands]
        self.when = {name: self.phase[value] for name, value in self.outputs.items()}
        if side == "forward":
            for state in program.states[1:]:  # it replaces the state before the step
                name = f"after.{state.name}"
                self.when[name] = max(self.when[name], self._last_read(f"before.{state.name}"))
        self.kept = {value: number for number, value in enumerate(self._crossing())}

    def _last_read(self, name: str) -> int:
        reads = {j for j, value in enumerate(self.values) if value.name == name}
        users = [self.phase[j] for j in reachable(self.values, self.needed) if reads & {j, *self.values[j].args}]
        return max(users, default=0)

    def _crossing(self) -> list[int]:
        """The values that have to be kept."""
        crossing = {arg for _, one in self.sums for arg in one.args} | set(self.operands)
        for j in reachable(self.values, self.needed):
            crossing.update(arg for arg in self.values[j].args if self._is_lost(arg, self.phase[j]))
        crossing.update(value for name, value in self.outputs.items() if self._is_lost(value, self.when[name]))
        return sorted(crossing)

    def _is_lost(self, j: int, phase: int) -> bool:
        """Whether a phase cannot read a value of an earlier phase unless it is kept."""
        value = self.values[j]
        is_lost = value.op not in ("read", "constant") or is_lost_after_its_phase(value)
        return is_lost and self.phase[j] < phase

    def fuse(self) -> None:
        """Use superinstructions. They do not change which values are kept."""
        self.values = _fused(self.values, self.phase, [*self.needed, *self.kept])


def reachable(values: Sequence[Value], needed: Collection[int]) -> list[int]:
    """The values that some values need, in order."""
    found = set(needed)
    for j in reversed(range(len(values))):
        if j in found:
            found.update(values[j].args)
    return sorted(found)


def _fused(values: list[Value], phase: Sequence[int], needed: Collection[int]) -> list[Value]:
    """The values, where an operation has taken in an operand of its phase that nothing else uses."""
    values = list(values)
    present = reachable(values, needed)
    uses = Counter(arg for j in present for arg in values[j].args)
    uses.update(needed)

    def is_alone(arg: int, op: str) -> bool:
        return values[arg].op == op and uses[arg] == 1 and phase[arg] == phase[j]

    for j in present:
        op, args = values[j].op, values[j].args
        if op in ("dsigmoid", "dtanh") and is_alone(args[0], "mul"):
            values[j] = Value(f"mul_{op}", (*values[args[0]].args, args[1]))
        elif op == "mul":
            for one, other in (args, args[::-1]):
                if is_alone(one, "tanh"):
                    values[j] = Value("mul_tanh", (other, *values[one].args))
                    break
                if is_alone(one, "mul"):
                    values[j] = Value("mul3", (*values[one].args, other))
                    break
    return values

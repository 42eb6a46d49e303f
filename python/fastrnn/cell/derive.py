"""From a traced step to a program: slots, saved vectors, and backward from the reverse-mode derivative."""

from __future__ import annotations

from .contract import contract
from .graph import kind_of, live, rebuild
from .phases import direction
from .program import FORMAT, Direction, Product, Program, Saved, Slot, Value, slot_order
from .reverse import differentiate
from .saving import PRICES, choose_saved
from .traced import Traced
from .verify import verify
from .verify_tables import SAVED_MAX

_ACTIVATIONS = ("sigmoid", "tanh", "relu", "softplus", "log_sigmoid")
_FREE = ("vector", "input", "option")


def derive(traced: Traced) -> Program:
    """The program of a traced step, forward and backward.

    Raises
    ------
    ValueError
        If the program exceeds a limit; the message names the limit.
    """
    backward = _Backward(traced)
    saved = backward.choose()
    forward = {"y": traced.y} if traced.output is None else {}
    forward |= {f"after.{name}": index for name, index in traced.after.items()}
    forward |= {f"saved.{n}": index for n, (_, index) in enumerate(saved)}
    forward |= {f"operand.{n}": index for n, index in enumerate(_operands(traced))}
    program = Program(
        FORMAT, traced.name, traced.gates, traced.apart, traced.states, traced.output, traced.vectors, traced.inputs,
        traced.options, backward.products(saved), direction(traced.values, forward), backward.direction(saved),
        tuple(slot for slot, _ in backward.slots), _named(traced, saved),
    )  # fmt: skip
    verify(program)
    return program


_Kept = list[tuple[str | None, int]]  # of each saved vector: the state that it is, and its index in the trace


def _operands(traced: Traced) -> list[int]:
    reads = traced.reads
    return [traced.values[reads[f"product.{n}"]].args[0] for n in range(len(traced.products))]


def _named(traced: Traced, saved: _Kept) -> tuple[Saved, ...]:
    """Names for people: the state's, or of an activation, the last gate's that it depends on."""
    names, uniform = list[str](), traced.uniform
    for state, index in saved:
        value = traced.values[index]
        gates = {str(traced.values[n].name).partition(".")[2] for n in live(traced.values, [index])
                 if kind_of(traced.values[n]) in ("gate", "gate_input", "gate_state")}  # fmt: skip
        choices = [state] if state else []
        if value.op == "read":
            choices.append("mean" if value.args else str(value.name).replace(".", "_"))
        elif gates and value.op in _ACTIVATIONS:
            choices.append(max(gates, key=traced.gates.index))
        names.append(next((one for one in choices if one not in names), f"v{index}"))
    columns = ["one" if uniform[index] and state is None else "units" for state, index in saved]
    return tuple(Saved(name, state, one) for name, (state, _), one in zip(names, saved, columns, strict=True))


class _Backward:
    """The derivative of a trace: contracted, before it is known which forward values it reads."""

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        found = differentiate(traced)
        zero = found.graph.constant(0.0)
        self.gradients, self._zero = found.gradients, zero
        slots, outputs = self._slots(), self._outputs()
        roots = [*(index for _, index in slots), *outputs.values()]
        graph, new = contract(found.graph.values, roots, lambda index: index < found.primal)
        self.values = graph.values
        self.slots = [(slot, new[index]) for slot, index in slots]
        self.outputs = {f"slot.{n}": index for n, (_, index) in enumerate(self.slots)}
        self.outputs |= {name: new[index] for name, index in outputs.items()}
        self.trace_index = {new[old]: old for old in range(found.primal) if old in new}  # of primal values
        adjoint = (n for n in range(len(self.values)) if n not in self.trace_index)
        used = {arg for n in adjoint for arg in self.values[n].args} | set(self.outputs.values())
        self.needed = used & self.trace_index.keys()  # forward values that the derivative uses

    def _slots(self) -> list[tuple[Slot, int]]:
        """Slots in their order, with their values."""
        reads, slots = self.traced.reads, list[tuple[Slot, int]]()
        for gate in self.traced.gates:
            if gate not in self.traced.apart:
                slots.append((Slot(gate, gate, True, "h"), self._gradient(f"gate.{gate}")))
                continue
            number = self.traced.products.index(gate) if gate in self.traced.products else None
            operand: str | int = "h" if number is None else number
            state = f"gate_state.{gate}" if number is None else f"product.{number}"
            to_input, to_state = self._gradient(f"gate_input.{gate}"), self._gradient(state)
            if f"gate_input.{gate}" in reads and state in reads and to_input == to_state:
                slots.append((Slot(gate, gate, True, operand), to_input))
                continue
            if f"gate_input.{gate}" in reads:
                slots.append((Slot(f"{gate}_input", gate, True, None), to_input))
            if state in reads:
                slots.append((Slot(f"{gate}_state", gate, False, operand), to_state))
        return sorted(slots, key=lambda one: slot_order(one[0]))

    def _outputs(self) -> dict[str, int]:
        h = f"before.{self.traced.states[0].name}"
        names = [f"before.{one.name}" for one in self.traced.states]
        outputs = {name: self._gradient(name) for name in names if name != h or h in self.gradients}
        outputs |= {f"vector.{one}": self._gradient(f"vector.{one}") for one in self.traced.vectors}
        return outputs | {
            f"input.{x.name}": self._gradient(f"input.{x.name}") for x in self.traced.inputs if x.gradient
        }

    def _gradient(self, name: str) -> int:
        return self.gradients.get(name, self._zero)

    # ---- saved vectors ----

    def choose(self) -> _Kept:
        """The cheapest saved vectors, or fewer, if a program may not have that many."""
        for price in PRICES:
            saved = self._choose(price)
            if len(saved) <= SAVED_MAX:
                break
        return saved

    def _choose(self, price: int) -> _Kept:
        """The saved vectors, operations before reads, each in the order of the trace."""
        traced, wanted, needed = self.traced, set[int](), {self.trace_index[index] for index in self.needed}
        before = {name: traced.reads.get(f"before.{name}") for name in traced.after}
        kept = {traced.states[0].name} if any(slot.operand == "h" for slot, _ in self.slots) else set()
        kept |= {name for name, index in before.items() if index in needed}
        while True:
            kept.discard(str(traced.output))
            always = wanted | {traced.after[name] for name in kept}
            chosen = self._choose_beside(kept, always, price)
            if chosen & set(before.values()):  # a state before the step is read where the step before has saved it
                kept |= {name for name, index in before.items() if index in chosen}
                continue
            states = {traced.after[name] for name in kept}
            saved: _Kept = [(None, index) for index in (chosen | wanted) - states]
            saved += [(name, traced.after[name]) for name in kept]
            missing = [n for n in range(len(traced.products)) if not self._operand_reads(n, self._sources(saved))]
            if not missing:
                return sorted(saved, key=lambda one: (traced.values[one[1]].op == "read", one[1], one[0] or ""))
            wanted.add(_operands(traced)[missing[0]])

    def _choose_beside(self, kept: set[str], always: set[int], price: int) -> set[int]:
        """The values to save in addition to `always`, as indices of the trace."""

        def is_free(index: int) -> bool:
            value, old = self.values[index], self.trace_index[index]
            if value.op == "read" and kind_of(value) == "before":
                return str(value.name).partition(".")[2] in kept | {self.traced.output}
            return value.op == "constant" or kind_of(value) in _FREE or old == self.traced.y or old in always

        uniform = self.traced.uniform
        chosen = choose_saved(
            self.values, sorted(self.needed), is_free, lambda index: uniform[self.trace_index[index]], price
        )
        return {self.trace_index[index] for index in chosen}

    def _sources(self, saved: _Kept) -> dict[int, str]:
        """The reads of backward that are a value of the trace."""
        sources = {index: f"saved.{n}" for n, (_, index) in enumerate(saved)} | {self.traced.y: "y"}
        kept = {state for state, _ in saved} | {self.traced.output}
        before = {name: index for name, index in self.traced.reads.items() if name.startswith("before.")}
        return sources | {index: name for name, index in before.items() if name.partition(".")[2] in kept}

    def _operand_reads(self, number: int, sources: dict[int, str]) -> tuple[str, ...]:
        """The reads of which the vector of a product is the product; empty if there are none."""
        index = _operands(self.traced)[number]
        if index in sources:
            return (sources[index],)
        value = self.traced.values[index]
        found = [sources[arg] for arg in value.args if arg in sources]
        return tuple(found) if value.op == "mul" and len(found) == 2 else ()

    def products(self, saved: _Kept) -> tuple[Product, ...]:
        sources = self._sources(saved)
        return tuple(Product(gate, self._operand_reads(n, sources)) for n, gate in enumerate(self.traced.products))

    def direction(self, saved: _Kept) -> Direction:
        """Backward, with reads in place of the saved vectors."""
        sources = self._sources(saved)
        names = {n: sources[old] for n, old in self.trace_index.items() if old in sources}
        values = [Value("read", name=names[n]) if n in names else one for n, one in enumerate(self.values)]
        graph, new = rebuild(values, list(self.outputs.values()))
        return direction(graph.values, {name: new[index] for name, index in self.outputs.items()})

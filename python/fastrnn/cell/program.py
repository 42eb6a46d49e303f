"""A cell as data: the steps forward and backward as straight lists of operations on vectors of H.

A `Program` has one `Direction` for each pass. A direction lists values in the order in which they are computed; a value
is an operation on earlier values, a read of a named vector, or a constant. `verify.py` has all rules, and
`program_text.py` writes and reads programs as JSON.

Reads of forward: `gate.i` (the pre-activation of a gate that is not apart), `gate_input.n`, `gate_state.n` (the halves
of a gate that is apart), `before.c`, `vector.p_i`, `input.mask`, `option.gain`, `product.0` (w_hh v + b_hh, for the
rows of the product's gate), `sum.0` and, of moments, `variance.0`.

Outputs of forward: `y` (only if the output is no state), `after.c` for each state, `saved.0` … for each saved vector,
`operand.0` (the vector v of a product).

Reads of backward: `dy` (only if the output is no state; otherwise `d_after` includes dy), `d_after.c`, `saved.0`, `y`,
`before.c`, `vector.p_i`, `input.mask`, `option.gain`, `d_product.0` (the gradient of the vector v of a product),
`sum.0`.

Outputs of backward: `slot.0` …, `before.c` for each state (`before.h` is the part that bypasses all products, and is
absent if there is none), `vector.p_i` (a row's contribution) and `input.mask` (for inputs with a gradient; per unit
also if the input has one column).
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT = 1


@dataclass(frozen=True)
class Operation:
    """An operation: its number in the C interface and its number of arguments. Numbers are never used again."""

    code: int
    arity: int


_BY_CODE: tuple[tuple[str, int], ...] = (
    ("add", 2), ("sub", 2), ("mul", 2), ("div", 2), ("neg", 1),
    ("fma", 3), ("fms", 3), ("fnma", 3),  # a*b + c, a*b - c, c - a*b
    ("min", 2), ("max", 2), ("clip", 3), ("abs", 1), ("sign", 1), ("sqrt", 1), ("reciprocal", 1),
    ("exp", 1), ("expm1", 1), ("log", 1), ("log1p", 1), ("tanh", 1),
    ("sigmoid", 1), ("relu", 1), ("softplus", 1), ("log_sigmoid", 1),
    ("lt", 2), ("le", 2), ("eq", 2), ("ne", 2), ("and", 2), ("or", 2), ("not", 1), ("select", 3),
    # Superinstructions: 1 - a, d*(s*(1 - s)), d*fma(-t, t, 1), (a*b)*c, fma(d, fma(-t, t, 1), c)
    ("one_minus", 1), ("dsigmoid", 2), ("dtanh", 2), ("mul3", 3), ("fma_dtanh", 3),
)  # fmt: skip
OPERATIONS = {name: Operation(code, arity) for code, (name, arity) in enumerate(_BY_CODE)}
COMPARISONS = frozenset({"lt", "le", "eq", "ne"})
LOGIC = frozenset({"and", "or", "not"})


@dataclass(frozen=True)
class State:
    """A state and the value that it has where a sequence starts without one."""

    name: str
    start: float = 0.0


@dataclass(frozen=True)
class Input:
    """An input of each step: a value for each unit ("units") or one for all units ("one")."""

    name: str
    columns: str = "units"
    gradient: bool = False


@dataclass(frozen=True)
class Option:
    """A number that is constant for a call."""

    name: str
    default: float


@dataclass(frozen=True)
class Product:
    """A second product: the rows of w_hh and b_hh of `gate`, applied to a vector of the step instead of h.

    `operand` names one or two reads of backward. The vector is their product; the gradient of w_hh needs it.
    """

    gate: str
    operand: tuple[str, ...]


@dataclass(frozen=True)
class Sum:
    """A sum over all units of all `args`: "sum", "mean", or "moments" (the mean, and the biased variance).

    `by_head`: each head of a block-diagonal layer has a sum of its own, over its units.
    """

    kind: str
    args: tuple[int, ...]
    by_head: bool = False


@dataclass(frozen=True)
class Value:
    """An operation on the values `args`, a "read" of the vector `name`, or the "constant" `number`."""

    op: str
    args: tuple[int, ...] = ()
    name: str | None = None
    number: float | None = None


@dataclass(frozen=True)
class Phase:
    """The values up to `end`, from the end of the phase before. They may read the product and the sums of the phase.

    The product and the sums are of values of earlier phases. The sums of a direction are numbered in order.
    """

    end: int
    product: int | None = None
    sums: tuple[Sum, ...] = ()


@dataclass(frozen=True)
class Direction:
    """A step forward or backward."""

    values: tuple[Value, ...]
    phases: tuple[Phase, ...]
    outputs: dict[str, int]


@dataclass(frozen=True)
class Slot:
    """The gradient of a gate's pre-activation, or of a half of it.

    It goes to w_ih, b_ih and x if `to_input`. It goes to the rows of w_hh and b_hh that multiplied `operand`: "h", the
    vector of a product (by number), or None.
    """

    name: str
    gate: str
    to_input: bool
    operand: str | int | None


def slot_order(slot: Slot) -> int:
    """The place of a slot: towards the input alone, towards both, towards the states alone.

    So the slots towards the input are neighbours, and so are those of h.
    """
    if slot.operand is None:
        return 0
    return (2 if slot.to_input else 3) if slot.operand == "h" else (1 if slot.to_input else 4)


@dataclass(frozen=True)
class Saved:
    """A vector that forward saves for backward; `state` if it is that state after the step.

    `columns` is "one" if the value is the same for all units, as the variance of a norm is.
    """

    name: str
    state: str | None = None
    columns: str = "units"


@dataclass(frozen=True)
class Program:
    """A cell. State 0 is h, the operand of the recurrent product. `output` is the state that is y, or None."""

    format: int
    name: str
    gates: tuple[str, ...]
    apart: tuple[str, ...]
    states: tuple[State, ...]
    output: str | None
    vectors: tuple[str, ...]
    inputs: tuple[Input, ...]
    options: tuple[Option, ...]
    products: tuple[Product, ...]
    forward: Direction
    backward: Direction
    slots: tuple[Slot, ...]
    saved: tuple[Saved, ...]

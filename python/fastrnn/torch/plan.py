"""The description of one call: the stack, the sizes, the layout of the user's tensors, and the order of rows.

Internally, sequences are (T, B, n) and states (num_layers*D, B, H), whatever the user's layout: `inside` returns a view
of the user's array in this form. The index j = layer*D + direction follows the order of torch's parameters.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import _check, _core
from .._check import Array
from ..cell.written_cell import WrittenCell
from ..given import input_columns
from ..schedule import Batch, PackedBatch
from ..weights import ROWS, CoreCell, row_of, shapes_of, torch_name
from ..written_function import core_program

CELLS_MAX = 256  # written cells that are kept, by their text

# The missing axes of the user's layouts, and the layouts in which states lack the same axes as sequences.
_AXES: dict[str, Any] = {
    "unbatched": np.s_[:, np.newaxis],
    "packed": np.s_[:, np.newaxis],
    "step": np.s_[np.newaxis],
    "unbatched_step": np.s_[np.newaxis, np.newaxis],
}
_ALIKE = ("unbatched", "step", "unbatched_step")
# By the cell's name, in plain values, which torch 2.5 can compile: the number of states; torch's names of the required
# and of the optional parameters of a cell module.
STATES = {name: len(row.states) for name, row in ROWS.items()}
REQUIRED = {name: [torch_name(one.name) for one in row.parameters if one.required] for name, row in ROWS.items()}
OPTIONAL = {name: [torch_name(one.name) for one in row.parameters if not one.required] for name, row in ROWS.items()}


def text_of_cell(program: str, heads: int) -> str:
    """A written cell as a network has it: the text of its program, after the heads if there are several."""
    return program if heads == 1 else f"{heads}*{program}"


def program_and_heads(cell: str) -> tuple[str, int]:
    """The inverse of `text_of_cell`."""
    heads, _, program = cell.partition("*")
    return (program, int(heads)) if heads.isdecimal() else (cell, 1)


@lru_cache(maxsize=CELLS_MAX)
def core_cell(cell: str) -> CoreCell:
    """The cell for the core: of a compiled cell its name, of a written cell the program."""
    if cell in ROWS:
        return cell
    program, heads = program_and_heads(cell)
    return core_program(WrittenCell.from_text(program), heads)


@lru_cache(maxsize=CELLS_MAX)
def row(cell: str) -> _core.Cell:
    """Of the registry, or of a written cell."""
    return row_of(core_cell(cell))


class Network(NamedTuple):
    """A stack of layers; `cell` is the name of a compiled cell, or the text of a written one (`text_of_cell`)."""

    cell: str
    layers: int
    directions: int
    hidden_size: int
    has_bias: bool

    @property
    def row(self) -> _core.Cell:
        return row(self.cell)

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters of one layer in one direction."""
        return [one.name for one in self.row.parameters if one.required or self.has_bias]


@lru_cache(maxsize=256)
def weight_shapes(network: Network, input_size: int) -> list[tuple[int, ...]]:
    """Of all parameters, in torch's order; no shapes if there is no cell."""
    if not network.cell:
        return []
    sizes = input_size, network.hidden_size, network.layers, network.has_bias, network.directions == 2
    return [shape for _, shape in shapes_of(network.row, *sizes, name_of=str).values()]


@lru_cache(maxsize=256)
def input_widths(network: Network) -> list[int]:
    """The numbers in a step of all inputs of each step: for each layer and direction, for each input."""
    row, H = network.row, network.hidden_size
    return [input_columns(row, name, H)[1] for name in row.inputs] * (network.layers * network.directions)


class Plan(NamedTuple):
    """One call.

    `kind` is the user's layout: dense (T, B, n), batch_first (B, T, n), unbatched (T, n), step (B, n), unbatched_step
    (n), or packed: the rows of a PackedSequence.
    """

    network: Network
    kind: str
    batches: tuple[Batch, ...]  # of each direction
    truncation: tuple[int, int] | None = None
    options: tuple[float, ...] = ()  # of the cell

    @property
    def is_packed(self) -> bool:
        return self.kind == "packed"

    @property
    def returns_state_alone(self) -> bool:
        """Whether the call is one of a cell, which has no output except the state."""
        return self.kind in ("step", "unbatched_step")

    @property
    def has_padding(self) -> bool:
        return not self.is_packed and self.batches[0].lengths is not None

    def inside(self, sequence: Array) -> Array:
        """A view (T, B, n) of the user's sequence tensor; (rows, 1, n) of a packed one."""
        if self.kind == "dense":
            return sequence
        if self.kind == "batch_first":
            return sequence.transpose(1, 0, 2)
        if self.kind == "packed" and self.batches[0].dense:
            return sequence.reshape(self.batches[0].T, self.batches[0].B, -1)
        return sequence[_AXES[self.kind]]

    def states_inside(self, states: Array) -> Array:
        """A view (num_layers*D, B, H)."""
        return states[_AXES[self.kind]] if self.kind in _ALIKE else states

    def sequence_shape(self, n: int) -> tuple[int, ...]:
        """The user's shape of a sequence with n numbers per step."""
        T, B = self.batches[0].T, self.batches[0].B
        if self.kind == "packed":
            return self.batches[0].steps, n
        return _shape(self.kind, T, B, n)

    def states_shape(self) -> tuple[int, ...]:
        """The user's shape of a state."""
        network, B = self.network, self.batches[0].B
        kind = self.kind if self.kind in _ALIKE else "dense"
        return _shape(kind, network.layers * network.directions, B, network.hidden_size)


def _shape(kind: str, first: int, B: int, n: int) -> tuple[int, ...]:
    if kind == "dense":
        return first, B, n
    if kind == "batch_first":
        return B, first, n
    if kind == "unbatched":
        return first, n
    return (B, n) if kind == "step" else (n,)


@lru_cache(maxsize=256)
def dense_plan(network: Network, kind: str, T: int, B: int, options: tuple[float, ...] = ()) -> Plan:
    """A call without lengths, resets and truncation."""
    return Plan(network, kind, dense_batches(network.directions, T, B), None, options)


def dense_batches(directions: int, T: int, B: int) -> tuple[Batch, ...]:
    return tuple(Batch(T, B, None, None, reverse) for reverse in (False, True)[:directions])


def make_plan(
    network: Network,
    kind: str,
    T: int,
    B: int,
    lengths: Any = None,
    resets: Any = None,
    truncation: Any = None,
    options: tuple[float, ...] = (),
) -> Plan:
    """A call over padded sequences. It checks the arguments that torch does not have, with errors that name them.

    lengths (B,) and resets, laid out as the input, are anything that NumPy reads, or None.
    """
    if lengths is None and resets is None and truncation is None:
        return dense_plan(network, kind, T, B, options)
    window = _check.truncation("truncation", truncation)
    if kind == "unbatched" and lengths is not None:
        raise ValueError("lengths: expected None for input without a batch axis")
    checked = _check.lengths("lengths", lengths, T, B)
    letters, shape = {"dense": ("(T, B)", (T, B)), "batch_first": ("(B, T)", (B, T)), "unbatched": ("(T)", (T,))}[kind]
    marks = _check.resets("resets", resets, letters, shape)
    if marks is not None:
        marks = {"dense": marks, "batch_first": marks.T, "unbatched": marks.reshape(T, B)}[kind]
    batches = tuple(Batch(T, B, checked, marks, reverse) for reverse in (False, True)[: network.directions])
    return Plan(network, kind, batches, window, options)


def make_packed_plan(
    network: Network,
    active: Array,
    resets: Array | None = None,
    truncation: Any = None,
    options: tuple[float, ...] = (),
) -> Plan:
    """A call over the rows of a PackedSequence with these batch_sizes; resets (T, B) in its order of sequences."""
    window = _check.truncation("truncation", truncation)
    T, B = len(active), int(active[0])
    marks = _check.resets("resets", resets, "(T, B)", (T, B))
    if marks is None:
        return Plan(network, "packed", _packed_batches(network.directions, active.tobytes()), window, options)
    batches = tuple(PackedBatch.of_sizes(active, marks, r) for r in (False, True)[: network.directions])
    return Plan(network, "packed", batches, window, options)


@lru_cache(maxsize=16)
def _packed_batches(directions: int, sizes: bytes) -> tuple[Batch, ...]:
    """The batches of the last few batch_sizes are cached, since several modules often read the same ones."""
    active = np.frombuffer(sizes, np.int64)
    T, B = len(active), int(active[0])
    if int(active[-1]) == B:
        return dense_batches(directions, T, B)
    return tuple(PackedBatch.of_sizes(active, None, reverse) for reverse in (False, True)[:directions])

"""Malformed programs are refused with a message, and no program makes a call leave its memory."""

import dataclasses

import numpy as np
import pytest
from core_call import CoreCall, assert_same_bits
from fastrnn import _core, config
from fastrnn._program import CellProgram
from fastrnn.cell.instructions import (
    CODES,
    CONSTANT,
    CONSTANTS,
    INSTRUCTIONS,
    READ,
    READS,
    REGISTERS,
    WRITE,
    WRITES,
    Code,
)
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.lower import LIMITS, Lowered, lower
from hypothesis import given
from hypothesis import strategies as st
from program_cases import WRITTEN, draw
from strategies import seeds

LSTM, GRU = lower(lstm.program), lower(gru.program)
MASKED, OWN_OUTPUT = (lower(WRITTEN[name].program) for name in ("masked", "own_output"))
RESET_BEFORE, TWO = (lower(WRITTEN[name].program) for name in ("reset_before_gru", "two_products"))
replaced = dataclasses.replace


def with_code(lowered, side, **changes):
    if "instructions" in changes:  # the last phase ends with them
        ends = getattr(lowered, side).phase_ends
        changes = {"phase_ends": (*ends[:-1], len(changes["instructions"]))} | changes
    return replaced(lowered, **{side: replaced(getattr(lowered, side), **changes)})


def with_instruction(lowered, side, number, *fields):
    instructions = list(getattr(lowered, side).instructions)
    instructions[number] = fields
    return with_code(lowered, side, instructions=tuple(instructions))


def without(entries, number):
    return entries[:number] + entries[number + 1 :]


def read(kind, index=0):
    return READS.index(kind), index


def write(kind, index=0):
    return WRITES.index(kind), index


def reading(lowered, side, entry):
    """One more read, which no instruction uses."""
    return with_code(lowered, side, reads=(*getattr(lowered, side).reads, entry))


def with_product(lowered, number=0, **changes):
    products = list(lowered.products)
    products[number] = replaced(products[number], **changes)
    return replaced(lowered, products=tuple(products))


ADD, LT, COPY = CODES["add"], CODES["lt"], CODES["copy"]
MALFORMED = {
    "gates": [replaced(LSTM, gates=0), replaced(LSTM, gates=9), replaced(LSTM, apart=16)],
    "state": [replaced(LSTM, states=()), replaced(LSTM, output=2), replaced(LSTM, output=-2)],
    "NaN": [
        replaced(LSTM, states=(("h", np.nan), ("c", 0.0))),
        with_code(LSTM, "forward", constants=(np.nan,)),
        with_code(LSTM, "backward", constants=(1.0, np.nan)),
    ],
    "slots": [
        replaced(LSTM, slots=()),
        replaced(LSTM, slots=((0, 1, 0),) * 4),
        replaced(LSTM, slots=(*LSTM.slots[:3], (3, 1, -1))),
        replaced(LSTM, slots=(*LSTM.slots[:3], (4, 1, 0))),
        replaced(LSTM, slots=(*LSTM.slots[:3], (3, 1, 1))),
        replaced(RESET_BEFORE, slots=tuple((gate, to_input, 0) for gate, to_input, _ in RESET_BEFORE.slots)),
        replaced(RESET_BEFORE, slots=tuple((gate, to_input, 1) for gate, to_input, _ in RESET_BEFORE.slots)),
        replaced(LSTM, slots=(*LSTM.slots[:3], (3, 0, -1))),
        replaced(GRU, slots=(GRU.slots[1], GRU.slots[0], *GRU.slots[2:])),
    ],
    "saved_state": [
        replaced(LSTM, saved_state=(-1, -1)),
        replaced(LSTM, saved_state=(-1, 5)),
        replaced(LSTM, saved_state=(4, 4)),
        replaced(OWN_OUTPUT, saved_state=(-1, *OWN_OUTPUT.saved_state[1:])),
    ],
    "reads": [
        reading(LSTM, "forward", read("gate", 4)),
        reading(LSTM, "forward", read("gate_input", 0)),
        reading(GRU, "forward", read("gate", 2)),
        reading(LSTM, "forward", read("y")),
        reading(LSTM, "forward", read("saved", 0)),
        reading(LSTM, "forward", read("d_after", 0)),
        reading(LSTM, "backward", read("gate", 0)),
        reading(LSTM, "backward", read("dy")),
        reading(LSTM, "backward", read("saved", 5)),
        reading(LSTM, "backward", read("vector", 0)),
        reading(MASKED, "backward", read("input", 2)),
        reading(MASKED, "backward", read("option", 1)),
        reading(RESET_BEFORE, "forward", read("product", 1)),
        reading(RESET_BEFORE, "forward", read("gate_state", 2)),
        reading(RESET_BEFORE, "forward", read("d_product", 0)),
        reading(RESET_BEFORE, "backward", read("product", 0)),
        reading(LSTM, "backward", (len(READS), 0)),
        reading(LSTM, "backward", (-1, 0)),
        reading(LSTM, "backward", read("before", -1)),
        reading(LSTM, "forward", LSTM.forward.reads[0]),
    ],
    "products": [
        replaced(LSTM, products=RESET_BEFORE.products),
        replaced(RESET_BEFORE, products=RESET_BEFORE.products * 2),
        with_product(RESET_BEFORE, gate=-1),
        with_product(RESET_BEFORE, gate=0),
        with_product(RESET_BEFORE, factors=()),
        with_product(RESET_BEFORE, factors=(read("vector"),)),
        with_product(RESET_BEFORE, factors=(read("saved", len(RESET_BEFORE.saved)),)),
        with_product(RESET_BEFORE, factors=(read("before", 1),)),
        with_product(RESET_BEFORE, forward_phase=0),
        with_product(RESET_BEFORE, forward_phase=2),
        with_product(RESET_BEFORE, kept=-1),
        with_product(RESET_BEFORE, kept=9),
        with_product(RESET_BEFORE, backward_phase=-1),
        with_product(RESET_BEFORE, backward_phase=2),
        with_product(TWO, 1, gate=TWO.products[0].gate),
        with_product(TWO, 1, forward_phase=TWO.products[0].forward_phase),
    ],
    "writes": [
        with_code(LSTM, "forward", writes=without(LSTM.forward.writes, 0)),
        with_code(LSTM, "forward", writes=(*LSTM.forward.writes, write("saved", 4))),
        with_code(LSTM, "forward", writes=(*LSTM.forward.writes, write("y"))),
        with_code(LSTM, "forward", writes=(*LSTM.forward.writes, LSTM.forward.writes[0])),
        with_code(LSTM, "forward", writes=(*LSTM.forward.writes, (len(WRITES), 0))),
        with_code(LSTM, "backward", writes=(*LSTM.backward.writes, write("d_vector", 0))),
        with_code(MASKED, "backward", writes=(*MASKED.backward.writes, write("d_input", 2))),
    ],
    "instructions": [
        with_code(LSTM, "forward", instructions=LSTM.forward.instructions[:-1]),
        with_product(RESET_BEFORE, backward_phase=0),
        with_instruction(LSTM, "forward", 0, 41, WRITE, READ, 0, 0),
        with_instruction(LSTM, "forward", 0, 65535, WRITE, READ, 0, 0),
        with_instruction(LSTM, "forward", 0, CODES["sigmoid"], WRITE, READ, 1, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, 3, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, 32, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, READ + 9, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, CONSTANT, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, WRITE + 1, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, 0x400, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE, READ, 65535, 0),
        with_instruction(LSTM, "forward", 0, ADD, 32, READ, READ, 0),
        with_instruction(LSTM, "forward", 0, ADD, READ, READ, READ, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE + 6, READ, READ, 0),
        with_instruction(LSTM, "forward", 0, ADD, WRITE + 1, READ, READ, 0),
        with_instruction(LSTM, "forward", 0, LT, WRITE, READ, READ, 0),
        with_instruction(LSTM, "forward", 4, LT, 0, READ, READ, 0),
        with_instruction(LSTM, "forward", 0, CODES["select"], WRITE, READ, READ, READ),
    ],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_program_is_refused(name):
    for lowered in MALFORMED[name]:
        program = CellProgram(lowered)
        assert name in str(_core.program_error(program)), lowered
        with pytest.raises(ValueError, match="program: "):
            _core.Problem(program, "float32", config.backend_index(), 1, 1, 1, 1, 1)


def test_lists_beyond_their_limits_are_refused():
    instruction = LSTM.forward.instructions[0]
    for side, name, entries in (
        ("forward", "instructions", (instruction,) * 257),
        ("forward", "reads", (read("gate"),) * 65),
        ("backward", "constants", (1.0,) * 65),
        ("backward", "writes", (write("slot"),) * 65),
    ):
        with pytest.raises(ValueError, match=name):
            CellProgram(with_code(LSTM, side, **{name: entries}))
    for name, entries in (("slots", (LSTM.slots[0],) * 17), ("vectors", ("v",) * 17), ("saved", ("s",) * 17)):
        with pytest.raises(ValueError, match=name):
            CellProgram(replaced(LSTM, **{name: entries}))


def test_sound_programs_have_no_error():
    for lowered in (LSTM, GRU, MASKED, OWN_OUTPUT, RESET_BEFORE, TWO):
        assert _core.program_error(CellProgram(lowered)) is None


numbers = st.sampled_from([0, 1, 2, 5, 31, 32, READ, READ + 1, READ + 7, CONSTANT, WRITE, WRITE + 1, WRITE + 3, 65535])


@st.composite
def mutated(draw_from, lowered):
    """A program in which some numbers are others."""
    for _ in range(draw_from(st.integers(1, 3))):
        side, entries = draw_from(st.sampled_from(["forward", "backward"])), None
        code = getattr(lowered, side)
        name = draw_from(st.sampled_from(["instructions", "instructions", "reads", "writes", "slots", "saved_state"]))
        entries = list(getattr(code if name in ("instructions", "reads", "writes") else lowered, name))
        if not entries:
            continue
        at = draw_from(st.integers(0, len(entries) - 1))
        if name == "instructions":
            fields = list(entries[at])
            field = draw_from(st.integers(0, 4))
            fields[field] = draw_from(st.integers(0, 41) if field == 0 else numbers)
            entries[at] = tuple(fields)
        elif name == "saved_state":
            entries[at] = draw_from(st.integers(-1, 6))
        else:
            few = st.integers(-1, 6)
            entries[at] = tuple(draw_from(few) for _ in entries[at])
        if name in ("slots", "saved_state"):
            lowered = replaced(lowered, **{name: tuple(entries)})
        else:
            lowered = with_code(lowered, side, **{name: tuple(entries)})
    return lowered


@given(data=st.data(), name=st.sampled_from(sorted(WRITTEN)), seed=seeds, threads=st.sampled_from([1, 2]))
def test_a_mutated_program_is_refused_or_keeps_to_its_memory(backend, data, name, seed, threads):
    lowered = data.draw(mutated(lower(WRITTEN[name].program)))
    program = CellProgram(lowered)
    if _core.program_error(program) is not None:
        with pytest.raises(ValueError, match="program: "):
            _core.Problem(program, "float32", config.backend_index(), threads, 1, 1, 1, 1)
        return
    p = draw(WRITTEN[name], 3, 5, 2, 9, "float32", seed)
    call = CoreCall(p, threads, cell=program)
    assert all(guarded.intact() for guarded in call.guarded.values())


def test_a_cell_is_a_name_or_a_program():
    with pytest.raises(TypeError, match="cell: expected a name or a CellProgram, got int"):
        _core.Problem(3, "float32", config.backend_index(), 1, 1, 1, 1, 1)


# ---- the limits ----

FMA = CODES["fma"]
STATES, GATES, SAVED, VECTORS, INPUTS, OPTIONS = (
    LIMITS[one] for one in ("states", "gates", "saved", "vectors", "inputs", "options")
)


def listed(*kinds):
    """Entries (kind, index) of so many vectors of each kind."""
    return [(kind, index) for kind, begin, end in kinds for index in range(begin, end)]


def full_code(reads, writes, constants):
    """All registers, then 256 instructions in which every operand occurs."""
    instructions = [(COPY, j, READ + j % len(reads), 0, 0) for j in range(REGISTERS)]
    while len(instructions) + len(writes) < INSTRUCTIONS:
        j = len(instructions)
        operands = READ + j % len(reads), CONSTANT + j % len(constants), (j + 7) % REGISTERS
        instructions.append((FMA, j % REGISTERS, *operands))
    for j in range(len(writes)):
        operands = j % REGISTERS, CONSTANT + j % len(constants), WRITE + j - 1 if j else READ
        instructions.append((FMA, WRITE + j, *operands))
    return Code(tuple(instructions), tuple(reads), constants, tuple(writes), (len(instructions),), ())


def full_program(output):
    """As much of everything as there may be."""
    given = listed((3, 0, STATES), (4, 0, VECTORS), (5, 0, INPUTS), (6, 0, OPTIONS))
    constants = tuple(0.25 / (1 + j) for j in range(CONSTANTS))
    y = [read("dy")] if output < 0 else []
    return Lowered(
        name="full",
        gates=GATES,
        apart=2**GATES - 1,
        states=tuple((f"s{j}", 0.5) for j in range(STATES)),
        output=output,
        vectors=tuple(f"v{j}" for j in range(VECTORS)),
        inputs=tuple((f"i{j}", j % 2 == 1) for j in range(INPUTS)),
        options=tuple(f"o{j}" for j in range(OPTIONS)),
        saved=tuple(f"r{j}" for j in range(SAVED)),
        saved_state=tuple(range(STATES)),
        slots=(*((g, 1, -1) for g in range(GATES)), *((g, 0, 0) for g in range(GATES))),
        products=(),
        forward=full_code(
            listed((1, 0, GATES), (2, 0, GATES)) + given,
            listed((1, 0, STATES), (2, STATES, SAVED)) + ([write("y")] if output < 0 else []),
            constants,
        ),
        backward=full_code(
            [*given, read("y"), *y, *listed((9, 0, STATES), (10, 0, SAVED))],
            listed((3, 0, 2 * GATES), (4, 0, STATES), (5, 0, VECTORS), (6, 0, INPUTS)),
            constants,
        ),
    )


@dataclasses.dataclass
class FullDrawn:
    """A problem of a full program, for CoreCall."""

    cell: CellProgram
    T: int
    B: int
    I: int
    H: int
    x: np.ndarray
    weights: tuple
    initial: tuple
    dy: np.ndarray
    d_final: tuple
    inputs: tuple
    options: tuple


@pytest.mark.parametrize("output", [-1, 0, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("B", "H"), [(1, 37), (3, 16), (13, 5), (50, 9)])
def test_a_program_at_all_limits_runs(backend, output, dtype, B, H):
    program, rng, T, I = CellProgram(full_program(output)), np.random.default_rng(0), 3, 2
    assert _core.program_error(program) is None

    def random(*shape):
        return (0.1 * rng.standard_normal(shape)).astype(dtype)

    G = GATES * H
    p = FullDrawn(
        program, T, B, I, H, random(T, B, I),
        (random(G, I), random(G, H), random(G), random(G), *(random(H) for _ in range(VECTORS))),
        tuple(random(B, H) for _ in range(STATES)), random(T, B, H), tuple(random(B, H) for _ in range(STATES)),
        tuple(random(T, B, 1 if j % 2 else H) for j in range(INPUTS)), tuple(rng.random(OPTIONS)),
    )  # fmt: skip
    one = CoreCall(p)
    assert all(np.isfinite(array).all() for array in one.outputs.values())
    for threads, cut, packs in ((2, "units", True), (3, "sequences", False), (2, "pieces", True)):
        call = CoreCall(p, threads, cut=cut, packs=packs)
        assert_same_bits(call.outputs, one.outputs)
        assert all(guarded.intact() for guarded in call.guarded.values())

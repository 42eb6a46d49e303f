"""Programs as text: equal programs have equal text, and malformed programs are refused by name."""

import functools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from cell_cases import PROOF, SHIPPED, reset_before_gru
from cell_strategies import small_cells
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import softplus
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.program import OPERATIONS, Phase, Product, Saved, Slot, State, Sum, Value
from fastrnn.cell.program_text import from_text, text
from fastrnn.cell.verify import live_registers, verify
from hypothesis import given
from hypothesis import strategies as st

named = pytest.mark.parametrize


def test_operations_have_the_numbers_of_the_c_interface():
    numbers = {name: one.code for name, one in OPERATIONS.items()}
    assert sorted(numbers.values()) == list(range(37))
    assert [numbers[name] for name in ("add", "fma", "exp", "lt", "select", "one_minus", "fma_dtanh")] == [
        0, 5, 15, 24, 31, 32, 36,
    ]  # fmt: skip


# ---- text ----


@given(small_cells())
def test_text_of_random_programs_round_trips(drawn):
    program = drawn.cell.program
    assert from_text(text(program)) == program
    assert text(from_text(text(program))) == text(program)


@named("written", SHIPPED + PROOF, ids=lambda one: one.program.name)
def test_text_is_the_same_for_any_formatting(written):
    source = text(written.program)
    assert text(from_text(json.dumps(json.loads(source), indent=2))) == source
    assert source.isascii()
    assert " " not in source


def test_infinite_numbers_are_text():
    @cell(gates="a", states={"h": 0.0, "m": -math.inf})
    def step(a, s):
        m = np.maximum(a.a, s.m)
        return m, (np.minimum(m, math.inf), m)

    assert '"start":"-inf"' in text(step.program)
    assert '"number":"inf"' in text(step.program)
    assert from_text(text(step.program)) == step.program


def changed(path, value):
    """The text of the reset-before GRU with one member replaced; a function receives the old member."""
    data = json.loads(text(reset_before_gru.program))
    *parents, last = path
    place = data
    for one in parents:
        place = place[one]
    place[last] = value(place[last]) if callable(value) else value
    return json.dumps(data)


def removed(name):
    data = json.loads(text(gru.program))
    del data[name]
    return json.dumps(data)


VALUES = reset_before_gru.program.forward.values
FORWARD = ("forward", "values")
SIGMOID, MUL = (next(n for n, one in enumerate(VALUES) if one.op == op) for op in ("sigmoid", "mul"))
BEFORE = next(n for n, one in enumerate(VALUES) if one.name == "before.h")
GATE = next(n for n, one in enumerate(VALUES) if one.name == "gate.r")
MALFORMED = [
    ("", "expected JSON text"),
    ("{", "expected JSON text"),
    ("[" * 100_000, "nested too deeply"),
    ("[]", r"program: expected dict"),
    ("NaN", "expected numbers of JSON, got NaN"),
    ('{"format": 1, "format": 1}', "each member once"),
    ('{"format": 2}', r"program\.format: expected at most 1, got 2; a newer fastrnn"),
    (removed("slots"), r"program\.slots: missing"),
    ('{"format": 1, "code": "x"}', r"program\.code: unknown"),
    (changed(("format",), 0), r"program\.format: expected 1, got 0"),
    (changed(("format",), True), r"program\.format: expected int"),
    (changed(("name",), 3), r"program\.name: expected str"),
    (changed(("name",), "a b"), "bad name 'a b'"),
    (changed(("gates",), []), "at least one gate"),
    (changed(("gates",), "rzn"), r"program\.gates: expected list"),
    (changed(("gates", 1), "r"), "a name twice"),
    (changed(("states", 0, "start"), "nan"), r"states\[0\]\.start: expected a number"),
    (changed(("states",), []), "at least one state"),
    (changed(("states", 0, "name"), "g"), "output: no state h"),
    (changed((*FORWARD, BEFORE, "name"), "before.g"), "nothing named 'before.g'"),
    (changed(("output",), "c"), "no state c"),
    (changed(("output",), None), "outputs: expected"),
    (changed(("apart",), ["z", "n"]), "nothing named 'gate.z'"),
    (changed(("apart",), ["n", "z"]), "gates in their order"),
    (changed((*FORWARD, SIGMOID, "op"), "sin"), r"forward\.values\[\d+\]\.op: no operation 'sin'"),
    (changed((*FORWARD, SIGMOID, "args"), [0, 0]), r"forward\.values\[\d+\]\.args: expected 1 for sigmoid, got 2"),
    (changed((*FORWARD, SIGMOID, "args"), [SIGMOID]), r"expected earlier values, got \d"),
    (changed((*FORWARD, SIGMOID, "args"), [-1]), "expected earlier values, got -1"),
    (changed((*FORWARD, SIGMOID, "args"), [0.0]), r"args\[0\]: expected int"),
    (changed((*FORWARD, GATE, "name"), "gate.q"), "nothing named"),
    (changed((*FORWARD, GATE, "name"), None), "name: expected only for a read"),
    (changed((*FORWARD, GATE), {"op": "constant", "number": 10**400}), "expected a number of float64"),
    (changed((*FORWARD, GATE), {"op": "constant", "number": "NaN"}), "expected a number"),
    (changed((*FORWARD, GATE), {"op": "constant"}), "number: expected only for a constant"),
    (changed((*FORWARD, SIGMOID), {"op": "not", "args": [0]}), "expected a mask for not"),
    (changed((*FORWARD, MUL), {"op": "lt", "args": [0, 0]}), "operand.0: value .* is a mask"),
    (changed(("forward", "outputs", "after.h"), 99), r"outputs\.after\.h: no value 99"),
    (changed(("forward", "outputs"), {}), "outputs: expected"),
    (changed(("forward", "phases"), []), "phases: expected ends"),
    (changed(("forward", "phases", 0, "end"), 99), "phases: expected ends"),
    (changed(("forward", "phases", 1, "product"), 1), "no product 1"),
    (changed(("forward", "phases", 0, "product"), 0), "a product twice"),
    (changed(("forward", "phases", 1), lambda one: {"end": one["end"]}), "reads product.0 before it exists"),
    (
        changed(("forward", "phases"), lambda ps: [{"end": 0}, {"end": ps[1]["end"], "product": 0}]),
        "not complete before",
    ),
    (changed(("forward", "phases", 1, "sums"), [{"kind": "max", "args": [0]}]), "kind: expected one of sum"),
    (changed(("forward", "phases", 0, "sums"), [{"kind": "sum", "args": [0]}]), "numbers of earlier phases"),
    (changed(("products", 0, "gate"), "z"), "expected a gate that is apart"),
    (changed(("products", 0, "operand"), []), "operand: expected one or two of"),
    (changed(("products", 0, "operand"), ["gate.r"]), "operand: expected one or two of"),
    (changed(("slots",), lambda slots: slots[:2]), "slots: none for the gate z"),
    (changed(("slots", 1, "gate"), "q"), "no gate q"),
    (changed(("slots", 1, "operand"), 5), "operand: expected h, the number of a product or null, got 5"),
    (changed(("slots", 1, "to_input"), False), "the gate r is not apart"),
    (changed(("slots", 0, "operand"), "h"), "expected one slot of the gate n"),
    (changed(("saved", 0, "state"), "c"), "no such state"),
    (changed(("saved", 0, "state"), "h"), "is the output y"),
]


@named(("source", "message"), MALFORMED, ids=[f"{n}" for n in range(len(MALFORMED))])
def test_malformed_text_is_refused_by_name(source, message):
    with pytest.raises(ValueError, match=message):
        from_text(source)


def refusal_of(source):
    """The refusal of a program's text, or None."""
    try:
        from_text(source)
    except ValueError as error:
        return re.search("^program", str(error))[0]
    return None


@given(st.data())
def test_damaged_text_is_refused_or_is_a_program(data):
    source = text(data.draw(st.sampled_from([gru, lstm, reset_before_gru])).program)
    at = data.draw(st.integers(0, len(source) - 1))
    width = data.draw(st.integers(0, 3))
    inserted = data.draw(st.text(st.sampled_from('0129-."[]{},hcn'), max_size=3))
    damaged = source[:at] + inserted + source[at + width :]
    if not refusal_of(damaged):
        verify(from_text(damaged))


# ---- rules beyond one member ----


def test_a_state_that_backward_reads_must_be_saved():
    saved = tuple(replace(one, state=None) for one in lstm.program.saved)
    with pytest.raises(ValueError, match="backward reads c, which is not saved"):
        verify(replace(lstm.program, saved=saved))


def test_a_slot_of_an_apart_gate_must_not_repeat_a_half():
    slots = (*gru.program.slots, Slot("again", "n", False, "h"))
    with pytest.raises(ValueError, match="two slots for one half"):
        verify(replace(gru.program, slots=slots))
    with pytest.raises(ValueError, match="expected slots of the input first"):
        verify(replace(gru.program, slots=gru.program.slots[::-1]))


def test_sums_are_of_earlier_phases_and_moments_have_a_variance():
    forward = gru.program.forward
    n = len(forward.values)
    values = (*forward.values, Value("read", name="sum.0"), Value("read", name="variance.0"))
    phases = (Phase(n), Phase(n + 2, None, (Sum("moments", (n - 1,)),)))
    verify(replace(gru.program, forward=replace(forward, values=values, phases=phases)))
    wrong = (Phase(n), Phase(n + 2, None, (Sum("mean", (n - 1,)),)))
    with pytest.raises(ValueError, match=r"nothing named 'variance\.0'"):
        verify(replace(gru.program, forward=replace(forward, values=values, phases=wrong)))


# ---- limits ----


def test_more_than_256_instructions_are_refused():
    def step(a):
        y = a.a
        for _ in range(257):
            y = y + 1
        return y, (y,)

    def longer(a):
        y = a.a
        for _ in range(5000):
            y = np.tanh(y)
        return y, (y,)

    with pytest.raises(ValueError, match="expected at most 256 instructions, got 5000"):
        cell(gates="a")(longer)
    with pytest.raises(ValueError, match=r"program\.forward\.values: expected at most 256 instructions, got 257"):
        cell(gates="a")(step)


def wide(count):
    """A step with `count` values that are alive at the same time: all are used before and after their maximum."""

    def step(a):
        terms = [a.a * n for n in range(2, 2 + count)]
        y = top = functools.reduce(np.maximum, terms)
        for one in terms:
            y = np.minimum(y, top - one)
        return np.sign(y), (np.sign(y),)

    return step


def test_more_than_32_live_registers_are_refused():
    assert live_registers(cell(gates="a")(wide(31)).program.forward) == 32
    with pytest.raises(ValueError, match=r"program\.forward\.values: expected at most 32 live registers, got 33"):
        cell(gates="a")(wide(32))


def halves(gates):
    """A step that saves both halves of each gate, and a state."""

    def step(a, s):
        y = sum(getattr(a.input, gate) * getattr(a.state, gate) for gate in gates)
        return y, (y, s.c * y)

    return step


def test_more_than_16_saved_vectors_are_refused():
    assert len(cell(gates="abcdefg", states="hc")(halves("abcdefg")).program.saved) == 15
    with pytest.raises(ValueError, match=r"program\.saved: expected at most 16 entries, got 17"):
        cell(gates="abcdefgh", states="hc")(halves("abcdefgh"))


def chain(a, v):
    y = a.a
    for n in range(16):
        y = softplus(y * getattr(v, f"p{n % 16}"))
    return y * 1, (y,)


def test_dear_values_are_computed_again_if_they_are_too_many_to_save():
    program = cell(gates="a", vectors=tuple(f"p{n}" for n in range(16)))(chain).program
    assert len(program.saved) <= 16
    assert "softplus" in [one.op for one in program.backward.values]


def test_more_than_8_phases_are_refused():
    def step(gates):
        def of_gates(a, s):
            y = np.tanh(s.h)
            for gate in gates:
                y = np.tanh(getattr(a.product, gate)(y))
            return y, (y,)

        return of_gates

    assert len(cell(gates="abcdefg")(step("abcdefg")).program.forward.phases) == 8
    with pytest.raises(ValueError, match=r"program\.forward\.phases: expected at most 8 phases, got 9"):
        cell(gates="abcdefgh")(step("abcdefgh"))


def test_more_than_8_states_or_gates_are_refused():
    def many(a):
        y = a.a + a.b + a.c + a.d + a.e + a.f + a.g + a.h + a.i
        return y, (y,)

    with pytest.raises(ValueError, match=r"program\.gates: expected at most 8 entries, got 9"):
        cell(gates="abcdefghi")(many)
    with pytest.raises(ValueError, match=r"program\.states: expected at most 8 entries, got 9"):
        cell(gates="a", states="abcdefghi")(lambda a: (a.a, (a.a,) * 9))


def test_a_program_is_immutable():
    with pytest.raises(AttributeError):
        lstm.program.name = "other"
    assert replace(lstm.program, states=(State("h"), State("c", 1.0))) != lstm.program
    assert Saved("c", "c") == lstm.program.saved[4]
    assert Product("n", ("saved.0", "before.h")) == reset_before_gru.program.products[0]

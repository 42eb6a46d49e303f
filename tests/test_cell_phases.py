"""Programs of several phases: the order of sums over units, random cells against NumPy, and malformed phases."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from cell_bounds import step_bounds
from cell_cases import min_gru
from cell_strategies import small_cells
from core_call import CoreCall, assert_same_bits
from fastrnn import _core, config
from fastrnn._program import CellProgram
from fastrnn.cell import loop
from fastrnn.cell.define import cell
from fastrnn.cell.instructions import CODES, READ, READS, SUM_KINDS, WRITE, WRITES, Code
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.lower import lower
from hypothesis import given, reject
from hypothesis import strategies as st
from program_cases import WRITTEN, draw, record_of, reference
from strategies import dtypes, seeds

# ---- the order of a sum ----


def fma(a, b, c, dtype, has_fma):
    """a*b + c for arrays, with one rounding or two. (Of float32, float64 comes between: its rounding does not show.)"""
    if not has_fma:
        return a * b + c
    exact = [
        float(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))) for x, y, z in zip(a, b, c, strict=True)
    ]
    return np.array(exact, dtype)


def tree(lanes):
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = lanes[:half] + lanes[half:]
    return lanes[0]


def segment_sum(x, has_fma, squares):
    """Every sixteenth unit, then the tree."""
    lanes = np.zeros(16, x.dtype)
    padded = np.concatenate([x, np.zeros(-len(x) % 16, x.dtype)]).reshape(-1, 16)
    for row in padded:
        lanes = fma(row, row, lanes, x.dtype, has_fma) if squares else lanes + row
    return tree(lanes)


def sum_in_order(kind, vectors, has_fma, width=None):
    """The sum or mean, and the variance, of vectors of H; segments begin anew with each head of `width` units."""
    real = vectors[0].dtype.type
    total, squares, n = real(0), real(0), 0
    for x in vectors:
        heads = np.split(x, len(x) // width) if width else [x]
        for part in (head[begin : begin + 64] for head in heads for begin in range(0, len(head), 64)):
            m, own = len(part), segment_sum(part, has_fma, False)
            squares += segment_sum(part - own / real(m), has_fma, True)
            if n:
                away = own / real(m) - total / real(n)
                squares += away * away * real(float(n) * float(m) / float(n + m))
            total, n = total + own, n + m
    return total if kind == "sum" else total / real(n), squares / real(n)


@cell(gates="a", states="hvw", inputs=("p", "q", "r"))
def three(a, s, x):
    """Its table serves the program below: h is the sum, v the variance."""
    return a.a + x.p, (a.a + x.q + s.v, s.v * x.r, s.w)


def summing(kind, terms, heads=1, by_head=False):
    """A step that keeps `terms` inputs and writes their sum to h and, of moments, their variance to v."""
    copy, kept = CODES["copy"], WRITES.index("kept")
    after = WRITES.index("after")
    reads = [(READS.index("input"), j) for j in range(terms)] + [(READS.index("sum"), 0), (READS.index("variance"), 0)]
    variance = READ + terms + (kind == "moments")
    instructions = [(copy, WRITE + j, READ + j, 0, 0) for j in range(terms)]
    instructions += [(copy, WRITE + terms + j, READ + terms, 0, 0) for j in (0, 2, 3)]
    instructions.append((copy, WRITE + terms + 1, variance, 0, 0))
    writes = [(kept, j) for j in range(terms)] + [(after, j) for j in range(3)] + [(WRITES.index("y"), 0)]
    lowered = lower(three.program)
    saved = [one for one in lowered.forward.writes if one[0] == WRITES.index("saved")]
    instructions += [(copy, WRITE + terms + 4 + j, READ + terms, 0, 0) for j in range(len(saved))]
    sums = ((SUM_KINDS.index(kind), 1, tuple(range(terms)), by_head),)
    forward = Code(tuple(instructions), tuple(reads), (), tuple(writes + saved), (terms, len(instructions)), sums)
    return CellProgram(dataclasses.replace(lowered, forward=forward), heads)


@pytest.mark.parametrize("kind", SUM_KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("H", [1, 5, 16, 63, 64, 65, 130, 200])
def test_a_sum_over_units_has_the_bits_of_its_order(backend, kind, dtype, H):
    """The reference knows neither vectors nor threads, and rounds each fma once where the backend does."""
    has_fma = next(one.has_fma for one in _core.backends() if one.name == backend)
    for terms in (1, 3):
        p = draw(three, 1, 2, 1, H, dtype, H)
        p.arrays["p"][0, 1] += 100  # cancellation
        program = summing(kind, terms)
        for threads, cut in ((1, "all"), (2, "units"), (3, "units"), (2, "sequences")):
            found = CoreCall(p, threads, cut=cut, cell=program).outputs
            for b in range(2):
                vectors = [p.arrays[name][0, b] for name in "pqr"[:terms]]
                total, variance = sum_in_order(kind, vectors, has_fma)
                assert_same_bits({"h": found["h_n"][b]}, {"h": np.full(H, total)})
                if kind == "moments":
                    assert_same_bits({"v": found["v_n"][b]}, {"v": np.full(H, variance)})


@pytest.mark.parametrize("kind", SUM_KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("heads", "width"), [(2, 1), (3, 5), (2, 16), (4, 65), (2, 200), (3, 64)])
def test_sums_of_all_units_and_of_each_head_have_the_bits_of_their_order(backend, kind, dtype, heads, width):
    has_fma = next(one.has_fma for one in _core.backends() if one.name == backend)
    p = draw(three, 1, 2, 1, heads * width, dtype, width, heads)
    p.arrays["p"][0, 1] += 100  # cancellation
    for by_head in (False, True):
        program, expected = summing(kind, 3, heads, by_head), []
        for b in range(2):
            vectors = [p.arrays[name][0, b] for name in "pqr"]
            of_heads = [[x[j : j + width] for x in vectors] for j in range(0, heads * width, width)]
            sums = [sum_in_order(kind, one, has_fma, width) for one in (of_heads if by_head else [vectors])]
            each = width if by_head else heads * width
            expected.append([np.repeat(np.array(one), each) for one in zip(*sums, strict=True)])
        for threads, cut in ((1, "all"), (2, "units"), (3, "units"), (2, "sequences")):
            found = CoreCall(p, threads, cut=cut, cell=program).outputs
            for b, (total, variance) in enumerate(expected):
                assert_same_bits({"h": found["h_n"][b]}, {"h": total})
                if kind == "moments":
                    assert_same_bits({"v": found["v_n"][b]}, {"v": variance})


# ---- random cells ----

random_sizes = st.tuples(
    st.sampled_from([1, 2, 5, 17]), st.sampled_from([1, 3, 16, 17, 70, 130]), st.sampled_from([1, 1, 2, 3])
)


def drawn_problem(written, T, B, width, heads, dtype, seed):
    """A problem of a random cell, if C runs it. width: the units of a head."""
    try:
        return draw(written, T, B, 2, width * heads, dtype, seed, heads)
    except ValueError as error:
        if "expected at most" not in str(error):
            raise
        reject()


@given(drawn=small_cells(), size=random_sizes, dtype=dtypes, seed=seeds)
def test_bits_of_a_random_cell_do_not_depend_on_threads_and_packing(backend, drawn, size, dtype, seed):
    p = drawn_problem(drawn.cell, 3, *size, dtype, seed)
    one = CoreCall(p).outputs
    for threads, cut, packs in ((2, "units", True), (3, "units", False), (2, "sequences", True), (2, "pieces", True)):
        call = CoreCall(p, threads, cut=cut, packs=packs)
        assert_same_bits(call.outputs, one)
        assert all(guarded.intact() for guarded in call.guarded.values())


@given(drawn=small_cells(), size=random_sizes, dtype=dtypes, seed=seeds)
def test_a_step_of_a_random_cell_has_the_values_of_numpy_within_the_bound_of_rounding(
    backend, drawn, size, dtype, seed
):
    """The weights are zero, so both sides have the same pre-activations: the biases."""
    p = drawn_problem(drawn.cell, 1, *size, dtype, seed)
    p.arrays |= {name: np.zeros_like(p.arrays[name]) for name in ("w_ih", "w_hh")}
    found = CoreCall(p).outputs
    record = record_of(p)
    given_reads = record.reads(0, record.before[0]) | loop.gates(record, p.x[0], record.before[0]["h"])
    bounds = step_bounds(p.program, given_reads, record.product, lambda number, vector: np.zeros_like(vector), size[2])
    for name, expected in record.outputs[0].items():
        kind, _, rest = name.partition(".")
        if kind in ("y", "after"):
            value = found["y"][0] if kind == "y" else found[f"{rest}_n"]
            assert (np.abs(value - expected) <= bounds[name]).all(), name


@given(drawn=small_cells(), size=random_sizes, seed=seeds)
def test_gradients_of_a_random_cell_are_those_of_the_numpy_loop(backend, drawn, size, seed):
    p = drawn_problem(drawn.cell, 2, *size, "float64", seed)
    found, expected = CoreCall(p).outputs, reference(p)
    for name, array in expected.items():
        size = max(1, np.abs(array).max(initial=0))
        np.testing.assert_allclose(found[name], array, rtol=1e-8, atol=1e-9 * size, err_msg=name)


@cell(gates="a", states="hc")
def masked_twice(a, s):
    """Two phases decide by the same comparison, in backward too."""
    low = s.h < a.a
    c = np.where(low, a.a, 0.5 * s.h * s.c)
    h = np.where(low & (c < 1), c - np.mean(c, axis=-1, keepdims=True), np.tanh(c))
    return h, (h, c)


@pytest.mark.parametrize("H", [5, 70])
def test_a_comparison_counts_in_later_phases(backend, H):
    p = draw(masked_twice, 2, 3, 2, H, "float64", H)
    found = CoreCall(p, 2, cut="units").outputs
    for name, array in reference(p).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-11, atol=1e-12, err_msg=name)


# ---- sizes of several segments ----


@pytest.mark.parametrize("name", ["layer_norm_lstm", "normed"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("B", "H"), [(1, 200), (3, 129), (33, 192)])
def test_bits_of_phases_do_not_depend_on_members_that_share_segments(backend, name, dtype, B, H):
    p = draw(WRITTEN[name], 3, B, 3, H, dtype, B)
    one = CoreCall(p)
    for threads, cut in ((2, "units"), (3, "units"), (4, "units"), (4, "sequences"), (2, "pieces")):
        assert_same_bits(CoreCall(p, threads, cut=cut).outputs, one.outputs)


# ---- limits ----


def chain_of_products(count):
    """A product inside the step for each gate but the first, each of the vector before it."""
    gates = "abcdefghi"[: 1 + count]

    def step(a, s):
        h = np.tanh(a.a)
        for gate in gates[1:]:
            h = np.tanh(getattr(a.input, gate) + getattr(a.product, gate)(h))
        return h, (h,)

    return cell(gates=gates)(step)


@pytest.mark.parametrize(("B", "H"), [(1, 37), (5, 16)])
def test_as_many_products_as_phases_allow(backend, B, H):
    p = draw(chain_of_products(7), 3, B, 2, H, "float64")
    one, expected = CoreCall(p).outputs, reference(p)
    for name, array in expected.items():
        np.testing.assert_allclose(one[name], array, rtol=1e-8, atol=1e-9, err_msg=name)
    for threads, cut, packs in ((2, "units", True), (3, "sequences", False)):
        assert_same_bits(CoreCall(p, threads, cut=cut, packs=packs).outputs, one)


def test_more_products_are_refused():
    with pytest.raises((ValueError, TypeError), match="at most 8"):
        chain_of_products(8)


# ---- malformed phases ----

NORMED = lower(WRITTEN["normed"].program)
FORWARD = NORMED.forward
KEPT, SUM, VARIANCE = (READS.index(name) for name in ("kept", "sum", "variance"))


def changed(**changes):
    return dataclasses.replace(NORMED, forward=dataclasses.replace(FORWARD, **changes))


def with_operand(phase, operand):
    """The first instruction of a phase reads another operand."""
    instructions = list(FORWARD.instructions)
    at = FORWARD.phase_ends[phase - 1] if phase else 0
    instructions[at] = (*instructions[at][:2], operand, *instructions[at][3:])
    return changed(instructions=tuple(instructions))


def with_sum(kind, phase, kept, by_head=False):
    return changed(sums=((kind, phase, kept, by_head), *FORWARD.sums[1:]))


def place(kind, index=0):
    return READ + FORWARD.reads.index((READS.index(kind), index))


ENDS, LAST = FORWARD.phase_ends, len(FORWARD.phase_ends) - 1
LSTM, MIN_GRU = (lower(one.program) for one in (lstm, min_gru))
MALFORMED = {
    "slots": [dataclasses.replace(LSTM, slots=tuple((g, 1, -1) for g in range(4)))],  # no gate is apart
    "reads": [  # no slot of h, so no product with h
        dataclasses.replace(
            MIN_GRU,
            forward=dataclasses.replace(
                MIN_GRU.forward, reads=(*MIN_GRU.forward.reads, (READS.index("gate_state"), 0))
            ),
        )
    ],
    "phases": [
        changed(phase_ends=()),
        changed(phase_ends=(ENDS[1], ENDS[0], *ENDS[2:])),
        changed(phase_ends=(-1, *ENDS[1:])),
        changed(phase_ends=ENDS[:-1]),
        changed(phase_ends=(*ENDS[:-1], ENDS[-1] + 1)),
    ],
    "sums": [
        with_sum(len(SUM_KINDS), 1, (0,)),
        with_sum(-1, 1, (0,)),
        with_sum(1, 0, (0,)),
        with_sum(1, len(ENDS), (0,)),
        with_sum(1, 1, ()),
        with_sum(1, 1, (31,)),
        with_sum(1, 1, (-1,)),
        with_sum(1, 1, FORWARD.sums[-1][2]),  # a later phase keeps it
        with_sum(*FORWARD.sums[0][:3], 2),
        with_sum(*FORWARD.sums[0][:3], -1),
    ],
    "instructions": [
        with_operand(1, place("gate")),  # a read of the first phase alone
        with_operand(0, place("kept")),
        with_operand(0, place("sum")),
        with_operand(1, place("sum", 1)),
        with_operand(1, WRITE),  # a write of another phase
        with_operand(1, 0),  # a register of another phase
        changed(reads=tuple((VARIANCE, index) if kind == SUM else (kind, index) for kind, index in FORWARD.reads)),
        changed(reads=tuple((KEPT, 31) if one == (KEPT, 0) else one for one in FORWARD.reads)),
        changed(sums=FORWARD.sums[:-1]),
    ],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_phases_are_refused(name):
    for lowered in MALFORMED[name]:
        program = CellProgram(lowered)
        assert name in str(_core.program_error(program)), lowered
        with pytest.raises(ValueError, match="program: "):
            _core.Problem(program, "float32", config.backend_index(), 1, 1, 1, 1, 1)


def test_a_state_is_not_read_after_its_successor_is_written():
    """The last phase of the cell reads c before the step, so lowering writes c there. Earlier, it is refused."""
    copy = next(j for j, one in enumerate(FORWARD.instructions) if one[1] == WRITE + after("c"))
    assert copy >= ENDS[LAST - 1]
    instructions = list(FORWARD.instructions)
    instructions.insert(0, (CODES["copy"], WRITE + after("c"), place("input"), 0, 0))
    del instructions[copy + 1]
    ends = (*(end + 1 for end in ENDS[:-1]), ENDS[-1])
    program = CellProgram(changed(instructions=tuple(instructions), phase_ends=ends))
    assert "instructions" in _core.program_error(program)


def after(name):
    return FORWARD.writes.index((WRITES.index("after"), [one for one, _ in NORMED.states].index(name)))


def test_too_many_phases_and_sums_are_refused():
    with pytest.raises(ValueError, match="phases"):
        CellProgram(changed(phase_ends=(0,) * 9))
    with pytest.raises(ValueError, match="sums"):
        CellProgram(changed(sums=FORWARD.sums[:1] * 17))
    with pytest.raises(ValueError, match="kept"):
        CellProgram(with_sum(1, 1, (0,) * 9))

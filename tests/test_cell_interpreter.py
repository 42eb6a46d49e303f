"""Programs inside the time loop: the bits of the compiled cells, and the values of the NumPy loop."""

import dataclasses
import itertools

import numpy as np
import numpy_schedules
import pytest
from core_call import CoreCall, assert_same_bits
from fastrnn import _core, config
from fastrnn.cell import instructions, program
from hypothesis import given
from hypothesis import strategies as st
from program_cases import COMPILED, WRITTEN, draw, one_phase_cells, record_of, reference
from strategies import batches, dtypes, make, problems, seeds

many_batches = st.one_of(batches, st.sampled_from([16, 32, 33]))
cuts = st.sampled_from([(1, "all"), (2, "sequences"), (2, "units"), (3, "all"), (3, "pieces")])
named = pytest.mark.parametrize
written = named("name", sorted(WRITTEN))


def schedules(p, lengths, resets, k):
    """Schedules of forward and of backward, which starts anew at every k steps from rows of y; k 0: at resets alone."""
    batch = numpy_schedules.Batch(p.T, p.B, lengths, resets)
    forward = batch.parts(batch.segments)[0]
    if k == 0:
        return forward, forward
    return forward, numpy_schedules.stages_of(batch, (k, k)).stages[0].parts[0]


@st.composite
def drawn_schedules(draw, T, B):
    """Arguments of CoreCall for p; empty: the implicit dense schedule."""
    rng = np.random.default_rng(draw(seeds))
    lengths = rng.integers(0, T + 1, B) if draw(st.booleans()) else None
    resets = rng.random((T, B)) < 0.3 if draw(st.booleans()) else None
    return lengths, resets, draw(st.sampled_from([0, 0, 1, 2]))


@given(p=problems(batches=many_batches), data=st.data(), cut=cuts, packs=st.booleans())
def test_a_program_has_the_bits_of_the_compiled_cell(backend, p, data, cut, packs):
    options = {"threads": cut[0], "cut": cut[1], "packs": packs}
    if data.draw(st.booleans()):
        lengths, resets, k = data.draw(drawn_schedules(p.T, p.B))
        if lengths is None or lengths.any():
            options |= dict(zip(("schedule", "backward_schedule"), schedules(p, lengths, resets, k), strict=True))
    expected = CoreCall(p, **options)
    found = CoreCall(p, **options, cell=COMPILED[p.cell])
    assert_same_bits(found.outputs, expected.outputs)
    assert all(guarded.intact() for guarded in found.guarded.values())


@named("cell", sorted(COMPILED))
@named("B", [1, 2, 5, 8, 13, 32, 33])
def test_a_program_has_the_bits_of_the_compiled_cell_at_sizes_of_several_strips(backend, cell, B):
    """More rows than a strip of tiles and than a span, more blocks than a tile, and chunks of k."""
    for H, dtype in ((70, "float32"), (128, "float64"), (700, "float32")):
        p = make(cell, 2, B * 4 if H < 100 else B, 3, H, dtype, B)
        expected = CoreCall(p).outputs
        for threads, cut in ((1, "all"), (2, "units")):
            assert_same_bits(CoreCall(p, threads, cut=cut, cell=COMPILED[cell]).outputs, expected)


@named("cell", ["lstm", "gru"])
@named("B", [1, 7])
def test_states_after_each_step_have_the_bits_of_the_compiled_cell(backend, cell, B):
    p, found = make(cell, 3, B, 2, 21, "float32", 0), []
    for one in (cell, COMPILED[cell]):
        problem = _core.Problem(one, "float32", config.backend_index(), 1, p.T, p.B, p.I, p.H)
        y, *states = (np.full((p.T, p.B, p.H), np.nan, np.float32) for _ in range(1 + len(p.initial)))
        scratch = np.empty(problem.scratch_forward, np.uint8)
        _core.forward(problem, None, p.x, p.initial, y, None, None, scratch, states, p.weights)
        found.append({"y": y} | {str(j): state for j, state in enumerate(states)})
    assert_same_bits(found[1], found[0])


sizes = st.tuples(
    st.sampled_from([1, 2, 5]),
    many_batches,
    st.sampled_from([0, 1, 5]),
    st.sampled_from([1, 3, 8, 16, 17, 37, 64, 130]),
)


@given(name=st.sampled_from(sorted(WRITTEN)), size=sizes, dtype=dtypes, seed=seeds, packs=st.booleans())
def test_bits_of_a_written_cell_do_not_depend_on_threads_and_packing(backend, name, size, dtype, seed, packs):
    p = draw(WRITTEN[name], *size, dtype, seed)
    one = CoreCall(p).outputs
    for threads, cut in itertools.product((1, 2, 3), ("all", "sequences", "units", "pieces")):
        call = CoreCall(p, threads, cut=cut, packs=packs)
        assert_same_bits(call.outputs, one)
        assert all(guarded.intact() for guarded in call.guarded.values())


@given(name=st.sampled_from(sorted(WRITTEN)), size=sizes, dtype=dtypes, seed=seeds)
def test_bits_of_a_written_cell_do_not_depend_on_neighbours(backend, name, size, dtype, seed):
    p = draw(WRITTEN[name], *size, dtype, seed)
    found = CoreCall(p).outputs
    of_batch = {"x", "dy"} | {one.name for one in p.program.inputs}
    of_states = {f"{a}{one.name}{b}" for one in p.program.states for a, b in (("", "0"), ("d", "_n"))}
    for b in {0, p.B // 2, p.B - 1}:
        alone = draw(WRITTEN[name], p.T, 1, p.I, p.H, dtype)
        alone.arrays = p.arrays | {one: p.arrays[one][:, b : b + 1] for one in of_batch}
        alone.arrays |= {one: p.arrays[one][b : b + 1] for one in of_states}
        outputs = CoreCall(alone).outputs
        for one, array in outputs.items():
            if array.ndim == 3:
                assert_same_bits({one: found[one][:, b : b + 1]}, {one: array})
            elif one[-2:] == "_n" or one[-1] == "0":
                assert_same_bits({one: found[one][b : b + 1]}, {one: array})


@given(name=st.sampled_from(sorted(WRITTEN)), size=sizes, dtype=dtypes, data=st.data(), cut=cuts)
def test_a_schedule_of_a_written_cell_has_the_bits_of_each_piece_alone(backend, name, size, dtype, data, cut):
    """Resets and lengths: every piece starts from its initial states or from the start values."""
    p = draw(WRITTEN[name], *size, dtype)
    lengths, resets, _ = data.draw(drawn_schedules(p.T, p.B))
    batch = numpy_schedules.Batch(p.T, p.B, lengths, resets)
    pieces = batch.segments
    if not len(pieces.b):
        return
    found = CoreCall(p, cut[0], batch.parts(pieces)[0], cut=cut[1]).outputs
    for b, begin, end, first, last in zip(*pieces[:5], strict=True):
        alone = draw(WRITTEN[name], end - begin, 1, p.I, p.H, dtype)
        steps = {"x", "dy"} | {one.name for one in p.program.inputs}
        alone.arrays = p.arrays | {one: p.arrays[one][begin:end, b : b + 1] for one in steps}
        for one in p.program.states:
            start = p.arrays[f"{one.name}0"][b : b + 1] if first >= 0 else np.full((1, p.H), one.start, dtype)
            d_final = p.arrays[f"d{one.name}_n"][b : b + 1]
            alone.arrays |= {f"{one.name}0": start, f"d{one.name}_n": d_final if last >= 0 else np.zeros_like(d_final)}
        for one, array in CoreCall(alone).outputs.items():
            if array.ndim == 3:
                assert_same_bits({one: found[one][begin:end, b : b + 1]}, {one: array})


@written
def test_instruction_sets_with_fma_agree_in_the_bits_of_a_written_cell(name, fma_backends):
    for size, dtype in itertools.product(((3, 5, 4, 21), (2, 1, 3, 40)), ("float32", "float64")):
        p = draw(WRITTEN[name], *size, dtype)
        one, *others = (CoreCall(p, backend=backend).outputs for backend in fma_backends)
        for other in others:
            assert_same_bits(other, one)


@written
@named("size", [(1, 1, 3, 5), (4, 3, 2, 17), (3, 9, 0, 8)])
def test_a_written_cell_has_the_values_of_the_numpy_loop(backend, name, size):
    p = draw(WRITTEN[name], *size, "float64")
    found, expected = CoreCall(p).outputs, reference(p)
    assert found.keys() == expected.keys()
    for one, array in expected.items():
        np.testing.assert_allclose(found[one], array, rtol=1e-11, atol=1e-12, err_msg=one)


@written
def test_gradients_of_a_written_cell_are_its_complex_step(backend, name):
    assert_complex_step(draw(WRITTEN[name], 4, 3, 2, 9, "float64"))


def assert_complex_step(p):
    found = CoreCall(p).outputs
    for number, argument in enumerate(one for one in p.arrays if not one.startswith("d")):
        direction = np.random.default_rng(number).standard_normal(p.arrays[argument].shape)
        record = record_of(p, **{argument: p.arrays[argument] + 1e-30j * direction})
        loss = (p.dy * record.y).sum()
        loss += sum((p.arrays[f"d{one}_n"] * state).sum() for one, state in record.final.items())
        gradient = (found[f"d{argument}"] * direction).sum()
        np.testing.assert_allclose(gradient, loss.imag / 1e-30, rtol=1e-10, atol=1e-11, err_msg=argument)


# ---- random cells ----


@given(drawn=one_phase_cells(), size=sizes, dtype=dtypes, seed=seeds, packs=st.booleans(), cut=cuts)
def test_bits_of_a_random_cell_do_not_depend_on_threads_and_neighbours(backend, drawn, size, dtype, seed, packs, cut):
    p = draw(drawn.cell, *size, dtype, seed)
    one, other = CoreCall(p), CoreCall(p, cut[0], cut=cut[1], packs=packs)
    assert_same_bits(other.outputs, one.outputs)
    assert all(guarded.intact() for guarded in other.guarded.values())
    b = p.B - 1
    alone = dataclasses.replace(p, B=1, arrays={name: part_of(p, name, b) for name in p.arrays})
    found = CoreCall(alone).outputs["y"]
    assert_same_bits({"y": one.outputs["y"][:, b : b + 1]}, {"y": found})


def part_of(p, name, b):
    """The part of sequence b of an array."""
    array = p.arrays[name]
    if array.ndim == 3:
        return array[:, b : b + 1]
    return array[b : b + 1] if name[-2:] == "_n" or name[-1] == "0" else array


@given(drawn=one_phase_cells(), seed=seeds)
def test_a_random_cell_has_the_values_and_gradients_of_the_numpy_loop(backend, drawn, seed):
    """One step: later steps of a chaotic cell amplify roundings."""
    p = draw(drawn.cell, 1, 3, 2, 9, "float64", seed)
    found, expected = CoreCall(p).outputs, reference(p)
    assert found.keys() == expected.keys() | {f"d{one.name}" for one in p.program.inputs}
    for one, array in expected.items():
        scale = max(1, np.abs(array).max(initial=0))
        np.testing.assert_allclose(found[one], array, rtol=1e-9, atol=1e-10 * scale, err_msg=one)


@named("packs", [True, False])
def test_a_bias_of_negative_zero_keeps_its_sign(backend, packs):
    p = draw(WRITTEN["input_half"], 1, 2, 0, 9, "float32")
    p.arrays |= {name: np.full_like(p.arrays[name], -0.0) for name in ("b_ih", "b_hh", "h0")}
    y = CoreCall(p, packs=packs).outputs["y"]
    assert np.all(y == 0)
    assert np.all(np.signbit(y))


def test_a_step_with_a_row_of_nan_leaves_other_rows_alone(backend):
    p = draw(WRITTEN["own_output"], 3, 4, 2, 9, "float32")
    expected = CoreCall(p).outputs["y"]
    p.arrays["x"][:, 2] = np.nan
    found = CoreCall(p).outputs["y"]
    others = [0, 1, 3]
    assert_same_bits({"y": found[:, others]}, {"y": expected[:, others]})
    assert np.isnan(found[:, 2]).all()


def test_the_operations_of_c_are_those_of_python():
    found = _core.operations()
    assert {name: number for name, (number, _) in found.items()} == instructions.CODES
    assert {name: found[name] for name in program.OPERATIONS} == {
        name: (one.code, one.arity) for name, one in program.OPERATIONS.items()
    }

"""Promises of the suite for random programs: memory, NaN, strides, backends, pieces, streams, and exact integers.

test_written_functions.py has the rest: threads, neighbours, chunks, resets, truncation.
"""

import itertools

import fastrnn
import numpy as np
import pytest
from cell_strategies import cells_of_integers
from core_call import CoreCall, assert_same_bits, same_bits
from fastrnn import config
from hypothesis import given, reject
from hypothesis import strategies as st
from program_cases import draw
from strategies import batches, dtypes, seeds
from test_reproducibility import strided
from written_cases import Case, make, reference, states_by_name, written_cells

cells = written_cells()
widths = st.sampled_from([1, 3, 8, 16, 17, 37, 70])
sizes = st.tuples(st.sampled_from([1, 2, 5]), batches, st.sampled_from([0, 1, 5]), widths)
named = pytest.mark.parametrize


def part_of_sequences(outputs, keep):
    """The outputs of some sequences: all but the gradients of parameters."""
    found = {name: one[:, keep] for name, one in outputs.items() if one.ndim == 3}
    return found | {n: one[keep] for n, one in outputs.items() if one.ndim == 2 and (n[-1] == "0" or n[-2:] == "_n")}


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, cut=st.sampled_from([(1, "all"), (2, "units"), (3, "pieces")]))
def test_bits_do_not_depend_on_what_was_in_memory(backend, cell, size, dtype, seed, cut):
    p = draw(cell, *size, dtype, seed)
    first = CoreCall(p, cut[0], cut=cut[1])
    for poison in (0x00, 0x3F, 0xA5):
        other = CoreCall(p, cut[0], cut=cut[1], poison=poison)
        assert_same_bits(other.outputs, first.outputs)
        assert all(guarded.intact() for guarded in other.guarded.values())


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds)
def test_instruction_sets_with_fma_agree_in_every_bit(fma_backends, cell, size, dtype, seed):
    p = draw(cell, *size, dtype, seed)
    one, *others = (CoreCall(p, backend=name).outputs for name in fma_backends)
    for other in others:
        assert_same_bits(other, one)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds)
def test_bits_do_not_depend_on_one_to_five_threads(cell, size, dtype, seed):
    p = draw(cell, *size, dtype, seed)
    one = CoreCall(p).outputs
    for threads, cut in itertools.product((2, 3, 4, 5), ("sequences", "units", "pieces")):
        assert_same_bits(CoreCall(p, threads, cut=cut).outputs, one)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, where=st.sampled_from(["x", "dy", "state", "inputs"]))
def test_nan_stays_in_its_sequence(backend, cell, size, dtype, seed, where):
    B = size[1]
    case, bad = make(cell, *size, dtype, seed), seed % B
    expected = case.train()
    case.x, case.dy = case.x.copy(), case.dy.copy()
    case.state = {name: one.copy() for name, one in case.state.items()}
    case.inputs = {name: one.copy() for name, one in case.inputs.items()}
    if where in ("x", "dy"):
        getattr(case, where)[:, bad] = np.nan
    elif where == "state":
        for one in case.state.values():
            one[bad] = np.nan
    else:
        for one in case.inputs.values():
            one[:, bad] = np.nan
    others = np.arange(B) != bad
    assert_same_bits(part_of_sequences(case.train(), others), part_of_sequences(expected, others))


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds)
def test_padding_is_never_read(cell, size, dtype, seed):
    case, T = make(cell, *size, dtype, seed), size[0]
    lengths = np.random.default_rng(seed).integers(0, T + 1, size[1])
    expected = case.train(lengths=lengths)
    padded = case.part()
    padded.x, padded.dy = padded.x.copy(), padded.dy.copy()
    padded.inputs = {name: one.copy() for name, one in padded.inputs.items()}
    for b, length in enumerate(lengths):
        for one in (padded.x, padded.dy, *padded.inputs.values()):
            one[length:, b] = np.nan
    assert_same_bits(padded.train(lengths=lengths), expected)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, kind=st.sampled_from(["sliced", "reversed", "offset"]))
def test_bits_do_not_depend_on_strides_and_alignment(cell, size, dtype, seed, kind):
    case = make(cell, *size, dtype, seed)

    def all_strided(arrays):
        return {name: strided(one, kind) for name, one in arrays.items()}

    other = Case(
        cell, strided(case.x, kind), case.weights, all_strided(case.state), case.vectors, all_strided(case.inputs),
        strided(case.dy, kind), all_strided(case.dstate),
    )  # fmt: skip
    assert_same_bits(other.train(), case.train())


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, k=st.sampled_from([None, 1, 2, (1, 2)]))
def test_arguments_are_never_modified(cell, size, dtype, seed, k):
    """They are read-only too, see `make`; a tape gives the same gradients again."""
    case, rng = make(cell, *size, dtype, seed), np.random.default_rng(seed)
    groups = {"x": case.x, "dy": case.dy} | case.weights | case.vectors
    arrays = [*groups.values(), *case.state.values(), *case.inputs.values(), *case.dstate.values()]
    before = [one.copy() for one in arrays]
    arguments, given_names = case.arguments
    _, _, tape = case.run.forward(*arguments, **given_names, lengths=rng.integers(0, size[0] + 1, size[1]))
    found = [case.run.backward(tape, case.dy, truncation=k) for _ in range(2)]
    assert_same_bits({"dw_hh": found[0].w_hh, "dx": found[0].x}, {"dw_hh": found[1].w_hh, "dx": found[1].x})
    assert_same_bits(found[0].vectors, found[1].vectors)
    assert all(same_bits(one, other) for one, other in zip(arrays, before, strict=True))


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, k=st.sampled_from([None, 1, 2, (1, 2), (2, 3)]))
def test_bits_of_ragged_truncated_gradients_do_not_depend_on_threads(cell, size, dtype, seed, k):
    case, rng = make(cell, *size, dtype, seed), np.random.default_rng(seed)
    more = {"lengths": rng.integers(0, size[0] + 1, size[1]), "resets": rng.random(size[:2]) < 0.3, "truncation": k}
    fastrnn.set_num_threads(1)
    expected = case.train(**more)
    for threads, cut in ((2, "sequences"), (2, "units"), (3, "pieces")):
        fastrnn.set_num_threads(threads)
        with config.use_cut(cut):
            assert_same_bits(case.train(**more), expected)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, data=st.data())
def test_gradients_of_a_sequence_fed_in_pieces_have_the_bits_of_the_whole(cell, size, dtype, seed, data):
    """Backward last piece first, with the gradients of states carried back and those of parameters added up."""
    T = size[0] + 1
    case = make(cell, T, *size[1:], dtype, seed)
    expected, cut = case.train(), data.draw(st.integers(1, T - 1))
    first, state = case.part(slice(0, cut)), None
    arguments, given_names = first.arguments
    _, state, tape1 = case.run.forward(*arguments, **given_names)
    second = case.part(slice(cut, T), state=states_by_name(cell, state, ""))
    arguments, given_names = second.arguments
    _, _, tape2 = case.run.forward(*arguments, **given_names)
    into = {name: np.zeros_like(one) for name, one in (case.weights | case.vectors).items()}
    dstate = tuple(case.dstate.values())
    g2 = case.run.backward(tape2, second.dy, dstate if len(dstate) > 1 else dstate[0], into=into)
    g1 = case.run.backward(tape1, first.dy, g2.state, into=into)
    found = {"dx": np.concatenate([g1.x, g2.x])} | {f"d{name}": one for name, one in into.items()}
    found |= {f"d{name}": one for name, one in states_by_name(cell, g1.state, "0").items()}
    assert_same_bits(found, expected, list(found))


@given(cell=cells, T=st.sampled_from([1, 3]), B=st.sampled_from([1, 2, 5]), H=widths, dtype=dtypes, seed=seeds)
def test_a_stream_has_the_bits_of_one_call(cell, T, B, H, dtype, seed):
    layer = fastrnn.Recurrent(cell, 3, H, dtype=dtype, seed=seed)
    case = make(cell, T, B, 3, H, dtype, seed)
    stream, (y, _) = layer.stream(B), layer(case.x, inputs=case.inputs)
    steps = [{name: one[t] for name, one in case.inputs.items()} for t in range(T)]
    found = np.stack([stream(case.x[t], now).copy() for t, now in enumerate(steps)])
    assert_same_bits({"y": found}, {"y": y})


@given(cell=cells_of_integers(), B=batches, H=st.sampled_from([1, 5, 16, 17, 70]), dtype=dtypes, seed=seeds)
def test_programs_of_integers_are_exact(backend, cell, B, H, dtype, seed):
    """Sums, differences, products and maxima of small integers have no roundings, so no term is missing or doubled."""
    case, rng = make(cell, 2, B, 3, H, dtype, seed), np.random.default_rng(seed)

    def integers(one, most):
        return rng.integers(-most, most + 1, one.shape).astype(dtype)

    def sparse(one):
        """A matrix with few entries in a row, so that sums over k stay small."""
        return np.where(rng.random(one.shape) < 2 / max(one.shape[1], 1), integers(one, 1), 0).astype(dtype)

    weights = {name: sparse(one) if name[0] == "w" else integers(one, 1) for name, one in case.weights.items()}
    small = Case(
        cell, integers(case.x, 1), weights, {name: integers(one, 1) for name, one in case.state.items()},
        {name: integers(one, 1) for name, one in case.vectors.items()}, {},
        integers(case.dy, 1), {name: integers(one, 1) for name, one in case.dstate.items()},
    )  # fmt: skip
    exact = Case(cell, *(_in_double(one) for one in (small.x, small.weights, small.state, small.vectors)), {},
                 _in_double(small.dy), _in_double(small.dstate))  # fmt: skip
    expected = reference(exact)
    if max(np.abs(one).max(initial=0) for one in expected.values()) >= 2**18:
        reject()  # a sum on the way may round in float32
    found = small.train()
    for name, one in expected.items():
        np.testing.assert_array_equal(found[name], one, err_msg=name)


def _in_double(one):
    return (
        {name: array.astype(np.float64) for name, array in one.items()} if isinstance(one, dict) else one.astype(float)
    )

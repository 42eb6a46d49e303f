"""Equal bits, whatever the threads, the neighbours, the pieces, the memory and the instruction set."""

import dataclasses
import itertools

import fastrnn
import numpy as np
import pytest
from core_call import CoreCall, assert_same_bits, same_bits
from hypothesis import given
from hypothesis import strategies as st
from strategies import NAMES, cells, dtypes, make, problems, seeds

OF_SEQUENCES = ("y", "h_n", "c_n", "dx", "dh0", "dc0")

# Sizes with enough work for every split: rows over groups, units over members, and both.
sizes = st.sampled_from([(3, 40, 33, 70), (9, 1, 16, 150), (4, 13, 5, 96), (40, 25, 64, 40), (3, 7, 200, 130)])


def outputs(p, **options):
    return CoreCall(p, **options).outputs


def part(p, **slices):
    """The problem with some arrays replaced."""
    arrays = p.arrays | slices
    T, B, _ = arrays["x"].shape
    return dataclasses.replace(p, T=T, B=B, arrays=arrays)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds)
def test_result_does_not_depend_on_the_number_of_threads_and_what_they_share(backend, cell, size, dtype, seed):
    p = make(cell, *size, dtype, seed)
    one = outputs(p)
    for threads, cut in itertools.product((2, 3, 8), ("all", "sequences", "units", "pieces")):
        assert_same_bits(outputs(p, threads=threads, cut=cut), one)


def assert_same_without_neighbours(p):
    whole = outputs(p)
    for b in {0, p.B // 2, p.B - 1}:
        rows = {k: np.ascontiguousarray(p.arrays[k][:, b : b + 1]) for k in ("x", "dy")}
        states = {k: p.arrays[k][b : b + 1] for k in ("h0", "c0", "dh_n", "dc_n")}
        alone = outputs(part(p, **rows, **states))
        for name in (n for n in OF_SEQUENCES if n in whole):
            of_b = whole[name][:, b : b + 1] if name in ("y", "dx") else whole[name][b : b + 1]
            assert same_bits(alone[name], of_b), name


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds)
def test_result_does_not_depend_on_batch_neighbours(backend, cell, size, dtype, seed):
    assert_same_without_neighbours(make(cell, *size, dtype, seed))


# Enough inputs and units for products in chunks, with vectors of any length; and two strips of rows.
@pytest.mark.parametrize(
    ("cell", "size"),
    [
        ("lstm", (2, 14, 3100, 20)),
        ("gru", (2, 100, 4200, 20)),
        ("rnn_tanh", (2, 30, 6200, 40)),
        ("lstm", (2, 14, 5, 1540)),
        ("gru", (2, 20, 5, 2052)),
    ],
)
def test_result_does_not_depend_on_the_chunks_of_long_products(backend, cell, size):
    assert_same_without_neighbours(make(cell, *size, np.float32, seed=3))


@given(p=problems(steps=st.sampled_from([2, 3, 7, 40])), data=st.data())
def test_a_sequence_fed_in_pieces_has_the_bits_of_the_whole(backend, p, data):
    """Forward with the state carried on; backward last piece first, with the state's gradient carried back and the
    parameter gradients accumulated.
    """
    whole = outputs(p)
    cut = data.draw(st.integers(1, p.T - 1))
    cell = getattr(fastrnn, p.cell)
    y1, state, tape1 = cell.forward(p.x[:cut], *p.weights, p.state)
    y2, final, tape2 = cell.forward(p.x[cut:], *p.weights, state)
    into = fastrnn.WeightGradients(*(np.zeros_like(w) for w in p.weights))
    g2 = cell.backward(tape2, p.dy[cut:], p.dstate, into=into)
    g1 = cell.backward(tape1, p.dy[:cut], g2.state, into=into)
    h_n, dh0 = (final[0], g1.state[0]) if p.has_c else (final, g1.state)
    found = {
        "y": np.concatenate([y1, y2]), "h_n": h_n, "dx": np.concatenate([g1.x, g2.x]), "dh0": dh0,
        "dw_ih": into.w_ih, "dw_hh": into.w_hh, "db_ih": into.b_ih, "db_hh": into.b_hh,
    }  # fmt: skip
    if p.has_c:
        found |= {"c_n": final[1], "dc0": g1.state[1]}
    assert_same_bits(found, whole)


def strided(array, kind):
    """The same values in other memory: all layouts with a contiguous last axis."""
    if kind == "sliced":
        big = np.full([2 * n for n in array.shape[:-1]] + [array.shape[-1] + 3], np.nan, array.dtype)
        view = big[(*(slice(1, None, 2) for _ in array.shape[:-1]), slice(1, 1 + array.shape[-1]))]
    elif kind == "reversed":
        view = np.empty_like(array)[(slice(None, None, -1),) * (array.ndim - 1)]
    elif kind == "swapped":
        view = np.empty([array.shape[1], array.shape[0], *array.shape[2:]], array.dtype).swapaxes(0, 1)
    else:
        view = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
    view[...] = array
    return view


@given(p=problems(), kind=st.sampled_from(["sliced", "reversed", "swapped", "offset"]))
def test_result_does_not_depend_on_strides_or_alignment(backend, p, kind):
    whole = outputs(p)
    names = ["x", "dy"] if kind == "swapped" else ["x", "dy", "h0", "c0", "dh_n", "dc_n"]
    assert_same_bits(outputs(part(p, **{name: strided(p.arrays[name], kind) for name in names})), whole)


@given(p=problems())
def test_result_does_not_depend_on_what_was_in_memory(backend, p):
    first = outputs(p, poison=0xFF)
    assert_same_bits(outputs(p, poison=0x00), first)
    assert_same_bits(outputs(p, poison=0x3F), first)


@given(p=problems(), size=st.none() | sizes)
def test_instruction_sets_with_fma_agree_in_every_bit(fma_backends, p, size):
    if size is not None:
        p = make(p.cell, *size, p.x.dtype, 1)
    best, *others = fma_backends
    expected = outputs(p, backend=best)
    for name in others:
        assert_same_bits(outputs(p, backend=name), expected)


@given(p=problems())
def test_reverse_has_the_bits_of_reversed_arrays(backend, p):
    cell = getattr(fastrnn, p.cell)
    y, state, tape = cell.forward(p.x, *p.weights, p.state, reverse=True)
    g = cell.backward(tape, p.dy, p.dstate)
    flipped = outputs(part(p, x=p.x[::-1].copy(), dy=p.dy[::-1].copy()))
    assert same_bits(y[::-1], flipped["y"])
    assert same_bits(g.x[::-1], flipped["dx"])
    assert same_bits(g.w_hh, flipped["dw_hh"])
    assert same_bits(state[0] if p.has_c else state, flipped["h_n"])


@given(p=problems())
def test_inputs_are_never_modified_and_may_be_read_only(backend, p):
    before = {name: array.copy() for name, array in p.arrays.items()}
    for array in p.arrays.values():
        array.flags.writeable = False
    outputs(p)
    for name, array in p.arrays.items():
        assert same_bits(array, before[name]), name
    assert set(NAMES) <= set(before)

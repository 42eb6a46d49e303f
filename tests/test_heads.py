"""Block-diagonal recurrent products: the bits of the dense product with zeros between the heads."""

import pickle

import fastrnn
import numpy as np
import pytest
from cell_cases import min_gru
from core_call import CoreCall, assert_same_bits
from fastrnn import _core, config
from fastrnn._program import CellProgram
from fastrnn.cell import loop
from fastrnn.cell.lower import lower
from fastrnn.testing import assert_reproducible
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from program_cases import WRITTEN, block_diagonal, draw, of_heads, one_phase_cells
from strategies import dtypes, seeds
from written_cases import lstm, make, peephole

named = pytest.mark.parametrize
T, B, I, H = 5, 3, 4, 12
WIDTHS = 1, 5, 8, 12, 20, 70


def as_dense(p):
    """The same problem without heads."""
    arrays = p.arrays | {"w_hh": block_diagonal(p.arrays["w_hh"], p.H)}
    return type(p)(p.program, CellProgram(lower(p.program)), p.T, p.B, p.I, p.H, arrays)


def expected_of(p):
    """The outputs of the dense problem, with the gradient of w_hh inside the heads."""
    found = dict(CoreCall(as_dense(p)).outputs)
    found["dw_hh"] = of_heads(found["dw_hh"], p.arrays["w_hh"].shape[1])
    return found


def same_numbers(found, expected):
    """The same bits, but zeros may differ in their sign: a sum may begin with the zeros of another head."""
    for name, one in expected.items():
        np.testing.assert_array_equal(found[name], one, err_msg=name)


@named("dtype", ["float32", "float64"])
@named("width", WIDTHS)
@named("rows", [1, 3, 9, 33])
@named("name", ["peephole_lstm", "own_output", "reset_before_gru", "products_alone"])
def test_the_product_is_the_dense_one_with_zeros_between_the_heads(backend, name, rows, width, dtype):
    """Gates 4, 5, 3 and 2, with second products; rows of one tile, of several tiles, and of unpacked weights."""
    for heads in (2, 5):
        p = draw(WRITTEN[name], 3, rows, 2, width * heads, dtype, heads, heads)
        expected = expected_of(p)
        for packs in (True, False):
            call = CoreCall(p, packs=packs)
            same_numbers(call.outputs, expected)
            assert all(one.intact() for one in call.guarded.values())


@given(cell=one_phase_cells(), rows=st.sampled_from([1, 2, 5, 17]), width=st.sampled_from(WIDTHS), seed=seeds,
       heads=st.sampled_from([2, 3, 4]), dtype=dtypes)  # fmt: skip
def test_a_random_cell_with_heads_is_the_dense_one(backend, cell, rows, width, seed, heads, dtype):
    try:
        p = draw(cell.cell, 3, rows, 2, width * heads, dtype, seed, heads)
    except ValueError as error:
        if "expected at most" not in str(error):
            raise
        reject()
    expected = expected_of(p)
    assume(all(np.isfinite(one).all() for one in expected.values()))  # zero times infinity is NaN
    same_numbers(CoreCall(p).outputs, expected)


@named("dtype", ["float32", "float64"])
@named(("heads", "width"), [(1, 12), (2, 20), (3, 5), (4, 64), (6, 70), (16, 3)])
@named("name", ["peephole_lstm", "normed", "normed_by_head", "head_alone", "masked", "min_gru", "two_products"])
def test_bits_do_not_depend_on_threads_and_packing(backend, name, heads, width, dtype):
    """Members share whole heads, or blocks and segments of heads."""
    written = min_gru if name == "min_gru" else WRITTEN[name]
    p = draw(written, 4, 3, 3, width * heads, dtype, heads, heads)
    one = CoreCall(p)
    for threads, cut in ((2, "units"), (3, "units"), (8, "units"), (2, "sequences"), (3, "pieces")):
        assert_same_bits(CoreCall(p, threads, cut=cut, packs=threads % 2 == 0).outputs, one.outputs)


@named("dtype", ["float32", "float64"])
@named("name", ["peephole_lstm", "normed", "normed_by_head"])
def test_backends_with_fma_agree_in_every_bit(name, dtype):
    p = draw(WRITTEN[name], 4, 9, 3, 60, dtype, 0, 4)
    found = [CoreCall(p, backend=one.name).outputs for one in _core.backends() if one.runs_here and one.has_fma]
    for one in found[1:]:
        assert_same_bits(one, found[0])


def test_no_padding_of_the_reserve_is_left_unwritten():
    """Another backend reads it with longer vectors."""
    p = draw(WRITTEN["own_output"], 3, 2, 3, 15, "float32", 0, 3)
    calls = [CoreCall(p, poison=poison).guarded["reserve"].array for poison in (0xFF, 0x11)]
    np.testing.assert_array_equal(*calls)


@named("width", [3, 8])
def test_many_rows_and_long_chunks_of_k(width):
    """Backward's input product runs over more units than fit one chunk, head by head."""
    p = draw(WRITTEN["peephole_lstm"], 2, 100, 40, width * 200, "float32", 0, 200)
    same_numbers(CoreCall(p).outputs, expected_of(p))
    assert_same_bits(CoreCall(p, 2).outputs, CoreCall(p).outputs)


def test_sums_of_each_head_are_those_of_the_head_alone():
    """Head after head as a layer of its own, for a cell in which nothing crosses heads."""
    p = draw(WRITTEN["head_alone"], 3, 2, 4, 60, "float64", 0, 3)
    found = CoreCall(p).outputs
    for head in range(3):
        own = slice(20 * head, 20 * head + 20)
        arrays = {
            name: one[own] if name in ("w_ih", "w_hh", "b_ih", "b_hh") else one if name == "x" else one[..., own]
            for name, one in p.arrays.items()
        }
        arrays = {name: np.ascontiguousarray(one) for name, one in arrays.items()}
        alone = CoreCall(type(p)(p.program, CellProgram(lower(p.program)), 3, 2, 4, 20, arrays)).outputs
        assert_same_bits({"y": found["y"][..., own]}, {"y": alone["y"]})
        for name in ("dw_ih", "dw_hh", "db_ih", "db_hh"):
            assert_same_bits({name: found[name][own]}, {name: alone[name]})


# ---- the reference ----


def test_the_numpy_loop_is_the_dense_loop():
    case = make(peephole, T, B, I, 4, "float64", heads=3)
    dense = {"w_hh": block_diagonal(case.weights["w_hh"], H)}
    results = []
    for weights in (case.weights, case.weights | dense):
        record = loop.forward(peephole.program, case.x, loop.Weights(*weights.values(), case.vectors), case.state)
        results.append((record, loop.backward(record, case.dy, case.dstate)))
    (record, g), (expected, e) = results
    np.testing.assert_allclose(record.y, expected.y, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(g.x, e.x, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(g.weights.w_hh, of_heads(e.weights.w_hh, 4), rtol=1e-12, atol=1e-14)


# ---- functions and layers ----


def test_one_head_is_the_dense_function():
    assert fastrnn.recurrent(lstm, 1) is fastrnn.recurrent(lstm, heads=np.int64(1)) is fastrnn.recurrent(lstm)
    layer, other = (fastrnn.Recurrent(lstm, I, H, seed=0, **more) for more in ({}, {"heads": 1}))
    assert repr(layer) == repr(other)


def test_a_function_with_heads_pickles_and_shows_them():
    run = fastrnn.recurrent(peephole, heads=3)
    assert run is not fastrnn.recurrent(peephole)
    assert pickle.loads(pickle.dumps(run)) is run
    assert repr(run) == "<fastrnn.recurrent(peephole_lstm, heads=3)>"
    with pytest.raises(AttributeError, match="heads: expected to stay"):
        run.heads = 2


@named("checkpoint", [None, 1, 2])
@named("more", [{}, {"lengths": [5, 0, 3]}, {"truncation": (2, 3)}], ids=str)
def test_checkpoints_schedules_and_windows_have_the_bits_of_the_dense_cell(more, checkpoint):
    if checkpoint and "truncation" in more:
        more = {"truncation": 2}
    case = make(peephole, T, B, I, 4, "float64", heads=3)
    other = make(peephole, T, B, I, H, "float64")
    other.weights = case.weights | {"w_hh": block_diagonal(case.weights["w_hh"], H)}
    other.state, other.vectors, other.x, other.dy, other.dstate = (
        case.state, case.vectors, case.x, case.dy, case.dstate
    )  # fmt: skip
    found, expected = case.train(checkpoint=checkpoint, **more), other.train(checkpoint=checkpoint, **more)
    expected["dw_hh"] = of_heads(expected["dw_hh"], 4)
    same_numbers(found, expected)


def test_gradients_are_added_to_arrays_of_their_shape():
    case = make(peephole, T, B, I, 4, "float64", heads=3)
    positional, by_name = case.arguments
    _, _, tape = case.run.forward(*positional, **by_name)
    whole, into = case.run.backward(tape, case.dy).w_hh, {"w_hh": np.ones((4 * H, 4))}
    found = case.run.backward(tape, case.dy, into=into).w_hh
    assert found is into["w_hh"]
    np.testing.assert_allclose(found, 1 + whole, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^into.w_hh: expected shape .* = \(48, 4\), got \(48, 12\)"):
        case.run.backward(tape, case.dy, into={"w_hh": np.ones((4 * H, H))})


def layers(**more):
    """A layer with heads, and the dense layer with the same numbers."""
    layer = fastrnn.Recurrent(peephole, I, H, 2, heads=3, seed=0, **more)
    other = fastrnn.Recurrent(peephole, I, H, 2, seed=0, **more)
    other.parameters = {
        name: block_diagonal(one, H) if name.startswith("w_hh") else one for name, one in layer.parameters.items()
    }
    return layer, other


@named("more", [{}, {"bidirectional": True}, {"batch_first": True}, {"bias": False, "dtype": "float64"}], ids=str)
def test_a_layer_has_the_bits_of_the_dense_layer(more):
    layer, other = layers(**more)
    assert layer.parameters["w_hh_l1"].shape == (4 * H, 4)
    x = np.random.default_rng(0).standard_normal((T, B, I)).astype(layer.dtype)
    for frozen in (False, True):
        if frozen:
            layer.freeze(), other.freeze()
        (y, state, tape), (y_other, state_other, tape_other) = layer.forward(x), other.forward(x)
        g, g_other = layer.backward(tape, np.cos(y)), other.backward(tape_other, np.cos(y_other))
        expected = {n: of_heads(one, 4) if n.startswith("w_hh") else one for n, one in g_other.parameters.items()}
        same_numbers({"y": y, "x": g.x, "h": state[0]}, {"y": y_other, "x": g_other.x, "h": state_other[0]})
        same_numbers(g.parameters, expected)
        np.testing.assert_array_equal(layer(x)[0], y)
    if not layer.bidirectional:
        first = x[0] if not layer.batch_first else x[:, 0]
        np.testing.assert_array_equal(layer.stream(len(first))(first), other.stream(len(first))(first))


def test_results_of_a_layer_with_heads_do_not_depend_on_threads_neighbours_and_chunks():
    layer, _ = layers()
    assert_reproducible(layer, np.random.default_rng(0).standard_normal((T, B, I)).astype(np.float32))


def test_a_file_holds_the_heads(tmp_path):
    layer, _ = layers()
    layer.save(tmp_path / "layer")
    loaded = fastrnn.Recurrent.load(tmp_path / "layer")
    assert loaded.heads == 3
    assert repr(loaded) == repr(layer)
    assert "heads=3" in repr(layer)
    x = np.ones((T, B, I), np.float32)
    np.testing.assert_array_equal(loaded(x)[0], layer(x)[0])
    with pytest.raises(AttributeError, match="heads: expected to stay"):
        layer.heads = 2


# ---- refusals ----


@named("value", [0, -1])
def test_heads_below_one_are_refused(value):
    with pytest.raises(ValueError, match=rf"^heads: expected an integer of at least 1, got {value}"):
        fastrnn.recurrent(lstm, value)
    with pytest.raises(ValueError, match=rf"^heads: expected an integer of at least 1, got {value}"):
        fastrnn.Recurrent(lstm, I, H, heads=value)


def test_other_heads_are_refused_by_name():
    with pytest.raises(TypeError, match=r"^heads: expected an integer, got float"):
        fastrnn.recurrent(lstm, 1.5)
    with pytest.raises(TypeError, match=r"^heads: expected an integer, got True"):
        fastrnn.Recurrent(lstm, I, H, heads=True)
    with pytest.raises(ValueError, match=r"^heads: expected a divisor of hidden_size = 12, got 5"):
        fastrnn.Recurrent(lstm, I, H, heads=5)
    with pytest.raises(ValueError, match=r"^w_hh: expected shape \(4\*H, H/heads\) = \(48, 4\), got \(47, 4\)"):
        make(lstm, T, B, I, 4, "float64", heads=3).run(np.ones((T, B, I)), np.ones((48, I)), np.ones((47, 4)))
    layer, _ = layers()
    layer.parameters["w_hh_l0"] = np.zeros((4 * H, H), np.float32)
    with pytest.raises(ValueError, match=r"^w_hh_l0: expected shape \(4\*H, H/heads\) = \(48, 4\), got \(48, 12\)"):
        layer(np.ones((T, B, I), np.float32))


def test_the_core_refuses_heads_that_do_not_divide_h():
    with pytest.raises(ValueError, match=r"^H: expected a multiple of heads = 5, got 12"):
        _core.Problem(CellProgram(lower(lstm.program), 5), "float32", config.backend_index(), 1, 1, 1, 1, 12)
    with pytest.raises(ValueError, match=r"^heads: expected an integer of at least 1, got 0"):
        CellProgram(lower(lstm.program), 0)

"""`fastrnn.recurrent`: written cells over sequences, through the same plan as `fastrnn.lstm`."""

import itertools
import pickle

import fastrnn
import numpy as np
import pytest
from core_call import assert_same_bits
from fastrnn import config
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, dtypes, seeds
from written_cases import SHIPPED, lstm, make, masked, members, peephole, reference, written_cells

named = pytest.mark.parametrize
sizes = st.tuples(
    st.sampled_from([1, 2, 5]), batches, st.sampled_from([0, 1, 5]), st.sampled_from([1, 3, 8, 16, 17, 37])
)
cells = written_cells()
heads = st.sampled_from([1, 2, 3])
T, B, I, H = 5, 3, 4, 6


@given(cell=cells, B=batches, width=st.sampled_from([1, 5, 16, 17]), seed=seeds, heads=heads)
def test_values_and_gradients_are_those_of_the_numpy_loop(backend, cell, B, width, seed, heads):
    case = make(cell, 2, B, 3, width, "float64", seed, heads)
    found, expected = case.train(), reference(case)
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        tolerance = 1e-8 * max(1, np.abs(one).max())
        np.testing.assert_allclose(found[name], one, rtol=1e-8, atol=tolerance, err_msg=name)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, heads=heads)
def test_inference_and_training_have_the_same_bits_on_any_number_of_threads(backend, cell, size, dtype, seed, heads):
    case = make(cell, *size, dtype, seed, heads)
    fastrnn.set_num_threads(1)
    expected = case.train()
    for threads, cut in ((1, "auto"), (2, "sequences"), (2, "units"), (3, "pieces")):
        fastrnn.set_num_threads(threads)
        with config.use_cut(cut):
            assert_same_bits(case.infer(), {name: expected[name] for name in case.infer()})
            assert_same_bits(case.train(), expected)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, heads=heads, data=st.data())
def test_bits_depend_neither_on_neighbours_nor_on_chunks_nor_on_strides(cell, size, dtype, seed, heads, data):
    case = make(cell, *size, dtype, seed, heads)
    expected = case.train()
    b = data.draw(st.integers(0, size[1] - 1))
    alone = case.part(b=slice(b, b + 1)).train()
    for name, one in expected.items():
        if one.ndim == 3:
            assert_same_bits(alone, {name: one[:, b : b + 1]})
        elif name[-1] == "0" or name[-2:] == "_n":
            assert_same_bits(alone, {name: one[b : b + 1]})
    if size[0] > 1:
        first = case.part(slice(0, 1)).infer()
        state = {one.name: first[f"{one.name}_n"] for one in cell.program.states}
        rest = case.part(slice(1, None), state=state).infer()
        assert_same_bits(rest, {name: one for name, one in expected.items() if name in rest and name != "y"})
        assert_same_bits({"y": np.concatenate([first["y"], rest["y"]])}, expected, ["y"])
    other = case.part()
    other.x = np.array(case.x.transpose(1, 0, 2), order="C").transpose(1, 0, 2)
    other.inputs = {name: np.repeat(one, 2, axis=0)[::2] for name, one in case.inputs.items()}
    assert_same_bits(other.train(), expected)


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, heads=heads)
def test_a_ragged_batch_with_resets_has_the_bits_of_each_piece_alone(cell, size, dtype, seed, heads):
    case, rng = make(cell, *size, dtype, seed, heads), np.random.default_rng(seed)
    T, B = size[:2]
    lengths, resets = rng.integers(0, T + 1, B), rng.random((T, B)) < 0.3
    found = case.train(lengths=lengths, resets=resets)
    steps = [name for name, one in found.items() if one.ndim == 3]
    for b in range(B):
        cuts = sorted({0, *np.flatnonzero(resets[: lengths[b], b]), int(lengths[b])})
        for begin, end in itertools.pairwise(cuts):
            start = {name: one[b : b + 1] for name, one in case.state.items()}
            if resets[begin, b]:
                start = {one.name: np.full((1, size[3] * heads), one.start, dtype) for one in cell.program.states}
            piece = case.part(slice(begin, end), slice(b, b + 1), start)
            if end < lengths[b]:
                piece.dstate = {name: np.zeros_like(one) for name, one in piece.dstate.items()}
            alone = piece.train()
            assert_same_bits(alone, {name: found[name][begin:end, b : b + 1] for name in steps})
        for name in steps:
            assert not found[name][lengths[b] :, b].any(), name


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, heads=heads, ragged=st.booleans())
def test_the_reverse_direction_is_the_reversed_sequence(cell, size, dtype, seed, heads, ragged):
    case = make(cell, *size, dtype, seed, heads)
    more = {"lengths": np.full(size[1], size[0])} if ragged else {}
    if ragged and size[0] > 1:  # a schedule rather than a reversed view
        more["resets"] = np.zeros(size[:2], bool)
        more["resets"][1, 0] = True
    found, flipped = case.train(reverse=True, **more), case.part(slice(None, None, -1))
    if "resets" in more:
        shifted = np.zeros_like(more["resets"])
        shifted[1:] = more["resets"][:0:-1]
        more["resets"] = shifted
    expected = flipped.train(**more)
    per_step = {name: one[::-1] for name, one in expected.items() if one.ndim == 3}
    assert_same_bits(found, per_step | {name: one for name, one in expected.items() if name[-2:] == "_n"})


@given(cell=cells, size=sizes, dtype=dtypes, seed=seeds, heads=heads, k=st.integers(1, 3))
def test_truncation_is_a_loop_over_windows(cell, size, dtype, seed, heads, k):
    case = make(cell, *size, dtype, seed, heads)
    found, steps, state = case.train(truncation=k), [], None
    for begin in range(0, size[0], k):
        window = case.part(slice(begin, begin + k), state=state)
        if begin + k < size[0]:
            window.dstate = {name: np.zeros_like(one) for name, one in window.dstate.items()}
        steps.append(window.train())
        state = {one.name: steps[-1][f"{one.name}_n"] for one in cell.program.states}
    for name in ("dx", *(f"d{one.name}" for one in cell.program.inputs if one.gradient)):
        assert_same_bits(found, {name: np.concatenate([one[name] for one in steps])})


@named("window", [(1, 2), (2, 3)])
@named("cell", SHIPPED, ids=lambda cell: cell.program.name)
def test_overlapping_windows_give_the_gradients_of_each_loss(cell, window):
    """The gradient of the losses of each k1 steps goes back through k2 steps."""
    case, (k1, k2), total = make(cell, T, B, I, H, "float64"), window, 0
    found = case.train(truncation=window)
    y = case.infer()
    for begin in range(0, T, k1):
        end, first = min(begin + k1, T), max(0, begin + k1 - k2)
        before = case.part(slice(0, first)).infer() if first else None
        state = {one.name: before[f"{one.name}_n"] for one in cell.program.states} if first else None
        part = case.part(slice(first, end), state=state)
        dy = part.dy.copy()
        dy[: begin - first] = 0
        part.dy = dy
        if end < T:
            part.dstate = {name: np.zeros_like(one) for name, one in part.dstate.items()}
        gradients = part.train()
        total = total + gradients["dw_hh"]
        np.testing.assert_array_equal(y["y"][first:end], gradients["y"])
    np.testing.assert_allclose(found["dw_hh"], total, rtol=1e-10, atol=1e-12)


@named("n", [1, 2, 10])
@named("cell", [lstm, peephole], ids=lambda cell: cell.program.name)
def test_checkpoints_change_no_bit(cell, n):
    case = make(cell, T, B, I, H, "float32")
    assert_same_bits(case.train(checkpoint=n), case.train())
    more = {"lengths": [5, 0, 3], "resets": np.eye(T, B, -1, dtype=bool)}
    assert_same_bits(case.train(checkpoint=n, **more), case.train(**more))


@given(size=sizes, dtype=dtypes, seed=seeds)
def test_the_written_lstm_has_the_bits_of_the_compiled_one(backend, size, dtype, seed):
    case = make(lstm, *size, dtype, seed)
    found = case.train()
    y, final, tape = fastrnn.lstm.forward(*case.arguments[0])
    g = fastrnn.lstm.backward(tape, case.dy, members(case.dstate))
    assert_same_bits(found, {"y": y, "h_n": final[0], "c_n": final[1], "dx": g.x, "dh0": g.state[0], "dc0": g.state[1],
                             "dw_ih": g.w_ih, "dw_hh": g.w_hh, "db_ih": g.b_ih, "db_hh": g.b_hh})  # fmt: skip


@named("dtype", ["float32", "float64"])
@named("cell", SHIPPED, ids=lambda cell: cell.program.name)
def test_absent_states_are_start_values(cell, dtype):
    case = make(cell, T, B, I, H, dtype)
    (x, *weights, _), named_arguments = case.arguments
    case.state = {one.name: np.full((B, H), one.start, dtype) for one in cell.program.states}
    y, _ = case.run(x, *weights, **named_arguments)
    expected = case.infer()
    assert_same_bits({"y": y}, expected, ["y"])
    resets = np.zeros((T, B), bool)
    resets[0, 1] = True
    other = make(cell, T, B, I, H, dtype)
    found = other.train(resets=resets)
    assert_same_bits({"y": found["y"][:, 1]}, {"y": expected["y"][:, 1]})
    assert all(not found[f"d{one.name}0"][1].any() for one in cell.program.states)


@named("bias", [False, True])
def test_biases_may_be_left_out(bias):
    case = make(peephole, T, B, I, H, "float64")
    case.weights |= {} if bias else {"b_ih": None, "b_hh": None}
    found = case.train()
    assert (found["db_ih"] is None) is (not bias)
    case.weights |= {} if bias else {"b_ih": np.zeros(4 * H), "b_hh": np.zeros(4 * H)}
    assert_same_bits({"y": found["y"]}, case.train(), ["y"])


def test_an_option_has_a_default_and_another_value_counts():
    case = make(masked, T, B, I, H, "float64")
    assert_same_bits(case.train(options={"leak": 0.75}), case.train())
    other = case.train(options={"leak": np.float32(0.5)})
    assert not np.array_equal(other["y"], case.train()["y"])
    h = 1e-6
    slope = (case.train(options={"leak": 0.75 + h})["y"] - case.train(options={"leak": 0.75 - h})["y"]) / (2 * h)
    assert np.abs(slope).max() > 1e-3


def test_gradients_can_be_chosen_and_added_to():
    case = make(peephole, T, B, I, H, "float64")
    arguments, named_arguments = case.arguments
    _, _, tape = case.run.forward(*arguments, **named_arguments)
    whole = case.run.backward(tape, case.dy)
    some = case.run.backward(tape, case.dy, wanted=["vectors"])
    assert some.x is some.w_ih is some.w_hh is some.b_hh is None
    assert_same_bits(some.vectors, whole.vectors)
    into = {"p_f": np.ones(H)}
    found = case.run.backward(tape, case.dy, wanted=["vectors"], into=into)
    assert found.vectors["p_f"] is into["p_f"]
    np.testing.assert_allclose(into["p_f"], 1 + whole.vectors["p_f"], rtol=1e-12)
    with pytest.raises(ValueError, match=r"^into: expected names out of \['w_ih', .*\], got 'p'"):
        case.run.backward(tape, case.dy, into={"p": np.ones(H)})
    with pytest.raises(TypeError, match=r"^into: expected WeightGradients, or a mapping .*, got list"):
        case.run.backward(tape, case.dy, into=[np.ones(H)])
    case = make(masked, T, B, I, H, "float64")
    arguments, named_arguments = case.arguments
    _, _, tape = case.run.forward(*arguments, **named_arguments)
    assert case.run.backward(tape, wanted=["x"]).inputs == {}
    found = case.run.backward(tape, case.dy, wanted=["inputs"])
    assert found.x is None
    assert {name: one.shape for name, one in found.inputs.items()} == {"mask": (T, B, H), "gain": (T, B, 1)}


def test_equal_cells_share_a_function_which_pickles():
    run = fastrnn.recurrent(peephole)
    assert fastrnn.recurrent(pickle.loads(pickle.dumps(peephole))) is run
    assert pickle.loads(pickle.dumps(run)) is run
    assert repr(run) == "<fastrnn.recurrent(peephole_lstm)>"
    assert run.states == ("h", "c")
    with pytest.raises(AttributeError, match="cell: expected to stay"):
        run.cell = lstm


def test_a_tape_of_another_cell_is_refused():
    tape = make(lstm, T, B, I, H, "float32")
    _, _, tape = tape.run.forward(*tape.arguments[0])
    with pytest.raises(ValueError, match="tape: expected one of peephole_lstm, got one of lstm"):
        fastrnn.recurrent(peephole).backward(tape)


@named("call", [fastrnn.recurrent])
def test_a_function_that_is_no_cell_is_refused(call):
    with pytest.raises(
        TypeError, match=r"^cell: expected a cell, as fastrnn.cell makes it of a function, got function"
    ):
        call(lambda a, s: None)


BAD = {
    "vectors missing": ({"vectors": None}, ValueError, r"^vectors: expected exactly \['p_i', 'p_f', 'p_o'\]; missing"),
    "vectors unknown": ({"vectors": {"p": 0}}, ValueError, r"^vectors: .* unknown \['p'\]"),
    "vectors of a kind": ({"vectors": [1]}, TypeError, "^vectors: expected a mapping"),
    "vector of a shape": ({"p_f": np.zeros(H + 1)}, ValueError, r"^p_f: expected shape \(1\*H,\) = \(6,\)"),
    "vector of a dtype": ({"p_o": np.zeros(H, "f")}, TypeError, "^p_o: expected dtype float64"),
    "inputs unknown": ({"inputs": {"mask": 0}}, ValueError, r"^inputs: expected exactly \[\]; .* unknown \['mask'\]"),
    "options unknown": ({"options": {"leak": 0}}, ValueError, r"^options: .* unknown \['leak'\]"),
    "state of a count": ({"state": (None,)}, ValueError, r"^state: expected a pair \(h, c\), got 1 members"),
}


@named("which", BAD)
def test_bad_input_names_the_argument(which):
    change, error, message = BAD[which]
    case = make(peephole, T, B, I, H, "float64")
    (x, *weights, state), named_arguments = case.arguments
    named_arguments["vectors"] = named_arguments["vectors"] | {n: one for n, one in change.items() if n[:2] == "p_"}
    named_arguments |= {name: one for name, one in change.items() if name in ("vectors", "inputs", "options")}
    with pytest.raises(error, match=message):
        case.run(x, *weights, change.get("state", state), **named_arguments)


BAD_INPUTS = {
    "missing": ({"inputs": {"gain": 0}}, ValueError, r"^inputs: expected exactly .* missing \['mask'\]"),
    "of a shape": ({"mask": np.zeros((T, B, H + 1))}, ValueError, r"^inputs\['mask'\]: expected shape \(T, B, H\)"),
    "of one column": ({"gain": np.zeros((T, B, H))}, ValueError, r"^inputs\['gain'\]: expected shape \(T, B, 1\)"),
    "of a dtype": ({"mask": np.zeros((T, B, H), "f")}, TypeError, r"^inputs\['mask'\]: expected dtype float64"),
    "option of a kind": ({"options": {"leak": "1"}}, TypeError, r"^options\['leak'\]: expected a number, got str"),
    "option NaN": ({"options": {"leak": np.nan}}, ValueError, r"^options\['leak'\]: .* got NaN"),
    "options of a kind": ({"options": [1]}, TypeError, "^options: expected a mapping"),
}


@named("which", BAD_INPUTS)
def test_bad_inputs_of_steps_and_options_are_named(which):
    change, error, message = BAD_INPUTS[which]
    case = make(masked, T, B, I, H, "float64")
    arguments, named_arguments = case.arguments
    change_of_inputs = {name: one for name, one in change.items() if name in ("mask", "gain")}
    named_arguments["inputs"] = named_arguments["inputs"] | change_of_inputs
    named_arguments |= {name: one for name, one in change.items() if name in ("inputs", "options")}
    with pytest.raises(error, match=message):
        case.run(*arguments, **named_arguments)

"""Checkpoints change no bit, and limit the memory of a tape."""

import re

import fastrnn
import numpy as np
import pytest
from core_call import assert_same_bits, same_bits
from fastrnn import config, recompute
from hypothesis import given
from hypothesis import strategies as st
from strategies import members, pair, ragged_stacks


def train(cell, layer, a, truncation=None, **options):
    """All results of forward and backward, by name."""
    y, final, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]), **options)
    g = layer.backward(tape, a["dy"], pair(cell, a["dh"], a["dc"]), truncation=truncation)
    found = {"y": y, "x": g.x} | g.parameters
    found |= dict(zip(("h_n", "c_n"), members(cell, final), strict=False))
    return found | dict(zip(("h0", "c0"), members(cell, g.state), strict=False))


@given(
    drawn=ragged_stacks(), n=st.sampled_from([1, 2, 3, 5, 100]), group_bytes=st.sampled_from([1, 2000, 8 << 20]),
    threads=st.sampled_from([1, 2, 3]), k=st.none() | st.sampled_from([1, 2, 4, (1, 3), (2, 3), (3, 9)]),
)  # fmt: skip
def test_checkpoints_change_no_bit(backend, drawn, n, group_bytes, threads, k):
    cell, layer, a, lengths, resets = drawn
    order = {"lengths": lengths, "resets": resets, "truncation": k}
    expected = train(cell, layer, a, **order)
    fastrnn.set_num_threads(threads)
    before, recompute.GROUP_BYTES = recompute.GROUP_BYTES, group_bytes
    try:
        with config.use_cut("all"):
            assert_same_bits(train(cell, layer, a, **order, checkpoint=n), expected)
    finally:
        recompute.GROUP_BYTES = before


@given(drawn=ragged_stacks(), n=st.sampled_from([1, 3]))
def test_absent_states_and_gradients_are_zeros(backend, drawn, n):
    _, layer, a, lengths, resets = drawn
    order = {"lengths": lengths, "resets": resets}
    results = []
    for options in (order, order | {"checkpoint": n}):
        y, _, tape = layer.forward(a["x"], **options)
        for dy in (None, a["dy"]):
            g = layer.backward(tape, dy)
            results.append({"y": y, "x": g.x} | g.parameters)
    assert_same_bits(results[2], results[0])
    assert_same_bits(results[3], results[1])


@pytest.mark.parametrize("wanted", [("x", "w_hh"), ("x",), ("x", "state", "w_ih"), ("b_hh",)])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradients_do_not_depend_on_which_others_are_wanted(monkeypatch, cell, n, wanted):
    """Groups of one step, so that gradients of states pass from group to group."""
    for name in ("GROUP_BYTES", "DENSE_GROUP_BYTES", "DENSE_GROUP_ROWS"):
        monkeypatch.setattr(recompute, name, 1)
    rng, G, run = np.random.default_rng(0), 4 if cell == "lstm" else 3, getattr(fastrnn, cell)
    x, *weights = (rng.standard_normal(shape) for shape in ((7, 2, 3), (5 * G, 3), (5 * G, 5), 5 * G, 5 * G))
    y, _, tape = run.forward(x, *weights, checkpoint=n)
    found, expected = run.backward(tape, y, wanted=wanted), run.backward(run.forward(x, *weights)[2], y)
    for name in set(wanted) - {"state"}:
        assert_same_bits({name: getattr(found, name)}, {name: getattr(expected, name)})


def test_dropout_and_more_sequences_than_a_part_has(backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 300, 4)).astype(np.float32)
    lengths = rng.integers(0, 8, 300)
    for order in ({}, {"lengths": lengths}):
        results = []
        for n in (None, 1, 2):
            layer = fastrnn.LSTM(4, 5, num_layers=2, dropout=0.3, bidirectional=True, seed=3)
            y, _, tape = layer.forward(x, **order, checkpoint=n)
            g = layer.backward(tape, y)
            results.append({"y": y, "x": g.x} | g.parameters)
        for other in results[1:]:
            assert_same_bits(other, results[0])


def test_a_tape_with_checkpoints_can_be_used_twice_and_keeps_its_weights(backend):
    layer = fastrnn.GRU(3, 4, num_layers=2, seed=0)
    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float32)
    y, _, tape = layer.forward(x, checkpoint=2)
    first = layer.backward(tape, y)
    for array in layer.parameters.values():
        array *= 2
    second = layer.backward(tape, y)
    assert same_bits(first.x, second.x)
    assert_same_bits(second.parameters, first.parameters)


def test_backward_computes_every_step_again_once(monkeypatch):
    rows = []
    compute_again = recompute._compute_again

    def counted(*arguments):
        grid = compute_again(*arguments)
        rows.append(len(grid.x))
        return grid

    monkeypatch.setattr(recompute, "_compute_again", counted)
    monkeypatch.setattr(recompute, "GROUP_BYTES", 1)
    layer = fastrnn.GRU(3, 4, seed=0)
    y, _, tape = layer.forward(np.ones((11, 2, 3), np.float32), checkpoint=4)
    layer.backward(tape, y)
    assert rows == [3 * 2, 4 * 2, 4 * 2]


def test_memory_falls_with_the_distance_of_checkpoints():
    layer = fastrnn.LSTM(4, 16, seed=0)
    x = np.zeros((400, 3, 4), np.float32)
    full, every, some = (layer.forward(x, checkpoint=n)[2].kept_bytes for n in (None, 1, 20))
    states = 2 * 3 * 16 * 4  # h and c before a step
    assert full >= 5 * 400 * states // 2
    assert every == 400 * states // 2
    assert some == 20 * states


@pytest.mark.parametrize(("budget", "n"), [(10**9, None), (400 * 3 * 16 * 4, 1), (1000, 20)])
def test_auto_takes_the_fastest_way_that_fits(budget, n):
    layer = fastrnn.LSTM(4, 16, seed=0)
    x = np.zeros((400, 3, 4), np.float32)
    _, _, tape = layer.forward(x, checkpoint="auto", budget=budget)
    assert (None if tape.checkpoints is None else tape.checkpoints[0].checkpoints.n) == n


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checkpoint": 0}, ValueError, "checkpoint: expected an integer of at least 1, got 0"),
        ({"checkpoint": 1.5}, TypeError, "checkpoint: expected an integer, got float"),
        ({"checkpoint": True}, TypeError, "checkpoint: expected an integer, got True"),
        ({"checkpoint": "some"}, ValueError, "checkpoint: expected None, an integer or 'auto', got 'some'"),
        ({"checkpoint": "auto"}, TypeError, "budget: expected the bytes that checkpoint='auto' may take"),
        ({"checkpoint": "auto", "budget": -1}, ValueError, "budget: expected an integer of at least 0"),
        ({"checkpoint": 2, "budget": 5}, ValueError, "budget: expected None without checkpoint='auto'"),
    ],
)
def test_wrong_arguments_are_refused(options, error, message):
    layer = fastrnn.LSTM(3, 4, seed=0)
    with pytest.raises(error, match=re.escape(message)):
        layer.forward(np.zeros((5, 2, 3), np.float32), **options)


@given(drawn=ragged_stacks(num_layers=1), n=st.sampled_from([1, 2, 4]))
def test_cells_take_checkpoints_as_well(backend, drawn, n):
    cell, layer, a, lengths, resets = drawn
    function = getattr(fastrnn, cell)
    weights = [layer.parameters[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state, dy = pair(cell, a["h0"][0], a["c0"][0]), np.ascontiguousarray(a["dy"][:, :, : layer.hidden_size])
    results = []
    for options in ({}, {"checkpoint": n}):
        y, _, tape = function.forward(a["x"], *weights, state, lengths=lengths, resets=resets, **options)
        g = function.backward(tape, dy, wanted=("x", "w_hh", "state"))
        results.append({"y": y, "x": g.x, "w_hh": g.w_hh, "h0": members(cell, g.state)[0]})
    assert_same_bits(results[1], results[0])

"""Lengths, resets and truncation in layers and cells, compared with their definition: sequences run one by one."""

import itertools

import bounds
import fastrnn
import numpy as np
import numpy_schedules
import pytest
from core_call import CoreCall, assert_same_bits, same_bits
from fastrnn import _core, config
from fastrnn.schedule import Batch, stage_of
from hypothesis import given
from hypothesis import strategies as st
from numpy_schedules import Pieces, Stage, Stages
from strategies import KINDS, members, pair, problems, ragged_stacks, seeds


def train(cell, layer, a, truncation=None, **order):
    """All results of forward and backward, by name."""
    y, final, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]), **order)
    g = layer.backward(tape, a["dy"], pair(cell, a["dh"], a["dc"]), truncation=truncation)
    found = {"y": y, "x": g.x} | g.parameters
    found |= dict(zip(("h_n", "c_n"), members(cell, final), strict=False))
    return found | dict(zip(("h0", "c0"), members(cell, g.state), strict=False))


def one_sequence(a, b, n):
    sequences = {name: a[name][:n, b : b + 1] for name in ("x", "dy")}
    return sequences | {name: np.ascontiguousarray(a[name][:, b : b + 1]) for name in ("h0", "c0", "dh", "dc")}


def assert_close(found, expected, layer, T, B, names):
    wide = max(layer.input_size, 2 * layer.hidden_size)
    limit = 2 * bounds.of_gradients(layer.dtype, wide, layer.hidden_size, max(T, 1), max(B, 1), layer.num_layers)
    for name in names:
        bounds.assert_within(found[name], expected[name], limit, name)


@given(drawn=ragged_stacks(), threads=st.sampled_from([1, 2, 3]))
def test_each_sequence_of_a_ragged_batch_has_the_bits_of_itself_alone(backend, drawn, threads):
    cell, layer, a, lengths, resets = drawn
    T, B = a["x"].shape[:2]
    fastrnn.set_num_threads(threads)
    with config.use_cut("all"):
        found = train(cell, layer, a, lengths=lengths, resets=resets)
        inference = layer(a["x"], pair(cell, a["h0"], a["c0"]), lengths=lengths, resets=resets)
    assert same_bits(inference[0], found["y"])
    fastrnn.set_num_threads(1)
    total = {name: np.zeros(array.shape) for name, array in layer.parameters.items()}
    for b, n in enumerate(lengths if lengths is not None else [T] * B):
        alone = train(cell, layer, one_sequence(a, b, n), resets=None if resets is None else resets[:n, b : b + 1])
        for name in ("y", "x"):
            assert same_bits(found[name][:n, b : b + 1], alone[name]), name
            assert not found[name][n:, b].any(), name
        for name in (k for k in ("h_n", "c_n", "h0", "c0") if k in alone):
            assert same_bits(found[name][:, b : b + 1], alone[name]), name
        for name in total:
            total[name] += alone[name]
    assert_close(found, total, layer, T, B, total)


@given(drawn=ragged_stacks(bidirectional=False), threads=st.sampled_from([1, 2]))
def test_resets_have_the_bits_of_separate_sequences(backend, drawn, threads):
    """The literal definition: each piece between resets runs alone, from the zero state."""
    cell, layer, a, lengths, resets = drawn
    T, B = a["x"].shape[:2]
    resets = np.zeros((T, B), bool) if resets is None else resets
    fastrnn.set_num_threads(threads)
    found = train(cell, layer, a, lengths=lengths, resets=resets)
    zero = np.zeros((layer.num_layers, 1, layer.hidden_size), layer.dtype)
    for b, n in enumerate(lengths if lengths is not None else [T] * B):
        cuts = [0, *(t for t in range(1, n) if resets[t, b]), n]
        for begin, end in itertools.pairwise(cuts):
            piece = one_sequence(a, b, n)
            piece |= {name: piece[name][begin:end] for name in ("x", "dy")}
            if begin > 0 or (n > 0 and resets[0, b]):
                piece |= {"h0": zero, "c0": zero}
            if end < n:
                piece |= {"dh": zero, "dc": zero}
            alone = train(cell, layer, piece)
            for name in ("y", "x"):
                assert same_bits(found[name][begin:end, b : b + 1], alone[name]), name
            if end == n:
                assert same_bits(found["h_n"][:, b : b + 1], alone["h_n"])
            if begin == 0 and n > 0:
                expected = np.zeros_like(alone["h0"]) if resets[0, b] else alone["h0"]
                assert same_bits(found["h0"][:, b : b + 1], expected)


@given(drawn=ragged_stacks(num_layers=1, bidirectional=True), k=st.sampled_from([None, 1, 2, (1, 3), (3, 4)]))
def test_reverse_direction_is_the_forward_one_over_the_turned_sequence(backend, drawn, k):
    """A reset at t lies between t - 1 and t in both directions; windows count from the first step that runs."""
    cell, layer, a, lengths, resets = drawn
    T, B = a["x"].shape[:2]
    H = layer.hidden_size
    found = train(cell, layer, a, k, lengths=lengths, resets=resets)
    one = KINDS[cell](layer.input_size, H, dtype=layer.dtype)
    one.parameters = {name: layer.parameters[f"{name}_reverse"] for name in one.parameters}
    for b, n in enumerate(lengths if lengths is not None else [T] * B):
        turned = one_sequence(a, b, n)
        turned = {name: turned[name][::-1] for name in ("x", "dy")} | {
            name: turned[name][1:] for name in ("h0", "c0", "dh", "dc")
        }
        turned["dy"] = turned["dy"][:, :, H:]
        between = None
        if resets is not None and n > 0:
            between = np.concatenate([[False], resets[1:n, b][::-1]])[:, None]
        alone = train(cell, one, turned, k, resets=between)
        ahead = one_sequence(a, b, n)
        ahead["dy"] = np.concatenate([ahead["dy"][:, :, :H], np.zeros_like(ahead["dy"][:, :, H:])], axis=2)
        ahead |= {name: np.concatenate([ahead[name][:1], 0 * ahead[name][1:]]) for name in ("dh", "dc")}
        resets_of_b = None if resets is None else resets[:n, b : b + 1]
        dx = alone["x"][::-1] + train(cell, layer, ahead, k, resets=resets_of_b)["x"]
        assert_close({"x": found["x"][:n, b : b + 1]}, {"x": dx}, layer, T, B, ["x"])
        assert same_bits(found["y"][:n, b : b + 1, H:], np.ascontiguousarray(alone["y"][::-1]))
        assert same_bits(found["h_n"][1:, b : b + 1], alone["h_n"])
        assert same_bits(found["h0"][1:, b : b + 1], alone["h0"])


def literal_truncation(cell, layer, a, n, b, resets, k1, k2):
    """Gradients of sequence b, window by window, with the state before each window's reach held constant.

    A shorter last window reaches no further back than a whole window in its place.
    """
    one = one_sequence(a, b, n)
    resets = np.zeros((n, 1), bool) if resets is None else resets[:n, b : b + 1]
    start_state = pair(cell, one["h0"], one["c0"])
    total = {name: np.zeros(array.shape) for name, array in layer.parameters.items()}
    total |= {"x": np.zeros(one["x"].shape), "h0": np.zeros(one["h0"].shape), "c0": np.zeros(one["c0"].shape)}
    for a1 in range(0, n, k1):
        end = min(a1 + k1, n)
        begin = max(0, a1 + k1 - k2)
        state = start_state if begin == 0 else layer(one["x"][:begin], start_state, resets=resets[:begin])[1]
        _, _, tape = layer.forward(one["x"][begin:end], state, resets=resets[begin:end])
        dy = one["dy"][begin:end].copy()
        dy[: a1 - begin] = 0
        g = layer.backward(tape, dy, pair(cell, one["dh"], one["dc"]) if end == n else None)
        total["x"][begin:end] += g.x
        for name, gradient in g.parameters.items():
            total[name] += gradient
        if begin == 0:
            for name, member in zip(("h0", "c0"), members(cell, g.state), strict=False):
                total[name] += member
    if n == 0:
        total |= {"h0": one["dh"], "c0": one["dc"]}
    return total


@given(
    drawn=ragged_stacks(bidirectional=False), k1=st.sampled_from([1, 2, 3, 5, 20]),
    more=st.sampled_from([0, 1, 2, 3, 7]), threads=st.sampled_from([1, 2, 3]),
)  # fmt: skip
def test_truncation_is_a_loop_over_windows_with_a_constant_state_before_each(backend, drawn, k1, more, threads):
    cell, layer, a, lengths, resets = drawn
    T, B = a["x"].shape[:2]
    k2 = k1 + more
    fastrnn.set_num_threads(threads)
    with config.use_cut("all"):
        found = train(cell, layer, a, (k1, k2), lengths=lengths, resets=resets)
        if more == 0:
            assert_same_bits(train(cell, layer, a, k1, lengths=lengths, resets=resets), found)
    total = {name: np.zeros(array.shape) for name, array in layer.parameters.items()}
    for b, n in enumerate(lengths if lengths is not None else [T] * B):
        literal = literal_truncation(cell, layer, a, n, b, resets, k1, k2)
        for name in total:
            total[name] += literal[name]
        alone = {"x": found["x"][:n, b : b + 1]} | {k: found[k][:, b : b + 1] for k in ("h0", "c0") if k in found}
        assert_close(alone, literal, layer, T, B, alone)
        assert not found["x"][n:, b].any()
    assert_close(found, total, layer, T, B, total)


def one_region_after_the_other(T, B, k):
    """No truncation: each region of k steps starts from what the one after it hands on."""
    batch, b, begins = numpy_schedules.Batch(T, B), np.arange(B), range(0, T, k)
    stages = []
    for begin in reversed(begins):
        end, last_row, first_row = min(begin + k, T), 2 * B + b * len(begins), np.full(B, begin)
        pieces = Pieces(
            b, first_row, np.full(B, end),
            first=b if begin == 0 else B + batch.rows(b, begin - 1),
            last=b if end == T else last_row + begin // k,
            d_first=B + b if begin == 0 else last_row + begin // k - 1,
        )  # fmt: skip
        stages.append(Stage(batch.parts(pieces), True, b if begin == 0 else b[:0]))
    return Stages(stages, B * len(begins))


@given(p=problems(steps=st.integers(1, 9)), k=st.integers(1, 5), threads=st.sampled_from([1, 2]))
def test_gradients_handed_from_region_to_region_have_the_bits_of_one_backward(backend, p, k, threads):
    call = CoreCall(p, threads)
    guarded = {name: one.array for name, one in call.guarded.items()}
    stages, dtype = one_region_after_the_other(p.T, p.B, k), p.x.dtype
    rows = 2 * p.B + stages.regions
    incoming, outgoing = ([np.full((rows, p.H), np.nan, dtype) for _ in p.d_final] for _ in range(2))
    for matrix, given_rows in zip(incoming * 2 + outgoing * 2, [*p.d_final] * 4, strict=True):
        matrix[: p.B] = given_rows
    found = {name: np.full_like(call.outputs[name], np.nan) for name in call.outputs if name.startswith("d")}
    gradients = [found[name] for name in ("dw_ih", "dw_hh", "db_ih", "db_hh")]
    for number, stage in enumerate(stages.stages):
        for part in stage.parts:
            problem = _core.Problem(p.cell, dtype, config.backend_index(), threads, p.T, p.B, p.I, p.H, part,
                                    _core.CUTS.index("all"), p.B, rows)  # fmt: skip
            _core.backward(
                problem, guarded["packed_backward"], p.x, p.initial, guarded["y"], guarded["reserve"], p.dy, incoming,
                found["dx"], outgoing, gradients, np.empty(problem.scratch_backward, np.uint8), number == 0,
            )  # fmt: skip
        for name, matrix in zip(("dh0", "dc0"), outgoing, strict=False):
            found[name][stage.initial] = matrix[p.B + stage.initial]
        incoming, outgoing = outgoing, incoming
    assert_same_bits(found, call.outputs, found)


@given(drawn=ragged_stacks(), data=st.data())
def test_windows_as_long_as_the_sequence_are_full_backpropagation(backend, drawn, data):
    cell, layer, a, lengths, resets = drawn
    longest = int(max(lengths, default=0)) if lengths is not None else len(a["x"])
    k = max(1, longest) + data.draw(st.integers(0, 2))
    found = train(cell, layer, a, (k, k + 3), lengths=lengths, resets=resets)
    assert_same_bits(found, train(cell, layer, a, lengths=lengths, resets=resets))


@given(drawn=ragged_stacks(), k=st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 4])))
def test_truncated_gradients_do_not_depend_on_the_number_of_threads(backend, drawn, k):
    cell, layer, a, lengths, resets = drawn
    order = {"truncation": (k[0], sum(k)), "lengths": lengths, "resets": resets}
    fastrnn.set_num_threads(1)
    one = train(cell, layer, a, **order)
    with config.use_cut("all"):
        for threads in (2, 4):
            fastrnn.set_num_threads(threads)
            assert_same_bits(train(cell, layer, a, **order), one)


@given(drawn=ragged_stacks(num_layers=1), k=st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([0, 1, 4])))
def test_cells_take_the_same_arguments_as_layers(backend, drawn, k):
    cell, layer, a, lengths, resets = drawn
    found = train(cell, layer, a, (k[0], sum(k)), lengths=lengths, resets=resets)
    function, H = getattr(fastrnn, cell), layer.hidden_size
    for direction, suffix in enumerate(("l0", "l0_reverse")[: 1 + layer.bidirectional]):
        weights = [layer.parameters[f"{name}_{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        order = {"lengths": lengths, "resets": resets, "reverse": direction == 1}
        half = slice(direction * H, (direction + 1) * H)
        y, _, tape = function.forward(a["x"], *weights, pair(cell, a["h0"][direction], a["c0"][direction]), **order)
        d_state = pair(cell, a["dh"][direction], a["dc"][direction])
        g = function.backward(tape, a["dy"][:, :, half], d_state, truncation=(k[0], sum(k)))
        assert same_bits(y, found["y"][:, :, half])
        assert same_bits(g.w_hh, found[f"weight_hh_{suffix}"])
        assert same_bits(members(cell, g.state)[0], found["h0"][direction])


@given(drawn=ragged_stacks(), k=st.none() | st.sampled_from([1, 3]))
def test_batch_first_and_a_missing_batch_axis_only_change_the_layout(backend, drawn, k):
    cell, layer, a, lengths, resets = drawn
    found = train(cell, layer, a, k, lengths=lengths, resets=resets)
    layer.batch_first = True
    swapped = a | {name: np.ascontiguousarray(a[name].swapaxes(0, 1)) for name in ("x", "dy")}
    other = train(cell, layer, swapped, k, lengths=lengths, resets=None if resets is None else resets.T)
    for name in found:
        assert same_bits(other[name].swapaxes(0, 1) if name in ("x", "y") else other[name], found[name]), name
    if lengths is None:
        one = one_sequence(a, 0, None)
        batched = train(cell, layer, one | {n: one[n].swapaxes(0, 1) for n in ("x", "dy")}, k,
                        resets=None if resets is None else resets[:, :1].T)  # fmt: skip
        alone = {name: array[:, 0] for name, array in one.items()}
        unbatched = train(cell, layer, alone, k, resets=None if resets is None else resets[:, 0])
        assert same_bits(unbatched["y"], batched["y"][0])
        assert same_bits(unbatched["x"], batched["x"][0])


@given(
    T=st.integers(0, 12), B=st.integers(0, 5), k1=st.integers(1, 6), more=st.integers(0, 9), reverse=st.booleans(),
    seed=seeds, given_lengths=st.booleans(),
)  # fmt: skip
def test_stages_visit_no_row_twice_and_finish_each_once(T, B, k1, more, reverse, seed, given_lengths):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, T + 1, B) if given_lengths else None
    batch = Batch(T, B, lengths, rng.random((T, B)) < 0.3, reverse)
    finished, initial = np.zeros(T * B, int), np.zeros(B, int)
    window = batch.window((k1, k1 + more))
    schedules = batch.truncated(window)
    for stage in (stage_of(schedules, n) for n in range(schedules.stage_count)):
        visits = np.zeros(T * B, int)
        for part in stage.parts:
            np.add.at(visits, part.row, 1)
        assert visits.max(initial=0) <= 1
        finished += visits * stage.is_whole
        if stage.initial is not None:
            np.add.at(initial, stage.initial, 1)
    t, b = np.divmod(np.arange(T * B), max(B, 1))
    expected = t < (lengths[b] if lengths is not None else T)
    np.testing.assert_array_equal(finished, expected)
    if schedules.d_states:
        segments = numpy_schedules.Batch(T, B, lengths, batch.resets, reverse).segments
        np.testing.assert_array_equal(initial, np.bincount(segments.b[segments.first >= 0], minlength=B))


def test_no_sequences_take_no_time_however_many_steps(backend):
    layer = fastrnn.GRU(2, 3, seed=0)
    y, state, tape = layer.forward(np.zeros((2**40, 0, 2), np.float32))
    assert y.shape == (2**40, 0, 3)
    assert layer.backward(tape, y, state).x.shape == (2**40, 0, 2)


def test_a_tape_belongs_to_the_backend_that_made_it(backend, other_backend):
    layer, x = fastrnn.LSTM(3, 17, seed=0), np.ones((6, 2, 3), np.float32)
    for options in ({}, {"checkpoint": 2}):
        with config.use_backend(other_backend):
            y, _, tape = layer.forward(x, lengths=[6, 3], **options)
            expected = layer.backward(tape, y)
        assert same_bits(layer.backward(tape, y).x, expected.x)


def test_padding_costs_no_step():
    lengths = np.array([3, 0, 7, 1])
    parts = stage_of(Batch(7, 4, lengths).schedules, 0).parts
    assert sum(part.active.sum() for part in parts) == lengths.sum()


@pytest.mark.parametrize("lengths", [None, [3, 5, 0, 5]])
def test_resets_of_first_steps_zero_the_state_of_the_forward_direction_alone(backend, lengths):
    layer = fastrnn.GRU(3, 4, bidirectional=True, seed=0)
    rng = np.random.default_rng(0)
    x, h0 = rng.standard_normal((5, 4, 3)).astype(np.float32), rng.standard_normal((2, 4, 4)).astype(np.float32)
    resets = np.zeros((5, 4), bool)
    resets[0, [0, 1]] = True
    y, h_n = layer(x, h0, lengths=lengths, resets=resets)
    h0[0, [0, 1]] = 0
    expected_y, expected_h_n = layer(x, h0, lengths=lengths)
    assert same_bits(y, expected_y)
    assert same_bits(h_n, expected_h_n)


@given(
    cell=st.sampled_from(sorted(KINDS)), T=st.sampled_from([1, 3]), B=st.sampled_from([1, 5, 300]), seed=seeds,
    bidirectional=st.booleans(), k=st.none() | st.just(1), share=st.sampled_from([0, 0.5, 1]), has_state=st.booleans(),
)  # fmt: skip
def test_resets_of_first_steps_have_the_bits_of_a_schedule(
    backend, cell, T, B, seed, bidirectional, k, share, has_state
):
    """All lengths T are no lengths, but lead past the look at resets that spares a call its schedule."""
    rng = np.random.default_rng(seed)
    layer = KINDS[cell](3, 5, num_layers=2, bidirectional=bidirectional, seed=0)
    shapes = {"x": (T, B, 3), "dy": (T, B, 5 * (1 + bidirectional))}
    shapes |= dict.fromkeys(("h0", "c0", "dh", "dc"), (2 * (1 + bidirectional), B, 5))
    a = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if not has_state:
        a["h0"], a["c0"] = np.zeros_like(a["h0"]), np.zeros_like(a["c0"])
    resets = np.zeros((T, B), bool)
    resets[0] = rng.random(B) < share
    found = train(cell, layer, a, k, resets=resets)
    assert_same_bits(found, train(cell, layer, a, k, resets=resets, lengths=[T] * B))
    function = getattr(fastrnn, cell)
    weights = [layer.parameters[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    state = pair(cell, a["h0"][0], a["c0"][0]) if has_state else None
    both = [
        function(a["x"], *weights, state, resets=resets, reverse=True, **order) for order in ({}, {"lengths": [T] * B})
    ]
    assert same_bits(both[0][0], both[1][0])


def test_lengths_of_the_user_may_change_after_forward(backend):
    layer = fastrnn.GRU(3, 4, seed=0)
    x, lengths, resets = np.ones((5, 2, 3), np.float32), np.array([5, 2]), np.zeros((5, 2), bool)
    resets[3, 0] = True
    y, _, tape = layer.forward(x, lengths=lengths, resets=resets)
    before = layer.backward(tape, y, truncation=2)
    lengths[:], resets[:] = 1, True
    after = layer.backward(tape, y, truncation=2)
    assert same_bits(before.x, after.x)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_full_length_batch_takes_the_dense_path(kind):
    layer = KINDS[kind](3, 4, seed=0)
    _, _, tape = layer.forward(np.ones((5, 2, 3), np.float32), lengths=[5, 5], resets=np.zeros((5, 2), bool))
    assert tape.plan.is_dense


def test_more_pieces_than_one_part_holds_are_truncated_as_a_loop_does(backend):
    """Windows of one step: several calls of the core, of which the first alone may overwrite the gradients."""
    T, B = 2 * numpy_schedules.PIECES_MAX + 3, 1
    layer = fastrnn.LSTM(3, 5, seed=0, dtype=np.float64)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((T, B, 3)), rng.standard_normal((T, B, 5))
    _, _, tape = layer.forward(x)
    found = layer.backward(tape, dy, truncation=1)
    total, state = None, None
    for t in range(T):
        _, state, one = layer.forward(x[t : t + 1], state)
        gradients = layer.backward(one, dy[t : t + 1]).parameters
        total = gradients if total is None else {name: total[name] + g for name, g in gradients.items()}
    for name, gradient in total.items():
        np.testing.assert_allclose(found.parameters[name], gradient, rtol=1e-9, atol=1e-12)

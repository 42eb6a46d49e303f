"""The core's loops over explicit schedules: they visit exactly the rows of the schedule and touch nothing else."""

import fastrnn
import numpy as np
import pytest
from core_call import CoreCall, assert_same_bits, same_bits
from fastrnn import _core, config
from fastrnn.schedule import Batch, PackedBatch, stage_of
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import make, problems


def arrays(*lists):
    return tuple(np.array(values, np.int64) for values in lists)


def stages(schedules):
    return [stage_of(schedules, n) for n in range(schedules.stage_count)]


def dense(T, B):
    return arrays([B] * T, range(T * B), range(B), range(B))


def ragged(lengths, B):
    """Sequences longest first; ties keep the order of the batch."""
    order = sorted((b for b in range(B) if lengths[b]), key=lambda b: -lengths[b])
    active = [sum(lengths[b] > t for b in order) for t in range(max(lengths, default=0))]
    rows = [t * B + b for t, n in enumerate(active) for b in order[:n]]
    return arrays(active, rows, order, order)


@given(p=problems(), threads=st.sampled_from([1, 3]))
def test_explicit_dense_schedule_has_the_bits_of_the_implicit_one(backend, p, threads):
    assert_same_bits(CoreCall(p, threads, dense(p.T, p.B)).outputs, CoreCall(p).outputs)


@given(p=problems())
def test_reversed_schedule_has_the_bits_of_reversed_arrays(backend, p):
    active, rows, first, last = dense(p.T, p.B)
    backwards = (active, np.ascontiguousarray(rows.reshape(p.T, p.B)[::-1].reshape(-1)), first, last)
    found = CoreCall(p, schedule=backwards).outputs
    p.arrays["x"], p.arrays["dy"] = p.x[::-1].copy(), p.dy[::-1].copy()
    expected = CoreCall(p).outputs
    for name in expected:
        assert same_bits(found[name][::-1] if name in ("y", "dx") else found[name], expected[name]), name


@given(p=problems(steps=st.sampled_from([3, 7])), data=st.data(), threads=st.sampled_from([1, 2, 4]))
def test_ragged_sequences_have_the_bits_of_each_alone_and_padding_is_left_alone(backend, p, data, threads):
    lengths = data.draw(st.lists(st.integers(0, p.T), min_size=p.B, max_size=p.B))
    found = CoreCall(p, threads, ragged(lengths, p.B)).outputs
    untouched = np.full(1, -1, np.int64).view(p.x.dtype)[0]
    for b, n in enumerate(lengths):
        for name in ("y", "dx"):
            padding = np.ascontiguousarray(found[name][n:, b])
            assert same_bits(padding, np.full_like(padding, untouched)), name
        if n == 0:
            continue
        one = make(p.cell, n, 1, p.I, p.H, p.x.dtype, 0)
        for name in ("w_ih", "w_hh", "b_ih", "b_hh"):
            one.arrays[name] = p.arrays[name]
        for name in ("x", "dy"):
            one.arrays[name] = np.ascontiguousarray(p.arrays[name][:n, b : b + 1])
        for name in ("h0", "c0", "dh_n", "dc_n"):
            one.arrays[name] = p.arrays[name][b : b + 1]
        alone = CoreCall(one).outputs
        for name in (k for k in ("y", "dx", "h_n", "c_n", "dh0", "dc0") if k in alone):
            of_b = found[name][:n, b : b + 1] if name in ("y", "dx") else found[name][b : b + 1]
            assert same_bits(alone[name], of_b), name


@given(p=problems(), threads=st.sampled_from([1, 2]))
def test_a_sequence_without_first_or_last_row_starts_from_zero_and_ends_nowhere(backend, p, threads):
    active, rows, first, last = dense(p.T, p.B)
    found = CoreCall(p, threads, (active, rows, np.full_like(first, -1), np.full_like(last, -1))).outputs
    for name in ("h0", "c0", "dh_n", "dc_n"):
        p.arrays[name] = np.zeros_like(p.arrays[name])
    expected = CoreCall(p).outputs
    assert_same_bits(found, expected, ("y", "dx", "dw_ih", "dw_hh", "db_ih", "db_hh"))
    for name in ("h_n", "dh0"):
        assert same_bits(found[name], np.full(found[name].size * found[name].itemsize, 0xFF, np.uint8)
                         .view(found[name].dtype).reshape(found[name].shape))  # fmt: skip


@pytest.mark.parametrize(
    "schedule",
    [
        ([1, 2], [0, 1, 2], [0], [0]),  # grows
        ([2, 1], [0, 1, 6], [0, 1], [0, 1]),  # row beyond T*B
        ([2, 1], [0, -1, 2], [0, 1], [0, 1]),
        ([2, 1], [0, 1, 2], [0, 8], [0, 1]),  # first beyond B and the rows of y
        ([2, 1], [0, 1, 2], [0, 1], [0, 1], [0, -2]),  # d_first
        ([2, 1], [0, 1, 2], [0, 1], [0, 1], [0, 2]),
        ([2, 1], [0, 1, 2], [0, 1], [0, 1], [0]),
        ([2, 1], [0, 1, 2], [0, 1], [-2, 1]),
        ([2, 1], [0, 1], [0, 1], [0, 1]),  # too few rows
        ([2, 1], [0, 1, 2], [0], [0, 1]),
        ([7], [0] * 7, [0] * 7, [0] * 7),  # more rows than the grid has
        ([-1], [], [], []),
    ],
)
def test_malformed_schedules_are_refused(backend, schedule):
    with pytest.raises(ValueError, match="schedule"):
        _core.Problem("lstm", "float32", config.backend_index(), 1, 3, 2, 4, 4, arrays(*schedule))


def test_forward_starts_from_no_row_of_y(backend):
    p = make("lstm", 3, 2, 4, 4, "float32", 0)
    with pytest.raises(ValueError, match="schedule"):
        CoreCall(p, schedule=arrays([2, 1], [0, 1, 2], [0, 2], [0, 1]))


@pytest.mark.parametrize(
    ("T", "B", "H"), [(20, 600, 24), (100, 64, 40), (200, 13, 70)], ids=["many sequences", "many chunks", "long"]
)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_groups_of_a_ragged_batch_keep_to_their_own_rows(backend, cell, T, B, H):
    """More rows than a chunk, and active sequences that change within it; one thread, the reference, has no races."""
    p = make(cell, T, B, 5, H, "float32", 1)
    schedule = ragged(np.random.default_rng(0).integers(1, T + 1, B).tolist(), B)
    one = CoreCall(p, 1, schedule).outputs
    for threads in (2, 3, 4):
        for _ in range(2):
            assert_same_bits(CoreCall(p, threads, schedule).outputs, one)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_the_core_refuses_buffers_that_are_not_of_one_axis(shape):
    a = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match=r"schedule\.active"):
        _core.Problem("lstm", "float32", config.backend_index(), 1, 1, 1, 1, 1, (np.ones(shape, np.int64), a, a, a))
    p = make("lstm", 1, 1, 1, 1, "float32", 0)
    problem = _core.Problem("lstm", "float32", config.backend_index(), 1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="packed"):
        _core.pack_forward(problem, p.weights, np.zeros(shape, np.uint8))
    if shape == ():
        with pytest.raises(ValueError, match="array"):
            _core.activate(config.backend_index(), "tanh", np.array(1, np.float32))


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    reverse=st.booleans(),
    reset=st.floats(0, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
def test_packed_rows_are_visited_in_the_order_of_the_padded_ones(lengths, reverse, reset, seed):
    lengths = np.array(sorted(lengths, reverse=True))
    T, B = int(lengths[0]), len(lengths)
    valid = np.arange(T)[:, None] < lengths
    resets = np.random.default_rng(seed).random((T, B)) < reset
    resets = resets if resets.any() else None
    packed = PackedBatch.of_sizes(valid.sum(1), resets, reverse)
    padded = Batch(T, B, lengths, resets, reverse)
    row_of = np.cumsum(valid).reshape(T, B) - 1
    assert np.array_equal(packed.lengths, lengths)

    def assert_same(found, expected):
        for a, b in zip(found, expected, strict=True):
            assert np.array_equal(a.active, b.active)
            assert np.array_equal(a.row, row_of.ravel()[b.row])
            from_row = b.first >= B
            assert np.array_equal(a.first[~from_row], b.first[~from_row])
            assert np.array_equal(a.first[from_row] - B, row_of.ravel()[b.first[from_row] - B])
            assert np.array_equal(a.last, b.last)
            assert np.array_equal(a.d_first, b.d_first)

    for truncation in (None, (2, 2), (2, 3), (2, 4)):
        for found, expected in zip(*(stages(batch.truncated(truncation)) for batch in (packed, padded)), strict=True):
            assert_same(found.parts, expected.parts)
            assert found.is_whole == expected.is_whole
            assert np.array_equal(found.initial, expected.initial)


@given(
    T=st.integers(2, 30), B=st.integers(1, 4), k=st.tuples(st.integers(1, 9), st.integers(0, 9)), reverse=st.booleans()
)
def test_stages_of_a_dense_batch_are_those_of_equal_lengths(T, B, k, reverse):
    truncation = k[0], k[0] + k[1]
    assume(truncation[1] < T)
    expected = Batch(T, B, np.full(B, T)).truncated(truncation)
    found = Batch(T, B, reverse=reverse).truncated(truncation)
    assert found.d_states == expected.d_states
    np.testing.assert_equal(stages(found), stages(expected))


@pytest.mark.parametrize("truncation", [(2, 2), (2, 3)])
def test_schedules_of_small_dense_batches_alone_are_kept_and_all_are_read_only(truncation, monkeypatch):
    built, truncated = [], Batch.truncated
    monkeypatch.setattr(Batch, "truncated", lambda self, window: built.append(truncated(self, window)) or built[-1])
    layer = fastrnn.RNN(1, 1, num_layers=2, bidirectional=True, seed=0)
    for B, times in ((3, 1), (20_000, 4)):
        _, _, tape = layer.forward(np.ones((8, B, 1), np.float32))
        built.clear()
        for _ in range(2):
            layer.backward(tape, truncation=truncation)
        assert len(built) == times
    for array in (array for stage in stages(built[0]) for part in stage.parts for array in part):
        assert array is None or not array.flags.writeable

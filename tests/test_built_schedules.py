"""The schedules that C builds are those of NumPy, row by row, and lie in the memory that was asked for."""

import numpy as np
import numpy_schedules as reference
import pytest
from core_call import GUARD, PATTERN
from fastrnn import _core
from fastrnn.schedule import Batch, PackedBatch, stage_of
from hypothesis import given
from hypothesis import strategies as st

truncations = st.none() | st.tuples(st.integers(1, 6), st.integers(0, 9)).map(lambda k: (k[0], sum(k)))


@st.composite
def batches(draw):
    """(class, T, B, lengths, resets, reverse)"""
    T, B = draw(st.integers(0, 12)), draw(st.sampled_from([0, 1, 2, 3, 5, 90, 300]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    resets = rng.random((T, B)) < draw(st.sampled_from([0.02, 0.3, 1]))
    resets = draw(st.sampled_from([None, resets, np.asfortranarray(resets), np.repeat(resets, 2, 1)[:, ::2]]))
    least = draw(st.sampled_from([0, max(0, T - 1)]))
    lengths = draw(st.sampled_from([None, rng.integers(least, T + 1, B)]))
    if B and T and draw(st.booleans()):
        lengths = np.sort(np.append(rng.integers(1, T + 1, B - 1), T))[::-1].copy()
        return PackedBatch, T, B, lengths, resets, draw(st.booleans())
    return Batch, T, B, lengths, resets, draw(st.booleans())


def arguments(batch, truncation):
    reverse = batch.reverse and not batch.flipped
    return batch.T, batch.B, batch.lengths, batch.resets, reverse, batch.is_packed, truncation


class Room:
    """Memory between guards."""

    def __call__(self, size):
        self.block = np.full(size + 2 * GUARD, PATTERN, np.uint8)
        return self.block[GUARD : GUARD + size]

    def intact(self):
        return bool((self.block[:GUARD] == PATTERN).all() and (self.block[-GUARD:] == PATTERN).all())


@given(drawn=batches(), truncation=truncations)
def test_schedules_are_those_of_numpy_and_fit_their_memory(drawn, truncation):
    kind, *facts = drawn
    batch = kind(*facts)
    expected = reference.stages_of(getattr(reference, kind.__name__)(*facts), truncation)
    room = Room()
    found = _core.Schedules(*arguments(batch, truncation), room)
    assert room.intact()
    assert found.grid == batch.grid
    assert found.stage_count == len(expected.stages)
    assert found.d_states == (2 * batch.B + expected.regions if expected.regions else 0)
    largest = np.zeros(3, int)
    for n, stage in enumerate(expected.stages):
        np.testing.assert_equal(tuple(stage_of(found, n)), tuple(stage))
        for part in stage.parts:
            largest = np.maximum(largest, (len(part.active), part.active[0], len(part.row)))
    assert found.most == tuple(largest)
    has = batch.lengths is not None, batch.resets is not None
    most_bytes, most = _core.schedule_bound(batch.T, batch.B, *has, batch.is_packed, truncation)
    assert found.bytes <= most_bytes
    assert all(a <= b for a, b in zip(found.most, most, strict=True))


@given(drawn=batches(), truncation=truncations, share=st.floats(0, 1))
def test_too_little_memory_is_refused_and_not_exceeded(drawn, truncation, share):
    kind, *facts = drawn
    room = Room()
    try:
        _core.Schedules(*arguments(kind(*facts), truncation), lambda size: room(int(size * share)))
    except ValueError as error:
        assert "memory: fewer bytes than the schedules need" in str(error)  # noqa: PT017
    assert room.intact()


def test_memory_may_have_any_address():
    batch = Batch(7, 3, np.array([7, 0, 4]), np.ones((7, 3), bool))
    expected = stage_of(batch.schedules, 0)
    for offset in range(9):
        found = _core.Schedules(*arguments(batch, None), lambda size: np.empty(size + 9, np.uint8)[offset:][:size])  # noqa: B023
        np.testing.assert_equal(tuple(stage_of(found, 0)), tuple(expected))


@pytest.mark.parametrize(
    ("T", "B", "lengths", "packed", "truncation"),
    [
        (3, 2, [3, 4], False, None),
        (3, 2, [-1, 3], False, None),
        (3, 2, [2, 2], True, None),  # no sequence has T steps
        (3, 2, [3, 0], True, None),
        (3, 3, [3, 1, 2], True, None),  # not the longest first
        (3, 2, None, False, (0, 1)),
        (3, 2, None, False, (1, 0)),
        (3, 2, None, False, (-1, -1)),
        (3, 2, None, False, (3, 2)),
        (-1, 2, None, False, None),
    ],
)
def test_malformed_batches_are_refused(T, B, lengths, packed, truncation):
    with pytest.raises(ValueError, match=r"batch: expected lengths|expected sizes of at least 0"):
        _core.Schedules(T, B, None if lengths is None else np.array(lengths), None, False, packed, truncation)
    if lengths is None:
        with pytest.raises(ValueError, match=r"batch: expected lengths|expected sizes of at least 0"):
            _core.schedule_bound(T, B, False, False, packed, truncation)


@pytest.mark.parametrize("sizes", [(2**40, 2**40), (2**62, 3), (2**60, 2)])
def test_sizes_that_overflow_are_refused(sizes):
    with pytest.raises(OverflowError):
        _core.schedule_bound(*sizes, True, True, False, (1, 2**61))


@pytest.mark.parametrize(
    ("lengths", "resets"),
    [
        (np.array([3.0, 3.0]), None),
        (np.array([3, 3, 3]), None),
        (np.array([3, 3], np.int32), None),
        ([3, 3], None),
        (None, np.zeros((2, 3), bool)),
        (None, np.zeros((3, 2), np.uint8)),
        (None, [[False]]),
    ],
)
def test_arrays_of_another_kind_are_refused(lengths, resets):
    with pytest.raises((ValueError, TypeError), match=r"lengths|resets"):
        _core.Schedules(3, 2, lengths, resets)


def test_resets_between_every_two_steps_of_many_sequences_keep_the_bound():
    T, B = 40, 70
    batch = Batch(T, B, None, np.ones((T, B), bool))
    for truncation in (None, (3, 3), (2, 7), (2, 8), (1, 30)):
        room = Room()
        found = _core.Schedules(*arguments(batch, truncation), room)
        assert room.intact()
        assert found.bytes <= _core.schedule_bound(T, B, False, True, False, truncation)[0]

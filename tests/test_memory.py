"""Reused memory: no two live arrays share memory, and the pool keeps little."""

import gc
import os
import threading

import numpy as np
import pytest
from fastrnn import memory
from hypothesis import given
from hypothesis import strategies as st

LARGE = memory.POOLED_BYTES_MIN
BYTES = memory.BYTES


@pytest.fixture
def pool(monkeypatch):
    fresh = memory._Pool()
    monkeypatch.setattr(memory, "_pool", fresh)
    return fresh


def address(array):
    return array.__array_interface__["data"][0]


@given(st.lists(st.tuples(st.integers(0, 3 * LARGE), st.booleans()), max_size=40))
def test_live_arrays_share_no_memory(requests):
    alive = []
    for number, (size, drop) in enumerate(requests):
        array = memory.empty((size,), BYTES)
        array.fill(number % 251)
        alive.append((number % 251, array[size // 3 :]))  # a view keeps the memory alive, as the array does
        if drop:
            del alive[len(alive) // 2]
    for value, array in alive:
        assert (array == value).all()


def test_memory_of_an_array_that_died_serves_the_next(pool):
    array = memory.empty((2 * LARGE,), BYTES)
    before = address(array)
    del array
    assert pool.kept >= 2 * LARGE
    again = memory.empty((2 * LARGE - 100,), BYTES)
    assert pool.kept == 0
    assert address(again) == before


def test_a_much_smaller_array_leaves_the_memory_for_others(pool):
    array = memory.empty((2 * LARGE,), BYTES)
    before = address(array)
    del array
    small = memory.empty((LARGE,), BYTES)
    assert address(small) != before
    assert pool.kept >= 2 * LARGE


@pytest.mark.parametrize(
    "keep", [lambda a: a[1:], lambda a: a.reshape(2, -1).T, memoryview, lambda a: a.view(np.float64)]
)
def test_a_view_keeps_the_memory(pool, keep):
    array = memory.zeros((LARGE,), BYTES)
    kept = keep(array)
    del array
    other = memory.empty((LARGE,), BYTES)
    other.fill(7)
    assert not np.asarray(kept).any()


def test_large_arrays_are_aligned_and_have_the_shape_asked_for(pool):
    array = memory.empty((3, LARGE // 8, 2), np.dtype(np.float64))
    assert address(array) % memory.LINE_BYTES == 0
    assert array.shape == (3, LARGE // 8, 2)
    assert array.dtype == np.float64
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_zeros_are_zero_in_used_memory(pool):
    memory.empty((LARGE,), BYTES).fill(1)
    assert not memory.zeros((LARGE,), BYTES).any()


@given(st.lists(st.integers(LARGE, 6 * LARGE), min_size=1, max_size=30))
def test_at_most_twice_of_what_was_in_use_is_kept(sizes):
    pool = memory._Pool()
    most = 0
    for size in sizes:
        first, second = pool.take(size), pool.take(2 * size)
        most = max(most, len(first) + len(second))
        pool.give(first)
        pool.give(second)
        assert pool.kept == sum(map(len, pool.free)) <= 2 * most
    assert pool.in_use == 0


def test_no_more_is_kept_than_the_limit(pool, monkeypatch):
    monkeypatch.setattr(memory, "KEPT_BYTES_MAX", 3 * LARGE)
    arrays = [memory.empty((LARGE,), BYTES) for _ in range(5)]
    del arrays
    gc.collect()
    memory.empty((LARGE,), BYTES)
    assert pool.kept <= 3 * LARGE


def test_what_is_kept_goes_back_when_there_is_no_more(pool, monkeypatch):
    del_me = memory.empty((LARGE,), BYTES)
    del del_me
    failures = iter([MemoryError])
    fresh = memory._fresh

    def failing(size):
        for failure in failures:
            raise failure
        return fresh(size)

    monkeypatch.setattr(memory, "_fresh", failing)
    array = memory.empty((3 * LARGE,), BYTES)
    assert array.size == 3 * LARGE
    assert pool.kept == 0


def test_there_is_memory_when_there_are_no_more_mappings(pool, monkeypatch):
    def refused(*_, **__):
        raise OSError

    monkeypatch.setattr(memory.mmap, "mmap", refused)
    array = memory.zeros((LARGE,), BYTES)
    others = [memory.empty((LARGE + 8 * more,), BYTES) for more in range(20)]
    assert not any(address(one) % memory.LINE_BYTES for one in (array, *others))
    view = array[1:]
    del array
    memory.empty((LARGE,), BYTES).fill(7)
    assert not view.any()


def test_more_than_the_machine_has_is_a_memory_error(pool):
    with pytest.raises(MemoryError):
        memory.empty((1 << 60,), BYTES)
    assert pool.in_use == 0


def test_a_collection_inside_take_does_not_wait_for_itself(pool):
    with pool.lock:
        pool.give(memory._fresh(LARGE))
    assert len(pool.take(LARGE)) == LARGE
    assert pool.kept == 0


def test_threads_share_the_pool(pool):
    wrong = []

    def work(value):
        for _ in range(300):
            array = memory.empty((LARGE + 8 * value,), BYTES)
            array.fill(value)
            if not (array == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_does_not_wait_for_a_lock_of_the_parent(pool):
    os.register_at_fork(after_in_child=pool.reset)
    with pool.lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if memory.empty((LARGE,), BYTES).size == LARGE else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_what_a_child_writes_is_its_own(pool):
    array = memory.zeros((LARGE,), BYTES)
    child = os.fork()
    if child == 0:
        array.fill(1)
        os._exit(0)
    os.waitpid(child, 0)
    assert not array.any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_keeps_memory_whatever_its_parent_held():
    with memory._pool.lock:
        child = os.fork()
        if child == 0:
            memory.empty((LARGE,), BYTES)  # freed at once
            os._exit(0 if memory._pool.kept >= LARGE and not memory._pool.returned else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

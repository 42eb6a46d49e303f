"""Python threads: the GIL is free during a call, and concurrent calls give the same results as calls in turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from fastrnn import _core

CALLERS = 4
# (T, B, I, H): one sequence split over units, a batch split over rows, a call for one thread.
SIZES = [(20, 1, 16, 160), (6, 32, 24, 64), (3, 2, 5, 7)]


def train(layer, x, dy):
    y, state, tape = layer.forward(x)
    gradients = layer.backward(tape, dy)
    return [y, *(state if isinstance(state, tuple) else [state]), gradients.x, *gradients.parameters.values()]


def problems(layers):
    rng = np.random.default_rng(0)
    for make in layers:
        for T, B, I, H in SIZES:
            layer = make(I, H, seed=1)
            yield layer, *(rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_from_several_python_threads_have_the_bits_of_calls_in_turn(backend, threads):
    """Every caller uses every layer in a different order, so one layer serves several callers at once."""
    fastrnn.set_num_threads(threads)
    work = list(problems([fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN]))
    expected = [train(*problem) for problem in work]
    barrier = threading.Barrier(CALLERS)

    def caller(number):
        barrier.wait()
        order = np.random.default_rng(number).permutation(len(work))
        return [(j, train(*work[j])) for _ in range(3) for j in order]

    with ThreadPoolExecutor(CALLERS) as pool:
        for results in pool.map(caller, range(CALLERS)):
            for j, result in results:
                for found, wanted in zip(result, expected[j], strict=True):
                    assert same_bits(found, wanted)


@pytest.mark.parametrize("make", [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN])
@pytest.mark.parametrize(("T", "B", "I", "H"), [(7, 5, 40, 96), (1, 1, 700, 160), (30, 2, 64, 70), (9, 13, 16, 48)])
def test_short_calls_have_the_same_bits_whatever_way_they_try(backend, make, T, B, I, H):
    """The first twenty calls of a kind run every variant: one thread, or threads that split rows or units."""
    layer, rng = make(I, H, seed=1), np.random.default_rng(0)
    x, dy = (rng.standard_normal((T, B, n)).astype(np.float32) for n in (I, H))
    fastrnn.set_num_threads(1)
    expected = train(layer, x, dy)
    fastrnn.set_num_threads(3)
    for _ in range(25):
        for found, wanted in zip(train(layer, x, dy), expected, strict=True):
            assert same_bits(found, wanted)


def test_other_python_threads_run_during_a_call():
    layer, x = fastrnn.LSTM(64, 256, seed=0), np.zeros((2000, 4, 64), np.float32)
    fastrnn.set_num_threads(1)
    layer(x)
    done = threading.Event()
    times = {}

    def call():
        times["begin"] = time.perf_counter()
        layer(x)
        times["end"] = time.perf_counter()
        done.set()

    thread = threading.Thread(target=call)
    ticks = []
    thread.start()
    while not done.is_set():
        ticks.append(time.perf_counter())
        time.sleep(0.001)
    thread.join()
    inside = [t for t in ticks if times["begin"] < t < times["end"]]
    # With the GIL held, there would be ticks only at the ends of the call.
    duration = times["end"] - times["begin"]
    middle = [t for t in inside if 0.2 * duration < t - times["begin"] < 0.8 * duration]
    assert middle, f"no Python ran in the middle of a call of {duration:.3f} s"


def test_each_python_thread_has_scratch_of_its_own():
    from fastrnn import _kernel

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(lambda: _kernel._scratch.at_least(100)).result()
    assert not np.shares_memory(other, _kernel._scratch.at_least(100))


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("at", [None, 0, 1, 524_288, 1_048_575, 1_048_576, 2_097_150])
def test_bytes_are_all_compared_whatever_the_threads(threads, at):
    array = np.arange(2_097_151, dtype=np.uint32).astype(np.uint8)
    copy = array.copy()
    if at is not None:
        copy[at] ^= 1
    assert _core.same_bytes([array[:5], array], [array[:5], copy], threads) is (at is None)

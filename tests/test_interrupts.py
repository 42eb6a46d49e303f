"""Ctrl-C and other signals during long calls: handlers run during the call, and a handler that raises ends it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import fastrnn
import numpy as np
import pytest
from core_call import same_bits

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
# Seconds of a call without interruption; and the longest wait for a handler: two polls of the clock, a quarter of a
# second apart, or half a call if the machine is slow.
LONG_S, SOON_S = 2.4, 1.5


class StoppedError(Exception):
    """The error that the handler raises."""


@pytest.fixture
def alarm():
    """alarm(handler, seconds): run a handler once, after `seconds`."""

    def start(handler, seconds=0.05):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.getsignal(signal.SIGALRM)
    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def stop(*_):
    raise StoppedError


def seconds(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def ones(steps, B, layer):
    """An input that shares one number, so it takes no memory."""
    return np.broadcast_to(np.linspace(-1, 1, layer.input_size, dtype=np.float32), (steps, B, layer.input_size))


def long_x(layer, B):
    """The number of steps that this machine computes in LONG_S, and the time of such a call."""
    x, taken = ones(100, B, layer), 0.0
    while taken < 0.1:
        x = ones(2 * len(x), B, layer)
        taken = seconds(partial(layer, x))
    x = ones(int(len(x) * LONG_S / taken), B, layer)
    return x, seconds(partial(layer, x))


def assert_is_ended_soon(alarm, call, whole):
    """`whole` is the time in seconds of a call without interruption."""
    begin = time.perf_counter()
    alarm(stop)
    with pytest.raises(StoppedError):
        call()
    assert time.perf_counter() - begin < max(SOON_S, whole / 2)


# One sequence: its members meet at every step. Few and many sequences: groups split them.
@pytest.mark.parametrize("B", [1, 4, 40])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_handler_that_raises_ends_a_long_call_and_the_layer_is_as_before(alarm, threads, B):
    fastrnn.set_num_threads(threads)
    layer = fastrnn.LSTM(64, 512, seed=0)  # more work per byte of y than in a small layer
    x, whole = long_x(layer, B)
    expected = layer(x[:20])[0]
    lengths = np.full(B, len(x))
    lengths[0] -= 1
    assert_is_ended_soon(alarm, lambda: layer(x), whole)
    assert_is_ended_soon(alarm, lambda: layer(x, lengths=lengths), whole)
    y, _, tape = layer.forward(x[: len(x) // 2])
    assert_is_ended_soon(alarm, lambda: layer.backward(tape, y), whole)
    layer.freeze()
    assert_is_ended_soon(alarm, lambda: layer(x), whole)
    assert same_bits(layer(x[:20])[0], expected)


def test_a_tape_whose_backward_was_ended_can_be_used_again(alarm):
    layer = fastrnn.GRU(64, 256, seed=0)
    x, _ = long_x(layer, 20)
    y, _, tape = layer.forward(x[: len(x) // 2])
    expected = layer.backward(tape, y)
    assert_is_ended_soon(alarm, lambda: layer.backward(tape, y), seconds(lambda: layer.backward(tape, y)))
    found = layer.backward(tape, y)
    assert same_bits(found.x, expected.x)
    for name, gradient in expected.parameters.items():
        assert same_bits(found.parameters[name], gradient)


def test_a_handler_that_returns_changes_no_bit_of_the_call_though_it_makes_calls_itself(alarm):
    layer = fastrnn.LSTM(64, 512, seed=0)
    x, _ = long_x(layer, 20)
    expected, small = layer(x)[0], layer(x[:100])[0]
    seen = []
    alarm(lambda *_: seen.append((time.perf_counter(), layer(x[:100])[0])))
    found = layer(x)[0]
    end = time.perf_counter()
    ((at, of_handler),) = seen
    assert at < end - 0.1, "the handler ran only after the call"
    assert same_bits(of_handler, small)
    assert same_bits(found, expected)


def test_a_handler_may_make_a_call_wherever_it_breaks_in(alarm):
    """Large arrays come from a pool with a lock, and the interrupted line may hold this lock."""
    layer, x = fastrnn.RNN(8, 64, seed=0), np.ones((200, 8, 8), np.float32)
    expected, calls = layer(x)[0], []

    def handler(*_):
        calls.append(same_bits(layer(x)[0], expected))
        signal.setitimer(signal.ITIMER_REAL, 0.0003)

    alarm(handler, 0.0003)
    while len(calls) < 300:
        assert same_bits(layer(x)[0], expected)
    assert all(calls)


def test_other_threads_calls_are_not_disturbed(alarm):
    layer = fastrnn.LSTM(64, 256, seed=0)
    x, _ = long_x(layer, 8)
    x = x[: len(x) // 4]
    expected = layer(x)[0]
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(layer, x)
        alarm(stop)
        with pytest.raises(StoppedError):
            call.result()
        assert same_bits(call.result()[0], expected)


CTRL_C = """if True:
    import sys, numpy as np, fastrnn, os, signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
    if sys.argv[1] == "fork" and os.fork():  # the child's main thread is the one that forked
        os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
    layer = fastrnn.LSTM(64, 128, seed=0)
    print("ready", os.getpid(), flush=True)
    try:
        while True:
            layer(np.zeros((60_000, 20, 64), np.float32))
    except KeyboardInterrupt:
        sys.stdout.write("interrupted")
        sys.stdout.flush()
        os._exit(0)
"""


@pytest.mark.parametrize("how", ["plain", "fork"])
def test_ctrl_c_reaches_a_long_call(how):
    with subprocess.Popen([sys.executable, "-c", CTRL_C, how], stdout=subprocess.PIPE, text=True) as process:
        _, pid = process.stdout.readline().split()
        time.sleep(0.3)
        begin = time.perf_counter()
        os.kill(int(pid), signal.SIGINT)
        assert process.stdout.read() == "interrupted"
        assert process.wait(10) == 0
        assert time.perf_counter() - begin < SOON_S

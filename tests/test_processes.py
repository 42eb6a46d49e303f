"""fastrnn in processes: after forks at any time, out of memory, at exit, and over many calls."""

import multiprocessing
import os
import subprocess
import sys

import fastrnn
import numpy as np
import pytest
from core_call import same_bits

has_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and sets limits as Linux has them")
FORKS = 1000


def run_python(code, *arguments, seconds=100, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip


def train(layer, x):
    y, _, tape = layer.forward(x)
    return y, layer.backward(tape, y).parameters["weight_hh_l0"]


# ---- forks ----


@has_fork
def test_a_thousand_forks_of_a_process_with_threads_give_the_bits_of_the_parent():
    """Compare before the fork, in the child, and in the parent after it; a hang would time this test out."""
    fastrnn.set_num_threads(2)
    layer, x = fastrnn.GRU(8, 64, seed=0), np.linspace(-1, 1, 20 * 24 * 8, dtype=np.float32).reshape(20, 24, 8)
    expected = train(layer, x)
    for number in range(FORKS):
        child = os.fork()
        if child == 0:
            os._exit(0 if all(map(same_bits, train(layer, x), expected)) else 1)
        # The parent's team works at the same time as the child.
        assert same_bits(layer(x)[0], expected[0]), number
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, number


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools_of_every_start_method(method):
    """Layers are sent to the processes of the pool, like any callable."""
    layer, xs = fastrnn.GRU(4, 48, seed=0), [np.full((10, 20, 4), number, np.float32) for number in range(8)]
    expected = [layer(x)[0] for x in xs]
    with multiprocessing.get_context(method).Pool(2) as pool:
        for _ in range(2):
            found = [y for y, _ in pool.map_async(layer, xs).get(60)]
            assert all(map(same_bits, found, expected))
            assert same_bits(layer(xs[3])[0], expected[3])


FIRST_IMPORT = """if True:
    import ctypes, os, sys
    import numpy as np
    openmp = ctypes.CDLL("libgomp.so.1")  # as torch and scikit-learn load it
    NOTHING = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
    if sys.argv[1] == "used":
        openmp.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        openmp.GOMP_parallel(ctypes.cast(NOTHING, ctypes.c_void_p), None, 2, 0)
    child = os.fork()
    if child == 0:
        import fastrnn
        fastrnn.LSTM(64, 256)(np.zeros((20, 32, 64), np.float32))
        print(fastrnn.show_config("dicts")["forked"], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    import fastrnn
    fastrnn.LSTM(64, 256)(np.zeros((20, 32, 64), np.float32))
    print(fastrnn.show_config("dicts")["forked"])
"""


@linux
@has_fork
@pytest.mark.skipif(fastrnn._core.openmp_version() == "none", reason="a build without OpenMP")
def test_a_child_may_be_the_first_to_import_fastrnn_after_openmp_ran_in_its_parent():
    """The child's parallel regions would wait for threads that only the parent has."""
    result = run_python(FIRST_IMPORT, "used", seconds=30)
    assert result.stdout.splitlines() == ["yes (one thread)", "no"], result.stderr


@linux
@has_fork
def test_a_child_of_a_process_without_openmp_has_all_threads():
    code = """if True:
        import os
        if os.fork():
            os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        import fastrnn
        print(fastrnn.show_config("dicts")["forked"], flush=True)
    """
    assert run_python(code, seconds=30).stdout.strip() == "no"


# ---- out of memory ----

LIMITED = """if True:
    import resource, sys
    import numpy as np, fastrnn
    fastrnn.set_num_threads(int(sys.argv[1]))
    layers = [fastrnn.LSTM(64, 128, 2, seed=0), fastrnn.GRU(64, 128, bidirectional=True, seed=0)]
    x = np.broadcast_to(np.float32(0.5), (3000, 40, 64))
    expected = [layer(x[:9])[0] for layer in layers]
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    refused = done = 0
    for megabytes in (1, 10, 30, 60, 100, 200, 400, 800):
        for layer, y in zip(layers, expected):
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20, before[1]))
            for call in (lambda: layer(x), lambda: layer.backward(layer.forward(x)[2]), layer.freeze):
                try:
                    call()
                    done += 1
                except MemoryError:
                    refused += 1
            resource.setrlimit(resource.RLIMIT_AS, before)
            layer.thaw()
            assert (layer(x[:9])[0] == y).all()
    print(refused > 10, done > 10)
"""


@linux
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_call_without_memory_is_a_memory_error_and_leaves_the_layer_usable(threads):
    result = run_python(LIMITED, threads)
    assert result.stdout.split() == ["True", "True"], result.stderr[-2000:]


NO_THREADS = """if True:
    import resource, numpy as np, fastrnn
    fastrnn.set_num_threads(4)
    x = np.zeros((30, 48, 64), np.float32)
    layer = fastrnn.LSTM(64, 128, seed=0)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 20 * 2**20, before[1]))  # a thread's stack takes 8
    y = layer(x)[0]
    resource.setrlimit(resource.RLIMIT_AS, before)
    print((layer(x)[0] == y).all())
"""


@linux
def test_a_call_that_can_start_no_threads_does_without():
    result = run_python(NO_THREADS)
    assert result.stdout.strip() == "True", (result.returncode, result.stderr[-2000:])


# ---- the end ----

AT_THE_END = """if True:
    import sys, threading, numpy as np, fastrnn
    layer = fastrnn.LSTM(8, 64, seed=0)
    layer.freeze()
    x = np.zeros((200, 30, 8), np.float32)
    stream, (y, state, tape) = layer.stream(3), layer.forward(x)
    windows = fastrnn.Windows(np.arange(100), 2, 5)
    sys.modules["kept"] = kept = lambda: (layer, stream, y, state, tape, windows)
    cycle = [kept]; cycle.append(cycle)
    if sys.argv[1] == "thread":
        def work():
            while True:
                layer(x); stream(x[0, :3])
        threading.Thread(target=work, daemon=True).start()
        layer(x)
    if sys.argv[1] == "late":
        class Late:
            def __del__(self):
                stream(x[0, :3]); layer(x[:1])
        late = cycle.append(Late())
"""


@pytest.mark.parametrize("how", ["plain", "thread", "late"])
def test_an_interpreter_ends_in_silence_with_live_tapes_and_streams(how):
    for _ in range(3):
        result = run_python(AT_THE_END, how, seconds=30)
        assert (result.returncode, result.stderr) == (0, "")


# ---- many calls ----

MANY = """if True:
    import sys, numpy as np, fastrnn
    rng, calls = np.random.default_rng(0), int(sys.argv[1])
    layers = [make(3, H, seed=0) for make in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN) for H in (1, 9, 20)]
    for layer in layers[::2]:
        layer.freeze()
    streams = [layer.stream(2) for layer in layers]
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    def work(number):
        j, T, B = number % len(layers), int(rng.integers(1, 9)), int(rng.integers(1, 7))
        x = np.ones((T, B, 3), np.float32)
        kind = number // len(layers) % 5
        if kind == 0:
            y, _, tape = layers[j].forward(x, lengths=rng.integers(0, T + 1, B))
            layers[j].backward(tape, y, truncation=2)
        elif kind == 1:
            streams[j](x[0, :1].repeat(2, 0))
        elif kind == 2:
            y, _, tape = layers[j].forward(x, checkpoint=2)
            layers[j].backward(tape, y)
        elif kind == 3:
            try:
                layers[j](x, lengths=[T + 1] * B)
            except ValueError:
                pass
        else:
            layers[j](x, resets=rng.random((T, B)) < 0.2) if number % 2 else layers[j](x)
    for number in range(calls // 10):
        work(number)
    before = resident()
    for number in range(calls):
        work(number)
    print((resident() - before) / calls)
"""


@linux
def test_memory_stays_flat_over_a_hundred_thousand_calls_of_mixed_shapes():
    """The test would detect a leak of the smallest object, 16 bytes per call."""
    result = run_python(MANY, "100000", seconds=300)
    assert float(result.stdout) < 8, (result.stdout, result.stderr[-2000:])

"""The linear recurrence beside a NumPy loop, SciPy's filter and a torch loop, and the time of its memory traffic.

The bound is the time to move each input and output once at the bandwidth of a copy of large arrays by the same number
of threads. A call may exceed this bound if its arrays fit a cache.

    python benchmarks/linear.py [--threads N] [--seconds S]
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import fastrnn
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
COPY_BYTES = 128 << 20
ROUNDS = 5


@dataclass(frozen=True)
class Shape:
    """The shape of h; a is a number if `discount`, else an array of the same shape."""

    shape: tuple[int, ...]
    discount: bool = False
    why: str = ""

    def draw(self) -> tuple[Array | float, Array]:
        """Draw a and b."""
        rng = np.random.default_rng(0)
        b = rng.standard_normal(self.shape, np.float32)
        return (0.99 if self.discount else rng.random(self.shape, np.float32)), b

    def traffic(self, mode: str) -> int:
        """Bytes that a call reads and writes at least."""
        full = 1 if self.discount else 2
        arrays = {"forward": full + 1, "gradients": full + 1 if self.discount else 5}
        return 4 * int(np.prod(self.shape)) * arrays[mode]


SHAPES = [
    Shape((128, 16), why="advantages of 16 environments"),
    Shape((2048, 64), why="advantages of 64 environments"),
    Shape((2048, 64), discount=True, why="returns"),
    Shape((1_000_000,), discount=True, why="one long signal"),
    Shape((512, 8, 256), why="minGRU"),
    Shape((1024, 32, 512), why="minGRU, beyond all caches"),
]


def numpy_loop(a: Array | float, b: Array) -> Array:
    h, state = np.empty_like(b), np.zeros(b.shape[1:], b.dtype)
    factors = np.broadcast_to(np.asarray(a, b.dtype), b.shape)
    for t in range(len(b)):
        state = factors[t] * state + b[t]
        h[t] = state
    return h


def scipy_filter(a: Array | float, b: Array) -> Array:
    from scipy.signal import lfilter

    found: Array = lfilter(np.ones(1, b.dtype), np.array([1, -a], b.dtype), b, axis=0)
    return found


def torch_loop(a: Array | float, b: Array) -> Callable[[], object]:
    import torch

    factors, addends = torch.as_tensor(a, dtype=torch.float32).expand(b.shape), torch.from_numpy(b)

    def run() -> object:
        state, states = torch.zeros(b.shape[1:]), []
        for t in range(len(b)):
            state = torch.addcmul(addends[t], factors[t], state)
            states.append(state)
        return torch.stack(states)

    return run


def calls_of(shape: Shape) -> dict[str, Callable[[], object]]:
    """The calls to measure, by name."""
    a, b = shape.draw()
    h, tape = fastrnn.linear_recurrence.forward(a, b)
    wanted = ("b",) if shape.discount else ("a", "b")
    calls: dict[str, Callable[[], object]] = {
        "fastrnn": lambda: fastrnn.linear_recurrence(a, b),
        "gradients": lambda: fastrnn.linear_recurrence.backward(tape, h, wanted=wanted),
    }
    if len(b) <= 4096:
        calls["NumPy loop"] = lambda: numpy_loop(a, b)
        if find_spec("torch"):
            calls["torch loop"] = torch_loop(a, b)
    if shape.discount and find_spec("scipy"):
        calls["lfilter"] = lambda: scipy_filter(a, b)
    return calls


def seconds_of(call: Callable[[], object], limit: float) -> float:
    """The least time of a call in so many seconds."""
    call()
    least, end = float("inf"), time.perf_counter() + limit
    while True:
        begin = time.perf_counter()
        call()
        now = time.perf_counter()
        least = min(least, now - begin)
        if now > end:
            return least


def copy_gigabytes(threads: int) -> float:
    """Bytes read and written in a second by copies of large arrays, one copy a thread, in 1e9."""
    pairs = [(np.ones(COPY_BYTES // 4, np.float32), np.zeros(COPY_BYTES // 4, np.float32)) for _ in range(threads)]

    def once() -> float:
        workers = [threading.Thread(target=np.copyto, args=(to, source)) for source, to in pairs]
        begin = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return 2e-9 * COPY_BYTES * threads / (time.perf_counter() - begin)

    return statistics.median(once() for _ in range(ROUNDS))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each measurement (default 0.3)")
    options = parser.parse_args()
    fastrnn.set_num_threads(options.threads)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(options.threads)
    bandwidth = copy_gigabytes(options.threads)
    print(f"{options.threads} threads; a copy moves {bandwidth:.1f} GB/s")
    for shape in SHAPES:
        print(f"{shape.shape}{', one discount' if shape.discount else ''}: {shape.why}")
        for name, call in calls_of(shape).items():
            seconds = seconds_of(call, options.seconds)
            traffic = shape.traffic("gradients" if name == "gradients" else "forward")
            bound = traffic / bandwidth / 1e9
            print(f"    {name:11} {1e3 * seconds:9.3f} ms    bound {1e3 * bound:8.3f} ms    {bound / seconds:6.0%}")


if __name__ == "__main__":
    main()

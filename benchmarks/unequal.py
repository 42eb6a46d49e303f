"""Cores of unequal speed: a competitor takes a share of one core, and calls on all threads are compared with the ideal.

The ideal is the time of threads that never wait for each other. With all cores free, n threads take t seconds. If the
competitor leaves a share s of one core, the ideal is n*t / (n - 1 + s). The share follows from the competitor's
niceness, as Linux weighs it. Rounds with and without the competitor take turns, and so do the cuts of
`fastrnn.config.use_cut`. "auto" is the library's own choice; give it some calls to find out.

    python benchmarks/unequal.py [--nice N …] [--rounds N] [--threads N] [--limit RATIO]

With --limit, ends with status 1 if "auto" takes more than RATIO times the ideal time.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import fastrnn
import numpy as np
from fastrnn import config

# Cell, T, B, I = H.
SHAPES = [
    (fastrnn.LSTM, 50, 32, 256),
    (fastrnn.LSTM, 50, 128, 256),
    (fastrnn.GRU, 100, 64, 128),
    (fastrnn.LSTM, 20, 64, 512),
]
CUTS = ("auto", "sequences", "pieces")
TURN_SECONDS = 0.3


def share_left(nice: int) -> float:
    """The share of a core beside a busy process of this niceness; Linux divides weights by 1.25 for each step."""
    return 1 / (1 + 1.25**-nice)


@contextmanager
def competitor(nice: int, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A stopped process that uses one core when it runs."""
    code = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nos.nice(int(sys.argv[2]))\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code, str(core), str(nice)])
    try:
        time.sleep(0.3)
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def turn(call: Callable[[], object]) -> float:
    """Seconds of a call: the mean of a turn, since a median would hide slices of the scheduler."""
    call()
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() < begin + TURN_SECONDS:
        call()
        calls += 1
    return (time.perf_counter() - begin) / calls


def calls_of(shape: tuple[type[fastrnn.LSTM], int, int, int]) -> dict[str, Callable[[], object]]:
    make, T, B, H = shape
    layer, x = make(H, H, seed=0), np.random.default_rng(0).standard_normal((T, B, H), np.float32)

    def training() -> object:
        y, _, tape = layer.forward(x)
        return layer.backward(tape, y)

    return {"forward": lambda: layer(x), "training": training}


def measure(call: Callable[[], object], rival: subprocess.Popen[bytes], rounds: int) -> dict[tuple[str, bool], float]:
    """Seconds by cut, and by whether the competitor ran."""
    found: dict[tuple[str, bool], list[float]] = {(cut, busy): [] for cut in CUTS for busy in (False, True)}
    for _ in range(rounds):
        for busy in (False, True):
            rival.send_signal(signal.SIGCONT if busy else signal.SIGSTOP)
            time.sleep(0.05)
            for cut in CUTS:
                with config.use_cut(cut):
                    found[cut, busy].append(turn(call))
        rival.send_signal(signal.SIGSTOP)
    return {key: statistics.median(times) for key, times in found.items()}


def main() -> int:
    """Measure and print."""
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nice", type=int, nargs="+", default=[0, 5], help="of the competitor (default: 0 and 5)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each cut (default: 5)")
    parser.add_argument("--threads", type=int, default=len(cores), help="default: one a core")
    parser.add_argument("--limit", type=float, help='the most that "auto" may take, in ideal times')
    options = parser.parse_args()
    fastrnn.set_num_threads(options.threads)
    missed = 0
    print("nice  share  call                              cut         equal ms  ideal ms  unequal ms  ratio")
    for nice in options.nice:
        share = share_left(nice)
        with competitor(nice, cores[-1]) as rival:
            for shape in SHAPES:
                for mode, call in calls_of(shape).items():
                    times = measure(call, rival, options.rounds)
                    equal = min(times[cut, False] for cut in CUTS)
                    ideal = options.threads * equal / (options.threads - 1 + share)
                    name = f"{shape[0].__name__} T={shape[1]} B={shape[2]} H={shape[3]} {mode}"
                    for cut in CUTS:
                        ratio = times[cut, True] / ideal
                        missed += cut == "auto" and options.limit is not None and ratio > options.limit
                        milliseconds = (1e3 * t for t in (times[cut, False], ideal, times[cut, True]))
                        cells = "  ".join(f"{ms:8.3f}" for ms in milliseconds)
                        print(f"{nice:4}  {share:5.2f}  {name:32}  {cut:10}  {cells}    {ratio:5.2f}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

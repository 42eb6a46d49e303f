"""Threads beside busy neighbours: the time of several threads while other processes use the same cores.

Calls on one thread and on several threads take turns while none, one or each of the cores has a busy process. Several
threads must never take much longer than one thread with the same neighbours, neither in the median nor in the one call
of a hundred that waits for a time slice of the scheduler.

    python benchmarks/neighbours.py [--seconds S] [--threads N] [--check]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import fastrnn
import numpy as np

SHAPES = [(1, 1, 256), (100, 1, 256), (20, 1, 512), (10, 20, 128), (50, 32, 256)]  # T, B, I = H
# Limits of the time of several threads over the time of one thread: the median, and the 99th percentile.
MEDIAN_LIMIT, P99_LIMIT = 1.6, 4.0


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that keep one core each busy."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    code = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", code, str(core)]) for core in cores]
    try:
        time.sleep(0.3)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def call_times(shape: tuple[int, int, int], counts: list[int], seconds: float) -> dict[int, list[float]]:
    """Times of calls in turns of a fifth of a second, per number of threads."""
    T, B, H = shape
    layer, x = fastrnn.LSTM(H, H, seed=0), np.zeros((T, B, H), np.float32)
    times: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(round(seconds / 0.2 / len(counts))):
        for count in counts:
            fastrnn.set_num_threads(count)
            layer(x)
            end = time.perf_counter() + 0.2
            while (begin := time.perf_counter()) < end:
                layer(x)
                times[count].append(time.perf_counter() - begin)
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement (default 4)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: one per core")
    parser.add_argument("--check", action="store_true", help="exit with 1 if several threads take too long")
    arguments = parser.parse_args()
    missed = 0
    print("neighbours  T, B, H          one thread: median, p99    several: median, p99       ratios")
    for count in range(arguments.threads + 1):
        with neighbours(count):
            for shape in SHAPES:
                times = call_times(shape, [1, arguments.threads], arguments.seconds).values()
                one, several = (np.percentile(t, [50, 99]) for t in times)
                ratios = several / one
                above = bool(ratios[0] > MEDIAN_LIMIT or ratios[1] > P99_LIMIT)
                missed += above
                cells = "    ".join(f"{m * 1e3:9.3f} {p * 1e3:9.3f} ms" for m, p in (one, several))
                verdict = "  ABOVE" if above else ""
                print(f"{count:10}  {shape!s:15} {cells}  {ratios[0]:5.2f} {ratios[1]:5.2f}{verdict}", flush=True)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Threads beside busy neighbours: what two threads cost when other processes use the same cores.

Calls on one thread and on several take turns while 0, 1, … busy processes run. Several threads must never cost much
more than one, on the mean, which the rare call that waits for a slice of the scheduler decides.

    python benchmarks/neighbours.py [--seconds S] [--threads N] [--check]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import fastrnn
import numpy as np

SHAPES = [(100, 1, 256), (20, 1, 512), (10, 20, 128), (50, 32, 256)]  # T, B, I = H
LIMIT = 1.5  # how much longer several threads may take than one


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Processes that do nothing but use a core."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
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
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: one a core")
    parser.add_argument("--check", action="store_true", help="exit with 1 if several threads cost too much")
    arguments = parser.parse_args()
    missed = 0
    print("neighbours  T, B, H          one thread: mean, worst   several: mean, worst    ratio of means")
    for count in range(arguments.threads + 1):
        with neighbours(count):
            for shape in SHAPES:
                one, several = call_times(shape, [1, arguments.threads], arguments.seconds).values()
                ratio = statistics.fmean(several) / statistics.fmean(one)
                missed += ratio > LIMIT
                cells = "    ".join(f"{statistics.fmean(t) * 1e3:8.2f} {max(t) * 1e3:8.1f} ms" for t in (one, several))
                print(f"{count:10}  {shape!s:15} {cells}  {ratio:6.2f}{'  ABOVE' if ratio > LIMIT else ''}")
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The machine's limits for a number of threads: arithmetic, matrix products, read bandwidth, barriers."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import fastrnn
import numpy as np
import threadpoolctl
from machine import Machine
from roofline import CACHES, PEAK

ROUNDS = 7


def measured(threads: int) -> dict[str, float]:
    """Limits as sums over the threads, which all run at the same time."""
    machine = Machine(fastrnn.show_config("dicts")["backend"])
    found = {PEAK: _at_once(machine.fma_gflops, threads)}
    with threadpoolctl.threadpool_limits(threads):
        found["NumPy sgemm 1024, GFLOP/s"] = _sgemm(1024)
    for name, size in CACHES.items():
        found[f"{name} read, GB/s"] = _at_once(lambda size=size: machine.read_gigabytes(size), threads)
    if threads > 1:
        found["OpenMP barrier, us"] = 1e6 * machine.barrier_seconds(threads)
        found["OpenMP region, us"] = 1e6 * machine.region_seconds(threads)
    return found


def _at_once(rate: Callable[[], float], threads: int) -> float:
    """The sum over threads, median of several rounds."""

    def once() -> float:
        rates: list[float] = []
        workers = [threading.Thread(target=lambda: rates.append(rate())) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)

    return statistics.median(once() for _ in range(ROUNDS))


def _sgemm(n: int) -> float:
    a = np.ones((n, n), np.float32)
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - begin)
    return 2e-9 * n**3 / statistics.median(times)

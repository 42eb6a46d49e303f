"""The process of one contestant in the group `small`. It opens cases and times them as worker.py's processes do.

    {"do": "open", "case": {…}}        {"outputs": {name: [shape, samples]}} or {"unsupported": "why"}
    {"do": "time", "seconds": 0.04}    {"median": seconds of a call, "calls": their number}

Where a case has new weights in each call, all parameters change their sign before each call, in place. This is not
timed. It costs all contestants the same, and leaves them the same caches, as the step of an optimiser would.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import worker
from small_cases import SmallCase, data_of, laid_out  # noqa: F401  (for the contestants)

SAMPLES = 256  # values of each output that are compared


class Opened(NamedTuple):
    """A case that is ready: the call, its result as arrays (T, B, n) by name, and a change of all weights' signs."""

    call: Callable[[], Any]
    outputs: Callable[[Any], dict[str, np.ndarray]]
    negate: Callable[[], Any]


def negation_of(arrays: list[np.ndarray]) -> Callable[[], None]:
    """A call that changes the sign of all arrays in place."""

    def negate() -> None:
        for array in arrays:
            np.negative(array, out=array)

    return negate


def samples_of(array: np.ndarray) -> list[Any]:
    """The shape, and values at even distances."""
    places = np.linspace(0, max(array.size - 1, 0), min(SAMPLES, array.size)).astype(int)
    return [list(array.shape), np.asarray(array, np.float64).ravel()[places].tolist()]


def timed(call: Callable[[], Any], before: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call, after one or more that do not count. `before` runs before each call and does not count."""
    clock = time.perf_counter
    warm = clock() + seconds / 5
    while True:
        before()
        call()
        if clock() >= warm:
            break
    times, end = list[float](), clock() + seconds
    while not times or clock() < end:
        before()
        begin = clock()
        call()
        times.append(clock() - begin)
    return times


class SmallCommands(worker.Commands):
    """A contestant's method `opened(case, data)` returns an `Opened`."""

    before: Callable[[], Any]

    def hello(self, command: dict[str, Any]) -> dict[str, Any]:
        gc.collect()
        gc.freeze()  # torch's modules alone would take a collection 0.1 seconds in each turn
        return super().hello(command)

    def open(self, command: dict[str, Any]) -> dict[str, Any]:
        case = SmallCase(**command["case"])
        opened: Opened = self.contestant.opened(case, data_of(case))
        self.call, self.before = opened.call, opened.negate if case.weights == "new" else lambda: None
        for _ in range(2):  # the second call shows whether new weights are seen
            self.before()
            result = self.call()
        return {"outputs": {name: samples_of(array) for name, array in opened.outputs(result).items()}}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.call is not None
        with worker.without_collection():
            times = timed(self.call, self.before, command["seconds"])
        return {"median": median(times), "calls": len(times)}


def serve(make: Callable[[int], Any]) -> None:
    """As worker.py's."""
    worker.serve(make, SmallCommands)

"""The process of one contestant in the group `cells`. It opens cases and times them as worker.py's processes do.

{"do": "open", "case": {…}}        {"outputs": {name: [shape, samples]}, "seconds": of the last call} or
                                   {"unsupported": "why"}
{"do": "time", "seconds": 0.04}    {"median": seconds of a call}
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import worker
from cells_cases import COMPILED, PLAIN, CellCase, data_of, stacked, unstacked  # noqa: F401  (for the contestants)
from small_worker import samples_of

LONG_SECONDS = 0.05  # a call that takes longer needs no warm-up after the other contestants' turns


class Opened(NamedTuple):
    """A case that is ready: the call, and its result as arrays by name: y, and in training dx and d + parameter.

    The first call of a contestant that compiles takes longer than later ones.
    """

    call: Callable[[], Any]
    outputs: Callable[[Any], dict[str, np.ndarray]]
    compiles: bool = False


class CellCommands(worker.Commands):
    """A contestant's method `opened(case, data)` returns an `Opened`."""

    longest = 0.0  # seconds of the last call of `open`

    def hello(self, command: dict[str, Any]) -> dict[str, Any]:
        gc.collect()
        gc.freeze()  # a collection of torch's modules alone would take 0.1 seconds in each turn
        return super().hello(command)

    def open(self, command: dict[str, Any]) -> dict[str, Any]:
        case = CellCase(**command["case"])
        opened: Opened = self.contestant.opened(case, data_of(case))
        self.call = opened.call
        if opened.compiles:
            self.call()
        begin = time.perf_counter()
        result = self.call()
        self.longest = time.perf_counter() - begin
        outputs = {name: samples_of(array) for name, array in opened.outputs(result).items()}
        return {"outputs": outputs, "seconds": self.longest}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.call is not None
        clock, seconds = time.perf_counter, command["seconds"]
        with worker.without_collection():
            warm = clock() + seconds / 5
            while self.longest < LONG_SECONDS:
                self.call()
                if clock() >= warm:
                    break
            times, end = list[float](), clock() + seconds
            while not times or clock() < end:
                begin = clock()
                self.call()
                times.append(clock() - begin)
        return {"median": median(times)}


def serve(make: Callable[[int], Any]) -> None:
    """As worker.py's."""
    worker.serve(make, CellCommands)

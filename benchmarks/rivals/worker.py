"""The process of one contestant: it opens and times cases, following commands of `run.py`, line by line.

A contestant is a program that calls `serve` with a subclass of `Contestant`. It needs only NumPy and the library that
it measures, so each contestant can have a separate environment.

    python benchmarks/rivals/torch_eager.py --threads 2

Commands are JSON objects on standard input, one per line; answers are JSON objects on standard output:

    {"do": "hello"}                                    {"version": "torch 2.13.0"}
    {"do": "open", "case": {…}, "mode": "forward"}     {"outputs": "….npz"} or {"unsupported": "why"}
    {"do": "time", "seconds": 0.1}                     {"times": [seconds of each call]}
    {"do": "close"}                                    {}
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import Case, data_of, states_of  # noqa: F401  (for the contestants)

Call = Callable[[], Any]
Outputs = Callable[[Any], dict[str, Any]]


class Unsupported(Exception):  # noqa: N818
    """A case that the library does not support, with the reason."""


class Contestant:
    """Each method returns a call without arguments, and a function from its result to named arrays.

    The result of inference has y; the result of training has y, dx and the gradient of each parameter under the
    parameter's name. Sequences are (T, B, n) in the outputs, whatever layout the library prefers. A method does all
    one-time preparation of a user before it returns, including the weights in inference; in training the weights count
    as new in every call.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def version(self) -> str:
        raise NotImplementedError

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        raise Unsupported("no inference")

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        raise Unsupported("no training")


def _timed(call: Call, seconds: float) -> list[float]:
    """Seconds of each call, after one or more calls that do not count, since threads sleep and caches are cold."""
    clock = time.perf_counter
    warm = clock() + seconds / 5
    call()
    while clock() < warm:
        call()
    times, end = [], clock() + seconds
    while not times or clock() < end:
        begin = clock()
        call()
        times.append(clock() - begin)
    return times


class Commands:
    """Obeys the commands of run.py, one after the other. `make` makes the contestant at the first command."""

    def __init__(self, make: Callable[[int], Any], threads: int) -> None:
        self.make, self.threads = make, threads
        self.contestant: Any = None
        self.call: Call | None = None

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """The answer to a command; {"unsupported": why} for one that fails."""
        try:
            self.contestant = self.contestant or self.make(self.threads)
            answer: dict[str, Any] = getattr(self, command["do"])(command)
            return answer
        except Unsupported as error:
            self.call = None
            return {"unsupported": str(error)}
        except Exception as error:  # a rival that fails is a finding, not the end of the run
            self.call = None
            return {"unsupported": f"{type(error).__name__}: {error}"}

    def hello(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"version": self.contestant.version()}

    def open(self, command: dict[str, Any]) -> dict[str, Any]:
        case = Case(**command["case"])
        data = data_of(case)  # alive while the case is open: a contestant may share its memory
        call, outputs = getattr(self.contestant, command["mode"])(case, data)
        call()  # the second call shows whether the first has left anything behind
        arrays = {name: np.asarray(array) for name, array in outputs(call()).items()}
        self.call = call
        with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
            np.savez(file, **arrays)
        return {"outputs": file.name}

    def time(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self.call is not None
        with without_collection():
            return {"times": _timed(self.call, command["seconds"])}

    def close(self, _: dict[str, Any]) -> dict[str, Any]:
        self.call = None
        gc.collect()
        return {}


@contextmanager
def without_collection() -> Iterator[None]:
    """No garbage is collected inside."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def serve(make: Callable[[int], Any], commands: type[Commands] = Commands) -> None:
    """Obey commands until standard input ends. What the library prints goes to standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    threads = parser.parse_args().threads
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    obeying = commands(make, threads)
    for line in sys.stdin:
        answers.write(json.dumps(obeying.obey(json.loads(line))) + "\n")
        answers.flush()

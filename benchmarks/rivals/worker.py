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
from collections.abc import Callable
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


def serve(make: Callable[[int], Contestant]) -> None:
    """Run commands until standard input ends. Output of the library goes to standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    threads = parser.parse_args().threads
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contestant: Contestant | None = None
    call: Call | None = None
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            contestant = contestant or make(threads)
            if command["do"] == "hello":
                answer = {"version": contestant.version()}
            elif command["do"] == "open":
                case = Case(**command["case"])
                data = data_of(case)  # stays alive while the case is open, since a contestant may share its memory
                call, outputs = getattr(contestant, command["mode"])(case, data)
                call()  # the second call shows whether the first call left anything behind
                arrays = {name: np.asarray(array) for name, array in outputs(call()).items()}
                with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
                    np.savez(file, **arrays)
                answer = {"outputs": file.name}
            elif command["do"] == "time":
                assert call is not None
                gc.collect()
                gc.disable()
                answer = {"times": _timed(call, command["seconds"])}
                gc.enable()
            else:
                call = None
                gc.collect()
        except Unsupported as error:
            call, answer = None, {"unsupported": str(error)}
        except Exception as error:  # the failure of a rival is a result and does not end the run
            call, answer = None, {"unsupported": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

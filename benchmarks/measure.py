"""Contestants as processes that take turns: they open cases, are compared and timed, case by case."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import hiding
import numpy as np
from budget import Budget
from cases import Case
from contestants import PROGRAMS, Entry

# The rest between turns, after which the threads of the previous contestant no longer spin. GNU OpenMP spins for some
# milliseconds.
REST_SECONDS = 0.05
# The largest allowed difference from our result, relative to the largest value of the array: twice the loss from the
# order of sums in the longest case.
TOLERANCE = {"float32": 2e-3, "float64": 1e-9}


class Process:
    """One contestant at one number of threads."""

    def __init__(self, entry: Entry, threads: int) -> None:
        self.entry, self.threads = entry, threads
        number = str(threads)
        limits = {"OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number, "MKL_NUM_THREADS": number}
        self.process = subprocess.Popen(
            [str(entry.python()), str(PROGRAMS / entry.program), "--threads", number],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | hiding.limits() | limits | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.communicate()  # closes the pipes too

    def ask(self, **command: Any) -> dict[str, Any]:
        """The answer to a command; for a process that has ended, the answer is "unsupported"."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"unsupported": "its process has ended"}
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"unsupported": "its process has ended"}
        return answer

    def open(self, case: Case, mode: str) -> dict[str, np.ndarray] | str:
        """The outputs of one call, or the reason for having none."""
        answer = self.ask(do="open", case=case.as_dict(), mode=mode)
        if "outputs" not in answer:
            return str(answer["unsupported"])
        path = Path(answer["outputs"])
        with np.load(path) as file:
            outputs = {name: file[name] for name in file.files}
        path.unlink()
        return outputs


def difference(case: Case, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> str | None:
    """The error in a rival's outputs, or None. A rival may omit the gradients of biases."""
    needed = [name for name in ours if not name.startswith("bias")]
    missing = [name for name in needed if name not in theirs]
    if missing:
        return f"no {', '.join(missing)}"
    for name, array in theirs.items():
        if array.shape != ours[name].shape:
            return f"{name} has shape {array.shape} instead of {ours[name].shape}"
        error = np.abs(array - ours[name]).max(initial=0) / max(np.abs(ours[name]).max(initial=0), 1e-30)
        if not error <= TOLERANCE[case.dtype]:
            return f"{name} differs by {error:.1e} of the largest value"
    return None


def measure(
    case: Case,
    mode: str,
    processes: list[Process],
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Seconds of each contestant: {name: {"median", "p10", "p99", "medians"} or {"unsupported"}}.

    `rounds` is the number of rounds of each contestant; with a budget, the largest number.
    """
    running, found = prepare(case, mode, processes, say, budget)
    times: dict[str, list[list[float]]] = {process.entry.name: [] for process in running}
    for turn in range(rounds):
        if budget and not budget.another_round(turn):
            break
        for process in running[turn % len(running) :] + running[: turn % len(running)] if running else []:
            say(f"{process.entry.name}: round {turn + 1}" + ("" if budget else f" of {rounds}"))
            time.sleep(REST_SECONDS)
            answer = process.ask(do="time", seconds=seconds)
            times[process.entry.name].append(answer.get("times", []))
    for process in running:
        process.ask(do="close")
    return found | {name: summary(turns) for name, turns in times.items()}


def prepare(
    case: Case, mode: str, processes: list[Process], say: Callable[[str], None], budget: Budget | None
) -> tuple[list[Process], dict[str, Any]]:
    """The contestants that opened the case and agree with us, and the reasons why others have no time."""
    found: dict[str, Any] = {}
    running, ours = [], None
    for process in processes:
        name = process.entry.name
        if budget and not budget.admits(name):
            found[name] = {"unsupported": "left out: its preparation took more than its share of the time"}
            continue
        say(f"{name}: preparing")
        begin = time.monotonic()
        outputs = process.open(case, mode)
        if budget:
            budget.prepared(name, time.monotonic() - begin)
        if isinstance(outputs, str):
            found[name] = {"unsupported": outputs}
            continue
        if ours is None:
            ours = outputs
        wrong = difference(case, ours, outputs)
        if wrong is None:
            running.append(process)
        else:
            found[name] = {"unsupported": wrong}
    return running, found


def summary(turns: list[list[float]]) -> dict[str, Any]:
    """Median of the rounds' medians, and percentiles of all calls."""
    every = [t for turn in turns for t in turn]
    if not every:
        return {"unsupported": "its process has ended"}
    medians = [float(np.median(turn)) for turn in turns if turn]
    p10, p99 = np.percentile(every, [10, 99])
    return {"median": float(np.median(medians)), "p10": float(p10), "p99": float(p99), "medians": medians}

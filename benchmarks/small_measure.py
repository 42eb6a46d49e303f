"""Times of the group `small`: each contestant is a process, and turns are interleaved case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from contestants import HERE, Entry
from measure import REST_SECONDS, TOLERANCE, Process
from ratios import Times
from small_cases import SmallCase

OURS, TORCH_OURS, NUMPY, TORCH = (
    Entry("fastrnn", "small_fastrnn.py", HERE, ours=True),
    Entry("fastrnn.torch", "small_fastrnn_torch.py", HERE, ours=True),
    Entry("numpy", "small_numpy.py", HERE),
    Entry("torch", "small_torch.py", HERE),
)
# Ours first, then the rivals.
CONTESTANTS = {
    "function": (OURS, NUMPY, TORCH),
    "layer": (OURS, NUMPY, TORCH),
    "module": (TORCH_OURS, TORCH),
    "cell": (TORCH_OURS, TORCH),
}
Processes = dict[str, Process]


@contextmanager
def running(threads: int, kinds: Sequence[str]) -> Iterator[Processes]:
    """The contestants of these kinds, each in a new process, once all have answered."""
    entries = dict.fromkeys(entry for kind in kinds for entry in CONTESTANTS[kind])
    with ExitStack() as stack:
        yield {entry.name: stack.enter_context(Process(entry, threads)) for entry in entries}


def versions_of(processes: Processes) -> dict[str, str]:
    """The version of each contestant, or why it does not run."""
    answers = {name: process.ask(do="hello") for name, process in processes.items()}
    return {name: str(answer.get("version") or answer["unsupported"]) for name, answer in answers.items()}


def difference(case: SmallCase, ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """What is wrong with a rival's outputs; None if nothing is. All outputs of both sides must be there."""
    missing = [name for name in ours if name not in theirs] + [name for name in theirs if name not in ours]
    if missing:
        return f"no {', '.join(missing)} on one side"
    for name, (shape, values) in ours.items():
        if shape != theirs[name][0]:
            return f"{name} has shape {theirs[name][0]} instead of {shape}"
        error = np.abs(np.subtract(theirs[name][1], values)).max() / max(np.abs(values).max(), 1e-30)
        if not error <= TOLERANCE[case.dtype]:
            return f"{name} differs by {error:.1e} of the largest value"
    return None


def times_of(case: SmallCase, processes: Processes, rounds: int, seconds: float) -> Times:
    """Medians of a call in each round, by contestant; the reason in place of them, if it has none."""
    names = [entry.name for entry in CONTESTANTS[case.kind]]
    found: Times = {}
    outputs: dict[str, dict[str, Any]] = {}
    for name in names:
        answer = processes[name].ask(do="open", case=case.as_dict())
        wrong = answer.get("unsupported")
        if wrong is None and names[0] in outputs:
            wrong = difference(case, outputs[names[0]], answer["outputs"])
        if wrong is None:
            outputs[name] = answer["outputs"]
        else:
            found[name] = str(wrong)
    there = list(outputs) if names[0] in outputs else []
    medians: dict[str, list[float]] = {name: [] for name in there}
    for turn in range(rounds):
        for name in there[turn % len(there) :] + there[: turn % len(there)] if there else []:
            if case.threads > 1:
                time.sleep(REST_SECONDS)
            answer = processes[name].ask(do="time", seconds=seconds)
            if "median" in answer:
                medians[name].append(answer["median"])
            else:
                found[name] = str(answer["unsupported"])
    for name in names:
        processes[name].ask(do="close")
    return {name: found.get(name, medians.get(name, "ours has no time")) for name in names}


def pass_over(
    cases: Sequence[SmallCase], rounds: int, seconds: float, keep: Callable[[SmallCase, Times], None]
) -> dict[str, str]:
    """Measure all cases once, with new processes for each number of threads; the versions of the contestants."""
    versions: dict[str, str] = {}
    for threads in sorted({case.threads for case in cases}):
        here = [case for case in cases if case.threads == threads]
        with running(threads, sorted({case.kind for case in here})) as processes:
            versions |= versions_of(processes)
            for case in here:
                keep(case, times_of(case, processes, rounds, seconds))
    return versions

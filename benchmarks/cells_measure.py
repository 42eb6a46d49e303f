"""Times of the group `cells`: each contestant is a process, and turns are interleaved case by case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from cells_cases import PLAIN, CellCase
from contestants import HERE, Entry
from measure import REST_SECONDS, Process
from ratios import Times
from small_measure import Processes, difference, versions_of

OURS = Entry("fastrnn", "cells_written.py", HERE, ours=True)
COMPILED = Entry("compiled cell", "cells_compiled.py", HERE, ours=True)
SCAN = Entry("lax.scan", "cells_jax.py", "jax")
LOOP = Entry("torch loop", "cells_torch.py", HERE)
TORCH_COMPILED = Entry("torch.compile", "cells_torch_compiled.py", HERE, slow_to_prepare=True)
TORCH_NN = Entry("torch.nn", "cells_torch_nn.py", HERE)
HASTE = Entry("haste", "cells_haste.py", "haste")
ENTRIES = (OURS, COMPILED, SCAN, LOOP, TORCH_COMPILED, TORCH_NN, HASTE)
# Rivals by kind; the fastest of each kind counts.
KINDS = {"scan": (SCAN.name,), "torch": (LOOP.name, TORCH_COMPILED.name, TORCH_NN.name, HASTE.name)}
RIVALS = [name for names in KINDS.values() for name in names]

# B, H and threads of the cases that torch.compile runs, unless it runs all; and only cells that torch.nn lacks.
COMPILED_AT = (8, 128, 2)
# Rounds, by the seconds that one call of each contestant takes together.
ROUNDS = ((0.3, 5), (1.5, 3), (float("inf"), 2))
DROPPED_ABOVE = 1.5  # times the fastest rival of the same kind: such a rival has one round


def takes_part(entry: Entry, case: CellCase, everywhere: bool) -> bool:
    """Whether a contestant runs a case; `everywhere`: torch.compile runs all."""
    if entry is TORCH_COMPILED:
        return everywhere or (case.cell not in PLAIN and (case.B, case.H, case.threads) == COMPILED_AT)
    if entry is TORCH_NN:
        return case.cell in PLAIN
    return entry is not HASTE or case.cell == "layer_norm_lstm"


def absent() -> list[str]:
    """Contestants without an environment, as sentences."""
    return [
        f"{entry.name}: not installed (python benchmarks/run.py --install makes the environment {entry.environment})"
        for entry in ENTRIES
        if entry.python() is None
    ]


def rounds_of(seconds: float) -> int:
    """The rounds of a case of which one call of each contestant takes so long."""
    return next(count for limit, count in ROUNDS if seconds <= limit)


def opened(case: CellCase, processes: Processes) -> tuple[dict[str, float], Times]:
    """Seconds of a call of each contestant that agrees with ours, and the reasons why others do not run."""
    seconds, wrong, ours = dict[str, float](), dict[str, str](), None
    for name, process in processes.items():
        answer = process.ask(do="open", case=case.as_dict())
        if "unsupported" in answer:
            wrong[name] = str(answer["unsupported"])
            continue
        comparable = name != COMPILED.name or case.cell in PLAIN
        if name == OURS.name:
            ours = answer["outputs"]
        elif ours is not None and comparable and (found := difference(case, ours, answer["outputs"])):
            wrong[name] = found
            continue
        seconds[name] = float(answer["seconds"])
    return seconds, wrong


def left_out(medians: dict[str, list[float]]) -> set[str]:
    """Rivals that are far from the fastest of their kind after the first round."""
    found = set[str]()
    for names in KINDS.values():
        first = {name: medians[name][0] for name in names if medians.get(name)}
        found |= {name for name, one in first.items() if one > DROPPED_ABOVE * min(first.values())}
    return found


def times_of(case: CellCase, processes: Processes, rounds: int | None, seconds: float) -> Times:
    """Medians of a call in each round, by contestant; the reason in place of them, if it has none."""
    expected, wrong = opened(case, processes)
    medians: dict[str, list[float]] = {name: [] for name in expected}
    names = list(expected)
    for turn in range(rounds or rounds_of(sum(expected.values()))):
        if turn == 1:
            names = [name for name in names if name not in left_out(medians)]
        for name in names[turn % len(names) :] + names[: turn % len(names)] if names else []:
            if case.threads > 1:
                time.sleep(REST_SECONDS)
            answer = processes[name].ask(do="time", seconds=seconds)
            if "median" in answer:
                medians[name].append(answer["median"])
            else:
                wrong[name] = str(answer["unsupported"])
    for process in processes.values():
        process.ask(do="close")
    return medians | wrong


def pass_over(
    cases: Sequence[CellCase],
    rounds: int | None,
    seconds: float,
    everywhere: bool,
    keep: Callable[[CellCase, Times], None],
) -> dict[str, str]:
    """Measure all cases once, with new processes for each number of threads; the versions of the contestants."""
    versions: dict[str, str] = {}
    for threads in dict.fromkeys(case.threads for case in cases):
        here = [case for case in cases if case.threads == threads]
        with ExitStack() as stack:
            running: Processes = {}
            for entry in ENTRIES:
                if entry.python() and any(takes_part(entry, case, everywhere) for case in here):
                    running[entry.name] = stack.enter_context(Process(entry, threads))
            versions |= versions_of(running)
            for case in here:
                part = {entry.name for entry in ENTRIES if takes_part(entry, case, everywhere)}
                chosen = {name: process for name, process in running.items() if name in part}
                keep(case, times_of(case, chosen, rounds, seconds))
    return versions

"""The overhead of calls at T = 1: the time of a call beyond its kernel's and, in training with torch, beyond an empty
autograd function's. The parts are measured in one process, rivals/call_overhead.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from cases import GATES
from contestants import HERE, Entry
from measure import Process

PROGRAM = Entry("overhead", "call_overhead.py", HERE, ours=True)
BATCHES, WIDTHS = (1, 8), (16, 64, 256)
ROUNDS, SECONDS = 7, 0.005  # of each part


class Row(NamedTuple):
    """A call, the parts that are taken off its time, forward (0) or backward (1), and the goal in microseconds."""

    title: str
    part: str
    beyond: tuple[str, ...]
    direction: int
    goal: float | None


ROWS = [
    Row("kernel on unpacked weights", "unpacked kernel", ("kernel",), 0, None),
    *(Row(f"{kind}, inference", kind, ("kernel",), 0, 10) for kind in ("function", "layer")),
    *(
        Row(f"{kind}, training, {way}", f"{kind}, training", ("training kernel",), direction, 10)
        for kind in ("function", "layer")
        for direction, way in enumerate(("forward", "backward"))
    ),
    *(Row(f"torch {kind}, inference", f"{kind}, inference", ("kernel",), 0, 10) for kind in ("module", "cell")),
    *(
        Row(f"torch {kind}, training, {way}", kind, ("training kernel", f"{kind}, empty"), direction, 15)
        for kind in ("module", "cell")
        for direction, way in enumerate(("forward", "backward"))
    ),
]


def measure(threads: int, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The parts of each cell, batch and width, as a file of results keeps them."""
    with Process(PROGRAM, threads) as process:
        for cell in GATES:
            for B in BATCHES:
                for H in WIDTHS:
                    say(f"overhead of {cell} T=1 B={B} H={H}, threads: {threads}")
                    answer = process.ask(do="parts", cell=cell, B=B, H=H, seconds=SECONDS, rounds=ROUNDS)
                    yield {"cell": cell, "B": B, "H": H, "threads": threads} | answer


def microseconds(row: Row, times: dict[str, Any]) -> float:
    """What is left of a call."""
    others = sum(times[name][row.direction] for name in row.beyond)
    return 1e6 * float(times[row.part][row.direction] - others)


def _above(each: Sequence[float], goal: float | None) -> str:
    return "" if goal is None else f", {sum(value > goal for value in each)} of {len(each)}"


def markdown_of(found: Sequence[dict[str, Any]]) -> str:
    """A row for each call, with a column for each number of threads: median and greatest of all sizes."""
    numbers = sorted({entry["threads"] for entry in found})
    names = [f"{n} thread{'s' if n > 1 else ''}: median (greatest), above the goal" for n in numbers]
    lines = [f"| call | goal, µs | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for row in ROWS:
        columns = []
        for n in numbers:
            each = [microseconds(row, e["times"]) for e in found if e["threads"] == n and "times" in e]
            columns.append(f"{statistics.median(each):.1f} ({max(each):.1f}){_above(each, row.goal)}" if each else "–")
        goal = "" if row.goal is None else f"{row.goal:.0f}"
        lines.append(f"| {row.title} | {goal} | {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"

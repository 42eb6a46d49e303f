"""The group `cells` of run.py: cells that users write, beside the same cells in JAX and PyTorch.

    python benchmarks/run.py --install                              once: JAX and haste in environments of their own
    python benchmarks/run.py --suite cells                          both numbers of threads, about twelve minutes
    python benchmarks/run.py --suite cells --case peephole --threads 2
    python benchmarks/run.py --suite cells --compile-all            torch.compile in all cases: about an hour more
    python benchmarks/run.py --suite cells --read results.json --page docs/performance.md docs/write-a-cell.md

The screen measures each case in one process of each contestant. A case with a ratio below 1.1 is measured again, in
five processes of each contestant. A case that five processes find slower has a second run of five.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import cells_results
import cells_tables
from cells_cases import CellCase, all_cases
from cells_measure import absent, pass_over
from cells_results import CellsResults, MeasuredCell
from ratios import Times
from results import ResultsError
from rich.console import Console
from screening import Screening

SECONDS = 0.03
ROUNDS_AGAIN = 1  # of each process after the screen, since the interval is over processes


def chosen_cases(options: argparse.Namespace) -> list[CellCase]:
    """The cases that the options name."""
    found = [
        case
        for case in all_cases()
        if (not options.case or any(text in case.name for text in options.case))
        and case.threads in options.threads
        and options.mode in (None, case.mode)
    ]
    if not found:
        raise ResultsError("--case, --mode, --threads: no case has all of these")
    return found


class CellsRun(Screening):
    """One run of the group."""

    group = "cells"

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        super().__init__(options, console, dict.fromkeys(chosen_cases(options)))
        self.content |= {"seconds": options.seconds}

    @property
    def results(self) -> CellsResults:
        """What has been measured so far."""
        return cells_results.parse(self.content)

    def measure(self) -> bool:
        for text in absent():
            self.say(text)
        return super().measure()

    def pass_over(self, cases: Sequence[CellCase], keep: Callable[[CellCase, Times], None]) -> dict[str, str]:
        is_screened = len(self.content["results"]) == len(self.cases)
        rounds = self.options.rounds or (ROUNDS_AGAIN if is_screened else None)
        return pass_over(cases, rounds, self.options.seconds, self.options.compile_all, keep)

    def entry_of(self, case: CellCase) -> dict[str, Any]:
        return {"case": case.as_dict()}

    def measured_of(self, number: int, entry: Any) -> MeasuredCell:
        return cells_results.measured_of(number, entry)

    def line_of(self, measured: MeasuredCell) -> str:
        return cells_tables.line_of(measured)


def show(file: CellsResults, options: argparse.Namespace, console: Console) -> int:
    """Print the tables, and write them where the options say."""
    text = cells_tables.markdown_of(file)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    for page in options.page or []:
        cells_tables.write_page(page, file)
    return 0


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure or read, and show; the status of the program."""
    if options.read:
        if len(options.read) > 1:
            raise ResultsError(f"--read: expected one file of the group cells, got {len(options.read)}")
        return show(cells_results.read(options.read[0]), options, console)
    now = CellsRun(options, console)
    interrupted = now.measure()
    if not now.content["results"]:
        console.print("nothing was measured")
        return 130 if interrupted else 2
    show(now.results, options, console)
    console.print(f"Results: {now.path}", soft_wrap=True)
    return 130 if interrupted else 0

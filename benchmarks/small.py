"""The group `small` of run.py: its cases, their order and the file of results.

    python benchmarks/run.py --suite small                          both numbers of threads, about ten minutes
    FASTRNN_HIDE=avx512 python benchmarks/run.py --suite small      as on a processor without AVX-512
    python benchmarks/run.py --suite small --overhead               calls at T = 1 beyond their kernels, nothing else
    python benchmarks/run.py --suite small --read a.json b.json --page docs/performance.md

The screen measures each case in one process of each contestant. A case with a ratio below 1.1 is measured again, in
five processes of each contestant. A case that five processes find slower has a second run of five.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from typing import Any

import small_overhead
import small_results
import small_tables
from ratios import Times
from results import ResultsError
from rich.console import Console
from screening import Screening
from small_cases import DRAWS, SmallCase, covering_cases, drawn_cases
from small_measure import pass_over
from small_results import Measured, SmallResults

ROUNDS, SECONDS = 3, 0.04


def chosen_cases(options: argparse.Namespace, seed: int) -> dict[SmallCase, bool]:
    """The cases that the options name, and whether each is drawn."""
    covered = covering_cases()
    drawn = drawn_cases(DRAWS if options.draws is None else options.draws, seed, covered)
    found = dict.fromkeys(covered, False) | dict.fromkeys(drawn, True)
    chosen = {case: is_drawn for case, is_drawn in found.items() if _is_named(case, options)}
    if not chosen:
        raise ResultsError("--case, --mode, --threads: no case has all of these")
    return chosen


def _is_named(case: SmallCase, options: argparse.Namespace) -> bool:
    named = not options.case or any(text in case.name for text in options.case)
    return named and case.threads in options.threads and options.mode in (None, case.mode)


class SmallRun(Screening):
    """One run of the group."""

    group = "small"

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
        super().__init__(options, console, {} if options.overhead else chosen_cases(options, seed))
        self.rounds, self.seconds = options.rounds or ROUNDS, options.seconds
        self.content |= {"seed": seed, "rounds": self.rounds, "seconds": self.seconds, "overhead": []}

    @property
    def results(self) -> SmallResults:
        """What has been measured so far."""
        return small_results.parse(self.content)

    def measure(self) -> bool:
        self.say(f"{len(self.cases)} cases; repeat the draw with --seed {self.content['seed']}")
        return super().measure()

    def pass_over(self, cases: Sequence[SmallCase], keep: Callable[[SmallCase, Times], None]) -> dict[str, str]:
        return pass_over(cases, self.rounds, self.seconds, keep)

    def entry_of(self, case: SmallCase) -> dict[str, Any]:
        return {"case": case.as_dict(), "drawn": self.cases[case]}

    def measured_of(self, number: int, entry: Any) -> Measured:
        return small_results.measured_of(number, entry)

    def line_of(self, measured: Measured) -> str:
        return small_tables.line_of(measured)

    def beside(self) -> None:
        """Measure the overhead, unless the options name cases."""
        for threads in [] if self.options.case else self.options.threads:
            for entry in small_overhead.measure(threads, self.say):
                self.content["overhead"].append(entry)


def show(files: list[SmallResults], options: argparse.Namespace, console: Console) -> int:
    """Print the tables, and write them where the options say."""
    text = small_tables.markdown_of(files)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    for page in options.page or []:
        small_tables.write_page(page, text)
    return 0


def run(options: argparse.Namespace, console: Console) -> int:
    """Measure or read, and show; the status of the program."""
    if options.read:
        return show([small_results.read(path) for path in options.read], options, console)
    now = SmallRun(options, console)
    interrupted = now.measure()
    if not now.content["results"] and not now.content["overhead"]:
        console.print("nothing was measured")
        return 130 if interrupted else 2
    show([now.results], options, console)
    console.print(f"Results: {now.path}", soft_wrap=True)
    return 130 if interrupted else 0

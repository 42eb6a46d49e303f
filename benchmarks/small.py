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
import time
from collections.abc import Callable
from typing import Any

import recording
import small_overhead
import small_results
import small_tables
from results import ResultsError
from rich.console import Console
from small_cases import DRAWS, SmallCase, covering_cases, drawn_cases
from small_measure import Times, pass_over
from small_results import PROCESSES, RUNS, Measured, SmallResults

ROUNDS, SECONDS = 3, 0.04
WRITE_SECONDS = 5.0  # between two times that the file is written during the screen


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


class SmallRun:
    """One run; `content` is what its file holds."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.seed = random.SystemRandom().randrange(2**31) if options.seed is None else options.seed
        self.cases = {} if options.overhead else chosen_cases(options, self.seed)
        self.rounds, self.seconds = options.rounds or ROUNDS, options.seconds
        self.path = options.json or recording.FOLDER / f"small-{time.strftime('%Y%m%d-%H%M%S')}.json"
        self.written = time.monotonic()
        self.content: dict[str, Any] = {"group": "small"} | recording.details_now()
        self.content |= {"seed": self.seed, "rounds": self.rounds, "seconds": self.seconds}
        self.content |= {"versions": {}, "results": [], "overhead": []}

    @property
    def results(self) -> SmallResults:
        """What has been measured so far."""
        return small_results.parse(self.content)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def measure(self) -> bool:
        """Measure all; True if it was interrupted."""
        self.say(f"{len(self.cases)} cases; repeat the draw with --seed {self.seed}")
        try:
            self._screen()
            self._again(lambda measured: measured.is_doubtful)
            for _ in range(1, RUNS):
                self._again(lambda measured: measured.is_below)
            if not self.options.case:
                self._overhead()
        except KeyboardInterrupt:
            self.say("interrupted; what has been measured is kept")
            return True
        finally:
            self._write()
        return False

    def _screen(self) -> None:
        def keep(case: SmallCase, times: Times) -> None:
            entry = {"case": case.as_dict(), "drawn": self.cases[case], "screen": times, "runs": []}
            self.content["results"].append(entry)
            done = len(self.content["results"])
            self.say(f"{done}/{len(self.cases)} {small_tables.line_of(small_results.measured_of(done, entry))}")
            if time.monotonic() > self.written + WRITE_SECONDS:
                self._write()

        self.content["versions"] |= pass_over(list(self.cases), self.rounds, self.seconds, keep)

    def _again(self, is_wanted: Callable[[Measured], bool]) -> None:
        """One more run of five processes of the cases that call for it."""
        measured = self.results.measured
        wanted = [place for place, one in enumerate(measured) if is_wanted(one)]
        entries = {measured[place].case: self.content["results"][place] for place in wanted}
        found: dict[SmallCase, list[Times]] = {case: [] for case in entries}
        for number in range(PROCESSES if entries else 0):
            self.say(f"{len(entries)} cases again: process {number + 1} of {PROCESSES}")
            pass_over(list(entries), self.rounds, self.seconds, lambda case, times: found[case].append(times))
        for case, entry in entries.items():
            entry["runs"].append(found[case])
        measured = self.results.measured
        for place in wanted:
            self.say(small_tables.line_of(measured[place]))

    def _overhead(self) -> None:
        for threads in self.options.threads:
            for entry in small_overhead.measure(threads, self.say):
                self.content["overhead"].append(entry)

    def _write(self) -> None:
        self.written = time.monotonic()
        if self.content["results"] or self.content["overhead"]:
            recording.write_json(self.path, self.content)


def show(files: list[SmallResults], options: argparse.Namespace, console: Console) -> int:
    """Print the tables, and write them where the options say."""
    text = small_tables.markdown_of(files)
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.page:
        small_tables.write_page(options.page, text)
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

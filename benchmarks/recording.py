"""A run of `run.py`: the measurements, their order and their time, and the file of results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fastrnn
import limits
import measure
from budget import Budget
from cases import CASES, Case
from contestants import ENTRIES, Entry
from display import LineDisplay, LiveDisplay
from results import Results, ResultsError, parse, threads_in_words
from rich.console import Console

TOUR = [
    "lstm T=1 B=1 H=64",
    "lstm T=100 B=1 H=128",
    "lstm T=50 B=64 H=128",
    "gru T=1000 B=8 H=64",
    "lstm T=20 B=20 H=200 L=2",
    "lstm T=200 B=64 H=128 ragged",
]
TOUR_SECONDS = 110.0  # for the cases; processes start and stop in what remains of two minutes
SECONDS = 0.08  # of a turn
ROUNDS, ROUNDS_MAX = 5, 40  # of a case; at most, where a budget says how many
FOLDER = Path(__file__).with_name("results")  # not part of the repository


def chosen_cases(options: argparse.Namespace) -> list[tuple[Case, str]]:
    """The cases and modes that the options select."""
    found = []
    for case in CASES:
        named = options.suite in ("full", case.group) or (options.suite == "tour" and case.name in TOUR)
        if options.case:
            named = any(text in case.name for text in options.case)
        if named:
            found += [(case, mode) for mode in case.modes if options.mode in (None, mode)]
    if not found:
        raise ResultsError("--suite, --case, --mode: no case has all of these")
    return found


def is_tour(options: argparse.Namespace) -> bool:
    """Whether the run is the short one."""
    return options.suite == "tour" and not options.case


def chosen_entries(options: argparse.Namespace) -> tuple[list[Entry], list[str]]:
    """Our own layers and the selected rivals that are installed; and the reasons why others are left out."""
    found, absent = [], []
    for entry in ENTRIES:
        if options.rivals is not None and entry.name not in ("fastrnn", *options.rivals):
            continue
        if entry.python() is None:
            absent.append(f"{entry.name}: not installed (python benchmarks/run.py --install)")
        elif options.rivals is None and entry.slow_to_prepare and is_tour(options):
            absent.append(f"{entry.name}: not in the tour, it compiles for minutes (--rivals {entry.name})")
        else:
            found.append(entry)
    return found, absent


def details_now() -> dict[str, Any]:
    """The machine, the build and the day."""
    config = fastrnn.show_config("dicts")
    return {
        "machine": platform.processor() or platform.machine(),
        "processor": config["processor"],
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "backend": config["backend"],
        "hidden": config["hidden"],
        "build": config["build"],
        "date": time.strftime("%F"),
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the whole file. If this is interrupted, the file before stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=1))
    part.replace(path)


class Recording:
    """One run; `content` is the content of its file."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.cases = options, chosen_cases(options)
        self.entries, self.absent = chosen_entries(options)
        total = len(self.cases) * len(options.threads)
        seconds = options.budget or (TOUR_SECONDS if is_tour(options) else None)
        self.budget = Budget(seconds, total) if seconds else None
        self.rounds = options.rounds or (ROUNDS_MAX if self.budget else ROUNDS)
        self.display = (LiveDisplay if console.is_terminal else LineDisplay)(console, total)
        suite = "cases" if options.case else options.suite
        self.path = options.json or FOLDER / f"{suite}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        self.content: dict[str, Any] = details_now() | {"suite": suite, "limits": {}, "versions": {}, "results": []}

    @property
    def results(self) -> Results:
        """The results so far."""
        return parse(self.content)

    def measure(self) -> bool:
        """Measure all cases; True if it was interrupted."""
        with self.display:
            for text in self.absent:
                self.display.note(text)
            try:
                for threads in self.options.threads:
                    self._with_threads(threads)
            except KeyboardInterrupt:
                self.display.note("interrupted; what has been measured is kept")
                if self.content["results"]:
                    self._write()
                return True
        return False

    def _with_threads(self, threads: int) -> None:
        self.display.begin(f"limits of the machine, {threads_in_words(threads)}")
        self.content["limits"][str(threads)] = self._limits(threads)
        with ExitStack() as stack:
            self.display.begin("starting the contestants")
            processes = [stack.enter_context(measure.Process(entry, threads)) for entry in self.entries]
            running = [process for process in processes if self._greet(process)]
            for case, mode in self.cases:
                if self.budget:
                    self.budget.begin_case()
                self.display.begin(f"{case.name}, {mode}")
                times = measure.measure(
                    case, mode, running, self.rounds, self.options.seconds, self.display.say, self.budget
                )
                self._keep({"case": case.as_dict(), "mode": mode, "threads": threads, "times": times})

    def _write(self) -> None:
        write_json(self.path, self.content)

    def _limits(self, threads: int) -> dict[str, float]:
        try:
            return limits.measured(threads)
        except (OSError, subprocess.CalledProcessError) as error:
            self.display.note(f"no limits of the machine: {error} (benchmarks/machine.c needs a C compiler)")
            return {}

    def _greet(self, process: measure.Process) -> bool:
        """Record the version of a contestant. If it does not run here, report that and return False."""
        name = process.entry.name
        self.display.say(name)
        answer = process.ask(do="hello")
        if "version" not in answer:
            if name == "fastrnn":
                raise ResultsError(f"fastrnn: expected it to run, got: {answer['unsupported']}")
            self.display.note(f"{name}: not installed, or it does not start")
            return False
        self.content["versions"][name] = answer["version"]
        return True

    def _keep(self, result: dict[str, Any]) -> None:
        self.content["results"].append(result)
        self._write()
        self.display.finished(self.results.measurements[-1])

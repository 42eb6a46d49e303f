"""Results of the group `small`: the file, and when a case counts as slower than a rival.

    {"group": "small", "seed": 1, …, "results": [{"case": {…}, "drawn": true, "screen": {…}, "runs": [[{…}, …], …]}],
     "overhead": [{"cell": "lstm", "B": 1, "H": 64, "threads": 1, "times": {…}}]}

The screen measures every case in one process of each contestant. Cases whose ratio is doubtful have a run of five
processes, and those that this run finds slower have a second run. Times map a contestant to the seconds of its rounds,
or to the reason why it has none.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results import ResultsError
from small_cases import SmallCase
from small_measure import CONTESTANTS, Times

DOUBTFUL_BELOW = 1.1  # a ratio of the screen
SLOWER_BELOW = 0.97  # the whole interval, in both runs
RUNS, PROCESSES = 2, 5
# Student's t, 95 %, by the number of processes.
QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Ratio:
    """The fastest rival's time over ours, its 95 % interval over processes, and our own seconds.

    The interval of a single process is the value alone.
    """

    rival: str
    value: float
    low: float
    high: float
    seconds: float


def ratio_of(processes: Sequence[Times], kind: str) -> Ratio | None:
    """The geometric mean over processes; in each, the median over rounds, since the rounds are interleaved."""
    ours, *rivals = (entry.name for entry in CONTESTANTS[kind])
    found = []
    for rival in rivals:
        both = [times for times in processes if _is_measured(times, ours) and _is_measured(times, rival)]
        if not both:
            continue
        logs = [math.log(statistics.median(np.divide(times[rival], times[ours]))) for times in both]
        mean = statistics.fmean(logs)
        half = QUANTILES[len(logs)] * statistics.stdev(logs) / len(logs) ** 0.5 if len(logs) > 1 else 0.0
        seconds = statistics.median(statistics.median(times[ours]) for times in both)
        found.append(Ratio(rival, math.exp(mean), math.exp(mean - half), math.exp(mean + half), seconds))
    return min(found, key=lambda ratio: ratio.value, default=None)


def _is_measured(times: Times, name: str) -> bool:
    return not isinstance(times[name], str) and len(times[name]) > 0


@dataclass(frozen=True)
class Measured:
    """A case with its times; `runs` are those of five processes, up to two."""

    case: SmallCase
    drawn: bool
    screen: Times
    runs: list[list[Times]]

    @property
    def ratios(self) -> list[Ratio]:
        """Of the screen and of each run, as far as the case has a ratio there."""
        found = [ratio_of(processes, self.case.kind) for processes in ([self.screen], *self.runs)]
        return [ratio for ratio in found if ratio]

    @property
    def ratio(self) -> Ratio | None:
        """Of the last run, or else of the screen."""
        return self.ratios[-1] if self.ratios else None

    @property
    def is_doubtful(self) -> bool:
        """Whether the screen calls for a run of five processes."""
        return bool(self.ratios) and self.ratios[0].value < DOUBTFUL_BELOW

    @property
    def is_below(self) -> bool:
        """Whether there is a run, and the whole interval of every run is below the limit."""
        found = self.ratios[1:]
        return bool(found) and all(ratio.high < SLOWER_BELOW for ratio in found)

    @property
    def is_slower(self) -> bool:
        """Slower than a rival: two runs say so."""
        return len(self.ratios) > RUNS and self.is_below

    @property
    def failures(self) -> dict[str, str]:
        """Contestants without a time, and why."""
        return {name: value for name, value in self.screen.items() if isinstance(value, str)}


@dataclass(frozen=True)
class SmallResults:
    """What a file holds; `details` are its entries beside the results."""

    measured: list[Measured]
    overhead: list[dict[str, Any]]
    details: dict[str, Any]

    @property
    def label(self) -> str:
        """The instruction set."""
        backend = str(self.details.get("backend", "not noted"))
        return {"avx512": "AVX-512", "avx2": "AVX2"}.get(backend, backend)

    def of(self, kinds: Sequence[str], mode: str | None = None, threads: int | None = None) -> list[Measured]:
        """The cases of these kinds, of one mode and number of threads or of all."""
        return [
            m
            for m in self.measured
            if m.case.kind in kinds and mode in (None, m.case.mode) and threads in (None, m.case.threads)
        ]


def read(path: Path) -> SmallResults:
    """The results of a file; ResultsError if it has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{path}: expected a file of results, got: {error.strerror}") from None
    except ValueError:
        raise ResultsError(f"{path}: expected results of the group small, got no JSON") from None
    if not isinstance(content, dict) or content.get("group") != "small":
        raise ResultsError(f"{path}: expected results of the group small, got another file")
    try:
        return parse(content)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None


def parse(content: dict[str, Any]) -> SmallResults:
    """The content of a file as objects."""
    measured = [measured_of(number, entry) for number, entry in enumerate(content["results"])]
    details = {name: value for name, value in content.items() if name not in ("results", "overhead")}
    return SmallResults(measured, content.get("overhead", []), details)


def measured_of(number: int, entry: Any) -> Measured:
    """An entry of "results" as an object; ResultsError if it is none."""
    try:
        found = Measured(SmallCase(**entry["case"]), bool(entry["drawn"]), entry["screen"], entry["runs"])
        _ = found.ratios, found.failures
    except (TypeError, KeyError, ValueError, AttributeError, ZeroDivisionError):
        raise ResultsError(f"results[{number}]: expected a case of the group small, got {entry!s:.90}") from None
    return found

"""Results of the group `cells`, as a file and as objects.

    {"group": "cells", …, "results": [{"case": {…}, "screen": {…}, "runs": [[{…}, …], …]}]}

ratios.py explains screens and runs. A ratio is a rival's time over that of `fastrnn.Recurrent`, or over the
compiled cell's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import group_files
from cells_cases import CellCase
from cells_measure import COMPILED, KINDS, OURS, RIVALS
from ratios import Ratio, Screened, Times, is_measured, ratio_of, ratio_to
from results import ResultsError

NORMAL = 1.96  # standard errors on either side of a 95 % interval


@dataclass(frozen=True)
class MeasuredCell(Screened):
    """A case of the group."""

    case: CellCase
    screen: Times
    runs: list[list[Times]]

    @property
    def names(self) -> tuple[str, Sequence[str]]:
        return OURS.name, RIVALS

    def to(self, kind: str) -> Ratio | None:
        """The ratio to the fastest rival of a kind: of the last run with its processes, or else of the screen."""
        if self.runs:
            return ratio_of(self.runs[-1], OURS.name, KINDS[kind])
        found = [ratio_to(self.screen, OURS.name, name) for name in KINDS[kind]]
        return min((one for one in found if one), key=lambda one: one.value, default=None)

    @property
    def over_compiled(self) -> Ratio | None:
        """Our time over the compiled cell's: the same cell, or the one that this cell is a variant of."""
        if self.runs:
            return ratio_of(self.runs[-1], COMPILED.name, [OURS.name])
        return ratio_to(self.screen, COMPILED.name, OURS.name)

    def seconds(self, name: str) -> float | None:
        """The median of a contestant's rounds."""
        times = [one for one in (self.runs[-1] if self.runs else [self.screen]) if is_measured(one, name)]
        return statistics.median(statistics.median(one[name]) for one in times) if times else None


@dataclass(frozen=True)
class Mean:
    """A geometric mean of ratios with its 95 % interval, which the errors of the ratios give."""

    value: float
    low: float
    high: float
    least: float
    greatest: float
    count: int


def mean_of(ratios: Iterable[Ratio | None]) -> Mean | None:
    """The errors of different cases are independent, so their squares add up; all rounds together are many samples."""
    found = [one for one in ratios if one]
    if not found:
        return None
    logs = [math.log(one.value) for one in found]
    mean, half = statistics.fmean(logs), NORMAL * math.sqrt(sum(one.error**2 for one in found)) / len(found)
    values = [one.value for one in found]
    return Mean(math.exp(mean), math.exp(mean - half), math.exp(mean + half), min(values), max(values), len(found))


@dataclass(frozen=True)
class CellsResults:
    """What a file holds; `details` are its entries beside the results."""

    measured: list[MeasuredCell]
    details: dict[str, Any]

    def of(self, **wanted: Any) -> list[MeasuredCell]:
        """The cases with these values; each is one value or a tuple of them."""
        return [m for m in self.measured if all(_is_one(getattr(m.case, name), one) for name, one in wanted.items())]


def _is_one(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else value == wanted


def read(path: Path) -> CellsResults:
    """The results of a file; ResultsError if it has none."""
    return group_files.read(path, "cells", parse)


def parse(content: dict[str, Any]) -> CellsResults:
    """The content of a file as objects."""
    measured = [measured_of(number, entry) for number, entry in enumerate(content["results"])]
    return CellsResults(measured, {name: value for name, value in content.items() if name != "results"})


def measured_of(number: int, entry: Any) -> MeasuredCell:
    """An entry of "results" as an object; ResultsError if it is none."""
    try:
        found = MeasuredCell(CellCase(**entry["case"]), entry["screen"], entry["runs"])
        _ = found.ratios, found.failures, found.over_compiled
    except (TypeError, KeyError, ValueError, AttributeError, ZeroDivisionError):
        raise ResultsError(f"results[{number}]: expected a case of the group cells, got {entry!s:.90}") from None
    return found

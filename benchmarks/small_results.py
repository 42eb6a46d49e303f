"""Results of the group `small`, as a file and as objects.

    {"group": "small", "seed": 1, …, "results": [{"case": {…}, "drawn": true, "screen": {…}, "runs": [[{…}, …], …]}],
     "overhead": [{"cell": "lstm", "B": 1, "H": 64, "threads": 1, "times": {…}}]}

ratios.py says what the screen and the runs are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import group_files
from ratios import Screened, Times
from results import ResultsError
from small_cases import SmallCase
from small_measure import CONTESTANTS


@dataclass(frozen=True)
class Measured(Screened):
    """A case of the group, and whether it was drawn."""

    case: SmallCase
    drawn: bool
    screen: Times
    runs: list[list[Times]]

    @property
    def names(self) -> tuple[str, Sequence[str]]:
        ours, *rivals = (entry.name for entry in CONTESTANTS[self.case.kind])
        return ours, rivals


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
    return group_files.read(path, "small", parse)


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

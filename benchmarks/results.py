"""Files of results from `run.py`, which are checked on reading, and values derived from the times of one case.

    {"machine": …, "limits": {"2": {"FMA peak, GFLOP/s": …}}, "versions": {name: …}, "results": [
        {"case": {…}, "mode": "forward", "threads": 2, "times": {name: {…}}}]}

Times of a contestant: median, p10, p99 in seconds and the medians of the rounds, or {"unsupported": why}. Older files
lack "processor", "backend" and other entries of a newer `run.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import roofline
from cases import GATES, Case
from contestants import ENTRIES

MODES = ("forward", "training")
OURS = {entry.name for entry in ENTRIES if entry.ours}
Key = tuple[str, str, str, int]


def threads_in_words(threads: int) -> str:
    """Format as "1 thread", "2 threads"."""
    return f"{threads} thread{'' if threads == 1 else 's'}"


class ResultsError(ValueError):
    """An unusable file; the message is a sentence for the user."""


@dataclass(frozen=True)
class Measurement:
    """Times of all contestants for one case, mode and number of threads, with the machine's `limits` of the run."""

    case: Case
    mode: str
    threads: int
    times: dict[str, Any]
    limits: dict[str, float]

    @property
    def key(self) -> Key:
        """A key that is the same in every run."""
        return self.case.group, self.case.name, self.mode, self.threads

    @property
    def label(self) -> str:
        """The key as readable text."""
        return f"{self.case.name}, {self.mode}, {threads_in_words(self.threads)}"

    def median(self, name: str) -> float | None:
        """Seconds of a contestant; None if it was not measured."""
        return self.times.get(name, {}).get("median")

    @property
    def ours(self) -> float | None:
        """Our own seconds."""
        return self.median("fastrnn")

    @property
    def rivals(self) -> dict[str, float]:
        """Seconds of all contestants except ours."""
        return {name: t["median"] for name, t in self.times.items() if "median" in t and name not in OURS}

    @property
    def fastest_rival(self) -> str | None:
        """The name of the fastest rival; None without rivals."""
        return min(self.rivals, key=self.rivals.__getitem__) if self.rivals else None

    @property
    def ratio(self) -> float | None:
        """The time of the fastest rival divided by ours."""
        return min(self.rivals.values()) / self.ours if self.rivals and self.ours else None

    @property
    def of_peak(self) -> float | None:
        """Our share of the peak of fused multiply-adds, which is measured in float32."""
        if not self.ours or self.case.dtype != "float32" or roofline.PEAK not in self.limits:
            return None
        return self.case.multiply_adds(self.mode) / self.ours / 1e9 / self.limits[roofline.PEAK]

    def of_limit(self, name: str) -> tuple[float, str] | None:
        """The share of the machine's limit that a contestant reaches, and the name of the limit."""
        bound, seconds = roofline.bound_of(self.case, self.mode, self.threads, self.limits), self.median(name)
        return (bound.seconds / seconds, bound.kind) if bound and seconds else None


@dataclass(frozen=True)
class Results:
    """The content of a file. `details` are its other entries, unchanged."""

    measurements: list[Measurement]
    details: dict[str, Any]

    @property
    def machine(self) -> str:
        """The name of the processor, if the file has it, and its architecture."""
        names = [self.details.get(entry) for entry in ("processor", "machine")]
        return ", ".join(dict.fromkeys(name for name in names if name)) or "not noted"

    @property
    def backend(self) -> str | None:
        """The backend of fastrnn; older files have it only in the version."""
        found = re.search(r"\((\w+)\)", self.details.get("versions", {}).get("fastrnn") or "")
        return self.details.get("backend") or (found and found[1])

    @property
    def contestants(self) -> list[str]:
        """Contestants with a time in some case, ours first."""
        measured = {name for m in self.measurements for name, t in m.times.items() if "median" in t}
        known = [entry.name for entry in ENTRIES if entry.name in measured]
        return known + sorted(measured - set(known))


def differing(one: Results, other: Results) -> list[str]:
    """Reasons why the times of two files cannot be compared, as sentences; empty if they can."""
    pairs = [(entry, one.details.get(entry), other.details.get(entry)) for entry in ("machine", "processor")]
    pairs.append(("backend", one.backend, other.backend))
    return [f"{entry} {a} in one, {b} in the other" for entry, a, b in pairs if a and b and a != b]


def read(path: Path) -> Results:
    """The results of a file; ResultsError if the file has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultsError(f"{path}: expected a file of results, got: {error.strerror}") from None
    except ValueError:
        raise ResultsError(f"{path}: expected results of benchmarks/run.py, got no JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get("results"), list):
        raise ResultsError(f'{path}: expected results of benchmarks/run.py, got JSON without a list "results"')
    if not content["results"]:
        raise ResultsError(f"{path}: expected at least one measured case, got none")
    try:
        return parse(content)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None


def parse(content: dict[str, Any]) -> Results:
    """Convert the output of `run.py` to objects."""
    limits = content.get("limits", {})
    measurements = [_measurement(number, entry, limits) for number, entry in enumerate(content["results"])]
    return Results(measurements, {name: value for name, value in content.items() if name != "results"})


def _measurement(number: int, entry: Any, limits: dict[str, Any]) -> Measurement:
    try:
        case, mode, threads, times = Case(**entry["case"]), entry["mode"], int(entry["threads"]), entry["times"]
        known = case.cell in GATES and mode in MODES and threads > 0 and "fastrnn" in times
        known &= all(t["median"] > 0 if "median" in t else "unsupported" in t for t in times.values())
    except (TypeError, KeyError, ValueError, AttributeError):
        known = False
    if not known:
        raise ResultsError(
            f"results[{number}]: expected a case of benchmarks/cases.py with its times, got {entry!s:.90}"
        )
    return Measurement(case, mode, threads, times, limits.get(str(threads), {}))


def merge(files: Sequence[Results]) -> Results:
    """Merge results; the last file with a case counts. ResultsError if they are from different machines."""
    for other in files[1:]:
        if reasons := differing(files[0], other):
            raise ResultsError(f"expected results of one machine and backend, got {'; '.join(reasons)}")
    measurements = {m.key: m for results in files for m in results.measurements}
    details = {name: value for results in files for name, value in results.details.items()}
    for entry in ("limits", "versions"):
        details[entry] = {k: v for results in files for k, v in results.details.get(entry, {}).items()}
    dates = sorted({results.details["date"] for results in files if "date" in results.details})
    return Results(list(measurements.values()), details | {"date": " and ".join(dates)})

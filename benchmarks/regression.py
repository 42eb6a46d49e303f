"""Compare our times with an earlier run: find cases that became slower or faster than noise explains.

A case counts as slower if it took more than 1 + tolerance of the earlier time, and if the middle halves of the two
runs' rounds do not overlap: the lower quartile of the rounds' medians now is above the earlier upper quartile. The
rivals of a case show whether the machine itself has changed, since they are the same programs in both runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from cases import Case
from results import Measurement, Results, ResultsError, differing
from roofline import PEAK

ROUNDS_MIN = 3  # fewer rounds show no noise
PEAK_DRIFT = 0.1  # of the machine's peak between two runs; more gives a warning


@dataclass(frozen=True)
class Change:
    """One case in both runs; the numbers are times now divided by earlier times."""

    now: Measurement
    ratio: float | None  # None: it was measured earlier and does not run now
    rivals: float | None  # median over the rivals in both runs
    verdict: str  # "slower", "faster" or "equal"


@dataclass(frozen=True)
class Comparison:
    """Cases in both runs, names of the other cases, and warnings."""

    changes: list[Change]
    only_now: list[str]
    only_then: list[str]
    redefined: list[str]  # the same name, but a different case
    warnings: list[str]

    def of(self, verdict: str) -> list[Change]:
        """The changes with one verdict, the greatest first."""
        return sorted(
            (change for change in self.changes if change.verdict == verdict),
            key=lambda change: abs(np.log(change.ratio)) if change.ratio else np.inf,
            reverse=True,
        )

    @property
    def typical(self) -> float | None:
        """Median of our times now divided by the earlier times."""
        return statistics.median(known) if (known := [c.ratio for c in self.changes if c.ratio]) else None


def refuse_another_machine(now: Results, then: Results) -> None:
    """Raise ResultsError if the times of two runs cannot be compared; the current run may be incomplete."""
    if reasons := differing(now, then):
        raise ResultsError(f"--compare: expected results of the same machine and backend, got {'; '.join(reasons)}")


def compare(now: Results, then: Results, tolerance: float) -> Comparison:
    """The changes from one run to another; ResultsError if they cannot be compared."""
    refuse_another_machine(now, then)
    before, after = ({m.key: m for m in results.measurements} for results in (then, now))
    threads = [sorted({m.threads for m in results.measurements}) for results in (now, then)]
    if not set(threads[0]) & set(threads[1]):
        raise ResultsError(f"--compare: expected results of {threads[0]} threads, got {threads[1]}")
    known = [key for key in after if key in before]
    common = [key for key in known if _measured(after[key].case) == _measured(before[key].case)]
    if not common:
        raise ResultsError("--compare: expected results with cases of this run, got none of them")
    return Comparison(
        [change_of(after[key], before[key], tolerance) for key in common],
        [m.label for key, m in after.items() if key not in before],
        [m.label for key, m in before.items() if key not in after],
        [after[key].label for key in known if key not in common],
        _warnings(now, then),
    )


def change_of(now: Measurement, then: Measurement, tolerance: float) -> Change:
    """One case."""
    shared = [seconds / then.rivals[name] for name, seconds in now.rivals.items() if name in then.rivals]
    rivals = statistics.median(shared) if shared else None
    if now.ours is None or then.ours is None:
        return Change(now, None, rivals, "slower" if then.ours else "faster" if now.ours else "equal")
    ratio = now.ours / then.ours
    (lower_now, upper_now), (lower_then, upper_then) = _quartiles(now), _quartiles(then)
    verdict = "equal"
    if ratio > 1 + tolerance and lower_now > upper_then:
        verdict = "slower"
    if ratio < 1 / (1 + tolerance) and upper_now < lower_then:
        verdict = "faster"
    return Change(now, ratio, rivals, verdict)


def _measured(case: Case) -> Case:
    return replace(case, why="", modes=())


def _rounds(measurement: Measurement) -> Sequence[float]:
    times = measurement.times["fastrnn"]
    return times.get("medians") or [times["median"]]


def _quartiles(measurement: Measurement) -> tuple[float, float]:
    lower, upper = np.percentile(_rounds(measurement), [25, 75])
    return float(lower), float(upper)


def _warnings(now: Results, then: Results) -> list[str]:
    found = []
    for name, results in (("this run", now), ("the earlier run", then)):
        few = sum(m.ours is not None and len(_rounds(m)) < ROUNDS_MIN for m in results.measurements)
        if few:
            found.append(f"{few} cases of {name} have fewer than {ROUNDS_MIN} rounds, which do not show noise")
    limits = [results.details.get("limits", {}) for results in (now, then)]
    for threads in sorted(set(limits[0]) & set(limits[1])):
        peaks = [measured[threads].get(PEAK) for measured in limits]
        if all(peaks) and abs(peaks[0] / peaks[1] - 1) > PEAK_DRIFT:
            found.append(
                f"the machine's own peak with {threads} threads is {peaks[0] / peaks[1]:.2f} of the earlier one"
            )
    old, new = (results.details.get("versions", {}) for results in (then, now))
    found += [f"{name} was {old[name]}, it is {new[name]}" for name in new if name in old and old[name] != new[name]]
    if not all(results.details.get("processor") for results in (now, then)):
        found.append("one of the files does not name its processor: both count as of one machine")
    return found

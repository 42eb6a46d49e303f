"""Ratios of times, their 95 % intervals, and when a case counts as slower than a rival.

A screen measures every case in one process of each contestant. Cases with a doubtful ratio have a run of five
processes, and those that this run finds slower have a second run. Times map a contestant to the seconds of its rounds,
or to the reason why it has none.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Times = dict[str, Any]  # name of a contestant -> seconds of its rounds, or why it has none

DOUBTFUL_BELOW = 1.1  # a ratio of the screen
SLOWER_BELOW = 0.97  # the whole interval, in both runs
RUNS, PROCESSES = 2, 5
# Student's t, 95 %, by the number of samples.
QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Ratio:
    """A rival's time over ours, its 95 % interval, our own seconds, and the standard error of the ratio's logarithm.

    The interval of a single sample is the value alone.
    """

    rival: str
    value: float
    low: float
    high: float
    seconds: float
    error: float


def is_measured(times: Times, name: str) -> bool:
    """Whether a contestant has times."""
    found = times.get(name, "")
    return not isinstance(found, str) and len(found) > 0


def logs_of_rounds(times: Times, ours: str, rival: str) -> list[float]:
    """The logarithm of the rival's time over ours in each round that both have, since rounds are interleaved."""
    return [math.log(b / a) for a, b in zip(times[ours], times[rival], strict=False)]


def ratio_from(rival: str, logs: Sequence[float], seconds: float) -> Ratio:
    """The ratio of at most ten samples of its logarithm."""
    mean = statistics.fmean(logs)
    error = statistics.stdev(logs) / len(logs) ** 0.5 if len(logs) > 1 else 0.0
    half = QUANTILES.get(len(logs), 0.0) * error
    return Ratio(rival, math.exp(mean), math.exp(mean - half), math.exp(mean + half), seconds, error)


def ratio_to(times: Times, ours: str, rival: str) -> Ratio | None:
    """The ratio in one process of each contestant, with the interval over rounds."""
    if not is_measured(times, ours) or not is_measured(times, rival):
        return None
    logs = logs_of_rounds(times, ours, rival)[: max(QUANTILES)]
    return ratio_from(rival, logs, statistics.median(times[ours]))


def ratio_of(processes: Sequence[Times], ours: str, rivals: Sequence[str]) -> Ratio | None:
    """The least ratio: a geometric mean over processes; in each process, the median over rounds."""
    found = []
    for rival in rivals:
        both = [times for times in processes if is_measured(times, ours) and is_measured(times, rival)]
        if both:
            logs = [statistics.median(logs_of_rounds(times, ours, rival)) for times in both]
            seconds = statistics.median(statistics.median(times[ours]) for times in both)
            found.append(ratio_from(rival, logs, seconds))
    return min(found, key=lambda ratio: ratio.value, default=None)


class Screened:
    """A case with its times; `runs` are those of five processes, up to two."""

    case: Any
    screen: Times
    runs: list[list[Times]]

    @property
    def names(self) -> tuple[str, Sequence[str]]:
        """Our name, and those of the rivals."""
        raise NotImplementedError

    @property
    def ratios(self) -> list[Ratio]:
        """Of the screen and of each run, as far as the case has a ratio there."""
        found = [ratio_of(processes, *self.names) for processes in ([self.screen], *self.runs)]
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

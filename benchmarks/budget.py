"""The time of a whole run, shared among its cases: how many rounds each gets, and who takes part."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS_MIN = 3  # the median of fewer is any one of them
# Of a case's time, what a contestant's preparation may take. Compiling does not pay for itself in a short tour.
PREPARATION_SHARE = 0.5


class Budget:
    """Seconds from now on for a number of cases. What one case leaves over, the next ones have."""

    def __init__(self, seconds: float, cases: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end, self._cases = clock, clock() + seconds, cases
        self._case_end = self._end
        self._preparing: dict[str, float] = {}

    def begin_case(self) -> None:
        """An equal share of the remaining time for the next case."""
        now = self._clock()
        self._case_end = now + max(0.0, self._end - now) / max(1, self._cases)
        self._cases -= 1

    def prepared(self, name: str, seconds: float) -> None:
        """A contestant has been prepared for a case."""
        self._preparing[name] = seconds

    def admits(self, name: str) -> bool:
        """Whether a contestant's preparation, if it takes what it took the last time, leaves time to measure."""
        share = max(0.0, self._case_end - self._clock())
        return self._preparing.get(name, 0.0) <= PREPARATION_SHARE * share or name == "fastrnn"

    def another_round(self, done: int) -> bool:
        """Whether a case that has had this many rounds has time for one more."""
        return done < ROUNDS_MIN or self._clock() < self._case_end

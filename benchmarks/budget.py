"""The time of a whole run, shared among its cases: the number of rounds of each case, and its contestants."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS_MIN = 3  # fewer rounds have no meaningful median
# The share of a case's time that the preparation of a contestant may take. A tour has no time for long compilation.
PREPARATION_SHARE = 0.5


class Budget:
    """Seconds from now on for a number of cases. Time left over by one case goes to the next cases."""

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
        """Record the time that a contestant took to prepare a case."""
        self._preparing[name] = seconds

    def admits(self, name: str) -> bool:
        """Whether a contestant's preparation, if it takes as long as last time, leaves time to measure."""
        share = max(0.0, self._case_end - self._clock())
        return self._preparing.get(name, 0.0) <= PREPARATION_SHARE * share or name == "fastrnn"

    def another_round(self, done: int) -> bool:
        """Whether a case has time for another round after `done` rounds."""
        return done < ROUNDS_MIN or self._clock() < self._case_end

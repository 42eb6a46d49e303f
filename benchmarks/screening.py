"""A run that measures every case of a group once, and cases with a doubtful ratio again: see ratios.py."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ratios
import recording
from ratios import Screened, Times
from rich.console import Console

WRITE_SECONDS = 5.0  # between two times that the file is written during the screen


class Screening:
    """One run; `content` is what its file holds. A group says how cases are measured and what they become."""

    group = ""

    def __init__(self, options: argparse.Namespace, console: Console, cases: Mapping[Any, Any]) -> None:
        self.options, self.console, self.cases = options, console, cases
        self.path = options.json or recording.FOLDER / f"{self.group}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        self.written = time.monotonic()
        self.content: dict[str, Any] = {"group": self.group} | recording.details_now()
        self.content |= {"versions": {}, "results": []}

    def pass_over(self, cases: Sequence[Any], keep: Callable[[Any, Times], None]) -> dict[str, str]:
        """Measure all cases once, in new processes; the versions of the contestants."""
        raise NotImplementedError

    def entry_of(self, case: Any) -> dict[str, Any]:
        """What the file holds of a case beside its times."""
        raise NotImplementedError

    def measured_of(self, number: int, entry: Any) -> Screened:
        """An entry of the file as an object."""
        raise NotImplementedError

    def line_of(self, measured: Any) -> str:
        """A finished case as a line."""
        raise NotImplementedError

    def beside(self) -> None:
        """Measure what is no case, at the end."""

    def say(self, text: str) -> None:
        """Print a permanent line."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def measure(self) -> bool:
        """Measure all; True if it was interrupted."""
        try:
            self._screen()
            self._again(lambda measured: measured.is_doubtful)
            for _ in range(1, ratios.RUNS):
                self._again(lambda measured: measured.is_below)
            self.beside()
        except KeyboardInterrupt:
            self.say("interrupted; what has been measured is kept")
            return True
        finally:
            self._write()
        return False

    def _screen(self) -> None:
        def keep(case: Any, times: Times) -> None:
            entry = self.entry_of(case) | {"screen": times, "runs": []}
            self.content["results"].append(entry)
            done = len(self.content["results"])
            self.say(f"{done}/{len(self.cases)} {self.line_of(self.measured_of(done, entry))}")
            if time.monotonic() > self.written + WRITE_SECONDS:
                self._write()

        self.content["versions"] |= self.pass_over(list(self.cases), keep)

    def _again(self, is_wanted: Callable[[Screened], bool]) -> None:
        """One more run of five processes of the cases that call for it."""
        results = self.content["results"]
        measured = [self.measured_of(number, entry) for number, entry in enumerate(results)]
        places = [place for place, one in enumerate(measured) if is_wanted(one)]
        entries = {measured[place].case: results[place] for place in places}
        found: dict[Any, list[Times]] = {case: [] for case in entries}
        for number in range(ratios.PROCESSES if entries else 0):
            self.say(f"{len(entries)} cases again: process {number + 1} of {ratios.PROCESSES}")
            self.pass_over(list(entries), lambda case, times: found[case].append(times))
        for case, entry in entries.items():
            entry["runs"].append(found[case])
        for place in places:
            self.say(self.line_of(self.measured_of(place, results[place])))

    def _write(self) -> None:
        self.written = time.monotonic()
        if self.content["results"] or self.content.get("overhead"):
            recording.write_json(self.path, self.content)

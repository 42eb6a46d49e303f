"""The output of `run.py` while it measures: a live table in a terminal, otherwise a line for each finished case."""

from __future__ import annotations

import statistics
from types import TracebackType

from result_tables import line_of, table_of
from results import Measurement
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

LINES_BESIDE = 9  # of the terminal: title, header and frame of the table, summary, progress below


class LineDisplay:
    """Prints each finished case, without control characters; also the base of the live display."""

    def __init__(self, console: Console, cases: int) -> None:
        self.console, self.cases = console, cases

    def __enter__(self) -> LineDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Print a permanent sentence."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def begin(self, what: str) -> None:
        """Set the case or other measurement that runs now."""

    def say(self, what: str) -> None:
        """Set the contestant and its round."""

    def finished(self, measurement: Measurement) -> None:
        """Record the times of a finished case."""
        self.note(line_of(measurement))


class LiveDisplay(LineDisplay):
    """The last cases as a table, the mean so far, and the current measurement."""

    def __init__(self, console: Console, cases: int) -> None:
        super().__init__(console, cases)
        columns = SpinnerColumn(), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()
        self.progress = Progress(*columns, TextColumn("{task.description}"), console=console)
        self.task = self.progress.add_task("", total=cases)
        self.what, self.done = "", list[Measurement]()
        self.live = Live(self.picture(), console=console, transient=True, refresh_per_second=8)

    def __enter__(self) -> LiveDisplay:
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def picture(self) -> Group:
        """As much as fits the terminal."""
        fitting = max(1, self.console.height - LINES_BESIDE)
        last = self.done[-fitting:]
        parts = [table_of(last, [], self.console.width)] if last else []
        ratios = [m.ratio for m in self.done if m.ratio]
        if ratios:
            earlier = f" ({len(self.done) - len(last)} above)" if len(self.done) > len(last) else ""
            mean = statistics.geometric_mean(ratios)
            parts.append(Text(f"{len(self.done)} done{earlier}; geometric mean of the ratios so far {mean:.2f}"))
        return Group(*parts, self.progress)

    def begin(self, what: str) -> None:
        self.what = what
        self.say("")

    def say(self, what: str) -> None:
        self.progress.update(self.task, description=f"{self.what}{': ' if what else ''}{what}")

    def finished(self, measurement: Measurement) -> None:
        self.done.append(measurement)
        self.progress.advance(self.task)
        self.live.update(self.picture())

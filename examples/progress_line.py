"""A progress bar on one line of the terminal; silent if the output is not a terminal."""

from __future__ import annotations

import sys
import time

WIDTH = 24


class ProgressLine:
    """Shows the share of `total` elements (characters, words) that is done, a text, the rate and the time left."""

    def __init__(self, total: int, done: int = 0, element: str = "char") -> None:
        self.total, self.first, self.done, self.element = total, done, done, element
        self.begin, self.shown = time.perf_counter(), 0.0

    @property
    def rate(self) -> float:
        """Elements per second since the start."""
        return (self.done - self.first) / max(time.perf_counter() - self.begin, 1e-9)

    def advance(self, count: int, text: str) -> None:
        """Count elements and, ten times a second, redraw the line."""
        self.done += count
        now = time.perf_counter()
        if not sys.stderr.isatty() or now - self.shown < 0.1:
            return
        self.shown = now
        share = self.done / self.total
        bar = ("━" * round(share * WIDTH)).ljust(WIDTH, "╌")
        left = (self.total - self.done) / self.rate
        line = f"{bar} {share:4.0%}  {text}  {self.rate:,.0f} {self.element}/s  {left // 60:.0f}:{left % 60:02.0f} left"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the line empty, for other output."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)

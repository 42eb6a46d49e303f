"""Results as a table for the terminal, as Markdown, and in a few sentences."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from regression import Comparison
from results import MODES, Measurement, Results, threads_in_words
from rich.console import Console
from rich.table import Table

SHORT_MODES = {"forward": "fwd", "training": "train"}
COLUMNS = 72  # of the terminal, for the table without columns of contestants
COLUMNS_EACH = 12


def milliseconds(seconds: float | None) -> str:
    """Format with four digits; a dash for a contestant without a time."""
    return "–" if seconds is None else f"{seconds * 1e3:.4g}"


def cells_of(measurement: Measurement) -> tuple[str, str, str, str]:
    """Our time, the ratio, the fastest rival, the share of the peak."""
    ratio, peak = measurement.ratio, measurement.of_peak
    return (
        milliseconds(measurement.ours),
        "" if ratio is None else f"{ratio:.2f}",
        measurement.fastest_rival or "",
        "" if peak is None else f"{peak:.0%}",
    )


def table_of(measurements: Sequence[Measurement], names: list[str], width: int) -> Table:
    """A row for each case, mode and number of threads; also the time of each contestant if the width allows."""
    names = names if width >= COLUMNS + COLUMNS_EACH * len(names) else []
    table = Table(title="ms: median of a call; ratio: the fastest rival's time over ours; peak: our share")
    table.add_column("case")
    for title in ("mode", "thr.", "ms", "ratio", "fastest rival", "peak", *names):
        table.add_column(title, justify="left" if title in ("mode", "fastest rival") else "right", no_wrap=True)
    for m in measurements:
        ms, ratio, rival, peak = cells_of(m)
        colour = "red" if m.ratio and m.ratio < 1 else "green"
        each = [milliseconds(m.median(name)) for name in names]
        ratio = f"[{colour}]{ratio}" if ratio else ""
        table.add_row(m.case.name, SHORT_MODES[m.mode], str(m.threads), ms, ratio, rival, peak, *each)
    return table


def line_of(measurement: Measurement) -> str:
    """The line of a finished case, for output without a terminal."""
    ms, ratio, rival, _ = cells_of(measurement)
    rounds = len(measurement.times["fastrnn"].get("medians", []))
    beside = f"{ratio} to {rival}" if ratio else "no rival"
    return f"{measurement.label}: {ms} ms, ratio {beside}, {rounds} rounds"


def markdown_of(measurements: Sequence[Measurement]) -> str:
    """The table for a page."""
    lines = ["| case | mode | threads | ms | ratio | fastest rival | of peak |", "|---|---|---|---|---|---|---|"]
    for m in measurements:
        lines.append(f"| {' | '.join((m.case.name, m.mode, str(m.threads), *cells_of(m)))} |")
    return "\n".join(lines) + "\n"


def means_of(measurements: Sequence[Measurement]) -> list[str]:
    """Geometric means over the cases that have a rival, for each mode and number of threads."""
    lines = []
    for threads in sorted({m.threads for m in measurements}):
        for mode in MODES:
            ratios = [m.ratio for m in measurements if (m.threads, m.mode) == (threads, mode) and m.ratio]
            if ratios:
                lines.append(
                    f"{threads_in_words(threads)}, {mode}: geometric mean {statistics.geometric_mean(ratios):.2f}, "
                    f"least {min(ratios):.2f}, {sum(ratio < 1 for ratio in ratios)} of {len(ratios)} cases below 1"
                )
    return lines


def show_results(results: Results, console: Console) -> None:
    """Show limits, versions, the table and its summary."""
    for threads, values in results.details.get("limits", {}).items():
        if values:
            console.print(
                f"{threads_in_words(int(threads))}: "
                + ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            )
    versions = results.details.get("versions", {})
    console.print(", ".join(f"{name}: {version}" for name, version in versions.items()))
    console.print(table_of(results.measurements, results.contestants, console.width))
    for line in means_of(results.measurements):
        console.print(line)


def show_comparison(comparison: Comparison, tolerance: float, console: Console) -> None:
    """Show slower and faster cases, cases of only one run, and warnings."""
    for text in comparison.warnings:
        console.print(f"[yellow]Note:[/] {text}.")
    others = ("only in this run", comparison.only_now), ("missing in this run", comparison.only_then)
    for title, labels in (*others, ("that measure something else now", comparison.redefined)):
        if labels:
            console.print(f"{len(labels)} cases {title}: " + "; ".join(labels), highlight=False)
    for verdict, colour in (("slower", "red"), ("faster", "green")):
        if changes := comparison.of(verdict):
            table = Table(
                "case", "mode", "thr.", "ms", "now / then", "rivals' now / then", title=f"[{colour}]{verdict}"
            )
            for change in changes:
                m, numbers = change.now, [f"{n:.2f}" if n else "–" for n in (change.ratio, change.rivals)]
                ms = milliseconds(m.ours) if m.ours else "does not run"
                table.add_row(m.case.name, SHORT_MODES[m.mode], str(m.threads), ms, *numbers)
            console.print(table)
    counts = ", ".join(f"{len(comparison.of(verdict))} {verdict}" for verdict in ("slower", "faster", "equal"))
    typical = f"; median of our times now over then {comparison.typical:.2f}" if comparison.typical else ""
    console.print(f"{len(comparison.changes)} cases in both runs: {counts} (beyond noise and {tolerance:.0%}){typical}")

"""Charts with a row for each case: our ratio to the fastest rival, and shares of the machine's limit."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from palette import LIGHT
from panels import Figure, Panel
from results import Measurement, Results, threads_in_words

LABEL_COLUMNS = 25  # of a case's name; longer names continue on the next line
LINE_INCHES = 0.15
ROWS_MAX = 20  # of a panel; if there are more, each cell gets its own panel
TICKS = [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128]


def ratio_figure(results: Results) -> Figure:
    """A panel for each group, mode and number of threads."""
    ratios = [m.ratio for m in results.measurements if m.ratio]
    limits = (min([0.8, *ratios]) / 1.15, max([1.5, *ratios]) * 1.5)
    panels = []
    for title, rows in _groups([m for m in results.measurements if m.ratio]):

        def draw(axes: Any, rows: Sequence[Measurement] = rows) -> None:
            _ratios(axes, rows, limits)

        below = [m.case.name for m in rows if m.ratio and m.ratio < 1]
        alt = f"{title}: ratio of each of {len(rows)} cases; " + (
            f"below 1: {', '.join(below)}" if below else "none below 1"
        )
        panels.append(Panel(title, alt, _height(rows), draw))
    text = (
        "The median time of the fastest rival divided by ours, on a logarithmic scale. Right of the line at 1, fastrnn "
        "is faster (blue circle); left of it, in the shaded part, a rival is faster (orange diamond, bold number)."
    )
    return Figure("ratios", "Ratio to the fastest rival, case by case", text, panels)


def limit_figure(results: Results) -> Figure:
    """A panel for each group, mode and number of threads."""
    panels = []
    for title, rows in _groups([m for m in results.measurements if m.of_limit("fastrnn")]):

        def draw(axes: Any, rows: Sequence[Measurement] = rows) -> None:
            _shares(axes, rows)

        shares = [m.of_limit("fastrnn") for m in rows]
        numbers = [share[0] for share in shares if share]
        alt = f"{title}: fastrnn reaches {min(numbers):.0%} to {max(numbers):.0%} of the limits of these cases"
        panels.append(Panel(title, alt, _height(rows) + 0.2, draw))
    text = (
        "The least possible time on this machine divided by the measured time. The limit is arithmetic (circle: share "
        "of the measured peak of fused multiply-adds). For a single sequence, which shares its weights with no other, "
        "it may be reading the weights in each step from the nearest cache that holds them (square: share of the "
        "measured bandwidth of that cache). The hollow mark is the fastest rival."
    )
    return Figure("limits", "Share of the machine’s limit", text, panels)


def _groups(measurements: Sequence[Measurement]) -> Iterator[tuple[str, list[Measurement]]]:
    found: dict[str, list[Measurement]] = {}
    several = len({m.threads for m in measurements}) > 1
    for m in measurements:
        title = f"{m.case.group}, {m.mode}" + (f", {threads_in_words(m.threads)}" if several else "")
        found.setdefault(title, []).append(m)
    for title, rows in found.items():
        cells = dict.fromkeys(m.case.cell for m in rows) if len(rows) > ROWS_MAX else {}
        for cell in cells:
            yield f"{cell} {title}", [m for m in rows if m.case.cell == cell]
        if not cells:
            yield title, rows


def _labels(rows: Sequence[Measurement]) -> list[str]:
    return [textwrap.fill(m.case.name, LABEL_COLUMNS) for m in rows]


def _height(rows: Sequence[Measurement]) -> float:
    return 0.75 + LINE_INCHES * sum(1.3 + label.count("\n") for label in _labels(rows))


def _rows(axes: Any, rows: Sequence[Measurement]) -> np.ndarray:
    """Label the y axis with the first case on top; return the y of each case."""
    labels = _labels(rows)
    heights = np.array([1.3 + label.count("\n") for label in labels])
    y = np.cumsum(heights) - heights / 2
    axes.set_yticks(y, labels, size=8)
    axes.set_ylim(heights.sum(), 0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return y


def log_ticks(axis: Any, limits: tuple[float, float], ticks: Sequence[float] = TICKS) -> None:
    """Plain numbers at the ticks inside the limits."""
    inside = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
    axis.set_ticks(inside, [f"{tick:g}" for tick in inside])
    axis.set_ticks([], minor=True)


def _ratios(axes: Any, rows: Sequence[Measurement], limits: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    axes.axvspan(limits[0], 1, color=LIGHT["shade"], linewidth=0, zorder=0)
    axes.axvline(1, color=LIGHT["ink"], linewidth=1)
    for y, m in zip(_rows(axes, rows), rows, strict=True):
        ratio = m.ratio or 1
        role, mark = ("worse", "D") if ratio < 1 else ("better", "o")
        axes.plot([1, ratio], [y, y], color=LIGHT[role], linewidth=1.4)
        axes.plot(ratio, y, mark, color=LIGHT[role], markersize=4.5)
        weight = "bold" if ratio < 1 else "normal"
        axes.annotate(
            f"{ratio:.2f}", (max(ratio, 1), y), (5, 0), textcoords="offset points", va="center", size=8, weight=weight
        )
    log_ticks(axes.xaxis, limits)
    axes.set_xlabel("times as fast as the fastest rival")


def _shares(axes: Any, rows: Sequence[Measurement]) -> None:
    for y, m in zip(_rows(axes, rows), rows, strict=True):
        ours, rival = m.of_limit("fastrnn"), m.of_limit(m.fastest_rival) if m.fastest_rival else None
        if rival:
            axes.plot(100 * rival[0], y, _mark(rival[1]), color=LIGHT["soft"], markersize=5, fillstyle="none")
        if ours:
            axes.plot([0, 100 * ours[0]], [y, y], color=LIGHT["line"], linewidth=1.4, zorder=1)
            axes.plot(100 * ours[0], y, _mark(ours[1]), color=LIGHT["better"], markersize=5)
    axes.set_xlim(0, max([100.0, *(100 * share[0] * 1.05 for m in rows if (share := m.of_limit("fastrnn")))]))
    axes.set_xlabel("% of the machine’s limit")
    for mark, fill, label in (
        ("o", "full", "fastrnn: arithmetic"),
        ("s", "full", "fastrnn: weights"),
        ("o", "none", "rival"),
    ):
        axes.plot(
            [], [], mark, color=LIGHT["better" if fill == "full" else "soft"], fillstyle=fill, label=label, markersize=5
        )
    axes.figure.legend(loc="outside lower center", ncols=3, columnspacing=1, handletextpad=0.2)


def _mark(kind: str) -> str:
    return "o" if kind == "arithmetic" else "s"

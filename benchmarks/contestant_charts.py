"""Charts that compare the contestants: curves over B and T, latency percentiles, ratios to each rival."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from case_charts import log_ticks
from palette import LIGHT, style_of
from panels import Figure, Panel
from results import MODES, OURS, Measurement, Results, threads_in_words

CURVE_HEIGHT = 3.6
POINTS_MIN = 3  # of a curve
ALL_TICKS = [m * 10.0**e for e in range(-3, 8) for m in (1, 2, 5)]


def names_in(rows: Sequence[Measurement]) -> list[str]:
    """Contestants with a time in some row, in the order of the first row that has all of them."""
    return list(dict.fromkeys(name for m in rows for name, times in m.times.items() if "median" in times))


def short(number: float) -> str:
    """Format with three digits, without an exponent."""
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _milliseconds(_: Measurement, seconds: float) -> float:
    return seconds * 1e3


def curve_figures(results: Results) -> list[Figure]:
    """Figures of times over the batch size and over the number of time steps."""
    batch = (
        "batch",
        "Batch size",
        "B",
        [
            ("ms of a call", _milliseconds),
            ("sequence steps a second, millions", lambda m, s: m.case.T * m.case.B / s / 1e6),
        ],
        "More sequences side by side share each loaded weight: a call takes longer, but each sequence takes less time.",
    )
    steps = (
        "steps",
        "Time steps",
        "T",
        [("ms of a call", _milliseconds), ("µs of a step", lambda m, s: s * 1e6 / m.case.T)],
        "Steps run one after the other, so a call takes longer with each; more steps share the fixed cost of a call.",
    )
    return [f for f in (_curve_figure(results, *batch), _curve_figure(results, *steps)) if f.panels]


def _curve_figure(
    results: Results, name: str, title: str, size: str, quantities: list[tuple[str, Callable[..., float]]], text: str
) -> Figure:
    panels = []
    for heading, rows in _series(results, size):
        for unit, value in quantities:

            def draw(axes: Any, rows: Any = rows, unit: str = unit, value: Any = value) -> None:
                _curves(axes, rows, size, unit, value)

            ours = ", ".join(f"{size}={getattr(m.case, size)}: {value(m, m.ours):.3g}" for m in rows if m.ours)
            alt = f"{heading}: {unit} over {size} for {', '.join(names_in(rows))}. fastrnn: {ours}"
            panels.append(Panel(heading, alt, CURVE_HEIGHT, draw))
    return Figure(name, title, text, panels)


def _series(results: Results, size: str) -> list[tuple[str, list[Measurement]]]:
    """Groups of plain cases that differ in only one size, with enough cases for a curve."""
    found: dict[str, dict[int, Measurement]] = {}
    for mode in MODES:
        for m in results.measurements:
            c = m.case
            if m.mode != mode or c.lengths or c.reset_every or c.truncation or c.layers > 1 or c.bidirectional:
                continue
            other = f"T={c.T}" if size == "B" else f"B={c.B}"
            threads = threads_in_words(m.threads)
            width = f"H={c.H}" if c.I == c.H else f"I={c.I} H={c.H}"
            double = "" if c.dtype == "float32" else f" {c.dtype}"
            key = f"{c.cell} {other} {width}{double}, {mode}, {threads}"
            found.setdefault(key, {})[getattr(c, size)] = m
    return [(key, [points[n] for n in sorted(points)]) for key, points in found.items() if len(points) >= POINTS_MIN]


def _curves(axes: Any, rows: Sequence[Measurement], size: str, unit: str, value: Callable[..., float]) -> None:
    for name in names_in(rows):
        points = [(getattr(m.case, size), value(m, seconds)) for m in rows if (seconds := m.median(name))]
        axes.plot(*zip(*points, strict=True), label=name, **style_of(name))
    sizes = [getattr(m.case, size) for m in rows]
    axes.set(xscale="log", yscale="log", xlabel={"B": "B, sequences", "T": "T, time steps"}[size])
    axes.set_ylabel(unit)
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.set_xticks([], minor=True)
    log_ticks(axes.yaxis, axes.get_ylim(), ALL_TICKS if np.ptp(np.log10(axes.get_ylim())) < 2.2 else ALL_TICKS[::3])
    axes.grid()
    axes.figure.legend(loc="outside lower center", ncols=3, columnspacing=1.2, handlelength=2.6)


def latency_figure(results: Results) -> Figure:
    """A panel for each cell, mode and H, of a single step of one sequence."""
    rows = [m for m in results.measurements if m.case.T == m.case.B == 1]
    several = len({m.threads for m in rows}) > 1
    panels = []
    for m in sorted(rows, key=lambda m: (m.threads, MODES.index(m.mode))):
        # All panels of a mode have the same scale; the numbers need room on the right.
        every = [us for other in rows if other.mode == m.mode for us in np.ravel(list(_microseconds(other).values()))]
        limits = (min(every) / 1.3, max(every) * 25) if every else (1.0, 10.0)

        def draw(axes: Any, m: Measurement = m, limits: tuple[float, float] = limits) -> None:
            _percentiles(axes, m, limits)

        threads = f", {threads_in_words(m.threads)}" if several else ""
        title = f"{m.case.name.replace(' T=1 B=1', '')}, {m.mode}{threads}"
        each = [f"{name} {short(median)}, {short(p99)}" for name, (_, median, p99) in _microseconds(m).items()]
        alt = f"{title}: median and p99 in µs: {'; '.join(each)}"
        panels.append(Panel(title, alt, 0.75 + 0.19 * len(each), draw))
    text = (
        "A call with one step of one sequence (T = 1, B = 1, I = H), as in a stream or an agent. The mark and the "
        "first number are the median. The line begins at p10, where a tenth of the calls are faster, and ends at p99, "
        "which one call in a hundred exceeds. All forward panels have one scale, and so have all training panels."
    )
    return Figure("latency", "Latency of a single step", text, panels)


def _microseconds(m: Measurement) -> dict[str, tuple[float, float, float]]:
    """p10, median and p99 of each contestant; only the median if the file has no percentiles."""
    measured = {name: times for name, times in m.times.items() if "median" in times}
    return {
        name: (1e6 * t.get("p10", t["median"]), 1e6 * t["median"], 1e6 * t.get("p99", t["median"]))
        for name, t in measured.items()
    }


def _percentiles(axes: Any, m: Measurement, limits: tuple[float, float]) -> None:
    times = _microseconds(m)
    measured = sorted(times, key=lambda name: times[name][1])
    for y, name in enumerate(measured):
        (p10, median, p99), style = times[name], style_of(name)
        axes.plot([p10, p99], [y, y], color=style["color"], linewidth=2.4, alpha=0.55, solid_capstyle="butt")
        axes.plot(median, y, style["marker"], color=style["color"], markersize=6)
        numbers = f"{short(median)}, p99 {short(p99)}"
        axes.annotate(numbers, (max(median, p99), y), (5, 0), textcoords="offset points", va="center", size=8)
    axes.set_yticks(range(len(measured)), measured, size=8)
    for label in axes.get_yticklabels():
        label.set_weight("bold" if label.get_text() == "fastrnn" else "normal")
    axes.set_ylim(len(measured) - 0.5, -0.5)
    axes.set(xscale="log", xlabel="µs (p10, median, p99)")
    axes.set_xlim(*limits)
    log_ticks(axes.xaxis, limits, [10.0**e for e in range(-2, 8)])
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def rival_figure(results: Results) -> Figure:
    """A panel for each rival with the ratios to it; each group has a row of marks."""
    panels = []
    for name in (n for n in results.contestants if n not in OURS):
        rows = [(m, m.rivals[name] / m.ours) for m in results.measurements if m.ours and name in m.rivals]
        groups = list(dict.fromkeys(m.case.group for m, _ in rows))
        below, mean = sum(r < 1 for _, r in rows), statistics.geometric_mean([r for _, r in rows])
        title = f"{name}: mean {mean:.2f}, {below} of {len(rows)} below 1"

        def draw(axes: Any, rows: Any = rows, groups: Any = groups) -> None:
            _strips(axes, rows, groups)

        alt = f"{title}; ratios from {min(r for _, r in rows):.2f} to {max(r for _, r in rows):.2f}"
        panels.append(Panel(title, alt, 0.95 + 0.3 * max(2, len(groups)), draw))
    text = (
        "The median time of each rival divided by ours. Each mark is a case: forward above the middle of the row, "
        "training below it. Cases that a rival does not support have no mark. Means are geometric; the table below has "
        "the numbers."
    )
    return Figure("rivals", "Ratio to each rival", text, panels)


def _strips(axes: Any, rows: Sequence[tuple[Measurement, float]], groups: list[str]) -> None:
    axes.set_xscale("log")
    for mode, mark, shift in (("forward", "o", -0.17), ("training", "s", 0.17)):
        for better in (True, False):
            points = [(r, groups.index(m.case.group) + shift) for m, r in rows if m.mode == mode and (r >= 1) == better]
            x, y = np.array(points).reshape(-1, 2).T
            role, filled = ("better", "none") if better else ("worse", "full")
            axes.plot(x, y, mark, color=LIGHT[role], fillstyle=filled, markersize=4)
        axes.plot([], [], mark, color=LIGHT["better"], fillstyle="none", markersize=4, label=mode)
    axes.plot([], [], "o", color=LIGHT["worse"], markersize=4, label="rival faster")
    low, high = min(0.8, *axes.get_xlim()), max(2.5, *axes.get_xlim())
    axes.axvspan(low, 1, color=LIGHT["shade"], linewidth=0, zorder=0)
    axes.axvline(1, color=LIGHT["ink"], linewidth=1)
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(groups)), groups, size=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    log_ticks(axes.xaxis, (low, high))
    axes.set_xlabel("times as fast as it")
    axes.grid(axis="x")
    axes.figure.legend(loc="outside lower center", ncols=3, columnspacing=1, handletextpad=0.2)

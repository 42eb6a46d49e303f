"""The results of the group `small` as Markdown, for the terminal, a file or a section of a page."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import sections
import small_overhead
from results import MODES
from small_cases import FACTORS
from small_results import Measured, SmallResults

KINDS = FACTORS["kind"]
GOALS = {("function", "layer"): 2.0, ("module", "cell"): 2.5}  # geometric means
TITLES = {
    "function": "functions",
    "layer": "unfrozen layers",
    "module": "torch modules",
    "cell": "torch cells",
    ("function", "layer"): "functions and layers",
    ("module", "cell"): "`fastrnn.torch`",
}


def line_of(measured: Measured) -> str:
    """A finished case."""
    ratio = measured.ratio
    failures = "".join(f"; {name}: {why}" for name, why in measured.failures.items())
    if ratio is None:
        return f"{measured.case.name}: no ratio{failures}"
    interval = f" ({ratio.low:.2f} to {ratio.high:.2f})" if measured.runs else ""
    slower = ", slower" if measured.is_slower else ""
    return (
        f"{measured.case.name}: {1e6 * ratio.seconds:.4g} us, ratio {ratio.value:.2f}{interval} to {ratio.rival}"
        f"{slower}{failures}"
    )


def _cell_of(measured: Sequence[Measured]) -> str:
    ratios = [m.ratio.value for m in measured if m.ratio]
    if not ratios:
        return "–"
    below, slower = sum(ratio < 1 for ratio in ratios), sum(m.is_slower for m in measured)
    return (
        f"{statistics.geometric_mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); "
        f"{len(ratios)}, {below}, {slower}"
    )


def summary_of(files: Sequence[SmallResults]) -> str:
    """A row for each kind and mode, a column for each instruction set and number of threads that was measured."""
    columns = [(file, threads) for file in files for threads in FACTORS["threads"] if file.of(KINDS, None, threads)]
    names = [f"{file.label}, {threads} thread{'s' if threads > 1 else ''}" for file, threads in columns]
    lines = [f"| calls | goal | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for kinds, goal in GOALS.items():
        for kind in kinds:
            for mode in MODES:
                cells = [_cell_of(file.of((kind,), mode, threads)) for file, threads in columns]
                lines.append(f"| {TITLES[kind]}, {mode} | | {' | '.join(cells)} |")
        cells = [_cell_of(file.of(kinds, None, threads)) for file, threads in columns]
        lines.append(f"| **{TITLES[kinds]}** | {goal} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def losses_of(files: Sequence[SmallResults]) -> str:
    """The cases with a ratio below 1 or without one, the least ratio first."""
    losses = [
        (m.ratio.value if m.ratio else 0.0, file.label, m)
        for file in files
        for m in file.measured
        if m.ratio is None or m.ratio.value < 1
    ]
    if not losses:
        return "Cases below 1: none.\n"
    lines = [
        "Cases below 1:",
        "",
        "| case | instruction set | µs | ratio (95 %) | rival | slower |",
        "|---|---|---|---|---|---|",
    ]
    for _, label, m in sorted(losses, key=lambda loss: loss[:2]):
        if m.ratio is None:
            lines.append(f"| {m.case.name} | {label} | | | {'; '.join(m.failures.values())} | no time |")
            continue
        interval = f" ({m.ratio.low:.2f} to {m.ratio.high:.2f})" if m.runs else ""
        columns = (m.case.name, label, f"{1e6 * m.ratio.seconds:.4g}", f"{m.ratio.value:.2f}{interval}", m.ratio.rival)
        lines.append(f"| {' | '.join(columns)} | {'yes' if m.is_slower else 'no'} |")
    return "\n".join(lines) + "\n"


def _where(file: SmallResults) -> str:
    d = file.details
    hidden = " (AVX-512 hidden from all contestants)" if "avx512" in (d.get("hidden") or []) else ""
    drawn = sum(m.drawn for m in file.measured)
    rivals = (version for name, version in d["versions"].items() if "fastrnn" not in name)
    machine = [d.get("processor") or d.get("machine"), f"{d.get('cores')} cores", d.get("date"), *rivals]
    cases = f" {len(file.measured)} cases; {drawn} of them are drawn with `--seed {d['seed']}`."
    return f"{file.label}{hidden}: {', '.join(str(part) for part in machine)}.{cases if file.measured else ''}"


def _failures(files: Sequence[SmallResults]) -> list[str]:
    found = [(m.case.name, file.label, m.failures) for file in files for m in file.measured if m.failures]
    each = (
        f"{case}, {label}: {', '.join(f'{name}: {why}' for name, why in failures.items())}"
        for case, label, failures in found
    )
    return [f"{len(found)} cases lack the time of a contestant: {'; '.join(each)}.\n"] if found else []


def markdown_of(files: Sequence[SmallResults]) -> str:
    """All tables, with their machines."""
    parts = ["\n".join(_where(file) + "\n" for file in files)]
    if any(file.measured for file in files):
        parts.append(
            "Geometric mean of the ratios to the fastest rival (least to greatest); cases, cases below 1, *slower* "
            "cases:\n"
        )
        parts += [summary_of(files), *_failures(files), losses_of(files)]
    for file in files:
        if file.overhead:
            parts.append(f"Overhead at T = 1, {file.label}, µs:\n")
            parts.append(small_overhead.markdown_of(file.overhead))
    return "\n".join(parts)


def write_page(path: Path, text: str) -> None:
    """Replace the section of the group in a page."""
    sections.write(path, {"small": text})

"""The results of the group `cells` as Markdown, for the terminal, a file or sections of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sections
from cells_cases import BATCHES, GATES, MODES, PLAIN, THREADS, WIDTHS
from cells_measure import COMPILED, ENTRIES, KINDS, OURS, SCAN
from cells_results import CellsResults, MeasuredCell, mean_of
from ratios import Ratio
from results import threads_in_words

NARROW, WIDE = (64, 128), (512,)
VARIANTS = tuple(cell for cell in GATES if cell not in PLAIN)
BRIEF_SIZES = ((1, 128), (8, 128), (32, 512))  # of the table for a reader in a hurry
TITLES = {
    "lstm": "LSTM",
    "gru": "GRU",
    "peephole_lstm": "peephole LSTM",
    "layer_norm_lstm": "layer-norm LSTM",
    "reset_before_gru": "reset-before GRU",
}


@dataclass(frozen=True)
class Row:
    """Cases of a table's row, and the goals forward and in training; None: no goal."""

    title: str
    wanted: dict[str, Any]
    goals: tuple[float, float] | None = None
    is_one: Callable[[MeasuredCell], bool] = lambda _: True

    def of(self, file: CellsResults, mode: str, threads: int) -> list[MeasuredCell]:
        """The measured cases."""
        return [m for m in file.of(mode=mode, threads=threads, **self.wanted) if self.is_one(m)]


def _rows_to_scan() -> list[Row]:
    found = []
    for widths, label, goal in ((NARROW, "H ≤ 128", 2.2), (WIDE, "H = 512", 1.3)):
        found += [Row(f"{TITLES[cell]}, {label}", {"cell": cell, "H": widths}) for cell in GATES]
        found.append(Row(f"**the last three, {label}**", {"cell": VARIANTS, "H": widths}, (goal, goal)))
    return found


ROWS = {
    "scan": _rows_to_scan(),
    "torch": [
        *(Row(TITLES[cell], {"cell": cell}) for cell in GATES),
        Row("**the last three**", {"cell": VARIANTS}, (4.0, 5.0)),
    ],
}
COMPILED_ROWS = [
    row
    for cell in PLAIN
    for row in (
        Row(f"{TITLES[cell]}, B ≥ 8, H ≥ 128", {"cell": cell, "B": (8, 32), "H": (128, 512)}, (1.1, 1.15)),
        Row(f"{TITLES[cell]}, other sizes", {"cell": cell}, (1.35, 1.5), lambda m: m.case.B < 8 or m.case.H < 128),
    )
] + [
    Row(f"{TITLES[cell]}{label}", {"cell": cell, "H": widths}, goals)
    for cell, limit in (("peephole_lstm", 1.1), ("layer_norm_lstm", 1.4), ("reset_before_gru", 1.25))
    for label, widths, goals in ((", H ≥ 128", (128, 512), (limit, limit)), (", H = 64", (64,), None))
]


def line_of(measured: MeasuredCell) -> str:
    """A finished case."""
    ratio, failures = measured.ratio, "".join(f"; {name}: {why}" for name, why in measured.failures.items())
    if ratio is None:
        return f"{measured.case.name}: no ratio{failures}"
    interval = f" ({ratio.low:.2f} to {ratio.high:.2f})" if measured.runs else ""
    compiled = f", {measured.over_compiled.value:.2f} of the compiled cell" if measured.over_compiled else ""
    slower = ", slower" if measured.is_slower else ""
    return (
        f"{measured.case.name}: {1e3 * ratio.seconds:.4g} ms, ratio {ratio.value:.2f}{interval} to {ratio.rival}"
        f"{compiled}{slower}{failures}"
    )


def _columns(file: CellsResults) -> list[tuple[int, str]]:
    return [(threads, mode) for threads in THREADS[::-1] for mode in MODES if file.of(threads=threads, mode=mode)]


def _goal_of(row: Row) -> str:
    if row.goals is None:
        return ""
    return f"{row.goals[0]}" if row.goals[0] == row.goals[1] else f"{row.goals[0]} / {row.goals[1]}"


CellOf = Callable[[list[MeasuredCell], Row, str], str]  # the text of a row's cases in a mode


def _table(file: CellsResults, title: str, rows: Sequence[Row], cell_of: CellOf) -> str:
    columns = _columns(file)
    names = [f"{threads_in_words(threads)}, {mode}" for threads, mode in columns]
    lines = [f"| {title} | goal | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for row in rows:
        cells = [cell_of(row.of(file, mode, threads), row, mode) for threads, mode in columns]
        if set(cells) != {"–"}:
            lines.append(f"| {row.title} | {_goal_of(row)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ratios_of(file: CellsResults, kind: str, title: str) -> str:
    """Geometric means of the ratios to rivals of a kind."""

    def cell_of(measured: list[MeasuredCell], _: Row, __: str) -> str:
        found = [m.to(kind) for m in measured]
        mean = mean_of(found)
        if mean is None:
            return "–"
        below = sum(one.value < 1 for one in found if one)
        return (
            f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f}); {mean.least:.2f} to {mean.greatest:.2f}; "
            f"{mean.count}, {below}"
        )

    return _table(file, title, ROWS[kind], cell_of)


def compiled_of(file: CellsResults) -> str:
    """Geometric means of our times over the compiled cells'."""

    def cell_of(measured: list[MeasuredCell], row: Row, mode: str) -> str:
        found = [m.over_compiled for m in measured]
        mean = mean_of(found)
        if mean is None:
            return "–"
        text = f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f}); {mean.least:.2f} to {mean.greatest:.2f}"
        if row.goals is None:
            return text
        above = sum(one.value > row.goals[MODES.index(mode)] for one in found if one)
        return f"{text}; {above} of {mean.count} above"

    return _table(file, "time over the compiled cell's", COMPILED_ROWS, cell_of)


def _interval(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def losses_of(file: CellsResults) -> str:
    """The cases with a ratio below 1 or without one, the least ratio first."""
    losses = [m for m in file.measured if m.ratio is None or m.ratio.value < 1]
    if not losses:
        return "Cases below 1: none.\n"
    lines = ["Cases below 1:", "", "| case | ms | ratio (95 %) | rival | slower |", "|---|---|---|---|---|"]
    for m in sorted(losses, key=lambda m: m.ratio.value if m.ratio else 0.0):
        if m.ratio is None:
            lines.append(f"| {m.case.name} | | | {'; '.join(m.failures.values())} | no time |")
            continue
        columns = (m.case.name, f"{1e3 * m.ratio.seconds:.4g}", _interval(m.ratio), m.ratio.rival)
        lines.append(f"| {' | '.join(columns)} | {'yes' if m.is_slower else 'no'} |")
    return "\n".join(lines) + "\n"


def _both(file: CellsResults, name: str, **wanted: Any) -> str:
    """Milliseconds of a contestant, forward / training; empty if it has neither."""
    found = []
    for mode in MODES:
        seconds = [m.seconds(name) for m in file.of(mode=mode, **wanted)]
        found.append(f"{1e3 * seconds[0]:.3g}" if seconds and seconds[0] else "–")
    return "" if set(found) == {"–"} else " / ".join(found)


def times_of(file: CellsResults, threads: int) -> str:
    """Milliseconds of all contestants, forward / training."""
    measured = file.of(threads=threads)
    names = [entry.name for entry in ENTRIES if any(m.seconds(entry.name) for m in measured)]
    lines = [f"| cell | B, H | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for cell in GATES:
        for H in WIDTHS:
            for B in BATCHES:
                each = [_both(file, name, cell=cell, B=B, H=H, threads=threads) for name in names]
                if any(each):
                    lines.append(f"| {TITLES[cell]} | {B}, {H} | {' | '.join(each)} |")
    return "\n".join(lines) + "\n"


def brief_of(file: CellsResults) -> str:
    """A few sizes of the cells that nobody has compiled: ours, the scan, and the fastest form in torch."""
    lines = ["| cell | B, H | fastrnn | JAX, `lax.scan` | PyTorch, the fastest form |", "|---|---|---|---|---|"]
    for cell in VARIANTS:
        for B, H in BRIEF_SIZES:
            wanted = {"cell": cell, "B": B, "H": H, "threads": 2}
            torch = []
            for mode in MODES:
                each = [m.seconds(name) for m in file.of(mode=mode, **wanted) for name in KINDS["torch"]]
                torch.append(f"{1e3 * min(one for one in each if one):.3g}" if any(each) else "–")
            ours, scan = _both(file, OURS.name, **wanted), _both(file, SCAN.name, **wanted)
            if ours or scan:
                lines.append(f"| {TITLES[cell]} | {B}, {H} | {ours} | {scan} | {' / '.join(torch)} |")
    return "\n".join(lines) + "\n"


def _where(file: CellsResults) -> str:
    d = file.details
    hidden = " (AVX-512 hidden from all contestants)" if "avx512" in (d.get("hidden") or []) else ""
    backend = {"avx512": "AVX-512", "avx2": "AVX2"}.get(str(d.get("backend")), str(d.get("backend", "not noted")))
    versions = (version for name, version in d["versions"].items() if name not in (OURS.name, COMPILED.name))
    machine = [d.get("processor") or d.get("machine"), f"{d.get('cores')} cores", d.get("date"), *versions]
    machine = [str(part) for part in dict.fromkeys(machine)]
    return f"{backend}{hidden}: {', '.join(machine)}.\n"


def _slower(file: CellsResults) -> str:
    slower = [m.case.name for m in file.measured if m.is_slower]
    return f"*Slower* cases: {', '.join(slower) or 'none'}, of {len(file.measured)}.\n"


def markdown_of(file: CellsResults) -> str:
    """All tables, with their machine."""
    parts = [_where(file), "Geometric mean of the ratios (95 % interval); least to greatest; cases, cases below 1:\n"]
    parts += [ratios_of(file, "scan", "to the jitted scan"), ratios_of(file, "torch", "to the fastest form in PyTorch")]
    parts += ["The time of a written cell over that of the compiled LSTM or GRU:\n", compiled_of(file)]
    parts += [losses_of(file), _slower(file)]
    for threads in THREADS[::-1]:
        if file.of(threads=threads):
            parts += [f"Forward / training, ms, {threads_in_words(threads)}:\n", times_of(file, threads)]
    return "\n".join(parts)


def write_page(path: Path, file: CellsResults) -> None:
    """Replace the sections of the group in a page: all tables, or the brief one."""
    brief = f"{_where(file)}\nForward / training, ms, T = 100, two threads:\n\n{brief_of(file)}"
    sections.write(path, {"cells": markdown_of(file), "cells in brief": brief})

"""fastrnn beside what people would otherwise use: times, ratios, and what the machine could do at most.

    python benchmarks/run.py                        a short tour, with whatever rivals are installed
    python benchmarks/run.py --install              make the environments of the rivals (pip) and end
    python benchmarks/run.py --suite full --threads 2 1 --json results.json

Contestants live in processes of their own and take turns. A ratio is the fastest rival's median time over ours: above 1
we are faster.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import limits
import measure
from cases import CASES, Case
from contestants import ENTRIES, REQUIREMENTS, Entry, install, python_of
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

TOUR = [
    "lstm T=1 B=1 H=64",
    "lstm T=100 B=1 H=128",
    "lstm T=50 B=64 H=128",
    "gru T=1000 B=8 H=64",
    "lstm T=20 B=20 H=200 L=2",
    "lstm T=200 B=64 H=128 ragged",
]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="tour", choices=["tour", "full", *sorted({case.group for case in CASES})])
    parser.add_argument("--case", action="append", default=[], help="only cases whose name contains this; repeatable")
    parser.add_argument("--mode", choices=["forward", "training"], help="default: both")
    parser.add_argument("--rivals", nargs="+", choices=[e.name for e in ENTRIES if e.name != "fastrnn"], metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[2], help="default: 2")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.08, help="of a turn, at least one call (default: 0.08)")
    parser.add_argument("--json", type=Path, help="write the results here, after each case")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--read", type=Path, help="measure nothing: show the results of this file")
    parser.add_argument(
        "--compare", type=Path, help="results of an earlier run: print the ratios to our own times there"
    )
    parser.add_argument("--install", action="store_true", help="make the environments of the rivals and end")
    return parser.parse_args(given)


def chosen_cases(options: argparse.Namespace) -> list[tuple[Case, str]]:
    """Cases and modes that the options name."""
    found = []
    for case in CASES:
        named = options.suite in ("full", case.group) or (options.suite == "tour" and case.name in TOUR)
        if options.case:
            named = any(text in case.name for text in options.case)
        if named:
            found += [(case, mode) for mode in case.modes if options.mode in (None, mode)]
    return found


def chosen_entries(options: argparse.Namespace, console: Console) -> list[Entry]:
    """Our own layers, and the rivals that are wanted and there."""
    wanted = [e for e in ENTRIES if e.name == "fastrnn" or options.rivals is None or e.name in options.rivals]
    found = []
    for entry in wanted:
        if python_of(entry.environment) is None:
            console.print(f"[dim]{entry.name}: not installed (python benchmarks/run.py --install)")
        else:
            found.append(entry)
    return found


def rivals_of(times: dict[str, Any]) -> dict[str, float]:
    """Median seconds of the contestants that are not ours."""
    ours = {entry.name for entry in ENTRIES if entry.ours}
    return {name: t["median"] for name, t in times.items() if "median" in t and name not in ours}


def ratio_of(times: dict[str, Any]) -> float | None:
    """The fastest rival's time over ours; None if there is none."""
    rivals = rivals_of(times)
    return min(rivals.values()) / times["fastrnn"]["median"] if rivals and "median" in times["fastrnn"] else None


def table_of(results: list[dict[str, Any]], peaks: dict[int, float], names: list[str], width: int) -> Table:
    """A row for each case, mode and number of threads; each contestant's time too where the width allows it."""
    names = names if width >= 72 + 12 * len(names) else []
    table = Table(title="ms: median time of a call; ratio: the fastest rival's time over ours")
    table.add_column("case")
    for title in ("mode", "thr.", "ms", "ratio", "fastest rival", "peak"):
        table.add_column(title, justify="left" if title in ("mode", "fastest rival") else "right", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        case, times = Case(**result["case"]), result["times"]
        row = row_of(case, result["mode"], times, peaks[result["threads"]])
        mode = {"forward": "fwd", "training": "train"}[result["mode"]]
        colour = "red" if row[1].startswith("0") else "green"
        each = [_milliseconds(times.get(name, {})) for name in names]
        cells = [mode, str(result["threads"]), row[0], f"[{colour}]{row[1]}" if row[1] else "", *row[2:]]
        table.add_row(case.name, *cells, *each)
    return table


def row_of(case: Case, mode: str, times: dict[str, Any], peak: float) -> tuple[str, str, str, str]:
    """Our time, the ratio, the fastest rival, the share of the peak."""
    rivals, ratio = rivals_of(times), ratio_of(times)
    ours = times["fastrnn"].get("median", float("inf"))
    return (
        _milliseconds(times["fastrnn"]),
        "" if ratio is None else f"{ratio:.2f}",
        min(rivals, key=rivals.__getitem__) if rivals else "",
        f"{case.multiply_adds(mode) / ours / 1e9 / peak:.0%}" if case.dtype == "float32" else "",
    )


def markdown_of(results: list[dict[str, Any]], peaks: dict[int, float]) -> str:
    """The same for a page."""
    lines = ["| case | mode | threads | ms | ratio | fastest rival | of peak |", "|---|---|---|---|---|---|---|"]
    for result in results:
        case = Case(**result["case"])
        row = row_of(case, result["mode"], result["times"], peaks[result["threads"]])
        lines.append(f"| {' | '.join((case.name, result['mode'], str(result['threads']), *row))} |")
    return "\n".join(lines) + "\n"


def _milliseconds(times: dict[str, Any]) -> str:
    return f"{times['median'] * 1e3:.4g}" if "median" in times else "–"


def summary(results: list[dict[str, Any]]) -> list[str]:
    """Geometric means over the cases that have a rival, for each mode and number of threads."""
    lines = []
    for threads in sorted({r["threads"] for r in results}):
        for mode in ("forward", "training"):
            ratios = [ratio_of(r["times"]) for r in results if r["threads"] == threads and r["mode"] == mode]
            known = [ratio for ratio in ratios if ratio is not None]
            if known:
                mean = limits.geometric_mean(known)
                below = sum(ratio < 1 for ratio in known)
                lines.append(
                    f"{threads} threads, {mode}: geometric mean {mean:.2f}, least {min(known):.2f}, "
                    f"{below} of {len(known)} cases below 1"
                )
    return lines


def compare(results: list[dict[str, Any]], old: list[dict[str, Any]]) -> list[str]:
    """Our own times over those of an earlier run, where they differ by more than a tenth."""
    before = {(r["case"]["group"], Case(**r["case"]).name, r["mode"], r["threads"]): r["times"]["fastrnn"] for r in old}
    lines = []
    for r in results:
        key = (r["case"]["group"], Case(**r["case"]).name, r["mode"], r["threads"])
        now, then = r["times"]["fastrnn"].get("median"), before.get(key, {}).get("median")
        if now and then and not 0.9 < now / then < 1.1:
            lines.append(f"{key[1]}, {key[2]}, {key[3]} threads: {now / then:.2f} of the earlier time")
    return lines or ["no case differs by more than a tenth from the earlier run"]


def run(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure the chosen cases; writes the report after each, if it is wanted."""
    entries, cases = chosen_entries(options, console), chosen_cases(options)
    if not cases:
        raise SystemExit("--suite, --case, --mode: no case has all of these")
    report: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "date": time.strftime("%F")}
    report |= {"limits": {}, "versions": {}, "results": []}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("limits of the machine", total=len(cases) * len(options.threads))
        for threads in options.threads:
            report["limits"][str(threads)] = limits.measured(threads)
            with ExitStack() as stack:
                processes = [stack.enter_context(measure.Process(entry, threads)) for entry in entries]
                for process in processes:
                    answer = process.ask(do="hello")
                    report["versions"][process.entry.name] = answer.get("version") or answer.get("unsupported")
                for case, mode in cases:

                    def say(what: str, case: Case = case, mode: str = mode) -> None:
                        progress.update(task, description=f"{case.name}, {mode}: {what}")

                    times = measure.measure(case, mode, processes, options.rounds, options.seconds, say)
                    result = {"case": case.as_dict(), "mode": mode, "threads": threads, "times": times}
                    report["results"].append(result)
                    if options.json:
                        options.json.write_text(json.dumps(report, indent=1))
                    progress.advance(task)
    return report


def show(report: dict[str, Any], options: argparse.Namespace, console: Console) -> None:
    """Limits, versions, the table and what it comes to."""
    results = report["results"]
    for threads, values in report["limits"].items():
        console.print(f"{threads} threads: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    console.print(", ".join(f"{name}: {version}" for name, version in report["versions"].items()))
    peaks = {int(threads): values["FMA peak, GFLOP/s"] for threads, values in report["limits"].items()}
    measured = {name for result in results for name in result["times"]}
    console.print(table_of(results, peaks, [e.name for e in ENTRIES if e.name in measured], console.width))
    if options.markdown:
        options.markdown.write_text(markdown_of(results, peaks))
    for line in summary(results):
        console.print(line)
    if options.compare:
        for line in compare(results, json.loads(options.compare.read_text())["results"]):
            console.print(line)


def main() -> None:
    """Measure or read, and show."""
    options, console = arguments(), Console()
    if options.install:
        for environment in REQUIREMENTS:
            console.print(f"{environment}: {' '.join(REQUIREMENTS[environment])}")
            install(environment)
        return
    show(json.loads(options.read.read_text()) if options.read else run(options, console), options, console)


if __name__ == "__main__":
    main()

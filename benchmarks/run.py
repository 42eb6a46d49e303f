"""Compare fastrnn with other libraries: times, ratios, and shares of the machine's limits.

    python benchmarks/run.py                        the suite "tour": two minutes, all installed rivals
    python benchmarks/run.py --install              make the environments of the rivals (pip) and exit
    python benchmarks/run.py --suite full --threads 2 1 --json results.json
    python benchmarks/run.py --suite full --compare results.json
    python benchmarks/report.py results.json --out report
    python benchmarks/run.py --suite small          short calls of functions, unfrozen layers and torch, see small.py
    python benchmarks/run.py --suite cells          cells that users write, beside JAX and torch, see cells.py
    FASTRNN_HIDE=avx512 python benchmarks/run.py …  as on a processor without AVX-512, for the rivals too: they need
                                                    separate environments (--install)

Contestants run in separate processes and take turns. A ratio is the median time of the fastest rival divided by ours:
above 1 we are faster. Results are written after each case; Ctrl-C keeps and shows the results so far. With --compare
the exit status is 1 if a case has become slower than noise and tolerance explain, and 2 if the files cannot be
compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    import cells
    import recording
    import result_tables
    import small
    from cases import CASES
    from contestants import ENTRIES, REQUIREMENTS, install
    from regression import compare, refuse_another_machine
    from results import Results, ResultsError, merge, read
    from rich.console import Console
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"run.py: {missing.name} is not installed; in the repository: pip install '.[benchmarks]'"
    ) from None

SCREENED = {"small": small, "cells": cells}  # groups that are modules of their own
SUITES = ("tour", "full", *SCREENED)  # beside the groups of cases.py
# Options of some suites alone; the rest are for all of them.
ONLY = {"seed": ["small"], "draws": ["small"], "overhead": ["small"], "compile_all": ["cells"], "page": list(SCREENED)}
NOT_SCREENED = ("rivals", "budget", "compare")
ROOM = 110  # columns of a file or pipe, which has no width of its own


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--suite", default="tour", choices=[*SUITES, *sorted({case.group for case in CASES})])
    found.add_argument("--case", action="append", default=[], help="only cases whose name contains this; repeatable")
    found.add_argument("--mode", choices=["forward", "training"], help="default: both")
    found.add_argument("--rivals", nargs="+", choices=[e.name for e in ENTRIES if e.name != "fastrnn"], metavar="NAME")
    found.add_argument("--threads", nargs="+", type=int, help="default: 2; of small and cells: 1 2")
    found.add_argument("--rounds", type=int, help="turns of each contestant (default: 5, in the tour as many as fit)")
    found.add_argument(
        "--seconds", type=float, help="of a turn, at least one call (default: 0.08; of small: 0.04; of cells: 0.03)"
    )
    found.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help=f"for all cases (default: {recording.TOUR_SECONDS:.0f} for the tour)",
    )
    found.add_argument("--json", type=Path, help="write the results here (default: benchmarks/results/SUITE-TIME.json)")
    found.add_argument("--markdown", type=Path, help="write the table here")
    found.add_argument("--read", type=Path, nargs="+", metavar="FILE", help="measure nothing: show these results")
    found.add_argument(
        "--compare", type=Path, metavar="OLD.json", help="an earlier run: show what became slower or faster"
    )
    found.add_argument("--tolerance", type=float, default=0.1, help="of --compare, beside noise (default: 0.1)")
    found.add_argument("--install", action="store_true", help="make the environments of the rivals and end")
    only = found.add_argument_group("with --suite small")
    only.add_argument("--seed", type=int, help="of the drawn cases (default: another in each run, which is printed)")
    only.add_argument("--draws", type=int, metavar="N", help=f"drawn cases (default: {small.DRAWS})")
    only.add_argument("--overhead", action="store_true", help="measure the overhead at T = 1, and no cases")
    group = found.add_argument_group("with --suite cells")
    group.add_argument("--compile-all", action="store_true", help="torch.compile in all cases: compiles for an hour")
    groups = found.add_argument_group("with --suite small and --suite cells")
    groups.add_argument("--page", type=Path, nargs="+", help="write the tables into the sections of these pages")
    return found


def complete(options: argparse.Namespace) -> argparse.Namespace:
    """Defaults that depend on the suite."""
    group = SCREENED.get(options.suite)
    options.threads = options.threads or ([1, 2] if group else [2])
    options.seconds = (group.SECONDS if group else recording.SECONDS) if options.seconds is None else options.seconds
    return options


def check(options: argparse.Namespace, refuse: argparse.ArgumentParser) -> None:
    """Check values that argparse accepts."""
    for name in ("rounds", "seconds", "budget"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            refuse.error(f"--{name}: expected more than 0, got {value}")
    wrong = {name: wanted for name, wanted in ONLY.items() if options.suite not in wanted}
    wrong |= {name: ["another suite"] for name in NOT_SCREENED if options.suite in SCREENED}
    for name, wanted in wrong.items():
        if getattr(options, name) not in (None, False):
            suites = " or ".join(one if " " in one else f"--suite {one}" for one in wanted)
            refuse.error(f"--{name.replace('_', '-')}: expected {suites}, got --suite {options.suite}")
    if options.draws is not None and options.draws < 0:
        refuse.error(f"--draws: expected 0 or more, got {options.draws}")
    if min(options.threads) < 1:
        refuse.error(f"--threads: expected at least 1, got {min(options.threads)}")
    if not options.tolerance >= 0:
        refuse.error(f"--tolerance: expected 0 or more, got {options.tolerance}")


def finish(results: Results, options: argparse.Namespace, console: Console) -> int:
    """Show the results; return 1 if a comparison finds slower cases."""
    result_tables.show_results(results, console)
    if options.markdown:
        options.markdown.write_text(result_tables.markdown_of(results.measurements))
    if not options.compare:
        return 0
    comparison = compare(results, read(options.compare), options.tolerance)
    result_tables.show_comparison(comparison, options.tolerance, console)
    return 1 if comparison.of("slower") else 0


def main(given: Sequence[str] | None = None) -> int:
    """Measure or read, and show."""
    options, console = complete(parser().parse_args(given)), Console()
    check(options, parser())
    if not console.is_terminal:
        console = Console(width=ROOM)
    if options.install:
        for environment in REQUIREMENTS:
            console.print(f"{environment}: {' '.join(REQUIREMENTS[environment])}")
            install(environment)
        return 0
    try:
        if options.suite in SCREENED:
            return SCREENED[options.suite].run(options, console)
        if options.read:
            return finish(merge([read(path) for path in options.read]), options, console)
        run = recording.Recording(options, console)
        if options.compare:  # refuse before any measurement
            refuse_another_machine(run.results, read(options.compare))
        interrupted = run.measure()
        if not run.content["results"]:
            console.print("nothing was measured")
            return 130 if interrupted else 2
        status = finish(run.results, options, console)
        console.print(f"Results: {run.path}. A page of them:", soft_wrap=True)
        console.print(f"python benchmarks/report.py {run.path} --out report", soft_wrap=True)
        return 130 if interrupted else status
    except ResultsError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

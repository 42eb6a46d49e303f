"""Compare two builds of fastrnn, such as GCC's and Clang's, or before and after a change: times and bits.

Each build is installed in a separate environment, and the command line names its interpreter. For each backend and
case, the two builds take turns like the contestants of run.py, and their outputs and gradients are compared bit by bit.
A ratio is the time of the second build divided by the time of the first.

    python benchmarks/builds.py gcc=with-gcc/bin/python clang=with-clang/bin/python --check
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import measure
import numpy as np
from cases import CASES, Case
from contestants import HERE, Entry
from rich.console import Console
from rich.table import Table

DEFAULT_CASES = (
    "T=50 B=1 H=128", "T=50 B=8 H=128", "T=50 B=64 H=128", "T=100 B=1 H=64", "T=50 B=33 H=257", "T=100 B=5 H=25",
    "T=50 B=32 H=128 float64",
)  # fmt: skip
LIMIT = 1.1
BACKENDS = "import fastrnn, json; print(json.dumps(fastrnn.show_config('dicts')['backends']))"


def build_of(argument: str) -> Entry:
    """The contestant for the argument NAME=PYTHON."""
    name, _, python = argument.partition("=")
    if not Path(python).is_file():
        raise argparse.ArgumentTypeError(f"expected NAME=PYTHON with an interpreter, got {argument}")
    return Entry(name, "fastrnn_layers.py", HERE, ours=True, interpreter=Path(python).absolute())


def backends_of(entry: Entry) -> list[str]:
    """The backends of a build that run on this processor."""
    asked = subprocess.run([str(entry.python()), "-c", BACKENDS], check=True, capture_output=True, text=True, cwd="/")
    found: list[str] = json.loads(asked.stdout)
    return found


def bits(processes: list[measure.Process], case: Case, mode: str) -> str:
    """Compare the bits of both builds; otherwise return the largest difference relative to the largest value."""
    first, second = (process.open(case, mode) for process in processes)
    if isinstance(first, str) or isinstance(second, str):
        raise SystemExit(f"builds.py: {case.name}, {mode}: {first if isinstance(first, str) else second}")
    if all(array.tobytes() == second[name].tobytes() for name, array in first.items()):
        return "same"
    errors = [np.abs(array - second[name]).max() / max(np.abs(array).max(), 1e-30) for name, array in first.items()]
    return f"{max(errors):.0e}"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs=2, type=build_of, metavar="NAME=PYTHON")
    parser.add_argument("--backend", nargs="+", metavar="NAME", help="default: all of both builds that run here")
    parser.add_argument("--case", nargs="+", default=DEFAULT_CASES, metavar="TEXT", help="ends of case names")
    parser.add_argument("--mode", nargs="+", choices=["forward", "training"], default=["forward", "training"])
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each build (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.05, help="of a turn (default: 0.05)")
    parser.add_argument("--check", action="store_true", help=f"status 1 if a ratio is above {LIMIT}")
    return parser.parse_args()


def with_backend(backend: str, chosen: argparse.Namespace, table: Table) -> list[float]:
    """The ratios of all cases with a backend; adds a row for each case to the table."""
    os.environ["FASTRNN_BACKEND"] = backend
    ratios = []
    with ExitStack() as stack:
        processes = [stack.enter_context(measure.Process(entry, chosen.threads)) for entry in chosen.builds]
        for case in (case for case in CASES if case.name.endswith(tuple(chosen.case))):
            for mode in (mode for mode in case.modes if mode in chosen.mode):
                same = bits(processes, case, mode)
                found = measure.measure(case, mode, processes, chosen.rounds, chosen.seconds, lambda _: None)
                first, second = (1e3 * found[entry.name]["median"] for entry in chosen.builds)
                ratios.append(second / first)
                table.add_row(backend, case.name, mode, f"{first:.4g}", f"{second:.4g}", f"{ratios[-1]:.2f}", same)
    return ratios


def main() -> None:
    """Measure, show, and with --check end with status 1 if a ratio is above the limit."""
    chosen, console = options(), Console(width=110)
    first, second = chosen.builds
    table = Table(title=f"ms, threads: {chosen.threads}; ratio: {second.name} over {first.name}")
    for title in ("backend", "case", "mode", first.name, second.name, "ratio", "bits"):
        table.add_column(title, justify="left" if title in ("backend", "case", "mode") else "right")
    of_second = backends_of(second)
    backends = chosen.backend or [name for name in backends_of(first) if name in of_second]
    ratios = {backend: with_backend(backend, chosen, table) for backend in backends}
    console.print(table)
    for backend, found in ratios.items():
        above, mean = sum(ratio > LIMIT for ratio in found), statistics.geometric_mean(found)
        console.print(f"{backend}: {mean:.3f} (geometric mean), greatest {max(found):.2f}, {above} above {LIMIT}")
    if chosen.check and any(ratio > LIMIT for found in ratios.values() for ratio in found):
        sys.exit(1)


if __name__ == "__main__":
    main()

"""How threads should share a call: the suite's cases run with every cut, and the library's own choice is compared with
the best cut.

The cuts: one thread; all threads, each with sequences of its own; all threads, each with hidden units of its own; all
threads, which take pieces of the sequences. They take turns, with a rest between so that threads have stopped spinning.
A cut's time is the median of its turns' medians.

    python benchmarks/splits.py [--threads N] [--rounds N] [--group NAME …] [--check]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastrnn
from cases import CASES, Case, data_of
from fastrnn import config
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).with_name("rivals")))
from fastrnn_layers import FastrnnLayers

# Names in the table, and those of fastrnn.config.use_cut.
CUTS = {"chosen": "auto", "one": "one", "sequences": "sequences", "units": "units", "pieces": "pieces"}
# How much longer the choice may take than the best cut, and than one thread; noise is a part of both.
BEST_LIMIT, ONE_LIMIT = 1.05, 1.03
REST_SECONDS, TURN_SECONDS = 0.01, 0.03


def turn(call: Callable[[], Any]) -> float:
    """The median of the calls of one turn: at least one call, after a first call that does not count."""
    call()
    times: list[float] = []
    end = time.perf_counter() + TURN_SECONDS
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def measure(case: Case, mode: str, threads: int, rounds: int) -> dict[str, float]:
    """Seconds of each cut."""
    contestant, data = FastrnnLayers(threads), data_of(case)
    call, _ = (contestant.forward if mode == "forward" else contestant.training)(case, data)
    found: dict[str, list[float]] = {name: [] for name in CUTS}
    for number in range(rounds):
        names = list(CUTS)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            fastrnn.set_num_threads(threads)
            time.sleep(REST_SECONDS)
            with config.use_cut(CUTS[name]):
                found[name].append(turn(call))
    return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    """Measure, show, and with --check end with status 1 if a choice is too slow."""
    groups = sorted({case.group for case in CASES})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=fastrnn.get_num_threads(), help="default: all")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each cut (default: 7)")
    parser.add_argument("--group", nargs="+", choices=groups, default=groups, metavar="NAME", help=", ".join(groups))
    parser.add_argument("--check", action="store_true", help="status 1 if a choice exceeds its limits")
    options, console = parser.parse_args(), Console(width=130)
    table = Table(title="us; best and one: the choice's time over the best cut's, and over one thread's")
    for title in ("case", "mode", *CUTS, "best", "one"):
        table.add_column(title, justify="left" if title in ("case", "mode") else "right")
    to_best, to_one = [], []
    for case in CASES:
        for mode in case.modes if case.group in options.group else ():
            times = measure(case, mode, options.threads, options.rounds)
            to_best.append(times["chosen"] / min(times.values()))
            to_one.append(times["chosen"] / times["one"])
            microseconds = [f"{1e6 * t:.4g}" for t in times.values()]
            table.add_row(case.name, mode, *microseconds, f"{to_best[-1]:.2f}", f"{to_one[-1]:.2f}")
    console.print(table)
    slow_best, slow_one = sum(r > BEST_LIMIT for r in to_best), sum(r > ONE_LIMIT for r in to_one)
    console.print(
        f"{len(to_best)} cases: {statistics.geometric_mean(to_best):.3f} of the best cut's time (geometric mean), "
        f"{slow_best} above {BEST_LIMIT}; {slow_one} above {ONE_LIMIT} of one thread's time"
    )
    if options.check and (slow_best or slow_one):
        sys.exit(1)


if __name__ == "__main__":
    main()

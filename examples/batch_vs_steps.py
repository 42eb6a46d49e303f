"""Measure and draw the effect of batch size and number of time steps on speed, memory and learning, on this machine.

The program keeps every measurement in a JSON file (--results) and does not repeat it. So you can stop the program at
any time, and the next run continues. When no measurement is missing, it draws the figures. docs/batch-and-steps.md
explains them.

    python examples/batch_vs_steps.py                   # everything; about twelve minutes on two cores
    python examples/batch_vs_steps.py --budget 100      # for at most 100 s; again, for the next part
    python examples/batch_vs_steps.py --plot-only       # the figures, from the existing results
    python examples/batch_vs_steps.py --quick --results quick.json --figures /tmp
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

# NumPy's products are small here, and the threads of its BLAS would spin on the cores that the layers use.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fastrnn
from character_text import read_text
from grid_figures import draw
from grid_records import Records, Task
from grid_settings import FULL, QUICK
from grid_tasks import tasks_of
from grid_text import TextExperiments
from training_options import positive


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    settings = QUICK if options.quick else FULL
    if not (options.no_plot or options.figures.is_dir()):
        parser().error(f"--figures: expected a folder that exists, got {options.figures}")
    fastrnn.set_num_threads(options.threads)
    try:
        text = read_text(options.text)
        head = {
            "settings": asdict(settings),
            "threads": options.threads,
            "text_hash": hashlib.sha256(text.encode()).hexdigest(),
        }
        experiments = TextExperiments(text, settings)
        records = Records(options.results, head)
    except (OSError, ValueError) as error:
        parser().error(str(error))
    if not options.plot_only and not measure(records, list(tasks_of(settings, experiments)), options.budget):
        return 0
    if not options.no_plot:
        for path in draw(records, settings, options.figures):
            print(path)
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--text", metavar="PATH", help="a UTF-8 text (default: CPython's own documentation)")
    p.add_argument("--results", type=Path, default=Path("batch_vs_steps.json"), metavar="PATH")
    p.add_argument("--figures", type=Path, default=Path(), metavar="FOLDER", help="where to draw (default: here)")
    p.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="measure no longer than this")
    p.add_argument("--threads", type=positive, default=1, metavar="N", help="of the layers (default 1)")
    p.add_argument("--quick", action="store_true", help="a small grid, a few seconds, to see that all works")
    either = p.add_mutually_exclusive_group()
    either.add_argument("--plot-only", action="store_true", help="draw from the results without measuring")
    either.add_argument("--no-plot", action="store_true", help="measure only; matplotlib is not needed then")
    return p


def measure(records: Records, wanted: list[Task], budget: float) -> bool:
    """Make the missing measurements; return whether all are done."""
    missing = [task for task in wanted if task not in records]
    begin = saved = time.perf_counter()
    for number, task in enumerate(missing):
        now = time.perf_counter()
        if now - begin > budget:
            records.save(machine())
            print(f"{len(missing) - number} of {len(wanted)} measurements left; run again to go on")
            return False
        if now - saved > 10:
            records.save(machine())
            saved = now
        point = " ".join(f"{name}={value}" for name, value in task.point.items())
        print(f"{number + 1}/{len(missing)} {task.experiment} {point}", flush=True)
        records.add(task, task.measure())
    if missing:
        records.save(machine())
    return True


def machine() -> dict[str, Any]:
    """Describe the machine of the timings."""
    config = fastrnn.show_config("dicts") or {}
    return {
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: config[name] for name in ("version", "backend")},
    }


if __name__ == "__main__":
    sys.exit(main())

"""The environment of this process: the processor, its cores, and the OpenMP runtimes in the process."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

PROCESSORS = Path("/proc/cpuinfo")
MAPS = Path("/proc/self/maps")


def processor(processors: Path = PROCESSORS) -> str:
    """The name of the processor if the system reports it, otherwise its architecture."""
    try:
        named = re.search(r"^model name\s*:\s*(.+)$", processors.read_text(), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_asked_of_openmp() -> str | None:
    """OMP_NUM_THREADS, if OpenMP accepts it: a number of at least 1, or a list of them. It ignores anything else."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    numbers = [re.fullmatch(r"[+]?0*([0-9]{1,19})", number.strip(" \t\n\v\f\r")) for number in asked.split(",")]
    return asked if all(number and 0 < int(number[1]) < 2**63 for number in numbers) else None


def openmp_libraries(own: str | None, maps: Path = MAPS) -> list[str]:
    """The files of the OpenMP runtimes in this process: first the core's own, then, on Linux, all others.

    Another runtime keeps its own pool of threads, which spin on the same cores.
    """
    found = [] if own is None else [os.path.realpath(own)]
    try:
        mapped = [line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines()]
    except OSError:
        mapped = []
    for path in mapped:
        if re.match(r"lib(g|i|)omp[0-9.-]*\b.*\.so", Path(path).name) and path not in found:
            found.append(path)
    return found

"""The processor time of a container: the quota of a control group, which OpenMP does not know."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def _cores(folder: Path) -> float:
    """The quota of one group in cores: cpu.max of version 2 ("quota period" or "max period"), or version 1's files."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        except OSError:
            return math.inf
    try:
        cores = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return math.inf
    return cores if cores > 0 else math.inf  # version 1 writes -1 for no quota


def quota_threads(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """The smallest quota of this process's groups in cores, rounded up; None without a quota."""
    folders = [cgroups, cgroups / "cpu"]  # inside a container these are the container's own
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            base = cgroups / controllers
            group = PurePosixPath(path.lstrip("/"))
            folders += [base / part for part in (group, *group.parents)]
    cores = min(map(_cores, folders))
    return None if math.isinf(cores) else max(1, math.ceil(cores))

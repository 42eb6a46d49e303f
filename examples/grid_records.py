"""Measurements in a JSON file that grows; recorded measurements are not repeated.

One record a line: {"experiment": "layer", "H": 128, "B": 4, "round": 0, "seconds": 3.1e-05}
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A measurement to make: an experiment, a point of its grid, and the function that measures it."""

    experiment: str
    point: Values
    measure: Callable[[], Values]


class Records:
    """All records of one file, found by experiment and point."""

    def __init__(self, path: Path, head: Values) -> None:
        """`head` identifies the settings of the measurements. A file with another head is refused."""
        self.path, self.head, self.machine = path, json.loads(json.dumps(head)), None
        self._records: dict[str, Values] = {}
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            for name, value in self.head.items():
                if found["head"].get(name) != value:
                    raise ValueError(f"{path}: expected {name} {value}, got {found['head'].get(name)}")
            self.machine = found["machine"]
            for record in found["records"]:
                self._records[record.pop("key")] = record

    def __contains__(self, task: Task) -> bool:
        return _key(task) in self._records

    def add(self, task: Task, values: Values) -> None:
        self._records[_key(task)] = {"experiment": task.experiment, **task.point, **values}

    def save(self, machine: Values) -> None:
        """Write a new file and move it into place, so that a failure leaves the old file intact."""
        self.machine = machine
        lines = ",\n".join(json.dumps({"key": key, **record}) for key, record in self._records.items())
        head = f'{{"head": {json.dumps(self.head)},\n"machine": {json.dumps(machine)},\n"records": [\n'
        target = Path(os.path.realpath(self.path))  # the target of a symbolic link
        temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        temporary.write_text(head + lines + "\n]}\n", encoding="utf-8")
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)

    def select(self, experiment: str, **point: Any) -> Iterator[Values]:
        """Records of an experiment with these values."""
        for record in self._records.values():
            if record["experiment"] == experiment and all(record.get(n) == v for n, v in point.items()):
                yield record

    def least(self, experiment: str, value: str, over: str, **point: Any) -> dict[Any, float]:
        """The minimum over all rounds for each value of `over`, such as each batch size: disturbances only add time."""
        found: dict[Any, float] = {}
        for record in self.select(experiment, **point):
            found[record[over]] = min(record[value], found.get(record[over], float("inf")))
        return dict(sorted(found.items()))


def _key(task: Task) -> str:
    return " ".join([task.experiment, *(f"{name}={value}" for name, value in task.point.items())])

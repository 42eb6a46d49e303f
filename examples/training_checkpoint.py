"""Checkpoints: one ``.npz`` file with a JSON header and groups of named arrays."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Groups = dict[str, dict[str, NDArray[Any]]]


def write_checkpoint(path: str, header: dict[str, Any], groups: Groups) -> None:
    """Write a new file and move it into place, so that a failure leaves an old checkpoint intact.

    A symbolic link is followed; its target keeps its permissions.
    """
    target = Path(os.path.realpath(path))
    arrays = {f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()}
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: str, program: str) -> tuple[dict[str, Any], Groups]:
    """The header and the groups; ValueError for a file that `program` did not write with `write_checkpoint`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        if header["format"] != program or not {"options", "text_hash", "counters", "generator"} <= header.keys():
            raise ValueError("another format")
    except OSError:
        raise
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for foreign and damaged files
        raise ValueError(f"expected a checkpoint, got {path!r} ({error})") from error
    groups: Groups = {}
    for key, array in arrays.items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = array
    return header, groups

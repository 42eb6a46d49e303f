"""Errors that name the user's line, the operation that cannot be traced, and the replacement."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import FrameType

import numpy as np

_OWN = str(Path(__file__).parent)
_LIBRARY = str(Path(__file__).parent / "library")
_NUMPY = str(Path(np.__file__).parent)


def _is_internal(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    dispatch = name == "<__array_function__ internals>"  # of NumPy before 1.25
    return (name.startswith(_OWN) and not name.startswith(_LIBRARY)) or name.startswith(_NUMPY) or dispatch


def user_line() -> str:
    """The nearest line of the call stack that is neither NumPy's nor this package's."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and _is_internal(frame):
        frame = frame.f_back
    if frame is None:
        return "no source"
    name, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(name, line, frame.f_globals).strip()
    return f"{name}, line {line}: {source}" if source else f"{name}, line {line} (no source)"


def refusal(operation: str, instead: str) -> TypeError:
    """The error for an operation that cannot be traced."""
    return TypeError(f"{operation}: cannot be traced; {instead} [{user_line()}]")

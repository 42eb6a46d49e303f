"""The backend and the number of threads: the choices and their origin."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np

from . import _check, _core, environment
from .quota import quota_threads

__version__ = version("fastrnn")
"""The version, as pip shows it."""


def _named_backend(name: str) -> int:
    backends = _core.backends()
    for index, backend in enumerate(backends):
        if backend.name == name and backend.runs_here:
            return index
    possible = ", ".join(b.name for b in backends if b.runs_here)
    hidden = any(b.name == name and b.hidden for b in backends)
    reason = f", which FASTRNN_HIDE={os.environ.get('FASTRNN_HIDE')} hides" if hidden else ""
    raise ValueError(f"FASTRNN_BACKEND: expected one of {possible}, got {name!r}{reason}")


def _backend_of_environment() -> int:
    best = _core.best_backend()
    if best < 0:
        possible = ", ".join(b.name for b in _core.backends() if b.can_be_hidden)
        expected = (
            f"names out of {possible}, separated by commas" if possible else "no name: every such CPU runs them all"
        )
        raise ValueError(f"FASTRNN_HIDE: expected {expected}, got {os.environ.get('FASTRNN_HIDE')!r}")
    name = os.environ.get("FASTRNN_BACKEND")
    return _named_backend(name) if name else best


_backend: int = _backend_of_environment()
_threads: int | None = None
_HAS_OPENMP = _core.openmp_version() != "none"
_cut = 0
_asked = environment.threads_asked_of_openmp()
_quota = quota_threads() if _asked is None else None


def backend_index() -> int:
    """The backend that calls use, as an index into _core.backends()."""
    return _backend


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Temporarily use another backend, in all threads, for tests and benchmarks."""
    global _backend
    before, _backend = _backend, _named_backend(name)
    try:
        yield
    finally:
        _backend = before


def cut_index() -> int:
    """How calls share their work among threads, as an index into _core.CUTS."""
    return _cut


@contextmanager
def use_cut(name: str) -> Iterator[None]:
    """Use another cut for a while, in all threads: for tests and benchmarks.

    "auto" is the default, and "one" uses one thread. The others use all threads, however small the work is: they share
    "sequences", hidden "units", or sequences and other work in "pieces" that fast threads take more of; "all" chooses
    between sequences and units.
    """
    global _cut
    before, _cut = _cut, _core.CUTS.index(name)
    try:
        yield
    finally:
        _cut = before


def set_num_threads(n: int) -> None:
    """Let later calls use at most `n` threads.

    Parameters
    ----------
    n : int
        At least 1. A call uses fewer threads if its work is too small for more, and one thread in the child of a fork.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer of at least 1.
    """
    global _threads
    _threads = min(_check.integer("n", n, 1), 2**31 - 1)


def get_num_threads() -> int:
    """The maximum number of threads of a call: the number that was set, otherwise OpenMP's own number.

    OpenMP's number is ``OMP_NUM_THREADS``, otherwise the number of cores that the process may run on, limited by a
    container's quota of processor time at import. If OpenMP ignores the variable, as with
    ``OMP_NUM_THREADS=many`` or ``0``, fastrnn ignores it too.
    """
    if _threads is None or not _HAS_OPENMP or _core.is_forked():
        return _core.max_threads() if _quota is None else min(_core.max_threads(), _quota)
    return _threads


def _threads_by() -> str:
    """The origin of the number of threads."""
    if not _HAS_OPENMP:
        return "a build without OpenMP"
    if _core.is_forked():
        return "a forked process: OpenMP's threads did not survive the fork"
    if _threads is not None:
        return "fastrnn.set_num_threads"
    if _quota is not None and _quota < _core.max_threads():
        return "the control group's quota of processor time"
    if _asked is not None:
        return f"OMP_NUM_THREADS={_asked}"
    usable = environment.usable_cores()
    if _core.max_threads() == usable:
        return f"the cores that this process may use, {usable} of {os.cpu_count()}"
    return f"OpenMP, on {usable} cores"


def _gather() -> dict[str, Any]:
    openmp = _core.openmp_version()
    return {
        "version": __version__,
        "backend": _core.backends()[_backend].name,
        "backends": [b.name for b in _core.backends() if b.runs_here],
        "hidden": [b.name for b in _core.backends() if b.hidden],
        "openmp": openmp if _HAS_OPENMP else "none (single-threaded build)",
        "openmp_libraries": environment.openmp_libraries(_core.openmp_library()),
        "threads": get_num_threads(),
        "threads_by": _threads_by(),
        "forked": "yes (one thread)" if _core.is_forked() else "no",
        "build": _core.build(),
        "numpy": np.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "processor": environment.processor(),
    }


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Show the build of fastrnn and its choices on this machine.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        Print, or return a dictionary.

    Returns
    -------
    dict or None
        With ``mode="dicts"``: version; the backend in use, the backends that run here, and the backends that
        ``FASTRNN_HIDE`` hides; OpenMP version or "none (single-threaded build)", and the files of the OpenMP runtimes
        in this process, with the runtime in use first; the number of threads and its origin; whether this process is a
        fork (which runs on one thread, since an OpenMP pool does not survive a fork); compiler and flags; NumPy,
        Python, system and processor. ``python -m fastrnn`` prints the same, and tests the installation.

    Raises
    ------
    ValueError
        For another mode.
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode: expected 'stdout' or 'dicts', got {mode!r}")
    config = _gather()
    if mode == "dicts":
        return config
    for key, value in config.items():
        print(f"{key:17}{(', '.join(value) or 'none') if isinstance(value, list) else value}")
    return None

"""The limits of the machine, measured by a small C library that is compiled at first use."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

# Compiler flags for machine.c to use the vectors of a backend.
FLAGS = {
    "avx512": ["-mavx512f", "-mavx512vl", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
}
L2_BYTES = 1 << 20  # the packed recurrent weights of an LSTM with H = 256 in float32


def _compile(backend: str) -> Path:
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or "cc"
    library = Path(tempfile.mkdtemp(prefix="fastrnn-machine-")) / "machine.so"
    source = Path(__file__).with_name("machine.c")
    flags = ["-O3", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC", *FLAGS.get(backend, [])]
    subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
    return library


class Machine:
    """Peaks of one core, with the vectors of one backend."""

    def __init__(self, backend: str) -> None:
        library = ctypes.CDLL(str(_compile(backend)))
        self._fma = library.fma_gflops
        self._fma.restype, self._fma.argtypes = ctypes.c_double, [ctypes.c_long]
        self._read = library.read_gigabytes
        self._read.restype = ctypes.c_double
        self._read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
        self._barrier, self._region = library.barrier_seconds, library.region_seconds
        for function in (self._barrier, self._region):
            function.restype, function.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_long]
        self._data = np.zeros(L2_BYTES // 4, np.float32)

    def fma_gflops(self) -> float:
        """Fused multiply-adds from registers, in 1e9 floating-point operations per second (float32)."""
        return float(self._fma(50_000))

    def l2_gigabytes(self) -> float:
        """Sequential reads of an array of 1 MiB, in 1e9 bytes per second."""
        return float(self._read(self._data.ctypes.data, self._data.nbytes, 4))

    def read_gigabytes(self, size: int) -> float:
        """Sequential reads of an array of `size` bytes, in 1e9 bytes per second; may run in concurrent threads."""
        data = np.ones(size // 4, np.float32)
        return float(self._read(data.ctypes.data, data.nbytes, max(3, (64 << 20) // size)))

    def barrier_seconds(self, threads: int) -> float:
        """Seconds of an OpenMP barrier of `threads` threads."""
        return float(self._barrier(threads, 10_000))

    def region_seconds(self, threads: int) -> float:
        """Seconds of an empty parallel region of `threads` threads."""
        return float(self._region(threads, 10_000))

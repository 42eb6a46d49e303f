"""Instruction sets that a run hides from all contestants: `FASTRNN_HIDE=avx512 python benchmarks/run.py …`.

Then the rivals must not use them either. Some libraries obey an environment variable. The others ask the processor
which registers the system keeps (xgetbv). These rivals have separate environments, where the libraries are patched:
they are told that the system keeps no registers of 512 bits.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

LIMITS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
# xgetbv with its operand cleared just before it, or with its two results joined just after it. Elsewhere, these bytes
# are parts of other instructions.
ASKS = re.compile(rb"(?<=\x31\xc9)\x0f\x01\xd0|\x0f\x01\xd0(?=\x89\xc0\x48\xc1\xe2\x20)")
ANSWER = b"\x6a\x07\x58"  # push 7; pop rax: the registers of x87, SSE and AVX, and no more
EXECUTABLE = 4


def hides_avx512() -> bool:
    """Whether this run hides AVX-512."""
    return "avx512" in re.split(r"[,\s]+", os.environ.get("FASTRNN_HIDE", ""))


def limits() -> dict[str, str]:
    """Variables that limit a contestant in this run."""
    return LIMITS if hides_avx512() else {}


def _code(library: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each executable section of a 64-bit ELF file."""
    sections = struct.unpack_from("<Q", library, 0x28)[0]
    size, count = struct.unpack_from("<HH", library, 0x3A)
    for at in range(sections, sections + size * count, size):
        flags, _, offset, length = struct.unpack_from("<QQQQ", library, at + 8)
        if flags & EXECUTABLE:
            yield offset, offset + length


def without_avx512(library: bytes) -> bytes:
    """The shared library, patched to find no AVX-512; the same bytes if it does not use xgetbv."""
    if library[:5] != b"\x7fELF\x02":
        return library
    changed = bytearray(library)
    for begin, end in _code(library):
        for found in ASKS.finditer(library[begin:end]):
            changed[begin + found.start() : begin + found.end()] = ANSWER
    return bytes(changed)


def hide(environment: Path) -> None:
    """Change all shared libraries of an environment, which must not share its files with another."""
    for path in environment.rglob("*.so*"):
        if path.is_file() and not path.is_symlink():
            library = path.read_bytes()
            changed = without_avx512(library)
            if changed != library:
                path.write_bytes(changed)

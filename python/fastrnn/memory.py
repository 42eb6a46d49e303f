"""Arrays in reused memory.

The system allocates large memory page by page, zeroed, at every allocation: at T=20, B=20, H=200 that took more than
half as long as a training step's arithmetic. So the memory of freed arrays is kept for later arrays of about the same
size.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core

BYTES = np.dtype(np.uint8)
POOLED_BYTES_MIN: int = _core.POOLED_BYTES  # smaller arrays come from NumPy
# The most that the pool keeps; it also never keeps more than twice the memory that was in use at one time.
KEPT_BYTES_MAX = 512 << 20
# The block of an array may be up to this many times as large as the array. New blocks have one of eight sizes in each
# octave, so arrays of almost the same size can reuse each other's blocks. Untouched parts of a block take no memory.
LOOSE = 1.125
SIZES_PER_OCTAVE = 8
# Blocks of this size and more ask for huge pages: LSTM forward at T=35, B=20, H=1500 takes 138 ms instead of 146 ms.
HUGE_BYTES_MIN = 2 << 20
LINE_BYTES = 64
Block = mmap.mmap | memoryview
_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)


class _Pool:
    """Free blocks of memory for later use, newest last.

    No thread waits for the lock, since the same thread may hold it: garbage collection or a signal handler can
    interrupt anywhere. A caller that does not get the lock works without the blocks, and records its changes of the
    counts for later.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Drop everything, in the child of a fork, since another thread of the parent may have held the lock."""
        self.lock = threading.Lock()
        self.taken: deque[int] = deque()
        self.returned: deque[Block] = deque()
        self.free: list[Block] = []
        self.in_use = self.most_in_use = self.kept = 0

    def take(self, size: int) -> Block:
        size = _rounded(size)
        block = self._from_free(size) if self.lock.acquire(blocking=False) else None
        if block is None:
            try:
                block = _fresh(size)
            except MemoryError:
                self._forget_free()
                block = _fresh(size)
        self.taken.append(len(block))
        return block

    def give(self, block: Block) -> None:
        self.returned.append(block)
        if self.lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self.lock.release()

    def _from_free(self, size: int) -> Block | None:
        """Take a free block; the caller holds the lock, and this function releases it."""
        try:
            self._settle()
            fitting = (j for j in reversed(range(len(self.free))) if size <= len(self.free[j]) <= LOOSE * size)
            found = next(fitting, None)
            if found is None:
                return None
            self.kept -= len(self.free[found])
            return self.free.pop(found)
        finally:
            self.lock.release()

    def _forget_free(self) -> None:
        if self.lock.acquire(blocking=False):
            self.free.clear()
            self.kept = 0
            self.lock.release()

    def _settle(self) -> None:
        while self.taken:
            self.in_use += self.taken.popleft()
            self.most_in_use = max(self.most_in_use, self.in_use)
        while self.returned:
            block = self.returned.popleft()
            self.in_use -= len(block)
            self.kept += len(block)
            self.free.append(block)
        while self.free and self.kept > min(2 * self.most_in_use, KEPT_BYTES_MAX):
            self.kept -= len(self.free.pop(0))


def _rounded(size: int) -> int:
    step = max(1, (1 << (size.bit_length() - 1)) // SIZES_PER_OCTAVE)
    return -(-size // step) * step


def _fresh(size: int) -> Block:
    """New memory that begins at a cache line. Its pages are private: the child of a fork gets a copy."""
    try:
        block = mmap.mmap(-1, size, flags=_FLAGS) if _FLAGS else mmap.mmap(-1, size)
    except OSError:
        whole = bytearray(size + LINE_BYTES)  # a process may have only about 65 000 mappings
        begin = -np.frombuffer(whole, np.uint8).ctypes.data % LINE_BYTES
        return memoryview(whole)[begin : begin + size]
    if size >= HUGE_BYTES_MIN and hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.reset)


class _Lease(np.ndarray[Any, np.dtype[np.uint8]]):
    """The bytes of a block. Arrays on them refer to the lease; when the last array is freed, the block returns."""

    _block: Block | None = None

    def __del__(self) -> None:
        block, self._block = self._block, None
        if block is not None and _pool is not None:  # None when the interpreter exits
            _pool.give(block)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Like `numpy.empty`."""
    size = math.prod(shape) * dtype.itemsize
    if size < POOLED_BYTES_MIN:
        return np.empty(shape, dtype)
    block = _pool.take(size)
    lease = _Lease(size, np.uint8, block)
    lease._block = block
    array: NDArray[Any] = np.ndarray(shape, dtype, lease)
    return array


def empty_on_a_line(size: int) -> NDArray[np.uint8]:
    """`size` bytes that begin at a cache line, where the core is fastest."""
    if size >= POOLED_BYTES_MIN:
        return empty((size,), BYTES)
    whole = np.empty(size + LINE_BYTES, np.uint8)
    begin = -whole.ctypes.data % LINE_BYTES
    return whole[begin : begin + size]


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Like `numpy.zeros`."""
    if math.prod(shape) * dtype.itemsize < POOLED_BYTES_MIN:
        return np.zeros(shape, dtype)
    array = empty(shape, dtype)
    array.fill(0)
    return array

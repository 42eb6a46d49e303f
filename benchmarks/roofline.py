"""The least possible time of a call on a machine with measured limits.

A call takes at least the time of its arithmetic at the peak of fused multiply-adds. A single sequence (B = 1) shares
its weights with no other, so it also takes at least the time to read the recurrent weights in every step. They come
from the nearest level of memory that holds one thread's part of them. The larger of the two times is the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from cases import GATES, Case

# Bytes of the arrays that limits.py reads on each thread; an array fits the level of its name.
CACHES = {"L1": 16 << 10, "L2": 512 << 10, "L3": 8 << 20, "DRAM": 256 << 20}
PEAK = "FMA peak, GFLOP/s"


@dataclass(frozen=True)
class Bound:
    """Seconds, and "arithmetic" or "weights from L2"."""

    seconds: float
    kind: str


def bound_of(case: Case, mode: str, threads: int, limits: dict[str, float]) -> Bound | None:
    """The bound of a call; None if the limits have not been measured."""
    if PEAK not in limits:
        return None
    peak = limits[PEAK] / (2 if case.dtype == "float64" else 1)  # measured in float32; a vector holds half as many
    bounds = [Bound(case.multiply_adds(mode) / peak / 1e9, "arithmetic")]
    if case.B == 1 and case.layers == 1 and not case.bidirectional:
        bounds.append(_reading(case, mode, threads, limits))
    return max(bounds, key=lambda bound: bound.seconds)


def _reading(case: Case, mode: str, threads: int, limits: dict[str, float]) -> Bound:
    """Reading the weights for one sequence in each step; with a single step, also the input weights."""
    columns = case.H if case.T > 1 else case.H + case.I
    weights = GATES[case.cell] * case.H * columns * (8 if case.dtype == "float64" else 4)
    level = next((name for name, size in CACHES.items() if weights / threads <= size), "DRAM")
    # Windows of truncated backward run side by side.
    steps = case.T + ((case.truncation or case.T) if mode == "training" else 0)
    return Bound(steps * weights / limits[f"{level} read, GB/s"] / 1e9, f"weights from {level}")

"""Errors of tanh and sigmoid over every float32 bit pattern, on each backend that this machine runs.

The float32 reference is NumPy in float64. A full sweep of float64 is not possible: the sample has all exponents with
random mantissas, and a comb over the range in which the functions bend; the reference is NumPy in long double. Errors
are in units of the spacing of the result's type. The program exits with 1 if an error is above 4, or if backends with
FMA differ in a bit.

    python benchmarks/sweep_activations.py [--backend NAME]… [--dtype float32|float64] [--stride N]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from fastrnn import _core
from numpy.typing import NDArray

FUNCTIONS = ("tanh", "sigmoid")
REFERENCE = {"float32": np.float64, "float64": np.longdouble}
LIMIT_ULP = 4.0
CHUNK = 1 << 20


def reference(name: str, x: NDArray) -> NDArray:
    """The function in the type of x, without cancellation."""
    if name == "tanh":
        return np.tanh(x)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def spacing(expected: NDArray, dtype: str) -> NDArray:
    """The distance between neighbours of `dtype` at `expected`."""
    info = np.finfo(dtype)
    _, exponent = np.frexp(expected)
    exponent = np.where(expected == 0, info.minexp, exponent - 1)
    return np.ldexp(expected.dtype.type(1), np.maximum(exponent, info.minexp) - info.nmant)


def float32_chunks(stride: int) -> Iterator[tuple[float, NDArray]]:
    """(share done, inputs): every stride-th of all 2^32 bit patterns."""
    for begin in range(0, 1 << 32, stride * CHUNK):
        bits = np.arange(begin, min(begin + stride * CHUNK, 1 << 32), stride, dtype=np.uint64).astype(np.uint32)
        yield min((begin + stride * CHUNK) / (1 << 32), 1.0), bits.view(np.float32)


def float64_chunks(stride: int) -> Iterator[tuple[float, NDArray]]:
    """(share done, inputs): random bit patterns and a comb over (-800, 40), in turn."""
    rng = np.random.default_rng(0)
    rounds = max(1, 256 // stride)
    for done in range(1, rounds + 1):
        anything = rng.integers(0, 1 << 64, CHUNK // 4, dtype=np.uint64).view(np.float64)
        bends = [rng.uniform(low, high, CHUNK // 4) for low, high in ((-1, 1), (-40, 40), (-760, -690))]
        yield done / rounds, np.concatenate([anything, *bends])


class Worst:
    """The largest error of one (backend, function), and its input."""

    def __init__(self) -> None:
        self.ulp, self.at = 0.0, 0.0

    def see(self, x: NDArray, y: NDArray, expected: NDArray, unit: NDArray) -> None:
        error = np.abs(y - expected) / unit
        error[np.isnan(x) & np.isnan(y)] = 0
        error[np.isnan(error)] = np.inf
        worst = int(np.argmax(error))
        if error[worst] > self.ulp:
            self.ulp, self.at = float(error[worst]), float(x[worst])


def sweep(dtype: str, backends: list[str], stride: int) -> bool:
    """Print the largest errors; return whether all are within the limits."""
    known = _core.backends()
    index = {b.name: j for j, b in enumerate(known)}
    fma = [name for name in backends if known[index[name]].has_fma]
    worst = {(name, function): Worst() for name in backends for function in FUNCTIONS}
    differing = 0
    for share, x in (float32_chunks if dtype == "float32" else float64_chunks)(stride):
        for function in FUNCTIONS:
            expected = reference(function, x.astype(REFERENCE[dtype]))
            unit = spacing(expected, dtype)
            results = {name: _core.activate(index[name], function, x) for name in backends}
            for name, y in results.items():
                worst[name, function].see(x, y, expected, unit)
            for name in fma[1:]:
                same = results[name].view(np.uint8) == results[fma[0]].view(np.uint8)
                differing += same.size - int(np.count_nonzero(same))
        print(f"\r{dtype} {share:6.1%}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for (name, function), w in worst.items():
        print(f"{dtype:8} {name:8} {function:8} {w.ulp:6.3f} ULP at {w.at!r}")
    if len(fma) > 1:
        print(f"{dtype:8} {', '.join(fma)}: {differing} differing bytes")
    return differing == 0 and all(w.ulp <= LIMIT_ULP for w in worst.values())


def main() -> int:
    runnable = [b.name for b in _core.backends() if b.runs_here]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", choices=runnable, help="default: all that run here")
    parser.add_argument("--dtype", choices=list(REFERENCE), help="default: both")
    parser.add_argument("--stride", type=int, default=1, help="take every N-th number only, N odd (default: 1, all)")
    args = parser.parse_args()
    if args.stride < 1 or args.stride % 2 == 0:
        parser.error("--stride: expected an odd number, which meets every low bit of the mantissa")
    with np.errstate(all="ignore"):
        good = [
            sweep(dtype, args.backend or runnable, args.stride) for dtype in ([args.dtype] if args.dtype else REFERENCE)
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Errors of tanh, sigmoid, exp, expm1, log, log1p, softplus and log_sigmoid over every float32 bit pattern, on each
backend that this machine runs.

The float32 reference is NumPy in float64. A full sweep of float64 is not possible: the sample has all exponents with
random mantissas, and combs over the ranges in which the functions bend; the reference is NumPy in long double. Errors
are in units of the spacing of the result's type; a wrong infinity, NaN or sign of zero is an infinite error. The
program exits with 1 if an error is above 4, or if backends with FMA differ in a bit of a number.

    python benchmarks/sweep_activations.py [--backend NAME]… [--function NAME]… [--dtype float32|float64] [--stride N]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
from fastrnn import _core
from numpy.typing import NDArray

WIDER = {"float32": np.float64, "float64": np.longdouble}
LIMIT_ULP = 4.0
COMBS = ((-1, 1), (-40, 40), (-760, -690), (0.25, 4), (690, 760))  # of float64
CHUNK = 1 << 14  # larger temporary arrays leave the caches, and take new memory each time


def sigmoid(x: NDArray) -> NDArray:
    """The logistic function in the type of x, without cancellation."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


REFERENCE: dict[str, Callable[[NDArray], NDArray]] = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "softplus": lambda x: np.logaddexp(0, x),
    "log_sigmoid": lambda x: -np.logaddexp(0, -x),
}


def spacing(expected: NDArray, dtype: str) -> NDArray:
    """The distance between neighbours of `dtype` at `expected`."""
    info = np.finfo(dtype)
    if expected.dtype == np.float64:  # frexp is slow
        power = (expected.view(np.uint64) & np.uint64(0x7FF << 52)).view(np.float64)
    else:
        power = np.ldexp(expected.dtype.type(1), np.frexp(expected)[1] - 1)
    return np.maximum(power, expected.dtype.type(info.tiny)) * expected.dtype.type(info.eps)


def overflowing(expected: NDArray, dtype: str) -> NDArray:
    """`expected`, and infinite where `dtype` rounds it to infinity."""
    info = np.finfo(dtype)
    limit = expected.dtype.type(info.max) * (1 + expected.dtype.type(info.epsneg) / 2)
    return np.where(np.abs(expected) >= limit, np.copysign(expected.dtype.type(np.inf), expected), expected)


def float32_chunks(stride: int) -> Iterator[tuple[float, NDArray]]:
    """(share done, inputs): every stride-th of all 2^32 bit patterns."""
    for begin in range(0, 1 << 32, stride * CHUNK):
        bits = np.arange(begin, min(begin + stride * CHUNK, 1 << 32), stride, dtype=np.uint64).astype(np.uint32)
        yield min((begin + stride * CHUNK) / (1 << 32), 1.0), bits.view(np.float32)


def float64_chunks(stride: int) -> Iterator[tuple[float, NDArray]]:
    """(share done, inputs): random bit patterns and combs, in turn."""
    rng = np.random.default_rng(0)
    rounds = max(1, 4096 // stride)
    for done in range(1, rounds + 1):
        anything = rng.integers(0, 1 << 64, CHUNK // 4, dtype=np.uint64).view(np.float64)
        yield done / rounds, np.concatenate([anything, *(rng.uniform(*comb, CHUNK // 4) for comb in COMBS)])


class Worst:
    """The largest error of one (backend, function), and its input."""

    def __init__(self) -> None:
        self.ulp, self.at = 0.0, 0.0

    def see(self, x: NDArray, y: NDArray, expected: NDArray, unit: NDArray) -> None:
        error = np.abs(y - expected) / unit
        error[(y == expected) | (np.isnan(y) & np.isnan(expected))] = 0
        error[np.isnan(error) | ((np.signbit(y) != np.signbit(expected)) & ~np.isnan(y))] = np.inf
        worst = int(np.argmax(error))
        if error[worst] > self.ulp:
            self.ulp, self.at = float(error[worst]), float(x[worst])


def differing(one: NDArray, other: NDArray) -> int:
    """The count of numbers that differ in a bit. A NaN equals any NaN."""
    bits = np.uint32 if one.dtype == np.float32 else np.uint64
    return int(np.count_nonzero((one.view(bits) != other.view(bits)) & ~(np.isnan(one) & np.isnan(other))))


def sweep(dtype: str, backends: list[str], functions: list[str], stride: int) -> bool:
    """Print the largest errors; return whether all are within the limits."""
    known = _core.backends()
    index = {b.name: j for j, b in enumerate(known)}
    fma = [name for name in backends if known[index[name]].has_fma]
    worst = {(name, function): Worst() for name in backends for function in functions}
    different = 0
    for share, x in (float32_chunks if dtype == "float32" else float64_chunks)(stride):
        wide = x.astype(WIDER[dtype])
        for function in functions:
            expected = REFERENCE[function](wide)
            unit = spacing(expected, dtype)
            expected = overflowing(expected, dtype)
            results = {name: _core.activate(index[name], function, x) for name in backends}
            for name, y in results.items():
                worst[name, function].see(x, y, expected, unit)
            different += sum(differing(results[fma[0]], results[name]) for name in fma[1:])
        print(f"\r{dtype} {share:6.1%}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for (name, function), w in worst.items():
        print(f"{dtype:8} {name:8} {function:12} {w.ulp:6.3f} ULP at {w.at!r}")
    if len(fma) > 1:
        print(f"{dtype:8} {', '.join(fma)}: {different} numbers differ")
    return different == 0 and all(w.ulp <= LIMIT_ULP for w in worst.values())


def main() -> int:
    runnable = [b.name for b in _core.backends() if b.runs_here]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", action="append", choices=runnable, help="default: all that run here")
    parser.add_argument("--function", action="append", choices=list(REFERENCE), help="default: all")
    parser.add_argument("--dtype", choices=list(WIDER), help="default: both")
    parser.add_argument("--stride", type=int, default=1, help="take every N-th number only, N odd (default: 1, all)")
    args = parser.parse_args()
    if args.stride < 1 or args.stride % 2 == 0:
        parser.error("--stride: expected an odd number, which meets every low bit of the mantissa")
    with np.errstate(all="ignore"):
        good = [
            sweep(dtype, args.backend or runnable, args.function or list(REFERENCE), args.stride)
            for dtype in ([args.dtype] if args.dtype else WIDER)
        ]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

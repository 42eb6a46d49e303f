"""The cost of ragged lengths, resets and truncation windows, as ratios to the plain call, with limits for --check.

Both sides of a ratio take turns, so they see the same state of a shared machine. The ratio is the ratio of the medians.

    python benchmarks/sequences.py [--rounds N] [--threads N] [--check]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastrnn
import numpy as np

Call = Callable[[], Any]


@dataclass
class Case:
    """`call` must take at most `limit` times as long as `plain`."""

    name: str
    call: Call
    plain: Call
    limit: float


def training_call(layer: Any, x: np.ndarray, dy: np.ndarray, **order: Any) -> Call:
    def call() -> None:
        _, _, tape = layer.forward(x, **order)
        layer.backward(tape, dy)

    return call


def ragged_cases(rng: np.random.Generator) -> list[Case]:
    T, B, H = 200, 64, 128
    layer = fastrnn.LSTM(H, H, seed=0)
    x, dy = (rng.standard_normal((T, B, H)).astype(np.float32) for _ in range(2))
    dense = training_call(layer, x, dy)
    uniform = rng.permutation(np.linspace(1, T, B).round().astype(int))
    almost = np.full(B, T)
    almost[0] -= 1
    shape = f"LSTM T={T} B={B} H={H}, forward and backward"
    return [
        Case(f"{shape}: lengths uniform in 1 … T", training_call(layer, x, dy, lengths=uniform), dense, 0.60),
        Case(f"{shape}: all lengths T", training_call(layer, x, dy, lengths=[T] * B), dense, 1.03),
        Case(f"{shape}: all lengths T but one", training_call(layer, x, dy, lengths=almost), dense, 1.03),
    ]


def reset_cases(rng: np.random.Generator) -> list[Case]:
    found = []
    for T, B, H, limit in ((2000, 1, 512, 1 / 3), (2000, 1, 128, 1 / 1.5), (1, 16, 128, 1.25)):
        layer = fastrnn.LSTM(H, H, seed=0)
        x = rng.standard_normal((T, B, H)).astype(np.float32)
        resets = np.broadcast_to((np.arange(T) % 10 == 0)[:, np.newaxis], (T, B))

        def with_resets(layer: Any = layer, x: np.ndarray = x, resets: np.ndarray = resets) -> Any:
            return layer(x, resets=resets)

        def without(layer: Any = layer, x: np.ndarray = x) -> Any:
            return layer(x)

        found.append(Case(f"LSTM T={T} B={B} H={H}, forward: a reset every 10 steps", with_resets, without, limit))
    return found


def truncation_cases(rng: np.random.Generator) -> list[Case]:
    found = []
    shapes: list[tuple[int, int, int, Any, float]] = [
        (2000, 1, 512, 20, 1 / 2.5), (2000, 1, 256, 20, 1 / 1.25), (2000, 1, 64, 20, 1.03),
        (2000, 1, 256, (20, 40), 1.03),
        (200, 32, 128, (20, 40), 1.03), (2000, 1, 256, (20, 70), 1.03),
        (200, 64, 128, 20, 1.03), (200, 8, 256, 50, 1.03), (200, 32, 64, 1, 1.03), (35, 20, 200, 35, 1.03),
    ]  # fmt: skip
    for T, B, H, k, limit in shapes:
        layer = fastrnn.LSTM(H, H, seed=0)
        x, dy = (rng.standard_normal((T, B, H)).astype(np.float32) for _ in range(2))
        _, _, tape = layer.forward(x)

        def truncated(layer: Any = layer, tape: Any = tape, dy: np.ndarray = dy, k: Any = k) -> Any:
            return layer.backward(tape, dy, truncation=k)

        def full(layer: Any = layer, tape: Any = tape, dy: np.ndarray = dy) -> Any:
            return layer.backward(tape, dy)

        found.append(Case(f"LSTM T={T} B={B} H={H}, backward: truncation={k}", truncated, full, limit))
    return found


def seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="turns of each call (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio is above its limit")
    arguments = parser.parse_args()
    fastrnn.set_num_threads(arguments.threads)
    rng = np.random.default_rng(0)
    missed = 0
    for case in [*ragged_cases(rng), *reset_cases(rng), *truncation_cases(rng)]:
        case.call(), case.plain()
        times = [(seconds(case.call), seconds(case.plain)) for _ in range(arguments.rounds)]
        call, plain = (statistics.median(side) for side in zip(*times, strict=True))
        missed += call / plain > case.limit
        verdict = "  ABOVE" if call / plain > case.limit else ""
        print(
            f"{case.name:75} {call * 1e3:8.2f} ms, plain {plain * 1e3:8.2f} ms, ratio {call / plain:.3f}"
            f" (at most {case.limit:.3f}){verdict}",
            flush=True,
        )
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

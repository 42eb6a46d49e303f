"""One time step at a time: a fastrnn stream including Python, the share of its kernel, and a call of torch.nn.

Contestants take turns in one process, each on one thread; results are medians of rounds of many steps. Without torch,
only fastrnn is measured.

    python benchmarks/streaming.py [--rounds N] [--check]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import fastrnn
import numpy as np

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

STEPS = 300  # of a round
GOAL = 15.0  # times as fast as torch at H = 64, for --check


def microseconds(step: Callable[[], Any], steps: int = STEPS) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - begin) / steps * 1e6


def torch_step(kind: str, H: int) -> Callable[[], Any]:
    """A step of torch's layer that carries its state."""
    module = getattr(torch.nn, kind)(H, H)
    x, state = torch.zeros(1, 1, H), [None]

    def step() -> None:
        _, state[0] = module(x, state[0])

    return step


def measure(kind: str, H: int, rounds: int) -> tuple[float, float, float]:
    """Microseconds of a step: fastrnn, only its kernel, and torch (NaN if torch is missing)."""
    stream = getattr(fastrnn, kind)(H, H, seed=0).stream()
    x = np.zeros((1, H), np.float32)
    other = torch_step(kind, H) if torch else None
    ours, kernel, theirs = [], [], []
    for _ in range(rounds + 1):
        ours.append(microseconds(lambda: stream(x)))
        kernel.append(microseconds(lambda: stream._kernel_steps(x, STEPS), 1) / STEPS)
        theirs.append(microseconds(other) if other else float("nan"))
    return tuple(statistics.median(side[1:]) for side in (ours, kernel, theirs))  # type: ignore[return-value]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="default 30")
    parser.add_argument(
        "--check", action="store_true", help=f"exit with 1 below {GOAL:.0f} times torch at H = 64 (LSTM)"
    )
    arguments = parser.parse_args()
    fastrnn.set_num_threads(1)
    missed = False
    print("B=1, I=H    fastrnn   kernel   share    torch   ratio")
    for kind in ("LSTM", "GRU", "RNN"):
        for H in (32, 64, 128, 256, 512):
            if torch:
                torch.set_num_threads(1)
                with torch.inference_mode():
                    ours, kernel, theirs = measure(kind, H, arguments.rounds)
            else:
                ours, kernel, theirs = measure(kind, H, arguments.rounds)
            missed |= kind == "LSTM" and H == 64 and not theirs / ours >= GOAL
            share, ratio = kernel / ours, theirs / ours
            print(f"{kind:4} H={H:3} {ours:8.2f} {kernel:8.2f} us {share:6.0%} {theirs:7.1f} us {ratio:6.1f}")
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

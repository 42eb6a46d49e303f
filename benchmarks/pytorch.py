"""Modules of torch.nn before and after `fastrnn.torch.accelerate`: all of a call, Python included.

Contestants take turns in one process, on one thread; medians of rounds. Inference is under inference_mode; training is
forward, sum and backward. Prints a table for docs/pytorch.md, and geometric means by cell.

    python benchmarks/pytorch.py [--rounds N] [--quick]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import fastrnn.torch
import torch

CELLS = ("LSTM", "GRU", "RNN")
SIZES = [(1, 1, 64), (1, 1, 256), (1, 32, 64), (20, 1, 64), (20, 32, 64), (35, 20, 128), (100, 4, 128)]  # T, B, H
STEP_SIZES = [64, 256]  # H of single cells
ROUND_US = 4000.0  # about as long as a round of one contestant


def microseconds(call: Callable[[], Any], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times * 1e6


def compare(before: Callable[[], Any], after: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Medians of both, in microseconds."""
    times = max(1, int(ROUND_US / microseconds(before, 3)))
    microseconds(after, 3)
    pairs = [(microseconds(before, times), microseconds(after, times)) for _ in range(rounds)]
    return statistics.median(b for b, _ in pairs), statistics.median(a for _, a in pairs)


def training(module: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def step() -> None:
        y, _ = module(x)
        y.sum().backward()

    return step


def measure_layers(rounds: int, sizes: list[tuple[int, int, int]]) -> None:
    ratios: dict[str, list[float]] = {cell: [] for cell in CELLS}
    print("| cell | T, B, H | inference: torch, fastrnn (µs) | | training: torch, fastrnn (µs) | |")
    print("|---|---|---|---|---|---|")
    for T, B, H in sizes:
        for cell in CELLS:
            theirs = getattr(torch.nn, cell)(H, H)
            ours = fastrnn.torch.accelerate(copy.deepcopy(theirs)).model
            x = torch.randn(T, B, H)
            with torch.inference_mode():
                infer = compare(lambda m=theirs: m(x), lambda m=ours: m(x), rounds)  # noqa: B023
            train = compare(training(theirs, x), training(ours, x), rounds)
            columns = [f"{a:.0f}, {b:.0f} | {a / b:.1f} ×" for a, b in (infer, train)]
            print(f"| {cell} | {T}, {B}, {H} | {' | '.join(columns)} |", flush=True)
            ratios[cell] += [a / b for a, b in (infer, train)]
    for cell, values in ratios.items():
        print(f"{cell}: {statistics.geometric_mean(values):.2f} times as fast, geometric mean")


def measure_cells(rounds: int) -> None:
    for H in STEP_SIZES:
        for cell in CELLS:
            theirs = getattr(torch.nn, f"{cell}Cell")(H, H)
            ours = fastrnn.torch.accelerate(copy.deepcopy(theirs)).model
            x = torch.randn(1, H)
            with torch.inference_mode():
                hx = theirs(x)
                a, b = compare(lambda m=theirs: m(x, hx), lambda m=ours: m(x, hx), rounds)  # noqa: B023
            print(f"| {cell}Cell | 1, 1, {H} | {a:.0f}, {b:.0f} | {a / b:.1f} × | | |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11, metavar="N")
    parser.add_argument("--quick", action="store_true", help="the smallest sizes alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    measure_layers(options.rounds, SIZES[:1] if options.quick else SIZES)
    measure_cells(options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Modules of torch.nn before and after `fastrnn.torch.accelerate`: the time of whole calls, including Python.

Contestants take turns in one process, on the same threads; results are medians of rounds. Inference runs under
inference_mode; training is forward, sum and backward. Ragged batches are PackedSequences with lengths 1 … T. The
program prints a table for docs/pytorch.md, and geometric means by cell.

    python benchmarks/pytorch.py [--threads N] [--rounds N] [--quick]
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
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

CELLS = ("LSTM", "GRU", "RNN")
SIZES = [(1, 1, 64), (1, 1, 256), (1, 32, 64), (20, 1, 64), (20, 32, 64), (35, 20, 128), (100, 4, 128)]  # T, B, H
RAGGED_SIZES = [(100, 8, 64), (100, 32, 128), (200, 64, 128), (100, 32, 256)]
STEP_SIZES = [64, 256]  # H of single cells
ROUND_US = 4000.0  # the approximate time of a round of one contestant


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


def training(module: torch.nn.Module, x: torch.Tensor | PackedSequence) -> Callable[[], None]:
    def step() -> None:
        y, _ = module(x)
        (y.data if isinstance(y, PackedSequence) else y).sum().backward()

    return step


def ragged(T: int, B: int, H: int) -> PackedSequence:
    lengths = torch.linspace(1, T, B).round().long()
    return pack_padded_sequence(torch.randn(T, B, H), lengths[torch.randperm(B)], enforce_sorted=False)


def measure_layers(rounds: int, sizes: list[tuple[int, int, int]], is_ragged: bool = False) -> list[str]:
    """Print a row for each size and cell; return lines with the geometric means."""
    ratios: dict[str, list[float]] = {cell: [] for cell in CELLS}
    for T, B, H in sizes:
        for cell in CELLS:
            theirs = getattr(torch.nn, cell)(H, H)
            ours = fastrnn.torch.accelerate(copy.deepcopy(theirs)).model
            x = ragged(T, B, H) if is_ragged else torch.randn(T, B, H)
            with torch.inference_mode():
                infer = compare(lambda m=theirs: m(x), lambda m=ours: m(x), rounds)  # noqa: B023
            train = compare(training(theirs, x), training(ours, x), rounds)
            columns = [f"{a:.0f}, {b:.0f} | {a / b:.1f} ×" for a, b in (infer, train)]
            print(f"| {cell}{' packed' * is_ragged} | {T}, {B}, {H} | {' | '.join(columns)} |", flush=True)
            ratios[cell] += [a / b for a, b in (infer, train)]
    means = [f"{cell} {statistics.geometric_mean(values):.2f}" for cell, values in ratios.items()]
    return [f"{'packed' if is_ragged else 'dense'}, times as fast, geometric mean: {', '.join(means)}"]


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
    parser.add_argument("--threads", type=int, default=2, metavar="N")
    parser.add_argument("--rounds", type=int, default=11, metavar="N")
    parser.add_argument("--quick", action="store_true", help="only the smallest sizes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print("| cell | T, B, H | inference: torch, fastrnn (µs) | | training: torch, fastrnn (µs) | |")
    print("|---|---|---|---|---|---|")
    count = 1 if options.quick else None
    lines = measure_layers(options.rounds, SIZES[:count])
    lines += measure_layers(options.rounds, RAGGED_SIZES[:count], is_ragged=True)
    measure_cells(options.rounds)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())

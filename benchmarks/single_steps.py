"""Calls of one time step compared with the machine's limits, on one thread: unpacked weights, training, packing.

All calls take turns, so they see the same state of a shared machine; the program prints medians of processor time.

    unpacked   the rate at which forward reads unpacked weights, over the rate for packed weights
    training   the time of forward and backward with all gradients, unpacked, over the least time of the machine:
               reading the weights twice and writing the gradients once, at the bandwidth of the level that holds both,
               or the arithmetic at 75 % of the FMA peak
    packing    the rate of packing for forward and for backward, over the rate of a copy

    python benchmarks/single_steps.py [--rounds N] [--cell lstm gru rnn_tanh]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
from fastrnn import _core
from kernels import CELLS
from machine import Machine


class Step:
    """A single step of one layer, H inputs and H units, with its memory."""

    def __init__(self, cell: str, B: int, H: int, backend: int, threads: int = 1) -> None:
        rng = np.random.default_rng(0)

        def random(*shape: int) -> np.ndarray:
            return rng.uniform(-0.1, 0.1, shape).astype(np.float32)

        row = CELLS[cell]
        self.problem = p = _core.Problem(cell, np.float32, backend, threads, 1, B, H, H)
        self.weights = [random(*one.shape(H, H)) for one in row.parameters]
        self.packed, self.packed_backward = np.zeros(p.packed_forward, np.uint8), np.zeros(p.packed_backward, np.uint8)
        self.x, self.y, self.dy, self.dx = (random(1, B, H) for _ in range(4))
        self.initial = [random(B, H) for _ in row.states]
        self.d_initial = [random(B, H)] + [None] * (len(row.states) - 1)
        self.gradients = [np.zeros_like(w) for w in self.weights]
        self.reserve = np.zeros(p.reserve, np.uint8)
        self.scratch = np.zeros(max(p.scratch_forward, p.scratch_backward), np.uint8)
        self.pack_forward()

    def _forward(self, packed: np.ndarray | None, weights: list | None, reserve: np.ndarray | None) -> None:
        _core.forward(self.problem, packed, self.x, self.initial, self.y, None, reserve, self.scratch, None, weights)

    def forward_packed(self) -> None:
        self._forward(self.packed, None, None)

    def forward_unpacked(self) -> None:
        self._forward(None, self.weights, self.reserve)

    def infer_unpacked(self) -> None:
        self._forward(None, self.weights, None)

    def train(self) -> None:
        self.forward_unpacked()
        self.backward()

    def backward(self) -> None:
        _core.backward(
            self.problem, None, self.x, self.initial, self.y, self.reserve, self.dy, None, self.dx, self.d_initial,
            self.gradients, self.scratch, True, self.weights,
        )  # fmt: skip

    def pack_forward(self) -> None:
        _core.pack_forward(self.problem, self.weights, self.packed)

    def pack_backward(self) -> None:
        _core.pack_backward(self.problem, self.weights, self.packed_backward)

    def copy(self) -> None:
        for gradient, weight in zip(self.gradients[:2], self.weights[:2], strict=True):
            np.copyto(gradient, weight)


def seconds(run: Callable[[], None], least: float = 2e-3) -> float:
    """Processor time of a call, from a turn of at least `least` seconds."""
    calls, begin = 0, time.process_time()
    while (now := time.process_time()) - begin < least:
        run()
        calls += 1
    return (now - begin) / calls


def measure(step: Step, rounds: int) -> dict[str, float]:
    """Medians of all calls, which take turns."""
    calls = {
        name: getattr(step, name)
        for name in ("forward_packed", "forward_unpacked", "train", "pack_forward", "pack_backward", "copy")
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each call (default 7)")
    parser.add_argument("--cell", nargs="+", default=["lstm", "gru", "rnn_tanh"], choices=[*CELLS])
    chosen = parser.parse_args()
    name = os.environ.get("FASTRNN_BACKEND") or _core.backends()[_core.best_backend()].name
    backend = [b.name for b in _core.backends()].index(name)
    machine = Machine(name)
    peak = statistics.median(machine.fma_gflops() for _ in range(9))
    print(
        f"backend {name}, one core: {peak:.0f} GFLOP/s; us, and ratios (goals: at least 0.5, at most 1.5, at least 0.8)"
    )
    print(
        f"{'':22}{'read GB/s':>10}{'unpacked':>10}{'ratio':>7}{'training':>10}{'limit':>8}{'ratio':>7}{'packing':>16}"
    )
    for cell in chosen.cell:
        for H in (64, 128, 256, 512):
            weights = 2 * CELLS[cell].gates * H * H
            bandwidth = statistics.median(machine.read_gigabytes(8 * weights) for _ in range(9))
            for B in (1, 2, 4, 8):
                t = measure(Step(cell, B, H, backend), chosen.rounds)
                memory, arithmetic = 12 * weights / bandwidth * 1e-9, 6 * weights * B / (0.75 * peak) * 1e-9
                limit = memory if B == 1 else max(memory, arithmetic)
                ratios = [t["copy"] / t[packing] for packing in ("pack_forward", "pack_backward")]
                print(
                    f"{cell:9} H={H:<4} B={B:<4}{bandwidth:10.0f}{1e6 * t['forward_unpacked']:10.1f}"
                    f"{t['forward_packed'] / t['forward_unpacked']:7.2f}{1e6 * t['train']:10.1f}{1e6 * limit:8.1f}"
                    f"{t['train'] / limit:7.2f}{ratios[0]:10.2f}{ratios[1]:6.2f}"
                )


if __name__ == "__main__":
    main()

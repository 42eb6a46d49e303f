"""Compare the kernels with the machine's limits, on one thread.

Kernels and limits take turns, so both see the same state of a shared machine; the comparison uses medians. A recurrence
is timed alone, as a layer without inputs (I = 0). The time of a large product is the difference between such a call and
a call with inputs or parameter gradients. The time of the step comes from a recurrence with few units, where the step
takes nearly all the time. The expected time of a recurrence is its product at 88 % of the peak plus this step.

    python benchmarks/kernels.py [--rounds N] [--check]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fastrnn import _core
from machine import Machine

CELLS = _core.cells()


class Layer:
    """One layer in one direction with its memory, ready to be timed."""

    def __init__(self, cell: str, T: int, B: int, I: int, H: int, backend: int, threads: int = 1) -> None:
        rng = np.random.default_rng(0)
        row = CELLS[cell]

        def random(*shape: int) -> np.ndarray:
            return rng.uniform(-0.1, 0.1, shape).astype(np.float32)

        def memory(size: int) -> np.ndarray:
            return np.zeros(size, np.uint8)

        self.problem = p = _core.Problem(cell, np.float32, backend, threads, T, B, I, H)
        parameters = [random(*one.shape(I, H)) for one in row.parameters]
        self.packed_forward, self.packed_backward = memory(p.packed_forward), memory(p.packed_backward)
        _core.pack_forward(p, parameters, self.packed_forward)
        _core.pack_backward(p, parameters, self.packed_backward)
        self.x, self.y, self.dy = random(T, B, I), random(T, B, H), random(T, B, H)
        self.initial = [random(B, H) for _ in row.states]
        self.dx, self.d_initial = random(T, B, I), [random(B, H)] + [None] * (len(row.states) - 1)
        self.gradients = [np.zeros_like(w) for w in parameters]
        self.reserve = memory(p.reserve)
        self.scratch = memory(max(p.scratch_forward, p.scratch_backward))

    def forward(self) -> None:
        _core.forward(self.problem, self.packed_forward, self.x, self.initial, self.y, None, self.reserve, self.scratch)

    def _backward(self, dx: np.ndarray | None, gradients: list[np.ndarray] | None) -> None:
        _core.backward(
            self.problem, self.packed_backward, self.x, self.initial, self.y, self.reserve, self.dy, None, dx,
            self.d_initial, gradients, self.scratch,
        )  # fmt: skip

    def backward_recurrence(self) -> None:
        self._backward(None, None)

    def backward(self) -> None:
        self._backward(self.dx, self.gradients)


@dataclass
class Case:
    """A timed call, minus an optional second call, does `work`; `floor` is a fraction of the limit."""

    name: str
    run: Callable[[], None]
    work: float  # 1e9 operations or bytes
    limit: str
    floor: float
    minus: Callable[[], None] | None = None
    vectors: int = 0  # vectors of units, over all rows and steps
    step: str = ""  # the case that measures the time of one step of a vector


SMALL = 4  # vectors of units in the cases where the step takes nearly all the time
PACE = 0.88  # of the peak: the speed of the product in the expected time of a recurrence


def cases(backend: int) -> list[Case]:
    found = []
    length = _core.backends()[backend].vector_length["float32"]
    small, rows = Layer("lstm", 50, 32, 0, SMALL * length, backend), 50 * 32
    small.forward()
    work = 2e-9 * 4 * (SMALL * length) ** 2 * rows
    for step, run in (("forward", small.forward), ("backward", small.backward_recurrence)):
        found.append(Case(f"step, {step}", run, work, "fma", 0.0, vectors=SMALL * rows))
    for H in (256, 512):
        alone, whole = Layer("lstm", 20, 32, 0, H, backend), Layer("lstm", 20, 32, H, H, backend)
        whole.forward()
        product = 2e-9 * 4 * H * H * 20 * 32
        shape, vectors = f"LSTM T=20 B=32 H={H}", 20 * 32 * (H // length)
        found += [
            Case(f"{shape}: recurrence, forward", alone.forward, product, "fma", 0.65, None, vectors, "step, forward"),
            Case(
                f"{shape}: recurrence, backward",
                alone.backward_recurrence,
                product,
                "fma",
                0.60,
                None,
                vectors,
                "step, backward",
            ),
            Case(f"{shape}: input projection", whole.forward, product, "fma", 0.70, alone.forward),
            Case(f"{shape}: dx, dw_ih, dw_hh, db", whole.backward, 3 * product, "fma", 0.70, whole.backward_recurrence),
        ]
    one = Layer("lstm", 100, 1, 0, 256, backend)
    found.append(Case("LSTM T=100 B=1 H=256: recurrence", one.forward, 4e-9 * 4 * 256 * 256 * 100, "L2", 0.75))
    return found


def seconds(run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def measure(machine: Machine, measured: list[Case], rounds: int) -> tuple[dict[str, float], list[float]]:
    """Medians over the rounds: of the limits, and of each case's rate."""
    limits: dict[str, list[float]] = {"fma": [], "L2": []}
    times: list[list[float]] = [[] for _ in measured]
    for number in range(rounds):
        for j, case in enumerate(measured):
            limits["fma"].append(machine.fma_gflops())
            limits["L2"].append(machine.l2_gigabytes())
            case.run()
            times[j].append(seconds(case.run) - (seconds(case.minus) if case.minus else 0.0))
        if sys.stderr.isatty():
            print(f"\rround {number + 1}/{rounds}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    rates = [case.work / statistics.median(t) for case, t in zip(measured, times, strict=True)]
    return {name: statistics.median(values) for name, values in limits.items()}, rates


def beside_step(case: Case, rate: float, peak: float, steps: dict[str, float]) -> str:
    """The time of a recurrence, divided by the expected time of its product and its steps."""
    if not case.step:
        return ""
    expected = case.work / (PACE * peak) + case.vectors * steps[case.step]
    return f"; {case.work / rate / expected:.2f} times product and step"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="turns of each case (default 60)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a case is below its floor")
    arguments = parser.parse_args()
    name = os.environ.get("FASTRNN_BACKEND") or _core.backends()[_core.best_backend()].name
    backend = [b.name for b in _core.backends()].index(name)
    measured = cases(backend)
    limits, rates = measure(Machine(name), measured, arguments.rounds)
    units = {"fma": "GFLOP/s", "L2": "GB/s"}
    print(f"backend {name}; one core: {limits['fma']:.0f} GFLOP/s, L2 {limits['L2']:.0f} GB/s (medians)")
    missed, steps = 0, {}
    for case, rate in zip(measured, rates, strict=True):
        if case.vectors and not case.step:
            steps[case.name] = (case.work / rate - case.work / limits["fma"]) / case.vectors
            print(f"{case.name:44} {1e9 * steps[case.name]:6.1f} ns for a vector of units")
            continue
        fraction = rate / limits[case.limit]
        verdict = "" if fraction >= case.floor else "  BELOW THE FLOOR"
        missed += fraction < case.floor
        print(
            f"{case.name:44} {rate:6.1f} {units[case.limit]:7} {fraction:6.1%} of {case.limit:3}"
            f"  (floor {case.floor:.0%}){verdict}{beside_step(case, rate, limits['fma'], steps)}"
        )
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare cells as programs with the compiled cells, on one thread.

Both run the same problem in turns and give the same bits. Times are processor time of the thread, the least of several
rounds: a shared machine disturbs them little.

    python benchmarks/programs.py [--rounds N] [--steps T]
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
from fastrnn import _core
from fastrnn._program import CellProgram
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.lower import lower

CELLS = {"lstm": lstm, "gru": gru}


class Layer:
    """One layer in one direction with its memory."""

    def __init__(self, cell: str | CellProgram, T: int, B: int, H: int) -> None:
        rng = np.random.default_rng(0)

        def random(*shape: int) -> np.ndarray:
            return rng.uniform(-0.1, 0.1, shape).astype(np.float32)

        def memory(size: int) -> np.ndarray:
            return np.zeros(size, np.uint8)

        self.problem = p = _core.Problem(cell, np.float32, _core.best_backend(), 1, T, B, H, H)
        parameters = [random(*one.shape(H, H)) for one in p.row.parameters]
        self.packed = memory(p.packed_forward), memory(p.packed_backward)
        _core.pack_forward(p, parameters, self.packed[0])
        _core.pack_backward(p, parameters, self.packed[1])
        self.x, self.y, self.dy, self.dx = random(T, B, H), random(T, B, H), random(T, B, H), random(T, B, H)
        self.gradients = [np.zeros_like(one) for one in parameters]
        self.reserve = memory(p.reserve)
        self.scratch = memory(max(p.scratch_forward, p.scratch_backward))

    def forward(self, reserve: np.ndarray | None = None) -> None:
        """Inference, unless there is a reserve."""
        _core.forward(self.problem, self.packed[0], self.x, None, self.y, None, reserve, self.scratch)

    def train(self) -> None:
        """Forward and backward."""
        self.forward(self.reserve)
        _core.backward(
            self.problem, self.packed[1], self.x, None, self.y, self.reserve, self.dy, None, self.dx, None,
            self.gradients, self.scratch, True,
        )  # fmt: skip


def seconds(layers: list[Layer], run: str, rounds: int) -> list[float]:
    """The least time of a call of each layer."""
    least = [float("inf")] * len(layers)
    for _, (j, layer) in itertools.product(range(rounds + 1), enumerate(layers)):
        begin = time.thread_time()
        getattr(layer, run)()
        least[j] = min(least[j], time.thread_time() - begin)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="calls of each")
    parser.add_argument("--steps", type=int, default=20, help="time steps of a call")
    options = parser.parse_args()
    print("cell     B    H   forward  training   (time as a program / time of the compiled cell)")
    for name, B, H in itertools.product(CELLS, (1, 8, 32), (64, 128, 512)):
        layers = [Layer(cell, options.steps, B, H) for cell in (name, CellProgram(lower(CELLS[name].program)))]
        ratios = []
        for run in ("forward", "train"):
            compiled, program = seconds(layers, run, options.rounds)
            ratios.append(program / compiled)
        print(f"{name:6}{B:4} {H:4}  {ratios[0]:8.2f}  {ratios[1]:8.2f}", flush=True)


if __name__ == "__main__":
    main()

"""The cases of the group `small`: short calls of everything that a user calls, with weights that are not frozen.

A case combines values of the factors below. A pairwise covering set is measured in every run, and as many cases again
are drawn from the full product.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from cases import GATES
from small_covering import Row, covering

FACTORS: dict[str, tuple[Any, ...]] = {
    # fastrnn.lstm; a call of fastrnn.LSTM, not frozen; a module and a cell of fastrnn.torch
    "kind": ("function", "layer", "module", "cell"),
    "mode": ("forward", "training"),
    "cell": tuple(GATES),
    "T": (1, 2, 5, 15),
    "B": (1, 2, 4, 8, 16),
    "H": (16, 64, 128, 256, 512, 1024),  # also the size of the input
    "layers": (1, 2),
    "dtype": ("float32", "float64"),
    # swapped: steps of an array with the batch first, its axes swapped. steps: x[:, t:t+T] with batch_first.
    # split: half of an array twice as wide.
    "layout": ("contiguous", "swapped", "steps", "split"),
    "weights": ("unchanged", "new"),  # since the call before
    "threads": (1, 2),
}
TOGETHER = ("kind", "mode", "weights", "threads")  # every combination of these meets every value of the others
SEED = 0  # of the covering set, which is the same in every run
DRAWS = 200


@dataclass(frozen=True)
class SmallCase:
    """T steps of B sequences, H inputs and H units. With T = 1, a state is given, and its gradient is wanted too."""

    kind: str
    mode: str
    cell: str
    T: int
    B: int
    H: int
    layers: int
    dtype: str
    layout: str
    weights: str
    threads: int

    @property
    def name(self) -> str:
        """Unique, and readable in a table."""
        parts = [self.kind, self.mode, self.cell, f"T={self.T}", f"B={self.B}", f"H={self.H}"]
        parts += [f"L={self.layers}"] if self.layers > 1 else []
        parts += [self.dtype] if self.dtype != "float32" else []
        parts += [f"{self.layout} x"] if self.layout != "contiguous" else []
        parts += ["new weights"] if self.weights == "new" else []
        return " ".join([*parts, f"{self.threads} thread{'s' if self.threads > 1 else ''}"])

    @property
    def carried(self) -> bool:
        """Whether the call starts from a given state."""
        return self.T == 1

    @property
    def batch_first(self) -> bool:
        """Whether x is (B, T, I)."""
        return self.layout == "steps"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `SmallCase(**…)` reads it."""
        return asdict(self)


def allowed(row: Row) -> bool:
    """Whether values go together: functions and cells have one layer, cells one step, and neither has batch_first."""
    kind = row["what"][0] if "what" in row else row.get("kind")
    if kind in ("function", "cell") and (row.get("layers", 1) > 1 or row.get("layout") == "steps"):
        return False
    return not (kind == "cell" and row.get("T", 1) > 1)


def covering_cases() -> list[SmallCase]:
    """The covering set: every allowed pair of values of two factors occurs in some case."""
    factors = {"what": list(product(*(FACTORS[name] for name in TOGETHER)))} | {
        name: values for name, values in FACTORS.items() if name not in TOGETHER
    }
    rows = covering(factors, allowed, SEED)
    return [SmallCase(**dict(zip(TOGETHER, row.pop("what"), strict=True)), **row) for row in rows]


def drawn_cases(count: int, seed: int, beside: list[SmallCase]) -> list[SmallCase]:
    """Cases from the full product of all factors that are not in another list."""
    draw, found = random.Random(seed), dict.fromkeys(beside)
    while len(found) < len(beside) + count:
        row = {name: draw.choice(values) for name, values in FACTORS.items()}
        if allowed(row):
            found[SmallCase(**row)] = None
    return list(found)[len(beside) :]


def data_of(case: SmallCase) -> dict[str, np.ndarray]:
    """Arrays x and dy (T, B, H), the parameters under torch's names, and the given states h0 and c0 (layers, B, H).

    A cell of an LSTM has dc (B, H) too, the gradient of its new c.

    The same for every contestant. Large arrays repeat a pool of numbers, since drawing them takes longer than a call.
    """
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    pool = 2 * rng.random(65_537) - 1

    def uniform(bound: float, *shape: int) -> np.ndarray:
        begin = int(rng.integers(pool.size))
        return np.resize(bound * np.roll(pool, begin), shape).astype(case.dtype)

    H, rows = case.H, GATES[case.cell] * case.H
    found = {"x": uniform(1, case.T, case.B, H), "dy": uniform(1, case.T, case.B, H)}
    for layer in range(case.layers):
        for kind in ("ih", "hh"):
            found[f"weight_{kind}_l{layer}"] = uniform(H**-0.5, rows, H)
            found[f"bias_{kind}_l{layer}"] = uniform(H**-0.5, rows)
    if case.carried:
        for name in ("h0", "c0") if case.cell == "lstm" else ("h0",):
            found[name] = uniform(1, case.layers, case.B, H)
    if (case.kind, case.cell) == ("cell", "lstm"):
        found["dc"] = uniform(1, case.B, H)
    return found


def laid_out(case: SmallCase, x: np.ndarray) -> np.ndarray:
    """A copy of x in the case's layout: (T, B, H), or (B, T, H) with the batch first."""
    T, B, H = x.shape
    if case.layout == "split":
        wide = np.zeros((T, B, 2 * H), x.dtype)
        wide[:, :, H:] = x
        return wide[:, :, H:]
    if case.layout == "contiguous":
        return x.copy()
    longer = np.zeros((B, T + 2, H), x.dtype)
    longer[:, 1 : T + 1] = x.swapaxes(0, 1)
    return longer[:, 1 : T + 1] if case.batch_first else longer.swapaxes(0, 1)[1 : T + 1]

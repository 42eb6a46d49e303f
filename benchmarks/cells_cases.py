"""The cases of the group `cells`: cells that users write, over 100 steps.

Every contestant gets the same arrays, by the names of `fastrnn.recurrent`; gates are i, f, g, o and r, z, n.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

STEPS = 100
BATCHES, WIDTHS, MODES, THREADS = (1, 8, 32), (64, 128, 512), ("forward", "training"), (1, 2)
GATES = {"lstm": 4, "gru": 3, "peephole_lstm": 4, "layer_norm_lstm": 4, "reset_before_gru": 3}
PLAIN = ("lstm", "gru")  # cells that fastrnn has compiled and torch.nn has too
COMPILED = {name: "gru" if "gru" in name else "lstm" for name in GATES}  # the compiled cell beside each cell


@dataclass(frozen=True)
class CellCase:
    """T steps of B sequences through one layer of H inputs and H units, in float32."""

    cell: str
    mode: str
    B: int
    H: int
    threads: int
    T: int = STEPS

    @property
    def name(self) -> str:
        """Unique, and readable in a table."""
        steps = "" if self.T == STEPS else f" T={self.T}"
        return f"{self.cell} {self.mode}{steps} B={self.B} H={self.H} {self.threads} thread{'s'[: self.threads > 1]}"

    @property
    def dtype(self) -> str:
        """The dtype of all arrays."""
        return "float32"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `CellCase(**…)` reads it."""
        return asdict(self)


def all_cases() -> list[CellCase]:
    """All cases, sorted by width within each number of threads, so that an interrupted run has whole rows."""
    ordered = product(THREADS[::-1], WIDTHS, BATCHES, GATES, MODES)
    return [CellCase(cell, mode, B, H, threads) for threads, H, B, cell, mode in ordered]


def vectors_of(cell: str) -> tuple[str, ...]:
    """The vectors of H of a cell."""
    if cell == "peephole_lstm":
        return "p_i", "p_f", "p_o"
    if cell == "layer_norm_lstm":
        return "gamma", "beta", *(f"{name}_{gate}" for name in ("gamma_x", "gamma_r", "bias") for gate in "ifgo")
    return ()


def parameters_of(cell: str, H: int) -> dict[str, tuple[int, ...]]:
    """Shapes by name. The layer-norm LSTM has its biases among the vectors."""
    rows = GATES[cell] * H
    shapes: dict[str, tuple[int, ...]] = {"w_ih": (rows, H), "w_hh": (rows, H)}
    if cell != "layer_norm_lstm":
        shapes |= {"b_ih": (rows,), "b_hh": (rows,)}
    return shapes | dict.fromkeys(vectors_of(cell), (H,))


def data_of(case: CellCase) -> dict[str, np.ndarray]:
    """Arrays x and dy (T, B, H), and the parameters; gains are near 1. Threads and mode do not change the numbers."""
    rng = np.random.default_rng(zlib.crc32(f"{case.cell} {case.T} {case.B} {case.H}".encode()))

    def uniform(bound: float, shape: tuple[int, ...]) -> np.ndarray:
        return ((2 * rng.random(shape) - 1) * bound).astype(case.dtype)

    found = {name: uniform(1, (case.T, case.B, case.H)) for name in ("x", "dy")}
    for name, shape in parameters_of(case.cell, case.H).items():
        found[name] = uniform(case.H**-0.5, shape)
        if name.startswith("gamma"):
            found[name] += 1
    return found


def stacked(data: dict[str, np.ndarray], name: str, gates: str = "ifgo") -> np.ndarray:
    """The vectors of all gates of a layer-norm LSTM, one after the other."""
    return np.concatenate([data[f"{name}_{gate}"] for gate in gates])


def unstacked(array: np.ndarray, name: str, gates: str = "ifgo") -> dict[str, np.ndarray]:
    """The inverse of `stacked`."""
    parts = np.split(array, len(gates))
    return {f"{name}_{gate}": part for gate, part in zip(gates, parts, strict=True)}

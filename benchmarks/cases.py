"""The cases of `run.py`: shapes that people run, each with its reason.

Every contestant builds the weights and inputs of a case from the same seed, in torch's layout, with only NumPy.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1}


@dataclass(frozen=True)
class Case:
    """T steps of B sequences through a stack of layers; x is (T, B, I)."""

    group: str
    cell: str
    T: int
    B: int
    I: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    dtype: str = "float32"
    lengths: str = ""  # "uniform": 1 … T
    reset_every: int = 0  # steps between resets of every sequence; 0: no resets
    truncation: int = 0  # steps that the gradient reaches back; 0: all
    carried: bool = False  # starts from the states of an earlier call; some rivals would skip products with zero
    modes: tuple[str, ...] = ("forward", "training")
    why: str = ""

    @property
    def name(self) -> str:
        """Unique, and readable in a table."""
        parts = [self.cell, f"T={self.T}", f"B={self.B}"]
        parts.append(f"H={self.H}" if self.I == self.H else f"I={self.I} H={self.H}")
        parts += [f"L={self.layers}"] if self.layers > 1 else []
        parts += ["bidirectional"] if self.bidirectional else []
        parts += [self.dtype] if self.dtype != "float32" else []
        parts += ["ragged"] if self.lengths else []
        parts += [f"reset every {self.reset_every}"] if self.reset_every else []
        parts += [f"truncation {self.truncation}"] if self.truncation else []
        return " ".join(parts)

    @property
    def directions(self) -> int:
        """1, or 2 for a bidirectional stack."""
        return 1 + self.bidirectional

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `Case(**…)` reads it."""
        return asdict(self)

    def multiply_adds(self, mode: str) -> float:
        """Floating-point operations of all products without padding; a multiply-add counts as two."""
        rows = float(self.sequence_lengths().sum())
        width = [self.I] + [self.directions * self.H] * (self.layers - 1)
        once = sum(2.0 * rows * self.directions * GATES[self.cell] * self.H * (n + self.H) for n in width)
        return once * (3 if mode == "training" else 1)

    def sequence_lengths(self) -> np.ndarray:
        """(B,), each at least 1."""
        if not self.lengths:
            return np.full(self.B, self.T)
        return np.random.default_rng(7).permutation(np.linspace(1, self.T, self.B).round().astype(int))

    def resets(self) -> np.ndarray:
        """Booleans (T, B): True where the state is zeroed before the step. The sequences are out of phase."""
        t, b = np.arange(self.T)[:, np.newaxis], np.arange(self.B)
        return (t > 0) & ((t + 3 * b) % self.reset_every == 0) if self.reset_every else np.zeros((self.T, self.B), bool)


def states_of(case: Case) -> list[str]:
    """The names of the initial states that the case passes."""
    return (["h0", "c0"] if case.cell == "lstm" else ["h0"]) if case.carried else []


def data_of(case: Case) -> dict[str, np.ndarray]:
    """x, dy, the parameters under torch's names, and h0 and c0 (layers*directions, B, H) where they are not zero.

    dy is the gradient of the loss with respect to y, and zero past the end of a sequence.
    """
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))

    def uniform(bound: float, *shape: int) -> np.ndarray:
        return ((2 * rng.random(shape) - 1) * bound).astype(case.dtype)

    found = {"x": uniform(1, case.T, case.B, case.I), "dy": uniform(1, case.T, case.B, case.directions * case.H)}
    past_the_end = np.arange(case.T)[:, np.newaxis] >= case.sequence_lengths()
    found["x"][past_the_end] = 0
    found["dy"][past_the_end] = 0
    rows, bound = GATES[case.cell] * case.H, case.H**-0.5
    for layer in range(case.layers):
        width = case.directions * case.H if layer else case.I
        for suffix in ("", "_reverse")[: case.directions]:
            found[f"weight_ih_l{layer}{suffix}"] = uniform(bound, rows, width)
            found[f"weight_hh_l{layer}{suffix}"] = uniform(bound, rows, case.H)
            found[f"bias_ih_l{layer}{suffix}"] = uniform(bound, rows)
            found[f"bias_hh_l{layer}{suffix}"] = uniform(bound, rows)
    for name in states_of(case):
        found[name] = uniform(1, case.layers * case.directions, case.B, case.H)
    return found


def _latency() -> list[Case]:
    why = {
        1: "one step of one sequence: what a stream or an agent waits for",
        100: "one sequence: no batch to share weights",
    }
    return [
        Case("latency", cell, T, 1, H, H, carried=T == 1, why=why[T])
        for T in (1, 100)
        for cell in GATES
        for H in (32, 64, 128, 256, 512)
    ]


def _batch() -> list[Case]:
    return [
        Case("batch", cell, 50, B, 128, 128, why="how much a step costs as the batch grows")
        for cell in GATES
        for B in (1, 2, 4, 8, 16, 32, 64, 128, 256)
        if cell == "lstm" or B in (8, 64)
    ]


def _language() -> list[Case]:
    return [
        Case("language", cell, T, 20, H, H, layers=2, why="the PTB tutorial's language models: small, medium, large")
        for cell, T, H in (("lstm", 20, 200), ("lstm", 35, 650), ("lstm", 35, 1500), ("gru", 35, 650))
    ]


def _long() -> list[Case]:
    return [
        Case("long", cell, T, 8, 64, 64, why="long sequences, small layer: nothing but the time loop")
        for cell in GATES
        for T in (1000, 10000)
        if cell == "lstm" or T == 1000
    ]


def _steps() -> list[Case]:
    return [
        Case(
            "steps",
            "lstm",
            T,
            8,
            128,
            128,
            carried=T == 1,
            why="what a step costs as the sequence grows; T=50 is in batch",
        )
        for T in (1, 5, 20, 200, 1000)
    ]


def _large() -> list[Case]:
    speech = [
        Case(
            "large", cell, 200, 8, 512, 512, layers=3, bidirectional=True, why="an acoustic model: bidirectional, deep"
        )
        for cell in ("lstm", "gru")
    ]
    server = [
        Case("large", cell, T, B, H, H, why="serving and training with a full batch: bound by arithmetic")
        for cell, T, B, H in (
            ("lstm", 50, 64, 512),
            ("lstm", 50, 128, 1024),
            ("lstm", 25, 16, 2048),
            ("gru", 50, 64, 1024),
            ("rnn_tanh", 50, 64, 1024),
        )
    ]
    return speech + server


def _odd() -> list[Case]:
    return [
        Case("odd", "lstm", 100, 5, 25, 25, why="sizes that fill no vector"),
        Case("odd", "gru", 50, 10, 51, 51, why="sizes that fill no vector"),
        Case("odd", "lstm", 50, 20, 80, 80, why="a width that fills few vectors"),
        Case("odd", "gru", 50, 33, 257, 257, why="one more than a power of two"),
        Case("odd", "lstm", 100, 32, 6, 100, why="a few sensors in, a wider layer"),
        Case("odd", "lstm", 100, 16, 300, 64, why="an embedding in, a narrower layer"),
        Case("odd", "rnn_tanh", 15, 5, 2, 4, why="the echo exercise's network"),
    ]


def _double() -> list[Case]:
    return [
        Case("double", cell, T, B, H, H, dtype="float64", why="double precision, as scientists run it")
        for cell, T, B, H in (("lstm", 50, 32, 128), ("gru", 100, 1, 64), ("rnn_tanh", 100, 16, 256))
    ]


def _order() -> list[Case]:
    ragged = "sequences of unequal length, most of a padded batch is padding"
    resets = "episodes end inside the batch"
    truncated = "truncated backpropagation through time"
    return [
        Case("order", "lstm", 200, 64, 128, 128, lengths="uniform", why=ragged),
        Case("order", "gru", 100, 32, 256, 256, lengths="uniform", why=ragged),
        Case("order", "lstm", 100, 16, 128, 128, reset_every=20, why=resets),
        Case("order", "gru", 128, 8, 64, 64, reset_every=32, why=resets),
        Case("order", "lstm", 2000, 1, 256, 256, truncation=20, modes=("training",), why=truncated),
        Case("order", "gru", 400, 16, 128, 128, truncation=20, modes=("training",), why=truncated),
    ]


CASES = _latency() + _batch() + _steps() + _language() + _long() + _large() + _odd() + _double() + _order()

"""A test of an installation in a few seconds: values, gradients and reproducibility of every cell and dtype."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .. import _core, config
from ..layers import GRU, LSTM, RNN
from .gradients import assert_gradients
from .reproducibility import assert_reproducible
from .values import assert_values

# More units than in a tile of any backend, and not a multiple of a vector; sequences for groups of several threads.
T, B, I, H = 12, 15, 13, 75
GRADIENTS = slice(0, 4), slice(0, 3)  # of steps and sequences; the reference runs once for each direction


@dataclass(frozen=True)
class Check:
    """The result of one check: error is None if it passed."""

    name: str
    error: str | None
    seconds: float


def _layers(dtype: type) -> dict[str, LSTM | GRU | RNN]:
    options: dict[str, Any] = {"num_layers": 2, "dtype": dtype, "seed": 0}
    return {
        "lstm": LSTM(I, H, **options),
        "gru": GRU(I, H, **options),
        "rnn_tanh": RNN(I, H, **options),
        "rnn_relu": RNN(I, H, nonlinearity="relu", **options),
    }


def _values_of_every_backend(layer: LSTM | GRU | RNN, x: Any, lengths: Any, resets: Any) -> None:
    for backend in (b.name for b in _core.backends() if b.runs_here):
        with config.use_backend(backend):
            try:
                assert_values(layer, x, lengths=lengths, resets=resets)
            except AssertionError as error:
                raise AssertionError(f"{error}, with {backend}") from None


def checks() -> Iterator[tuple[str, Callable[[], None]]]:
    """Names of checks, and calls that raise if a check fails."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, T + 1, B)
    resets = rng.random((T, B)) < 0.1
    for dtype in (np.float32, np.float64):
        x = rng.standard_normal((T, B, I)).astype(dtype)
        few: Any = {"lengths": np.minimum(lengths[GRADIENTS[1]], 4), "resets": resets[GRADIENTS]}
        for cell, layer in _layers(dtype).items():
            name = f"{cell} {np.dtype(dtype)}"
            yield f"{name}: values", partial(_values_of_every_backend, layer, x, lengths, resets)
            yield f"{name}: gradients", partial(assert_gradients, layer, x[GRADIENTS], **few)
            ragged: Any = {"lengths": lengths, "resets": resets, "truncation": (3, 5)}
            yield f"{name}: the same bits", partial(assert_reproducible, layer, x, **ragged)


def run() -> Iterator[Check]:
    """Run the checks one after the other. An error of any kind fails the check, and the next check runs."""
    for name, check in checks():
        begin, error = time.perf_counter(), None
        try:
            check()
        except Exception as problem:
            error = str(problem) if isinstance(problem, AssertionError) else f"{type(problem).__name__}: {problem}"
        yield Check(name, error, time.perf_counter() - begin)

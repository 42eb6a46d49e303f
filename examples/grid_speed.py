"""Time and memory of batches and windows: an LSTM layer, the same layer as a NumPy loop, updates of a model."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastrnn
import numpy as np
from character_model import CharacterModel
from gradient_descent import Adam, clip_gradients
from numpy.typing import NDArray

Array = NDArray[Any]
VOCABULARY_SIZE = 100


def least_seconds(call: Callable[[], object], at_least: float) -> float:
    """Minimum time of a call, repeated for `at_least` seconds after a warm-up call; others may use the machine."""
    call()
    times, begin = [], time.perf_counter()
    while not times or time.perf_counter() - begin < at_least:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return min(times)


@lru_cache(maxsize=1)
def frozen_layer(H: int) -> fastrnn.LSTM:
    """Freeze the layer: packing 72 MB of weights at H = 1500 takes longer than a step, so it is done once."""
    layer = fastrnn.LSTM(H, H, seed=0)
    layer.freeze()
    return layer


def time_layer(H: int, B: int, T: int, at_least: float) -> dict[str, float]:
    """Seconds of forward per time step and sequence: an LSTM layer, x (T, B, H)."""
    layer, x = frozen_layer(H), random_input(T, B, H)
    return {"seconds": least_seconds(lambda: layer(x), at_least) / (T * B)}


def time_loop(H: int, B: int, T: int, at_least: float) -> dict[str, float]:
    """The same layer as a loop over time steps in NumPy."""
    _, run = loop_layer(H, B, T)
    return {"seconds": least_seconds(run, at_least) / (T * B)}


def loop_layer(H: int, B: int, T: int) -> tuple[fastrnn.LSTM, Callable[[], tuple[Array, Array]]]:
    """A layer, and a NumPy loop that returns x and y of the layer; the input product is before the loop."""
    layer, x = frozen_layer(H), random_input(T, B, H)
    w_ih, w_hh, b_ih, b_hh = (
        layer.parameters[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    w_ih, w_hh = w_ih.T.copy(), w_hh.T.copy()
    y = np.empty((T, B, H), np.float32)

    def run() -> tuple[Array, Array]:
        h = c = np.zeros((B, H), np.float32)
        projected = (x.reshape(T * B, H) @ w_ih + b_ih).reshape(T, B, 4 * H)
        for t in range(T):
            i, f, g, o = np.split(projected[t] + (h @ w_hh + b_hh), 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            y[t] = h
        return x, y

    return layer, run


def sigmoid(a: Array) -> Array:
    return (np.tanh(a / 2) + 1) / 2


def time_product(n: int, at_least: float) -> dict[str, float]:
    """Speed of NumPy's product of n x n matrices on one core, in 1e9 operations per second: the arithmetic limit."""
    a = random_input(n, 1, n)[:, 0]
    out = np.empty_like(a)
    return {"gflops": 2e-9 * n**3 / least_seconds(lambda: np.matmul(a, a, out=out), at_least)}


def random_input(T: int, B: int, size: int) -> Array:
    return np.random.default_rng(0).standard_normal((T, B, size), np.float32)


def time_window(B: int, T: int, H: int, E: int, at_least: float) -> dict[str, float]:
    """Seconds per character of a whole update, and of forward and backward of its recurrent layer alone."""
    model = CharacterModel("lstm", VOCABULARY_SIZE, E, H)
    adam = Adam(model.parameters)
    ids, targets = np.random.default_rng(0).integers(0, VOCABULARY_SIZE, (2, T, B))
    x, dy = random_input(T, B, E), random_input(T, B, H)

    def update() -> None:
        _, gradients, _ = model.gradients(ids, targets, None)
        clip_gradients(gradients, 1.0)
        adam.update(gradients, 1e-4)

    def layer() -> None:
        _, _, tape = model.layers.forward(x)
        model.layers.backward(tape, dy)

    return {
        "seconds": least_seconds(update, at_least) / (T * B),
        "layer_seconds": least_seconds(layer, at_least) / (T * B),
    }


def measure_memory(B: int, T: int, H: int, checkpoint: int) -> dict[str, int]:
    """Bytes that forward and backward of a layer need for a window, including x and gradients.

    A separate process measures them. checkpoint=0 means no checkpoints.
    """
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, (B, T, H, checkpoint))]
    return {"bytes": int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)}


def print_window_bytes(B: int, T: int, H: int, checkpoint: int) -> None:
    """In a separate process: print the peak memory of a window minus the memory before it."""
    layer = fastrnn.LSTM(H, H, seed=0)

    def run(steps: int) -> None:
        x, dy = np.zeros((steps, B, H), np.float32), np.ones((steps, B, H), np.float32)
        _, _, tape = layer.forward(x, checkpoint=checkpoint or None)
        layer.backward(tape, dy)

    run(1)
    before = resident_bytes("VmRSS")
    run(T)
    print(resident_bytes("VmHWM") - before)


def resident_bytes(name: str) -> int:
    """Memory of this process now ("VmRSS") or at its peak ("VmHWM"; getrusage would include the parent's)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print_window_bytes(*map(int, sys.argv[1:]))

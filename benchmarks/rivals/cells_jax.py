"""JAX in the group `cells`: each cell in a lax.scan, with the whole call in one compiled function.

The input product is hoisted out of the scan with all biases but the hidden bias of the GRU's n, and the norm of the
layer-norm LSTM's input product too. Training is value_and_grad of sum(y*dy) with respect to x and all parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from cells_worker import CellCase, Opened, serve, stacked, unstacked
from jax import lax

Arrays = dict[str, jax.Array]
State = tuple[jax.Array, ...]
EPS = 1e-5
sigmoid, tanh = jax.nn.sigmoid, jnp.tanh


def norm(x: jax.Array) -> jax.Array:
    """The layer norm over the last axis, without gain and shift."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + EPS)


def lstm(p: Arrays, x: jax.Array, state: State) -> State:
    h, c = state
    i, f, g, o = jnp.split(x + h @ p["w_hh"], 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def peephole_lstm(p: Arrays, x: jax.Array, state: State) -> State:
    h, c = state
    i, f, g, o = jnp.split(x + h @ p["w_hh"], 4, -1)
    i, f = sigmoid(i + p["p_i"] * c), sigmoid(f + p["p_f"] * c)
    c = f * c + i * tanh(g)
    return sigmoid(o + p["p_o"] * c) * tanh(c), c


def layer_norm_lstm(p: Arrays, x: jax.Array, state: State) -> State:
    h, c = state
    i, f, g, o = jnp.split(x + norm(h @ p["w_hh"]) * p["gamma_r"], 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(norm(c) * p["gamma"] + p["beta"]), c


def gru(p: Arrays, x: jax.Array, state: State) -> State:
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = jnp.split(x, 3, -1), jnp.split(h @ p["w_hh"], 3, -1)
    z = sigmoid(x_z + h_z)
    n = tanh(x_n + sigmoid(x_r + h_r) * (h_n + p["b_n"]))
    return ((1 - z) * n + z * h,)


def reset_before_gru(p: Arrays, x: jax.Array, state: State) -> State:
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z) = jnp.split(x, 3, -1), jnp.split(h @ p["w_rz"], 2, -1)
    z = sigmoid(x_z + h_z)
    n = tanh(x_n + (sigmoid(x_r + h_r) * h) @ p["w_n"])
    return ((1 - z) * n + z * h,)


STEPS: dict[str, Callable[[Arrays, jax.Array, State], State]] = {
    "lstm": lstm, "gru": gru, "peephole_lstm": peephole_lstm, "layer_norm_lstm": layer_norm_lstm,
    "reset_before_gru": reset_before_gru,
}  # fmt: skip


def prepare(case: CellCase, p: Arrays) -> Arrays:
    """Convert weights for the scan: before the call in inference, within the call in training."""
    found = p | {name: p[name].T for name in ("w_ih", "w_hh")}
    if case.cell == "gru":
        n = 2 * case.H
        return found | {"bias": p["b_ih"].at[:n].add(p["b_hh"][:n]), "b_n": p["b_hh"][n:]}
    if case.cell == "reset_before_gru":
        found |= {"w_rz": found["w_hh"][:, : 2 * case.H], "w_n": found["w_hh"][:, 2 * case.H :]}
    return found if "bias" in p else found | {"bias": p["b_ih"] + p["b_hh"]}


def layer(case: CellCase, p: Arrays, x: jax.Array) -> jax.Array:
    """From x (T, B, H) and prepared weights to y (T, B, H)."""
    gates = x @ p["w_ih"]
    gates = (norm(gates) * p["gamma_x"] if case.cell == "layer_norm_lstm" else gates) + p["bias"]
    start = (jnp.zeros((case.B, case.H), case.dtype),) * (1 if "gru" in case.cell else 2)

    def step(state: State, row: jax.Array) -> tuple[State, jax.Array]:
        after = STEPS[case.cell](p, row, state)
        return after, after[0]

    return lax.scan(step, start, gates)[1]


class CellsJax:
    """Limits processors before JAX makes its threads, and dispatches in the calling thread, which waits anyway."""

    def __init__(self, threads: int) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_cpu_enable_async_dispatch", False)

    def version(self) -> str:
        return f"jax {jax.__version__}"

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        groups = ("gamma_x", "gamma_r", "bias") if case.cell == "layer_norm_lstm" else ()
        whole = {name: one for name, one in data.items() if not any(name.startswith(f"{g}_") for g in groups)}
        p = {n: jnp.asarray(a) for n, a in (whole | {g: stacked(data, g) for g in groups}).items()}
        x, dy = p.pop("x"), p.pop("dy")
        if case.mode == "forward":
            prepared = jax.block_until_ready(prepare(case, p))
            forward = jax.jit(lambda x: layer(case, prepared, x))
            return Opened(lambda: forward(x).block_until_ready(), lambda y: {"y": y}, compiles=True)

        def loss(x: jax.Array, p: Arrays) -> tuple[jax.Array, jax.Array]:
            y = layer(case, prepare(case, p), x)
            return (y * dy).sum(), y

        train = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))

        def outputs(result: Any) -> dict[str, np.ndarray]:
            (_, y), (dx, gradients) = result
            found = {"y": y, "dx": dx} | {f"d{name}": one for name, one in gradients.items() if name not in groups}
            for name in groups:
                found |= {f"d{part}": one for part, one in unstacked(np.asarray(gradients[name]), name).items()}
            return {name: np.asarray(one) for name, one in found.items()}

        return Opened(lambda: jax.block_until_ready(train(x, p)), outputs, compiles=True)


if __name__ == "__main__":
    serve(CellsJax)

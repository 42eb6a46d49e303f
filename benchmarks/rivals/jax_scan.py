"""JAX on the CPU: a stack of lax.scan over time, with the whole call in one compiled function.

Weights and gates stay in torch's order (LSTM i, f, g, o; GRU r, z, n), and time comes first. The input product is
hoisted out of the scan together with every bias except the hidden bias of the GRU's n. The scan is not unrolled:
unrolling gained nothing in inference, and was up to four times slower in training (LSTM T=50 B=8 H=128). XLA takes as
many threads as it has processors.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from worker import Call, Case, Contestant, Outputs, Unsupported, serve, states_of

Parameters = dict[str, jax.Array]
State = tuple[jax.Array, ...]


class Weights(NamedTuple):
    """Weights of a layer and direction: w (I, G), r (H, G), bias (G,), and bias_n (H,) in a GRU."""

    w: jax.Array
    r: jax.Array
    bias: jax.Array
    bias_n: jax.Array | None


class Masks(NamedTuple):
    """Booleans (T, B, 1), or None without a mask; `window` marks the starts of truncation windows."""

    inside: jax.Array | None
    reset: jax.Array | None
    window: jax.Array | None


def prepare(case: Case, parameters: Parameters) -> list[list[Weights]]:
    """Convert weights for the scans: before the call in inference, within the call in training."""

    def weights(key: str) -> Weights:
        w, r, b_ih, b_hh = (parameters[f"{kind}_{key}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        if case.cell != "gru":
            return Weights(w.T, r.T, b_ih + b_hh, None)
        return Weights(w.T, r.T, b_ih.at[: 2 * case.H].add(b_hh[: 2 * case.H]), b_hh[2 * case.H :])

    return [[weights(f"l{layer}{s}") for s in ("", "_reverse")[: case.directions]] for layer in range(case.layers)]


def lstm_step(weights: Weights, gates: jax.Array, state: State) -> State:
    h, c = state
    i, f, g, o = jnp.split(gates + h @ weights.r, 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def gru_step(weights: Weights, gates: jax.Array, state: State) -> State:
    (h,) = state
    x_r, x_z, x_n = jnp.split(gates, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ weights.r, 3, axis=-1)
    z = jax.nn.sigmoid(x_z + h_z)
    n = jnp.tanh(x_n + jax.nn.sigmoid(x_r + h_r) * (h_n + weights.bias_n))
    return ((1 - z) * n + z * h,)


def rnn_step(weights: Weights, gates: jax.Array, state: State) -> State:
    return (jnp.tanh(gates + state[0] @ weights.r),)


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn_tanh": rnn_step}


def scan(case: Case, masks: Masks, weights: Weights, gates: jax.Array, start: State, reverse: bool) -> jax.Array:
    """Run a scan. Past its end a sequence keeps its state, and its y is zero."""

    def step(state: State, row: tuple[jax.Array, Masks]) -> tuple[State, jax.Array]:
        gates_t, (inside, reset, window) = row
        before = state if reset is None else tuple(jnp.where(reset, 0, s) for s in state)
        if window is not None:
            before = tuple(jnp.where(window, lax.stop_gradient(s), s) for s in before)
        after = STEPS[case.cell](weights, gates_t, before)
        if inside is None:
            return after, after[0]
        after = tuple(jnp.where(inside, new, old) for new, old in zip(after, before, strict=True))
        return after, jnp.where(inside, after[0], 0)

    return lax.scan(step, start, (gates, masks), reverse=reverse)[1]


def stack(case: Case, masks: Masks, layers: list[list[Weights]], x: jax.Array, states: State) -> jax.Array:
    """From x (T, B, I) and initial states (zero if absent) to the last layer's y (T, B, directions * H)."""
    zero = (jnp.zeros((case.B, case.H), case.dtype),) * (2 if case.cell == "lstm" else 1)
    for index, layer in enumerate(layers):
        gates = [x @ weights.w + weights.bias for weights in layer]
        starts = [tuple(s[index * case.directions + k] for s in states) or zero for k in range(case.directions)]
        ys = [scan(case, masks, *way, bool(k)) for k, way in enumerate(zip(layer, gates, starts, strict=True))]
        x = jnp.concatenate(ys, axis=-1) if case.bidirectional else ys[0]
    return x


class JaxScan(Contestant):
    """Limits processors before JAX makes its threads, and dispatches in the calling thread, which waits anyway."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_cpu_enable_async_dispatch", False)

    def version(self) -> str:
        return f"jax {jax.__version__}"

    def _open(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Parameters, Masks]:
        if case.bidirectional and (case.reset_every or case.truncation):
            raise Unsupported("resets and truncation: in one direction only")
        if case.reset_every and case.truncation:
            raise Unsupported("resets together with truncation")
        jax.config.update("jax_enable_x64", case.dtype == "float64")
        t = np.arange(case.T)[:, np.newaxis, np.newaxis]
        masks = Masks(
            jnp.asarray(t < case.sequence_lengths()[:, np.newaxis]) if case.lengths else None,
            jnp.asarray(case.resets()[..., np.newaxis]) if case.reset_every else None,
            jnp.asarray(t % case.truncation == 0) if case.truncation else None,
        )
        return {name: jnp.asarray(array) for name, array in data.items()}, masks

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        arrays, masks = self._open(case, data)
        forward = jax.jit(partial(stack, case, masks, jax.block_until_ready(prepare(case, arrays))))
        x, states = arrays["x"], tuple(arrays[name] for name in states_of(case))
        return lambda: forward(x, states).block_until_ready(), lambda y: {"y": y}

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        parameters, masks = self._open(case, data)
        x, dy = parameters.pop("x"), parameters.pop("dy")
        states = tuple(parameters.pop(name) for name in states_of(case))

        @jax.jit
        def train(x: jax.Array, parameters: Parameters, dy: jax.Array, states: State) -> Any:
            y, pull_back = jax.vjp(
                lambda x, parameters: stack(case, masks, prepare(case, parameters), x, states), x, parameters
            )
            dx, gradients = pull_back(dy)
            return {"y": y, "dx": dx, **gradients}

        return lambda: jax.block_until_ready(train(x, parameters, dy, states)), lambda gradients: gradients


if __name__ == "__main__":
    serve(JaxScan)

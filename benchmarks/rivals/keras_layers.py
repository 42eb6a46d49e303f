"""Keras 3 on TensorFlow and the CPU: its recurrent layers, called in a tf.function that XLA compiles.

Sequences are (B, T, n), kernels (n, G), the transpose of torch's. Gates are i, f, c, o in an LSTM, torch's order, and
z, r, h in a GRU, whose bias is (2, G): of the input, then of the recurrence. LSTM and SimpleRNN have one bias, the sum
of torch's two, and its gradient is that of both. Compiled, everything here but the training of small long GRUs was as
fast as or faster than not, up to six times; unrolled layers were not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from worker import Call, Case, Contestant, Outputs, Unsupported, serve

LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn_tanh": keras.layers.SimpleRNN}
SUFFIXES = ("", "_reverse")


def _exchange_gates(case: Case, columns: np.ndarray) -> np.ndarray:
    """Between torch's r, z, n and Keras's z, r, h; columns is (…, G)."""
    if case.cell != "gru":
        return columns
    r, z, n = np.split(columns, 3, axis=-1)
    return np.concatenate([z, r, n], axis=-1)


def _to_keras(case: Case, data: dict[str, np.ndarray], key: str) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias of a layer and direction."""
    w, r, b_ih, b_hh = (data[f"{kind}_{key}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    bias = np.stack([b_ih, b_hh]) if case.cell == "gru" else b_ih + b_hh
    return [_exchange_gates(case, array) for array in (w.T, r.T, bias)]


def _to_torch(case: Case, gradients: list[Any], key: str) -> dict[str, np.ndarray]:
    """Back from the gradients of those three."""
    w, r, bias = (_exchange_gates(case, np.asarray(array)) for array in gradients)
    b_ih, b_hh = bias if case.cell == "gru" else (bias, bias)
    return {f"weight_ih_{key}": w.T, f"weight_hh_{key}": r.T, f"bias_ih_{key}": b_ih, f"bias_hh_{key}": b_hh}


def _swapped(sequences: Any) -> np.ndarray:
    """Between (T, B, n) and (B, T, n)."""
    return np.ascontiguousarray(np.swapaxes(np.asarray(sequences), 0, 1))


class Stack:
    """The layers of a case, with its weights, and what they are called with."""

    def __init__(self, case: Case, data: dict[str, np.ndarray]) -> None:
        if case.reset_every:
            raise Unsupported("a layer has no resets")
        self.case = case
        self.layers = [self._layer(data, layer) for layer in range(case.layers)]
        inside = np.arange(case.T) < case.sequence_lengths()[:, np.newaxis]
        self.mask = tf.constant(inside) if case.lengths else None

    def _layer(self, data: dict[str, np.ndarray], index: int) -> keras.layers.Layer:
        case = self.case
        stateful = {"return_state": True} if case.truncation else {}
        layer = LAYERS[case.cell](
            case.H, return_sequences=True, zero_output_for_mask=True, dtype=case.dtype, **stateful
        )
        if case.bidirectional:
            layer = keras.layers.Bidirectional(layer, dtype=case.dtype)
        layer.build((case.B, case.T, case.directions * case.H if index else case.I))
        keys = [f"l{index}{suffix}" for suffix in SUFFIXES[: case.directions]]
        layer.set_weights([array for key in keys for array in _to_keras(case, data, key)])
        return layer

    @property
    def variables(self) -> list[tf.Variable]:
        """Three a layer and direction."""
        return [variable.value for layer in self.layers for variable in layer.trainable_variables]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        for layer in self.layers:
            x = layer(x, mask=self.mask)
        return x

    def named(self, gradients: list[Any]) -> dict[str, np.ndarray]:
        """Gradients of the variables under torch's names."""
        keys = [f"l{layer}{suffix}" for layer in range(self.case.layers) for suffix in SUFFIXES[: self.case.directions]]
        found: dict[str, np.ndarray] = {}
        for k, key in enumerate(keys):
            found |= _to_torch(self.case, gradients[3 * k : 3 * k + 3], key)
        return found


def _compiled(function: Callable[..., Any], *arguments: tf.Tensor) -> Callable[[], Any]:
    """Traced and compiled for these arguments once, so that a call does not look for its signature."""
    concrete = tf.function(function, jit_compile=True).get_concrete_function(*arguments)
    return lambda: concrete(*arguments)


class KerasLayers(Contestant):
    """Threads are limited before TensorFlow makes them, and to as many processors."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)

    def version(self) -> str:
        return f"keras {keras.__version__}, tensorflow {tf.__version__}"

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        call = _compiled(Stack(case, data), tf.constant(_swapped(data["x"])))
        return call, lambda y: {"y": _swapped(y)}

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        if case.truncation:
            raise Unsupported("TODO")
        stack = Stack(case, data)

        def train(x: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = stack(x)
            return y, tape.gradient(y, [x, *stack.variables], output_gradients=dy)

        def outputs(found: tuple[Any, list[Any]]) -> dict[str, np.ndarray]:
            y, (dx, *gradients) = found
            return {"y": _swapped(y), "dx": _swapped(dx), **stack.named(gradients)}

        return _compiled(train, tf.constant(_swapped(data["x"])), tf.constant(_swapped(data["dy"]))), outputs


if __name__ == "__main__":
    serve(KerasLayers)

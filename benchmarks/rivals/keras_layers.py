"""Keras 3 on TensorFlow and the CPU: its recurrent layers, called in a tf.function.

Sequences are (B, T, n), and kernels are (n, G), the transpose of torch's weights. Gates are i, f, c, o in an LSTM,
which is torch's order, and z, r, h in a GRU. The bias of a GRU is (2, G): first of the input, then of the recurrence.
LSTM and SimpleRNN have one bias, the sum of torch's two biases; its gradient is the gradient of both. In inference XLA
compiles the function, which was up to eight times as fast as without XLA (LSTM T=100 B=1 H=64). In training, the faster
form is chosen for each case. The compiled form of training takes time that grows with T*T; in the other form, only dx
does.
"""

from __future__ import annotations

import os
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from worker import Call, Case, Contestant, Outputs, Unsupported, serve, states_of

LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn_tanh": keras.layers.SimpleRNN}
SUFFIXES = ("", "_reverse")


def _exchange_gates(case: Case, columns: np.ndarray) -> np.ndarray:
    """Convert between torch's r, z, n and Keras's z, r, h; columns is (…, G)."""
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
    """Convert the gradients of these three arrays to torch's layout."""
    w, r, bias = (_exchange_gates(case, np.asarray(array)) for array in gradients)
    b_ih, b_hh = bias if case.cell == "gru" else (bias, bias)
    return {f"weight_ih_{key}": w.T, f"weight_hh_{key}": r.T, f"bias_ih_{key}": b_ih, f"bias_hh_{key}": b_hh}


def _swapped(sequences: Any) -> np.ndarray:
    """Convert between (T, B, n) and (B, T, n)."""
    return np.ascontiguousarray(np.swapaxes(np.asarray(sequences), 0, 1))


class Stack:
    """The layers of a case with its weights, and the arguments of their calls."""

    def __init__(self, case: Case, data: dict[str, np.ndarray]) -> None:
        if case.reset_every:
            raise Unsupported("a layer has no resets")
        if case.truncation and (case.T % case.truncation or case.bidirectional or case.lengths):
            raise Unsupported("truncation: of whole windows in one direction, without lengths")
        if case.carried and (case.layers > 1 or case.bidirectional or case.truncation):
            raise Unsupported("initial states: of one layer in one direction")
        self.case = case
        self.layers = [self._layer(data, layer) for layer in range(case.layers)]
        inside = np.arange(case.T) < case.sequence_lengths()[:, np.newaxis]
        self.mask = tf.constant(inside) if case.lengths else None
        self.states = [tf.constant(data[name][0]) for name in states_of(case)] or None

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
        """Three variables for each layer and direction."""
        return [variable.value for layer in self.layers for variable in layer.trainable_variables]

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        for layer in self.layers:
            x = layer(x, mask=self.mask, initial_state=self.states)
        return x

    def window(self, x: tf.Tensor, states: list[list[tf.Tensor]]) -> tuple[tf.Tensor, list[list[tf.Tensor]]]:
        """For layers that return their states: y and the states after the last step, from given states."""
        found = []
        for layer, state in zip(self.layers, states, strict=True):
            x, *after = layer(x, initial_state=state)
            found.append(after)
        return x, found

    def named(self, gradients: list[Any]) -> dict[str, np.ndarray]:
        """Gradients of the variables under torch's names."""
        keys = [f"l{layer}{suffix}" for layer in range(self.case.layers) for suffix in SUFFIXES[: self.case.directions]]
        found: dict[str, np.ndarray] = {}
        for k, key in enumerate(keys):
            found |= _to_torch(self.case, gradients[3 * k : 3 * k + 3], key)
        return found


def train_windows(stack: Stack, x: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """A loop over windows of `truncation` steps; each starts from the states of the previous window, as constants."""
    case, steps = stack.case, stack.case.truncation
    windows = case.T // steps
    x_windows, dy_windows = (tf.reshape(a, (case.B, windows, steps, a.shape[-1])) for a in (x, dy))
    states = [[tf.zeros((case.B, case.H), case.dtype)] * (2 if case.cell == "lstm" else 1) for _ in stack.layers]
    gradients = [tf.zeros_like(variable) for variable in stack.variables]
    ys, dxs = (tf.TensorArray(x.dtype, windows, element_shape=(case.B, steps, n)) for n in (case.H, case.I))
    for k in tf.range(windows):
        window = x_windows[:, k]
        with tf.GradientTape() as tape:
            tape.watch(window)
            y, states = stack.window(window, states)
        dx, *more = tape.gradient(y, [window, *stack.variables], output_gradients=dy_windows[:, k])
        gradients = [a + b for a, b in zip(gradients, more, strict=True)]
        ys, dxs = ys.write(k, y), dxs.write(k, dx)
    y, dx = (tf.reshape(tf.transpose(a.stack(), (1, 0, 2, 3)), (case.B, case.T, -1)) for a in (ys, dxs))
    return y, [dx, *gradients]


def _compiled(function: Callable[..., Any], *arguments: tf.Tensor, xla: bool = True) -> Callable[[], Any]:
    """Trace and compile the function once for these arguments, so a call does not look up its signature."""
    concrete = tf.function(function, jit_compile=xla).get_concrete_function(*arguments)
    return lambda: concrete(*arguments)


def _faster(calls: list[Callable[[], Any]]) -> Callable[[], Any]:
    """Choose by the best of five calls of each, fewer if they take long, after a call that does not count."""

    def seconds(call: Callable[[], Any]) -> float:
        call()
        times = [timeit.timeit(call, number=1)]
        while len(times) < 5 and sum(times) < 1:
            times.append(timeit.timeit(call, number=1))
        return min(times)

    return min(calls, key=seconds)


class KerasLayers(Contestant):
    """Limits threads and processors before TensorFlow makes its threads."""

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
        stack = Stack(case, data)

        def train(x: tf.Tensor, dy: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = stack(x)
            return y, tape.gradient(y, [x, *stack.variables], output_gradients=dy)

        def outputs(found: tuple[Any, list[Any]]) -> dict[str, np.ndarray]:
            y, (dx, *gradients) = found
            return {"y": _swapped(y), "dx": _swapped(dx), **stack.named(gradients)}

        arrays = tf.constant(_swapped(data["x"])), tf.constant(_swapped(data["dy"]))
        function = partial(train_windows, stack) if case.truncation else train
        return _faster([_compiled(function, *arrays, xla=xla) for xla in (True, False)]), outputs


if __name__ == "__main__":
    serve(KerasLayers)

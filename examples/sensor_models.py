"""Recurrent models of measured series: one forecasts at every time step, one classifies a whole sequence at its end."""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from numpy.typing import DTypeLike, NDArray
from softmax_output import SoftmaxOutput

Array = NDArray[Any]


class Forecaster:
    """Forecasts the values of the next `horizon` steps from the values up to each time step.

    forecast[t, b, j] = x[t, b] + (w_out y[t, b] + b_out)[j], so the model has to learn only the change.
    """

    def __init__(
        self, input_size: int, hidden_size: int, horizon: int, dtype: DTypeLike = np.float32, seed: int = 0
    ) -> None:
        self.layers = fastrnn.GRU(input_size, hidden_size, dtype=dtype, seed=seed)
        self.horizon = horizon
        self.parameters = _with_output(self.layers, hidden_size, horizon * input_size, seed)

    def __call__(self, x: Array) -> Array:
        """(T, B, I) -> (T, B, horizon, I)."""
        y, _ = self.layers(x)
        return self._forecast(x, y)

    def gradients(self, x: Array) -> tuple[float, dict[str, Array]]:
        """Mean square error of all forecasts whose target is in x, and the gradients."""
        y, _, tape = self.layers.forward(x)
        difference = self._forecast(x, y)[: -self.horizon] - targets_of(x, self.horizon)
        d_forecast = np.zeros((*x.shape[:2], self.horizon * x.shape[2]), x.dtype)
        d_forecast[: -self.horizon] = (2 / difference.size) * difference.reshape(*difference.shape[:2], -1)
        loss = float((difference**2).mean(dtype=np.float64))
        # forecast = x + w_out y + b_out
        rows = d_forecast.reshape(-1, d_forecast.shape[-1])
        d_out = {"w_out": rows.T @ y.reshape(len(rows), -1), "b_out": rows.sum(axis=0)}
        d_y = (rows @ self.parameters["w_out"]).reshape(y.shape)
        return loss, d_out | self.layers.backward(tape, d_y).parameters

    def _forecast(self, x: Array, y: Array) -> Array:
        change = y @ self.parameters["w_out"].T + self.parameters["b_out"]
        forecast: Array = x[:, :, None] + change.reshape(*x.shape[:2], self.horizon, x.shape[2])
        return forecast


def targets_of(x: Array, horizon: int) -> Array:
    """(T, B, I) -> (T - horizon, B, horizon, I): the values of the steps after each one."""
    T = len(x) - horizon
    return np.stack([x[1 + j : 1 + j + T] for j in range(horizon)], axis=2)


class Classifier:
    """The class of a sequence, from the state after its own last step."""

    def __init__(
        self, input_size: int, hidden_size: int, classes: int, dtype: DTypeLike = np.float32, seed: int = 0
    ) -> None:
        self.layers = fastrnn.GRU(input_size, hidden_size, dtype=dtype, seed=seed)
        self.parameters = _with_output(self.layers, hidden_size, classes, seed)
        self.output = SoftmaxOutput({name: self.parameters[name] for name in ("w_out", "b_out")})

    def __call__(self, x: Array, lengths: Array | None) -> Array:
        """(T, B, I) and (B,) -> the classes (B,). `lengths` is None if all sequences have T steps."""
        _, h_n = self.layers(x, lengths=lengths)
        classes: Array = self.output.logits(h_n[-1]).argmax(axis=-1)
        return classes

    def gradients(self, x: Array, lengths: Array | None, classes: Array) -> tuple[float, dict[str, Array]]:
        """Mean cross-entropy in nats, and the gradients."""
        _, h_n, tape = self.layers.forward(x, lengths=lengths)  # h_n (1, B, H): at each sequence's own end
        loss, d_h, d_out = self.output.gradients(h_n[-1], classes, 1 / len(classes))
        # y is not used, so its gradient is left out
        return loss / len(classes), d_out | self.layers.backward(tape, None, d_h[None]).parameters


def _with_output(layers: fastrnn.GRU, hidden_size: int, outputs: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    w_out = rng.uniform(-1, 1, (outputs, hidden_size)) / np.sqrt(hidden_size)
    own = {"w_out": w_out.astype(layers.dtype), "b_out": np.zeros(outputs, layers.dtype)}
    return own | layers.parameters

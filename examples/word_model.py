"""The word model of TensorFlow's RNN tutorial (Zaremba et al. 2014), in its three sizes.

x[t] = dropout(embedding[id[t]])      h[t] = LSTM layers of x, with dropout between them
P(id[t+1]) = softmax(w_out dropout(h[t]) + b_out)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fastrnn
import numpy as np
from gradient_descent import descend, gradient_norm
from numpy.typing import DTypeLike, NDArray
from softmax_output import SoftmaxOutput, summed_by_id

Array = NDArray[Any]
Ids = NDArray[np.int64]
State = Any  # of the recurrent layers


@dataclass(frozen=True)
class Config:
    """A size of the model, and its training settings."""

    hidden_size: int  # of layers and embedding
    num_steps: int  # of a window
    init_scale: float  # parameters start uniform within ±init_scale
    epochs: int
    full_rate_epochs: int
    decay: float  # of the rate, in each epoch after these
    keep: float  # the probability that dropout keeps a number
    clip: float  # the limit on the norm of all gradients together
    num_layers: int = 2
    batch_size: int = 20
    learning_rate: float = 1.0

    def rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        return float(self.learning_rate * self.decay ** max(epoch + 1 - self.full_rate_epochs, 0))


CONFIGS = {
    "small": Config(200, 20, 0.1, epochs=13, full_rate_epochs=4, decay=0.5, keep=1.0, clip=5),
    "medium": Config(650, 35, 0.05, epochs=39, full_rate_epochs=6, decay=0.8, keep=0.5, clip=5),
    "large": Config(1500, 35, 0.04, epochs=55, full_rate_epochs=14, decay=1 / 1.15, keep=0.35, clip=10),
}


class WordModel:
    """Parameters, loss and updates. Words are numbers below `vocabulary_size`; windows are (T, B).

    TensorFlow's cell adds one bias to each gate, which starts from zero. Here it is `bias_ih`. `bias_hh` stays zero,
    since plain gradient descent on both would take every step twice. The forget bias is 0 as in the tutorial.
    """

    def __init__(self, config: Config, vocabulary_size: int, dtype: DTypeLike = np.float32, seed: int = 0) -> None:
        self.config, H = config, config.hidden_size
        self.rng = np.random.default_rng(seed)
        self.layers = fastrnn.LSTM(
            H, H, num_layers=config.num_layers, dropout=1 - config.keep, dtype=dtype, seed=self.rng
        )
        shapes = {"embedding": (vocabulary_size, H), "w_out": (vocabulary_size, H), "b_out": (vocabulary_size,)}
        self.parameters = {name: np.empty(shape, dtype) for name, shape in shapes.items()} | self.layers.parameters
        for name, array in self.parameters.items():
            array[...] = 0 if name.startswith("bias") else self.rng.uniform(*_bounds(config), array.shape)
        self.output = SoftmaxOutput({name: self.parameters[name] for name in ("w_out", "b_out")})

    def loss(self, ids: Ids, targets: Ids, state: State) -> tuple[float, State]:
        """Sum of -log P over the targets, in nats, without dropout; and the state."""
        y, state = self.layers(self.parameters["embedding"][ids], state)
        return self.output.loss(y, targets), state

    def gradients(self, ids: Ids, targets: Ids, state: State) -> tuple[float, dict[str, Array], Ids, State]:
        """One window of truncated backpropagation through time; `state` is a constant.

        The loss is the sum over steps of the mean over the batch. Only the embedding rows in the third result have a
        gradient.
        """
        x = self.parameters["embedding"][ids]
        below, above = self._mask(x), self._mask(x)
        if below is not None:
            x *= below
        y, state, tape = self.layers.forward(x, state)
        batch = ids.shape[1]
        loss, dy, d_output = self.output.gradients(y if above is None else y * above, targets, 1 / batch)
        if above is not None:
            dy *= above
        d_layers = self.layers.backward(tape, dy)
        dx = d_layers.x if below is None else d_layers.x * below
        rows, d_embedding = summed_by_id(ids, dx)
        d_weights = {name: d for name, d in d_layers.parameters.items() if not name.startswith("bias_hh")}
        return loss / batch, {"embedding": d_embedding, **d_output, **d_weights}, rows, state

    def update(self, ids: Ids, targets: Ids, state: State, rate: float) -> tuple[float, State]:
        """One step of gradient descent, with gradients clipped by their global norm; return the loss before it."""
        loss, gradients, rows, state = self.gradients(ids, targets, state)
        norm = gradient_norm(gradients)
        rate *= min(1.0, self.config.clip / norm) if norm > 0 else 1.0
        self.parameters["embedding"][rows] -= rate * gradients.pop("embedding")
        descend(self.parameters, gradients, rate)
        return loss, state

    def _mask(self, like: Array) -> Array | None:
        """Dropout of the embedding's and the last layer's output; the layers apply dropout between them."""
        keep = self.config.keep
        if keep == 1:
            return None
        mask: Array = (self.rng.random(like.shape) < keep).astype(like.dtype)
        mask *= 1 / keep
        return mask


def _bounds(config: Config) -> tuple[float, float]:
    return -config.init_scale, config.init_scale

"""A character language model around fastrnn: embedding, recurrent layers, softmax; and Adam to train it.

x[t] = embedding[id[t]]      h[t] = recurrent layers      P(id[t+1]) = softmax(w_out h[t] + b_out)
"""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
State = Any  # of the recurrent layers
LAYERS = {"lstm": fastrnn.LSTM, "gru": fastrnn.GRU, "rnn": fastrnn.RNN}


class CharacterModel:
    """Parameters, loss and gradients. Characters are indices below `vocabulary_size`; sequences are (T, B)."""

    def __init__(
        self,
        cell: str,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: int = 0,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.layers = LAYERS[cell](
            embedding_size, hidden_size, num_layers=num_layers, dropout=dropout, dtype=dtype, seed=self.rng
        )
        own = {
            "embedding": self.rng.standard_normal((vocabulary_size, embedding_size)),
            "w_out": self.rng.uniform(-1, 1, (vocabulary_size, hidden_size)) / np.sqrt(hidden_size),
            "b_out": np.zeros(vocabulary_size),
        }
        self.parameters = {name: array.astype(dtype) for name, array in own.items()} | self.layers.parameters

    def logits(self, ids: NDArray[np.int64], state: State = None) -> tuple[Array, State]:
        """Unnormalised log-probabilities (T, B, V) of the next character, and the state after the last."""
        y, state = self.layers(self.parameters["embedding"][ids], state)
        return self._project(y), state

    def bits(self, ids: NDArray[np.int64], targets: NDArray[np.int64], state: State) -> tuple[float, State]:
        """Sum of the bits that the targets cost, without dropout; and the state."""
        logits, state = self.logits(ids, state)
        loss, _ = cross_entropy(logits, targets)
        return loss / float(np.log(2)), state

    def gradients(
        self, ids: NDArray[np.int64], targets: NDArray[np.int64], state: State
    ) -> tuple[float, dict[str, Array], State]:
        """One window of truncated backpropagation through time.

        The loss is the mean over the window's T*B characters, in nats. `state`, carried over from the window before, is
        a constant: the gradient stops there.
        """
        x = self.parameters["embedding"][ids]
        y, state, tape = self.layers.forward(x, state)
        loss, d_logits = cross_entropy(self._project(y), targets)
        d_logits /= ids.size
        # logits = y w_out' + b_out
        rows = d_logits.reshape(ids.size, -1)
        d_out = {"w_out": rows.T @ y.reshape(ids.size, -1), "b_out": rows.sum(axis=0)}
        d_layers = self.layers.backward(tape, (rows @ self.parameters["w_out"]).reshape(y.shape))
        # x = embedding[ids], which is a product with rows of the identity
        chosen = np.eye(len(self.parameters["embedding"]), dtype=x.dtype)[ids.ravel()]
        d_embedding = chosen.T @ d_layers.x.reshape(ids.size, -1)
        return loss / ids.size, {"embedding": d_embedding, **d_out, **d_layers.parameters}, state

    def sample(self, first: int, length: int, temperature: float, rng: np.random.Generator) -> list[int]:
        """Characters drawn one after the other, each from the distribution that the ones before it give."""
        ids, state = [first], None
        for _ in range(length):
            logits, state = self.logits(np.array([[ids[-1]]]), state)
            scaled = logits[0, 0].astype(float) / temperature
            weights = np.exp(scaled - scaled.max())
            ids.append(int(rng.choice(len(weights), p=weights / weights.sum())))
        return ids[1:]

    def _project(self, y: Array) -> Array:
        # One product over all rows: of three axes, NumPy would make one for each time step.
        logits: Array = y.reshape(-1, y.shape[-1]) @ self.parameters["w_out"].T
        logits += self.parameters["b_out"]
        return logits.reshape(*y.shape[:2], -1)


def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> tuple[float, Array]:
    """Sum of -log softmax(logits)[target] in nats, and its gradient; `logits` is overwritten."""
    logits -= logits.max(axis=-1, keepdims=True)
    target = np.take_along_axis(logits, targets[..., None], axis=-1)
    probabilities = np.exp(logits, out=logits)
    total = probabilities.sum(axis=-1, keepdims=True)
    loss = float((np.log(total) - target).sum(dtype=np.float64))
    probabilities /= total
    np.put_along_axis(
        probabilities, targets[..., None], np.take_along_axis(probabilities, targets[..., None], axis=-1) - 1, axis=-1
    )
    return loss, probabilities


def clip_gradients(gradients: dict[str, Array], limit: float) -> float:
    """Scale all gradients in place so that their common norm is at most `limit`; returns the norm before."""
    norm = float(np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients.values())))
    if norm > limit:
        for gradient in gradients.values():
            gradient *= limit / norm
    return norm


class Adam:
    """Adam (Kingma & Ba 2015), in place."""

    def __init__(self, parameters: dict[str, Array], beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.parameters, self.beta1, self.beta2, self.steps = parameters, beta1, beta2, 0
        self.mean = {name: np.zeros_like(array) for name, array in parameters.items()}
        self.square = {name: np.zeros_like(array) for name, array in parameters.items()}

    def update(self, gradients: dict[str, Array], rate: float) -> None:
        """Move every parameter by one step of size `rate`."""
        self.steps += 1
        rate *= float(np.sqrt(1 - self.beta2**self.steps)) / (1 - self.beta1**self.steps)
        for name, gradient in gradients.items():
            mean, square = self.mean[name], self.square[name]
            mean += (1 - self.beta1) * (gradient - mean)
            square += (1 - self.beta2) * (gradient * gradient - square)
            self.parameters[name] -= rate * mean / (np.sqrt(square) + 1e-8)

"""A character language model around fastrnn: embedding, recurrent layers, softmax.

x[t] = embedding[id[t]]      h[t] = recurrent layers      P(id[t+1]) = softmax(w_out h[t] + b_out)
"""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from numpy.typing import DTypeLike, NDArray
from softmax_output import SoftmaxOutput, summed_by_id

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
        self.output = SoftmaxOutput({name: self.parameters[name] for name in ("w_out", "b_out")})

    def logits(self, ids: NDArray[np.int64], state: State = None, *, resets: Any = None) -> tuple[Array, State]:
        """Unnormalised log-probabilities (T, B, V) of the next character, and the state after the last step."""
        y, state = self.layers(self.parameters["embedding"][ids], state, resets=resets)
        return self.output.logits(y), state

    def bits(self, ids: NDArray[np.int64], targets: NDArray[np.int64], state: State) -> tuple[float, State]:
        """Sum of -log2 P(target) over the targets, without dropout; and the state."""
        y, state = self.layers(self.parameters["embedding"][ids], state)
        return self.output.loss(y, targets) / float(np.log(2)), state

    def gradients(
        self,
        ids: NDArray[np.int64],
        targets: NDArray[np.int64],
        state: State,
        *,
        resets: Any = None,
        truncation: Any = None,
    ) -> tuple[float, dict[str, Array], State]:
        """One window of truncated backpropagation through time.

        The loss is the mean over the window's T*B characters, in nats. `state`, from the previous window, is a
        constant: the gradient stops there. `resets` and `truncation` are arguments of the layers, within the window.
        """
        x = self.parameters["embedding"][ids]
        y, state, tape = self.layers.forward(x, state, resets=resets)
        loss, dy, d_output = self.output.gradients(y, targets, 1 / ids.size)
        d_layers = self.layers.backward(tape, dy, truncation=truncation)
        # x = embedding[ids]
        d_embedding = np.zeros_like(self.parameters["embedding"])
        chosen, sums = summed_by_id(ids, d_layers.x)
        d_embedding[chosen] = sums
        return loss / ids.size, {"embedding": d_embedding, **d_output, **d_layers.parameters}, state

    def sample(self, first: int, length: int, temperature: float, rng: np.random.Generator) -> list[int]:
        """Draw characters one after the other, each from its distribution given the previous characters."""
        ids, state = [first], None
        for _ in range(length):
            logits, state = self.logits(np.array([[ids[-1]]]), state)
            scaled = logits[0, 0].astype(float) / temperature
            weights = np.exp(scaled - scaled.max())
            ids.append(int(rng.choice(len(weights), p=weights / weights.sum())))
        return ids[1:]

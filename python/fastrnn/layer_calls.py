"""The calls of a layer: inference, forward and backward."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from . import _check
from ._accept import Network
from ._check import Array
from ._plan import Plan, Tape
from .cell_gradients import State
from .layer_parameters import LayerParameters


@dataclass(frozen=True, eq=False)
class Gradients:
    """What ``backward`` returns: each member has the shape of what it is the gradient of."""

    x: Array
    state: State
    parameters: dict[str, Array]
    inputs: dict[str, Any] = field(default_factory=dict)
    """Of the inputs of each step of a written cell, by name."""


class LayerCalls(LayerParameters):
    """A stack of layers of one cell: what it computes."""

    def __call__(
        self, x: Array, state: State = None, *, lengths: Any = None, resets: Any = None
    ) -> tuple[Array, State]:
        """Inference.

        Parameters
        ----------
        x : ndarray (T, B, I), or (B, T, I) with batch_first, or (T, I) for one sequence without a batch axis
            Any strides; nothing is copied as long as the last axis is contiguous.
        state : ndarray (num_layers*D, B, H), for the LSTM a pair (h, c) of them; without B if x has none
            Before the first step (the last one for a reverse direction). Zero when left out.
        lengths : array of int (B,), optional
            The steps that each sequence has, 0 … T in any order. What lies beyond is neither read nor computed, and
            time is spent on the sum of lengths only.
        resets : array of bool (T, B), laid out as x, optional
            Where True, an episode starts: every layer's state is zeroed before this step, and no gradient passes. In
            the reverse direction too, no state passes between step t - 1 and a step t that is reset.

        Returns
        -------
        y : ndarray (T, B, D*H), laid out as x
            The last layer's output at every step, both directions side by side. Zero beyond a sequence's end.
        state : as the argument
            After each sequence's own last step, ready to be passed with the sequence's next piece.

        Raises
        ------
        TypeError
            For another kind or dtype; dtypes are never mixed or cast.
        ValueError
            For another shape, of an argument or of a replaced parameter.
        """
        return self._infer(x, state, lengths, resets)

    def _infer(self, x: Any, state: State, lengths: Any, resets: Any, inputs: Any = None) -> tuple[Array, State]:
        frozen = None if self._frozen is None else self._frozen_now()
        packed = None if frozen is None else frozen.forward
        found: tuple[Array, State] = (self._network or self._new_network()).infer(
            self, packed, x, state, lengths, resets, inputs
        )
        return found

    def forward(
        self,
        x: Array,
        state: State = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        checkpoint: Any = None,
        budget: Any = None,
    ) -> tuple[Array, State, Tape]:
        """Training: as the call for inference, with dropout, and a tape for ``backward``.

        Parameters
        ----------
        x, state, lengths, resets : as for the call
            The call itself is for inference.
        checkpoint : int or "auto", optional
            Keep only the states before every n-th step, and compute the rest again in ``backward``, with the same bits:
            memory for time (Chen et al. 2016). 1 keeps the states of all steps but no gates, and computes those again
            in large products. "auto" keeps everything if it fits ``budget``, else the states of all steps if they do,
            else n = sqrt(T); a truncated backward may take more.
        budget : int, optional
            For "auto": bytes that the tape may take, beyond x and y.

        Returns
        -------
        y, state
            As from the call.
        tape : Tape
            For ``backward``. It refers to x, state and y: none of them may change before, and y is read-only for that
            reason (copy it to change it). Nothing looks for a write to x or state: it gives wrong gradients, see
            docs/truncated-bptt.md. Parameters, lengths and resets may change; the tape keeps them as they were.

        Raises
        ------
        TypeError, ValueError
            As from the call, and for a checkpoint or budget of another kind or value.
        """
        return self._train(x, state, lengths, resets, checkpoint, budget)

    def _train(
        self, x: Any, state: State, lengths: Any, resets: Any, checkpoint: Any, budget: Any, inputs: Any = None
    ) -> tuple[Array, State, Tape]:
        n = None
        if checkpoint is not None or budget is not None:
            n = _check.checkpoint("checkpoint", checkpoint, budget)
        frozen = None if self._frozen is None else self._frozen_now()
        packed = None if frozen is None else (frozen.forward, frozen.backward)
        found: tuple[Array, State, Tape] = (self._network or self._new_network()).train(
            self, packed, x, state, lengths, resets, n, inputs
        )
        return found

    def backward(
        self, tape: Tape, dy: Array | None = None, dstate: State = None, *, truncation: Any = None
    ) -> Gradients:
        """Gradients of ``sum(dy * y) + sum(dstate * state)`` by backpropagation through the tape's time steps.

        Parameters
        ----------
        tape : Tape
            From ``forward`` of this layer. It may be used any number of times. x and the state that forward was given
            are read again here: a write to x in between changes the gradient of the first layer's weight_ih, with
            checkpoints every gradient; a write to the state changes those of first steps.
        dy : ndarray of the shape of y, optional
            The loss's gradient with respect to y. Zero when left out; ignored beyond a sequence's end.
        dstate : as the state, optional
            The loss's gradient with respect to the final state; either member of the LSTM's pair may be None.
        truncation : int or pair of int (k1, k2), optional
            Truncated backpropagation through time (Williams & Peng 1990). The steps of each sequence, in the order in
            which they run, are cut into loss windows of k1 (the last may be shorter). The gradient of a window's part
            of the loss, with ``dstate`` in the last one, goes back through at most k2 >= k1 steps counted from the end
            of its k1 steps; the state before that is a constant. k stands for (k, k): a loop over windows of k steps
            with the state carried on. None stands for all steps. In a
            bidirectional stack each layer and direction is truncated by itself: what reaches its output counts as loss.

        Returns
        -------
        Gradients
            ``x``, ``state`` and ``parameters["weight_hh_l0"]``, …

        Raises
        ------
        TypeError, ValueError
            For arguments of another kind, dtype or shape, and for a tape of another layer.
        """
        return Gradients(*(self._network or self._new_network()).backward(self, tape, dy, dstate, truncation))

    def _new_network(self) -> Network:
        reverse, kind = (False, True)[: self._directions], "batch_first" if self.batch_first else "dense"
        sizes = self.input_size, self.hidden_size, self.num_layers
        network = self._network = Network(self._cell, self.dtype, *sizes, reverse, kind)
        return network

    def _chosen_checkpoint(self, plan: Plan, checkpoint: int | tuple[int]) -> int | None:
        """The steps between checkpoints; of a budget (in a tuple), the first way that fits it."""
        if not isinstance(checkpoint, tuple):
            return checkpoint
        T, B, H = plan.T, plan.B, self.hidden_size
        count = self.num_layers * self._directions
        if count * plan.reserve_bytes <= checkpoint[0]:
            return None
        kept = len(self._row.states) - (self._row.output >= 0)  # states beside y
        states = kept * count * T * B * H * self.dtype.itemsize
        return 1 if states <= checkpoint[0] else math.isqrt(max(T - 1, 0)) + 1

    def _masks(self, T: int, B: int) -> list[Array | None]:
        """Dropout of each layer's input but the first one's."""
        shape = (T, B, self._directions * self.hidden_size)
        return [self._mask(shape) if layer else None for layer in range(self.num_layers)]

    def _mask(self, shape: tuple[int, ...]) -> Array:
        mask: Array = (self._rng.random(shape) >= self.dropout).astype(self.dtype)
        mask *= self.dtype.type(1 / (1 - self.dropout))
        return mask

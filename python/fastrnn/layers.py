"""Stacks of recurrent layers with their parameters: `fastrnn.LSTM`, `fastrnn.GRU`, `fastrnn.RNN`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from . import _check
from ._check import Array
from ._kernel import States, WeightGradients, backward_passes, pass_empty_through, run_backward_passes, run_forward
from .cells import CELLS, State
from .schedule import Batch, Part
from .tape import CellTape, LayerTape
from .weights import (
    checked_parameters,
    initial_parameters,
    load_file,
    save_file,
    shapes_of,
    suffixes,
    weights_of,
)

_Self = TypeVar("_Self", bound="_Layers")

_PARAMETERS = """
    Parameters
    ----------
    input_size : int
        I, the numbers of each time step of x.
    hidden_size : int
        H, the units of each layer and direction.
    num_layers : int
        Layers on top of each other; each reads the output of the one below.
    bias : bool
        Whether there are the biases ``bias_ih_*`` and ``bias_hh_*``.
    batch_first : bool
        Whether x and y are (B, T, …) instead of (T, B, …). States are (num_layers*D, B, H) either way.
    dropout : float
        The probability in [0, 1) with which ``forward`` zeroes each output of every layer but the last, scaling the
        others by 1/(1 - dropout). Calls for inference drop nothing.
    bidirectional : bool
        Whether each layer also runs backwards over the sequence; D is then 2, else 1.
    dtype : float32 or float64
        Of parameters, inputs and outputs.
    seed : int, sequence of int, numpy.random.Generator or None
        Of the initial parameters, uniform in ±1/sqrt(H), and of dropout.

    Attributes
    ----------
    parameters : dict of str to ndarray
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H), …, with
        ``_reverse`` for the second direction: torch's names and layouts. Update the arrays in place, or replace
        them: they are read, and checked, at every call.
"""


@dataclass(frozen=True, eq=False)
class Gradients:
    """What ``backward`` returns: each member has the shape of what it is the gradient of."""

    x: Array
    state: State
    parameters: dict[str, Array]


class _Layers:
    """What the three kinds of layer share."""

    _gates: ClassVar[int]
    _has_c: ClassVar[bool] = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        seed: Any = None,
    ) -> None:
        self.input_size = _check.integer("input_size", input_size, 0)
        self.hidden_size = _check.integer("hidden_size", hidden_size, 1)
        self.num_layers = _check.integer("num_layers", num_layers, 1)
        self.bias = _check.boolean("bias", bias)
        self.batch_first = _check.boolean("batch_first", batch_first)
        self.dropout = _check.probability("dropout", dropout)
        self.bidirectional = _check.boolean("bidirectional", bidirectional)
        self.dtype = _check.real_dtype("dtype", dtype)
        self._shapes = shapes_of(
            self._gates, self.input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional
        )
        size = sum(float(np.prod([float(n) for n in shape])) for _, shape in self._shapes.values())
        if size * self.dtype.itemsize > np.iinfo(np.intp).max:
            raise ValueError("input_size, hidden_size: the parameters would exceed the address space")
        try:
            self._rng = np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            raise type(error)(f"seed: {error}") from None
        self.parameters = initial_parameters(self._shapes, self.hidden_size, self.dtype, self._rng)

    @property
    def _cell(self) -> str:
        raise NotImplementedError

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._configuration().items())})"

    def _configuration(self) -> dict[str, Any]:
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

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
        y, final, _ = self._run(x, state, lengths, resets, training=False)
        return y, final

    def forward(
        self, x: Array, state: State = None, *, lengths: Any = None, resets: Any = None
    ) -> tuple[Array, State, LayerTape]:
        """Training: as the call for inference, with dropout, and a tape for ``backward``.

        The tape refers to x, state and y: none of them may change before ``backward``, and y is read-only for that
        reason (copy it to change it). Parameters may change; the tape keeps them as they were.
        """
        y, final, tape = self._run(x, state, lengths, resets, training=True)
        assert tape is not None
        y.flags.writeable = False
        return y, final, tape

    def backward(
        self, tape: LayerTape, dy: Array | None = None, dstate: State = None, *, truncation: Any = None
    ) -> Gradients:
        """Gradients of ``sum(dy * y) + sum(dstate * state)`` by backpropagation through the tape's time steps.

        Parameters
        ----------
        tape : LayerTape
            From ``forward`` of this layer. It may be used any number of times.
        dy : ndarray of the shape of y, optional
            The loss's gradient with respect to y. Zero when left out; ignored beyond a sequence's end.
        dstate : as the state, optional
            The loss's gradient with respect to the final state; either member of the LSTM's pair may be None.
        truncation : int or pair of int (k1, k2), optional
            Truncated backpropagation through time (Williams & Peng 1990). The steps of each sequence, in the order in
            which they run, are cut into loss windows of k1 (the last may be shorter). The gradient of a window's part
            of the loss, with ``dstate`` in the last one, goes back through at most k2 >= k1 steps counted from the
            window's end; the state before that is a constant. k stands for (k, k), None for all steps. In a
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
        dy, d_final = self._checked_gradients(tape, dy, dstate)
        window = _check.truncation("truncation", truncation)
        passes = [backward_passes(batch, window) for batch in tape.batches]
        gradients = {name: np.zeros(shape, self.dtype) for name, (_, shape) in self._shapes.items()}
        if self.bidirectional or self.num_layers == 1:
            dx, d_initial = self._backward_once(tape, dy, d_final, gradients, passes, passes)
        else:
            # Windows that overlap go down the stack one after the other; below the top, all that reaches one is loss.
            below = [None if one is None else [part.with_loss_everywhere() for part in one] for one in passes[0]]
            dx, d_initial = self._backward_once(tape, dy, d_final, gradients, [passes[0][:1]], [below[:1]])
            for top, others in zip(passes[0][1:], below[1:], strict=True):
                more_dx, more = self._backward_once(tape, dy, d_final, gradients, [[top]], [[others]])
                dx += more_dx
                _add_states(d_initial, more)
        pass_empty_through(tape.batches[0], d_final, d_initial)
        return Gradients(self._as_user(dx, tape.unbatched), self._public(d_initial, tape.unbatched), gradients)

    def _backward_once(
        self,
        tape: LayerTape,
        dy: Array | None,
        d_final: States,
        gradients: dict[str, Array],
        top: list[list[list[Part] | None]],
        below: list[list[list[Part] | None]],
    ) -> tuple[Array, States]:
        """Down the stack; `top` and `below` are the passes of each direction, for the last layer and the others."""
        T, B = tape.shape
        d_initial = self._new_states(B)
        names = suffixes(self.num_layers, self.bidirectional)
        for layer in reversed(range(self.num_layers)):
            dx = None
            for direction in range(self._directions):
                j = layer * self._directions + direction
                cell = tape.cells[j]
                half = None if dy is None else self._half(dy, direction)
                part = self._sequence_like(T, B, cell.sizes[2])
                into = WeightGradients(*weights_of(gradients, names[j]))
                passes = (top if layer == self.num_layers - 1 else below)[direction]
                run_backward_passes(cell, half, self._one(d_final, j), part, self._one(d_initial, j), into, passes)
                dx = part if dx is None else np.add(dx, part, out=dx)
            mask = tape.masks[layer]
            assert dx is not None
            dy = dx if mask is None else np.multiply(dx, mask, out=dx)
        assert dy is not None
        return dy, d_initial

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, configuration and the generator's state to a ``.npz`` file, replacing it as a whole.

        The ending is added to a path without it. The state is that of NumPy's default generator, PCG64; a layer that
        was given another kind is loaded with one of seed 0.
        """
        parameters = checked_parameters(self.parameters, self._shapes, self.dtype)
        state = self._rng.bit_generator.state
        generator = state if state["bit_generator"] == "PCG64" else None
        save_file(path, {"layer": type(self).__name__, **self._configuration(), "generator": generator}, parameters)

    @classmethod
    def load(cls: type[_Self], path: str | os.PathLike[str]) -> _Self:
        """A layer from a file that ``save`` wrote.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a file, or one of another class.
        """
        configuration, parameters = load_file(path)
        name, generator = configuration.pop("layer", None), configuration.pop("generator", None)
        if name != cls.__name__:
            raise ValueError(f"path: expected a file of {cls.__name__}, got one of {name}")
        try:
            layer = cls(**configuration, seed=0)
            layer.parameters = checked_parameters(parameters, layer._shapes, layer.dtype)
            if generator is not None:
                layer._rng.bit_generator.state = generator
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"path: expected a file written by save, got {os.fspath(path)!r} ({error})") from error
        return layer

    # ---- one pass ----

    def _run(
        self, x: Any, state: State, lengths: Any, resets: Any, *, training: bool
    ) -> tuple[Array, State, LayerTape | None]:
        x, unbatched = self._checked_input(x)
        T, B = x.shape[:2]
        batches = self._checked_batches(T, B, lengths, resets, unbatched)
        initial = self._checked_states("state", state, B, unbatched)
        parameters = checked_parameters(self.parameters, self._shapes, self.dtype)
        final = self._new_states(B)
        tapes: list[CellTape] = []
        masks: list[Array | None] = [None] * self.num_layers
        for layer in range(self.num_layers):
            if training and self.dropout and layer:
                masks[layer] = self._mask(x.shape)
                x = x * masks[layer]
            y = self._sequence_like(T, B, self._directions * self.hidden_size)
            if batches[0].lengths is not None:
                y[...] = 0
            for direction, batch in enumerate(batches):
                j = layer * self._directions + direction
                weights = weights_of(parameters, suffixes(self.num_layers, self.bidirectional)[j])
                y_one, initial_one, final_one = self._half(y, direction), self._one(initial, j), self._one(final, j)
                tape = run_forward(self._cell, x, weights, initial_one, y_one, final_one, batch, training=training)
                if tape is not None:
                    tapes.append(tape)
            x = y
        y = self._as_user(x, unbatched)
        tape_of_all = LayerTape(self, tapes, masks, y.shape, (T, B), batches, unbatched) if training else None
        return y, self._public(final, unbatched), tape_of_all

    def _mask(self, shape: tuple[int, ...]) -> Array:
        mask: Array = (self._rng.random(shape) >= self.dropout).astype(self.dtype)
        mask *= self.dtype.type(1 / (1 - self.dropout))
        return mask

    # ---- shapes: inside, sequences are (T, B, n) and states (num_layers*D, B, H) ----

    def _sequence_like(self, T: int, B: int, n: int) -> Array:
        laid_out: Array = np.empty((B, T, n) if self.batch_first else (T, B, n), self.dtype)
        return np.swapaxes(laid_out, 0, 1) if self.batch_first else laid_out

    def _half(self, y: Array, direction: int) -> Array:
        half: Array = y[:, :, direction * self.hidden_size : (direction + 1) * self.hidden_size]
        return half

    def _one(self, states: States, j: int) -> States:
        return States(*(None if member is None else member[j] for member in states))

    def _as_user(self, sequence: Array, unbatched: bool) -> Array:
        if unbatched:
            alone: Array = sequence[:, 0]
            return alone
        return np.swapaxes(sequence, 0, 1) if self.batch_first else sequence

    def _new_states(self, B: int) -> States:
        shape = (self.num_layers * self._directions, B, self.hidden_size)
        return States(np.empty(shape, self.dtype), np.empty(shape, self.dtype) if self._has_c else None)

    def _public(self, states: States, unbatched: bool) -> State:
        members = tuple(m[:, 0] if unbatched else m for m in states if m is not None)
        return members if self._has_c else members[0]

    # ---- checks ----

    def _sequence_letters(self, last: str) -> str:
        return f"(B, T, {last})" if self.batch_first else f"(T, B, {last})"

    def _checked_input(self, x: Any) -> tuple[Array, bool]:
        x = _check.array("x", x, self.dtype)
        if x.ndim == 2:
            _check.shape("x", x, "(T, input_size)", (None, self.input_size))
            return x[:, np.newaxis], True
        _check.shape("x", x, self._sequence_letters("input_size"), (None, None, self.input_size))
        return (x.transpose(1, 0, 2) if self.batch_first else x), False

    def _checked_batches(self, T: int, B: int, lengths: Any, resets: Any, unbatched: bool) -> list[Batch]:
        """One for each direction."""
        if unbatched and lengths is not None:
            raise ValueError("lengths: expected None for x without a batch axis")
        lengths = _check.lengths("lengths", lengths, T, B)
        if unbatched:
            resets = _check.resets("resets", resets, "(T)", (T,))
            resets = None if resets is None else resets[:, np.newaxis]
        elif self.batch_first:
            resets = _check.resets("resets", resets, "(B, T)", (B, T))
            resets = None if resets is None else resets.T
        else:
            resets = _check.resets("resets", resets, "(T, B)", (T, B))
        return [Batch(T, B, lengths, resets, reverse) for reverse in (False, True)[: self._directions]]

    def _checked_states(self, name: str, state: State, B: int, unbatched: bool) -> States:
        if state is None:
            return States(None)
        members = _check.pair(name, state) if self._has_c else (state,)
        count, H = self.num_layers * self._directions, self.hidden_size
        found: list[Array | None] = []
        for position, member in enumerate(members):
            if member is None and self._has_c:
                found.append(None)
                continue
            label = f"{name}[{position}]" if self._has_c else name
            array = _check.array(label, member, self.dtype)
            if unbatched:
                _check.shape(label, array, "(num_layers*D, H)", (count, H))
                array = array[:, np.newaxis]
            else:
                _check.shape(label, array, "(num_layers*D, B, H)", (count, B, H))
            found.append(array)
        return States(*found)

    def _checked_gradients(self, tape: Any, dy: Any, dstate: State) -> tuple[Array | None, States]:
        if not isinstance(tape, LayerTape):
            raise TypeError(f"tape: expected the tape of a forward call, got {type(tape).__name__}")
        if tape.owner is not self:
            raise ValueError("tape: expected a tape of this layer, got one of another")
        if dy is not None:
            dy = _check.array("dy", dy, self.dtype)
            letters = "(T, D*H)" if tape.unbatched else self._sequence_letters("D*H")
            _check.shape("dy", dy, letters, tape.y_shape)
            if tape.unbatched:
                dy = dy[:, np.newaxis]
            elif self.batch_first:
                dy = dy.transpose(1, 0, 2)
        return dy, self._checked_states("dstate", dstate, tape.shape[1], tape.unbatched)


def _add_states(total: States, more: States) -> None:
    for a, b in zip(total, more, strict=True):
        if a is not None and b is not None:
            a += b


class LSTM(_Layers):
    _gates, _has_c = CELLS["lstm"].gates, CELLS["lstm"].has_c

    @property
    def _cell(self) -> str:
        return "lstm"


class GRU(_Layers):
    _gates = CELLS["gru"].gates

    @property
    def _cell(self) -> str:
        return "gru"


class RNN(_Layers):
    _gates = CELLS["rnn_tanh"].gates

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        seed: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype, seed=seed
        )

    @property
    def _cell(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def _configuration(self) -> dict[str, Any]:
        return super()._configuration() | {"nonlinearity": self.nonlinearity}


LSTM.__doc__ = f"""Long short-term memory (Hochreiter & Schmidhuber 1997), with the equations of ``torch.nn.LSTM``.

    See `fastrnn.lstm` for the equations. The state is a pair (h, c).
{_PARAMETERS}"""

GRU.__doc__ = f"""Gated recurrent unit (Cho et al. 2014), with the equations of ``torch.nn.GRU``.

    See `fastrnn.gru` for the equations.
{_PARAMETERS}"""

RNN.__doc__ = f"""Simple recurrent network (Elman 1990), with the equations of ``torch.nn.RNN``.

    See `fastrnn.rnn_tanh` and `fastrnn.rnn_relu` for the equations; ``nonlinearity`` ("tanh" or "relu") chooses.
{_PARAMETERS}"""

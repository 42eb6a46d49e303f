"""Stacks of recurrent layers with their parameters: `fastrnn.LSTM`, `fastrnn.GRU`, `fastrnn.RNN`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from . import _check
from ._accept import Network
from ._check import Array
from ._kernel import Weights, pack_backward, pack_forward
from ._plan import Plan, Tape
from .arguments import LayerArguments
from .attributes import Attributes
from .cells import CELLS, State
from .config import backend_index
from .stream import Stream, StreamLayers, make_stream
from .weights import (
    Frozen,
    checked_parameters,
    initial_parameters,
    load_file,
    save_file,
    shapes_of,
    suffixes,
    weights_of,
)

_Self = TypeVar("_Self", bound="_Layers")

# A larger number is a mistake, and a dictionary of so many names would exhaust memory.
LAYERS_MAX = 1 << 16

_PARAMETERS = """
    Parameters
    ----------
    input_size : int
        I, the number of values in each time step of x.
    hidden_size : int
        H, the number of units of each layer and direction.
    num_layers : int
        The number of layers on top of each other; each layer reads the output of the layer below.
    bias : bool
        Whether the layers have the biases ``bias_ih_*`` and ``bias_hh_*``.
    batch_first : bool
        Whether x and y are (B, T, …) instead of (T, B, …). States are always (num_layers*D, B, H).
    dropout : float
        The probability in [0, 1) that ``forward`` zeroes an output of any layer except the last. It scales the other
        outputs by 1/(1 - dropout). Inference drops nothing.
    bidirectional : bool
        Whether each layer also runs backwards over the sequence; then D is 2, otherwise 1.
    dtype : float32 or float64
        The dtype of parameters, inputs and outputs.
    seed : int, sequence of int, numpy.random.Generator or None
        The seed of the initial parameters, uniform in ±1/sqrt(H), and of dropout.

    Attributes
    ----------
    input_size, hidden_size, num_layers, bias, bidirectional, dtype : as given
        Fixed: another value raises AttributeError.
    {changeable} : as given
        A new value applies to every later call, also of a frozen layer. Tapes keep the values of their call, and
        streams keep theirs until they are refreshed.
    parameters : dict of str to ndarray
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0``, ``bias_hh_l0`` (G*H), …, with ``_reverse``
        for the second direction: torch's names and layouts. Update the arrays in place, or replace them: every call
        reads and checks them.
"""


@dataclass(frozen=True, eq=False)
class Gradients:
    """The result of ``backward``. Each gradient has the shape of its array."""

    x: Array
    state: State
    parameters: dict[str, Array]


class _FrozenLayer(NamedTuple):
    """The weights that `freeze` packed for one backend."""

    parameters: Frozen
    weights: list[Weights]  # of each layer and direction
    forward: list[Array]  # packed
    backward: list[Array]
    backend: int


def _checked_nonlinearity(name: str, value: Any) -> str:
    if value not in ("tanh", "relu"):
        raise ValueError(f"{name}: expected 'tanh' or 'relu', got {value!r}")
    return str(value)


class _Layers(Attributes, LayerArguments):
    """The common base of the three layers."""

    batch_first: bool
    dropout: float
    _gates: ClassVar[int]
    _has_c: bool = False
    _network: Network | None = None
    _fixed = frozenset({"input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype"})
    _instead = "make a new layer"
    _changeable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "batch_first": _check.boolean,
        "dropout": _check.probability,
    }

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
        if self.num_layers > LAYERS_MAX:
            raise ValueError(f"num_layers: expected at most {LAYERS_MAX}, got {self.num_layers}")
        self.bias = _check.boolean("bias", bias)
        self.batch_first = batch_first
        self.dropout = dropout
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
        self._frozen: _FrozenLayer | None = None
        self._parameters = initial_parameters(self._shapes, self.hidden_size, self.dtype, self._rng)

    @property
    def _cell(self) -> str:
        """The core's name of the cell."""
        raise NotImplementedError

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
            The state before the first step (for a reverse direction, before the last step). The default is zero.
        lengths : array of int (B,), optional
            The number of steps of each sequence, 0 … T in any order. Steps beyond are neither read nor computed, so the
            time depends only on the sum of lengths.
        resets : array of bool (T, B), laid out as x, optional
            Where True, an episode starts: every layer's state is zeroed before this step, and no gradient passes. Also
            in the reverse direction, no state passes between step t - 1 and a reset step t.

        Returns
        -------
        y : ndarray (T, B, D*H), laid out as x
            The last layer's output at every step, both directions side by side. Zero beyond a sequence's end.
        state : as the argument
            The state after each sequence's own last step. Pass it with the next piece of the sequence.

        Raises
        ------
        TypeError
            For another kind or dtype; dtypes are never mixed or cast.
        ValueError
            For another shape, of an argument or of a replaced parameter.
        """
        frozen = None if self._frozen is None else self._frozen_now()
        packed = None if frozen is None else frozen.forward
        found: tuple[Array, State] = (self._network or self._new_network()).infer(
            self, packed, x, state, lengths, resets
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
        """Training: like the call for inference, but with dropout and a tape for ``backward``.

        Parameters
        ----------
        x, state, lengths, resets : as for the call
            The call itself is for inference.
        checkpoint : int or "auto", optional
            Keep only the states before every n-th step, and recompute the rest in ``backward``, with the same bits.
            This trades time for memory (Chen et al. 2016). 1 keeps the states of all steps but no gates, and recomputes
            the gates in large products. "auto" takes the first choice that fits ``budget``: keep everything, keep the
            states of all steps, n = sqrt(T). A truncated backward may take more memory.
        budget : int, optional
            For "auto": bytes that the tape may take, beyond x and y.

        Returns
        -------
        y, state
            As from the call.
        tape : Tape
            For ``backward``. It refers to x, state and y, which must not change before ``backward``; y is read-only for
            that reason (copy it to change it). A write to x or state is not detected and gives wrong gradients, see
            docs/truncated-bptt.md. Parameters, lengths and resets may change, since the tape keeps copies.

        Raises
        ------
        TypeError, ValueError
            As from the call, and for a checkpoint or budget of another kind or value.
        """
        n = None
        if checkpoint is not None or budget is not None:
            n = _check.checkpoint("checkpoint", checkpoint, budget)
        frozen = None if self._frozen is None else self._frozen_now()
        packed = None if frozen is None else (frozen.forward, frozen.backward)
        found: tuple[Array, State, Tape] = (self._network or self._new_network()).train(
            self, packed, x, state, lengths, resets, n
        )
        return found

    def backward(
        self, tape: Tape, dy: Array | None = None, dstate: State = None, *, truncation: Any = None
    ) -> Gradients:
        """Gradients of ``sum(dy * y) + sum(dstate * state)`` by backpropagation through the tape's time steps.

        Parameters
        ----------
        tape : Tape
            From ``forward`` of this layer. It may be used any number of times. Backward reads forward's x and state
            again: a write to x in between changes the gradient of the first layer's weight_ih, and with checkpoints
            every gradient; a write to the state changes the gradients of first steps.
        dy : ndarray of the shape of y, optional
            The gradient of the loss with respect to y. The default is zero; values beyond a sequence's end are ignored.
        dstate : as the state, optional
            The gradient of the loss with respect to the final state; either member of the LSTM's pair may be None.
        truncation : int or pair of int (k1, k2), optional
            Truncated backpropagation through time (Williams & Peng 1990). The steps of each sequence, in the order in
            which they run, are cut into loss windows of k1 steps (the last may be shorter). The gradient of a window's
            part of the loss, with ``dstate`` in the last window, goes back through at most k2 >= k1 steps, counted from
            the end of its k1 steps. The state before that is a constant. k means (k, k): a loop over windows of k steps
            with the state carried on. None means all steps. In a bidirectional stack each layer and direction is
            truncated separately: the gradient at its output counts as loss.

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

    def freeze(self) -> None:
        """Pack the weights once, for all calls until ``thaw``; until then the parameters are read-only.

        This saves each call the time of checking and packing, which is most of a short call. Streams of a frozen layer
        share its packed weights. The frozen parameters are copies: writes to the original arrays have no effect until
        ``thaw``. Freezing a frozen layer does nothing.

        Raises
        ------
        TypeError, ValueError
            For replaced parameters of another dtype or shape.
        """
        if self._frozen is None:
            frozen = Frozen(checked_parameters(self._parameters, self._shapes, self.dtype))
            weights = self._weights_of(frozen.parameters)
            forward = [pack_forward(self._cell, one) for one in weights]
            backward = [pack_backward(self._cell, one) for one in weights]
            self._frozen = _FrozenLayer(frozen, weights, forward, backward, backend_index())

    def thaw(self) -> None:
        """Stop using the frozen weights: calls read the parameters again. Does nothing if the layer is not frozen."""
        self._frozen = None

    @property
    def frozen(self) -> bool:
        """Whether the layer is frozen."""
        return self._frozen is not None

    @frozen.setter
    def frozen(self, _: Any) -> None:
        raise AttributeError("frozen: expected to be changed by freeze() and thaw()")

    @property
    def parameters(self) -> dict[str, Array]:
        """Map torch's names to arrays; the arrays of a frozen layer are read-only."""
        frozen = self._frozen
        return self._parameters if frozen is None else frozen.parameters.parameters

    @parameters.setter
    def parameters(self, parameters: dict[str, Array]) -> None:
        if self._frozen is not None:
            raise ValueError("parameters: expected a layer that is not frozen; call thaw() first")
        self._parameters = parameters

    def stream(self, batch_size: int = 1) -> Stream:
        """A `Stream`, which runs one time step at a time and keeps the state, without allocating anything.

        Parameters
        ----------
        batch_size : int
            B, the number of sequences that advance side by side.

        Returns
        -------
        Stream
            In the zero state.

        Raises
        ------
        TypeError, ValueError
            If `batch_size` is not an integer of at least 1, or the layer is bidirectional: its second direction starts
            at the end.
        """
        B = _check.integer("batch_size", batch_size, 1)
        if self.bidirectional:
            raise ValueError("stream: expected a layer of one direction, got a bidirectional one")
        return make_stream(B, self._stream_layers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write parameters, configuration and the generator's state to a ``.npz`` file, replacing the whole file.

        A path without the extension ``.npz`` gets it. The state is that of NumPy's default generator, PCG64. A layer
        with another kind of generator is loaded with a default generator of seed 0.

        Parameters
        ----------
        path : str or path
            The path of the file. An existing file is replaced and keeps its permissions. A symbolic link stays, and its
            target is replaced.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError, ValueError
            For replaced parameters of another dtype or shape.
        """
        save_file(path, self._file_header(), self._checked_parameters())

    @classmethod
    def load(cls: type[_Self], path: str | os.PathLike[str]) -> _Self:
        """A layer from a file that ``save`` wrote.

        Parameters
        ----------
        path : str or path
            The extension may be left out.

        Returns
        -------
        LSTM, GRU or RNN
            A layer of the class on which `load` is called, not frozen.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If the file is not such a file, or is for another class.
        """
        return cls._from_file(path, *load_file(path))

    def _checked_parameters(self) -> dict[str, Array]:
        return checked_parameters(self.parameters, self._shapes, self.dtype)

    def _file_header(self) -> dict[str, Any]:
        state = self._rng.bit_generator.state
        generator = state if state["bit_generator"] == "PCG64" else None
        return {"layer": type(self).__name__, **self._configuration(), "generator": generator}

    @classmethod
    def _from_file(
        cls: type[_Self], path: str | os.PathLike[str], header: dict[str, Any], parameters: dict[str, Array]
    ) -> _Self:
        configuration = dict(header)
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

    def _new_network(self) -> Network:
        reverse, kind = (False, True)[: self._directions], "batch_first" if self.batch_first else "dense"
        sizes = self.input_size, self.hidden_size, self.num_layers
        network = self._network = Network(self._cell, self.dtype, *sizes, reverse, kind)
        return network

    def _on_change(self) -> None:
        """Packed weights depend on none of the attributes that may change."""
        self.__dict__.pop("_network", None)

    def _frozen_now(self) -> _FrozenLayer | None:
        """The packed weights of a frozen layer, if they were packed for the backend in use."""
        frozen = self._frozen
        return frozen if frozen is not None and frozen.backend == backend_index() else None

    def _frozen_parameters(self) -> list[Array | None]:
        frozen = self._frozen
        assert frozen is not None
        return [array for weights in frozen.weights for array in weights]

    def _weights_of(self, parameters: dict[str, Array]) -> list[Weights]:
        return [weights_of(parameters, name) for name in suffixes(self.num_layers, self.bidirectional)]

    def _stream_layers(self) -> StreamLayers:
        """The weights for a new or refreshed stream: the frozen weights, or the current parameters, packed."""
        widths = [self.input_size] + [self.hidden_size] * (self.num_layers - 1)
        frozen = self._frozen_now()
        if frozen is not None:
            return StreamLayers(self._cell, self.dtype, self.hidden_size, widths, frozen.forward)
        packed = [pack_forward(self._cell, one) for one in self._weights_of(self._checked_parameters())]
        return StreamLayers(self._cell, self.dtype, self.hidden_size, widths, packed)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles of a frozen layer are thawed."""
        state = self.__dict__.copy()
        state["_frozen"] = None
        state.pop("_network", None)
        return state

    def _chosen_checkpoint(self, plan: Plan, checkpoint: int | tuple[int]) -> int | None:
        """The steps between checkpoints; for a budget (in a tuple), the first choice that fits."""
        if not isinstance(checkpoint, tuple):
            return checkpoint
        T, B, H = plan.T, plan.B, self.hidden_size
        count = self.num_layers * self._directions
        if count * plan.reserve_bytes <= checkpoint[0]:
            return None
        states = count * T * B * H * self.dtype.itemsize if self._has_c else 0
        return 1 if states <= checkpoint[0] else math.isqrt(max(T - 1, 0)) + 1

    def _masks(self, T: int, B: int) -> list[Array | None]:
        """Dropout masks for the input of each layer except the first."""
        shape = (T, B, self._directions * self.hidden_size)
        return [self._mask(shape) if layer else None for layer in range(self.num_layers)]

    def _mask(self, shape: tuple[int, ...]) -> Array:
        mask: Array = (self._rng.random(shape) >= self.dropout).astype(self.dtype)
        mask *= self.dtype.type(1 / (1 - self.dropout))
        return mask


class LSTM(_Layers):
    _gates, _has_c = CELLS["lstm"].gates, True

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
    _changeable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        **_Layers._changeable,
        "nonlinearity": _checked_nonlinearity,
    }

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
{_PARAMETERS.format(changeable="batch_first, dropout")}"""

GRU.__doc__ = f"""Gated recurrent unit (Cho et al. 2014), with the equations of ``torch.nn.GRU``.

    See `fastrnn.gru` for the equations.
{_PARAMETERS.format(changeable="batch_first, dropout")}"""

RNN.__doc__ = f"""Simple recurrent network (Elman 1990), with the equations of ``torch.nn.RNN``.

    See `fastrnn.rnn_tanh` and `fastrnn.rnn_relu` for the equations; ``nonlinearity`` ("tanh" or "relu") chooses.
{_PARAMETERS.format(changeable="batch_first, dropout, nonlinearity")}"""

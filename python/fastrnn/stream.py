"""One time step at a time: `Stream`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _check, _core
from .config import backend_index, cut_index, get_num_threads
from .given import checked_names, input_columns
from .weights import CoreCell


class StreamLayers(NamedTuple):
    """The layers of a stream, from the lowest to the highest; the packed weights are for the backend in use."""

    cell: CoreCell
    dtype: np.dtype[Any]
    H: int
    input_sizes: list[int]
    packed: list[NDArray[np.uint8]]
    options: tuple[float, ...] = ()


class Stream(_core.Stepper):
    """A layer that runs one time step at a time and keeps its state; made by ``layer.stream(batch_size)``.

    ``y_t = stream(x_t)`` advances every sequence by one step, from x_t (B, I) to y_t (B, H), with the bits of the same
    steps in one call. It allocates no array: y_t is the stream's own array, which the next step overwrites, so copy
    values that you keep, and do not reshape it. The parameters are those of the layer when the stream was made or
    refreshed: call ``refresh()`` after an update. Streams of a frozen layer share its packed weights.

    A written cell with inputs takes those of the step: ``stream(x_t, inputs)``, a mapping of names to arrays (B, H), or
    (B, 1) for inputs of one number; with several layers, to lists of one array for each layer.

    A stream may be used from any thread; calls at the same time take turns. Different streams run side by side.

    Raises
    ------
    TypeError, ValueError
        From a call, for x_t or inputs of another kind, dtype or shape, or with a last axis that is not contiguous, and
        for missing or unknown inputs.
    """

    _layers_now: Callable[[], StreamLayers]
    _pace: _core.Pace

    def __new__(cls, *_: Any) -> Stream:
        raise TypeError("Stream: expected to be made by layer.stream(batch_size)")

    def __reduce__(self) -> Any:
        raise TypeError("Stream: it belongs to its process and cannot be pickled")

    def _checked_inputs(self, inputs: Any) -> list[Any]:
        row, (layers, B, H) = self._row, self._state_shape
        members: list[list[Any]] = []
        for name, value in checked_names("inputs", inputs, row.inputs).items():
            label, (letter, columns) = f"inputs[{name!r}]", input_columns(row, name, H)
            if layers > 1 and (not isinstance(value, list | tuple) or len(value) != layers):
                raise ValueError(f"{label}: expected a list of num_layers = {layers} arrays, one for each layer")
            each = value if layers > 1 else [value]
            labels = [f"{label}[{j}]" for j in range(layers)] if layers > 1 else [label]
            arrays = [_check.array(one, given, self._dtype) for one, given in zip(labels, each, strict=True)]
            for one, array in zip(labels, arrays, strict=True):
                _check.shape(one, array, f"(B, {letter})", (B, columns))
            members.append(arrays)
        return [one[layer] for layer in range(layers) for one in members]

    def refresh(self) -> None:
        """Run with the layer's current parameters, nonlinearity and options; the state stays.

        From the next step on, the stream gives the bits of a new stream with this state. Refreshing packs the weights
        again, unless the layer is frozen: then the stream shares the layer's packed weights. The stream keeps its layer
        alive.

        Raises
        ------
        TypeError, ValueError
            For replaced parameters of another dtype or shape. The stream is then unchanged.
        """
        layers = self._layers_now()
        self._run_from_now_on(_problems(layers, self._state_shape[1], self._pace), layers.packed, layers.options)

    @property
    def state(self) -> Any:
        """A copy of the state: (num_layers, B, H), for the LSTM a pair of them. It can be set."""
        states = self._copy_states()
        return states if len(states) > 1 else states[0]

    @state.setter
    def state(self, state: Any) -> None:
        names = self._row.states
        members = _check.members("state", state, names)
        checked = []
        for number, member in enumerate(members):
            name = f"state[{number}]" if len(names) > 1 else "state"
            array = _check.array(name, member, self._dtype)
            _check.shape(name, array, "(num_layers, B, H)", self._state_shape)
            checked.append(array)
        self._set_states(slice(None), checked)

    def reset(self, rows: Any = None) -> None:
        """Start again from the start value of each state: zero for LSTM, GRU and RNN.

        Parameters
        ----------
        rows : int, sequence of int, or boolean array (B,), optional
            The sequences of the batch to reset. The default is all.

        Raises
        ------
        TypeError, ValueError
            For rows of another kind, and for booleans of another shape.
        IndexError
            For rows that the batch does not have.
        """
        if rows is None:
            self._set_states(slice(None), self._row.starts)
            return
        chosen = _check.unmasked("rows", rows, "integers or booleans")
        if chosen.size and chosen.dtype.kind not in "iub":
            raise TypeError(f"rows: expected integers or booleans, got {chosen.dtype}")
        B = self._state_shape[1]
        if chosen.dtype.kind == "b":
            _check.shape("rows", chosen, "(B)", (B,))
        elif chosen.size and not -B <= int(chosen.min()) <= int(chosen.max()) < B:
            raise IndexError(f"rows: expected rows of a batch of {B}, got {rows}")
        self._set_states(chosen if chosen.dtype.kind == "b" else chosen.astype(np.int64), self._row.starts)


def _problems(layers: StreamLayers, B: int, pace: _core.Pace) -> list[_core.Problem]:
    chosen, cut = (backend_index(), get_num_threads()), cut_index()
    return [
        _core.Problem(layers.cell, layers.dtype, *chosen, 1, B, I, layers.H, None, cut, pace=pace, layer=layer)
        for layer, I in enumerate(layers.input_sizes)
    ]


def make_stream(B: int, layers_now: Callable[[], StreamLayers]) -> Stream:
    """A stream over the layers that `layers_now` returns, now and at each refresh."""
    layers = layers_now()
    pace = _core.Pace(len(layers.input_sizes))
    problems = _problems(layers, B, pace)
    shape = (len(problems), B, layers.H)
    states = tuple(np.full(shape, start, layers.dtype) for start in problems[0].row.starts)
    stream: Stream = _core.Stepper.__new__(Stream, problems, layers.packed, states, layers.options)
    stream._layers_now, stream._pace = layers_now, pace
    return stream

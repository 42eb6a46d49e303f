"""One time step at a time: `Stream`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _check, _core
from .config import backend_index, get_num_threads, team_index


class Stream(_core.Stepper):
    """A layer that is fed one time step at a time and keeps its state; made by ``layer.stream(batch_size)``.

    ``y_t = stream(x_t)`` advances every sequence by one step, from x_t (B, I) to y_t (B, H), with the bits that the
    same steps in one call give. No array is allocated: y_t is the stream's own array, which the next step overwrites,
    so copy what is to be kept, and do not reshape it. The parameters are those that the layer had when the stream was
    made; streams of a frozen layer share its packed weights.

    A stream may be used from any thread; calls at the same time take turns. Different streams run side by side.

    Raises
    ------
    TypeError, ValueError
        From a call, for x_t of another kind, dtype or shape, or whose last axis is not contiguous.
    """

    def __new__(cls, *_: Any) -> Stream:
        raise TypeError("Stream: expected to be made by layer.stream(batch_size)")

    def __reduce__(self) -> Any:
        raise TypeError("Stream: it belongs to its process and cannot be pickled")

    @property
    def state(self) -> Any:
        """A copy of the state: (num_layers, B, H), for the LSTM a pair of them. It can be set."""
        h, c = self._copy_states()
        return (h, c) if self.has_c else h

    @state.setter
    def state(self, state: Any) -> None:
        members = _check.pair("state", state) if self.has_c else (state,)
        checked = []
        for number, member in enumerate(members):
            name = f"state[{number}]" if self.has_c else "state"
            array = _check.array(name, member, self._dtype)
            _check.shape(name, array, "(num_layers, B, H)", self._state_shape)
            checked.append(array)
        self._set_states(slice(None), *checked)

    def reset(self, rows: Any = None) -> None:
        """Start again from the zero state.

        Parameters
        ----------
        rows : int, sequence of int, or boolean array (B,), optional
            Which sequences of the batch. All when left out.

        Raises
        ------
        TypeError, ValueError
            For rows of another kind, and for booleans of another shape.
        IndexError
            For rows that the batch does not have.
        """
        if rows is None:
            self._set_states(slice(None), 0, 0)
            return
        chosen = _check.unmasked("rows", rows, "integers or booleans")
        if chosen.size and chosen.dtype.kind not in "iub":
            raise TypeError(f"rows: expected integers or booleans, got {chosen.dtype}")
        B = self._state_shape[1]
        if chosen.dtype.kind == "b":
            _check.shape("rows", chosen, "(B)", (B,))
        elif chosen.size and not -B <= int(chosen.min()) <= int(chosen.max()) < B:
            raise IndexError(f"rows: expected rows of a batch of {B}, got {rows}")
        self._set_states(chosen if chosen.dtype.kind == "b" else chosen.astype(np.int64), 0, 0)


def make_stream(
    cell: str, input_sizes: list[int], H: int, B: int, dtype: Any, packed: list[NDArray[np.uint8] | None]
) -> Stream:
    """A stream over layers with these input sizes and packed weights."""
    chosen = backend_index(), get_num_threads()
    problems = [_core.Problem(cell, dtype, *chosen, 1, B, size, H, None, team_index()) for size in input_sizes]
    shape = (len(input_sizes), B, H)
    c = np.zeros(shape, dtype) if problems[0].states == 2 else None
    stream: Stream = _core.Stepper.__new__(Stream, problems, packed, np.zeros(shape, dtype), c)
    return stream

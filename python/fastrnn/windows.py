"""Windows for truncated backpropagation through time: parallel streams of a long sequence with a carried state."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _check
from ._check import Array
from .attributes import Attributes


class Windows(Attributes):
    """Cuts a long sequence into ``batch_size`` parallel streams, and the streams into windows of ``num_steps`` steps.

    Stream b is the b-th contiguous piece of the data, so row b of a window continues where row b of the previous window
    ended. A loop over all windows is one epoch of truncated backpropagation through time: the state is carried from
    window to window, the gradient is not (the PTB reader of TensorFlow's RNN tutorial, Zaremba et al. 2014)::

        windows = fastrnn.Windows(ids, batch_size=20, num_steps=35)
        for x, y, state in windows:
            output, state, tape = lstm.forward(embedding[x], state, resets=windows.resets)
            ...                                 # the loss of y, backward, an update
            windows.state = state               # carried on to the next window

    Parameters
    ----------
    data : array (N, …), or a sequence of such arrays
        One long sequence, or documents. The target of an element is the next element; in documents, the next element of
        the same document.
    batch_size : int
        B, the number of streams. A remainder that does not divide evenly among them is left out at the end.
    num_steps : int
        T, the steps of a window, which is how far back the gradient reaches.
    targets : array (N, …), optional
        Separate targets, as long as data, which must then be one sequence.
    batch_first : bool
        Whether windows are (B, T, …) instead of (T, B, …).
    drop_last : bool
        Whether to leave out a last window that is shorter than num_steps.

    Attributes
    ----------
    state : object
        The state that the loop gets with the next window; None at the start of every epoch. Run only one loop at a
        time: a second loop over the same windows would share the state.
    resets : array of bool (T, B), or (B, T), or None
        True where a document starts in the current window of the loop; None unless data are documents.

    Raises
    ------
    TypeError, ValueError
        For arguments of another kind or value, and for data too short for one window of one step.
    """

    _fixed = frozenset({"batch_size", "num_steps", "batch_first", "drop_last"})
    _instead = "make new Windows"

    def __init__(
        self,
        data: ArrayLike | Sequence[ArrayLike],
        batch_size: int,
        num_steps: int,
        *,
        targets: ArrayLike | None = None,
        batch_first: bool = False,
        drop_last: bool = True,
    ) -> None:
        self.batch_size = _check.integer("batch_size", batch_size, 1)
        self.num_steps = _check.integer("num_steps", num_steps, 1)
        self.batch_first = _check.boolean("batch_first", batch_first)
        self.drop_last = _check.boolean("drop_last", drop_last)
        inputs, outputs, starts, spare = _aligned(data, targets)
        stride = (len(inputs) + spare) // self.batch_size
        # Without separate targets, the last element of each stream is only a target.
        self._steps = max(stride - spare, 0)
        if self._steps < 1 or (self.drop_last and self._steps < self.num_steps):
            needed = self.batch_size * ((self.num_steps if self.drop_last else 1) + spare)
            what = "elements with a target" if spare == 0 else "elements"
            raise ValueError(
                f"data: expected at least {needed} {what}, got {len(inputs) + spare if len(inputs) else 0}"
            )
        self._inputs, self._targets = self._streams(inputs, stride), self._streams(outputs, stride)
        self._starts = None if starts is None else self._streams(starts, stride)
        self.state: Any = None
        self.resets: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """The number of windows of an epoch."""
        return self._steps // self.num_steps if self.drop_last else -(-self._steps // self.num_steps)

    @property
    def steps(self) -> int:
        """The number of steps of an epoch, in each stream."""
        return min(self._steps, len(self) * self.num_steps)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        """Window `index`: inputs and targets, views of the data."""
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"index: expected one of {len(self)} windows, got {number}")
        return self._cut(self._inputs, number), self._cut(self._targets, number)

    def __iter__(self) -> Iterator[tuple[Array, Array, Any]]:
        """Inputs, targets and the carried state of each window in turn."""
        self.state = None
        for number in range(len(self)):
            self.resets = None if self._starts is None else self._cut(self._starts, number)
            x, y = self[number]
            yield x, y, self.state

    def _streams(self, values: Array, stride: int) -> Array:
        """(steps, B, …): step t of stream b is element b*stride + t, without a copy."""
        shape = (self._steps, self.batch_size, *values.shape[1:])
        strides = (values.strides[0], stride * values.strides[0], *values.strides[1:])
        return np.lib.stride_tricks.as_strided(values, shape, strides, writeable=False)

    def _cut(self, streams: Array, number: int) -> Array:
        begin = (number % len(self)) * self.num_steps
        window: Array = streams[begin : begin + self.num_steps]
        return np.swapaxes(window, 0, 1) if self.batch_first else window


def _aligned(data: Any, targets: Any) -> tuple[Array, Array, NDArray[np.bool_] | None, int]:
    """Inputs, their targets, the starts of documents, and the number of elements that are only a target (0 or 1)."""
    if targets is not None:
        inputs, outputs = _check.unmasked("data", data), _check.unmasked("targets", targets)
        if inputs.ndim < 1 or outputs.ndim < 1 or len(inputs) != len(outputs):
            raise ValueError(f"targets: expected as many as data, got {outputs.shape} for {inputs.shape}")
        return inputs, outputs, None, 0
    if isinstance(data, list | tuple) and data and not np.isscalar(data[0]):
        return _joined(data)
    whole = _check.unmasked("data", data)
    if whole.ndim < 1:
        raise ValueError(f"data: expected an array of at least one axis, got {whole.shape}")
    return whole[:-1], whole[1:], None, 1


def _joined(documents: Sequence[Any]) -> tuple[Array, Array, NDArray[np.bool_] | None, int]:
    arrays = [_check.unmasked(f"data[{number}]", document) for number, document in enumerate(documents)]
    kept = [number for number, array in enumerate(arrays) if array.ndim < 1 or len(array) > 1]
    if not kept:
        raise ValueError("data: expected a document of at least two elements")
    first = arrays[kept[0]]
    for number in kept:
        array = arrays[number]
        if array.ndim < 1 or array.shape[1:] != first.shape[1:]:
            expected = ", ".join(["N", *map(str, first.shape[1:])])
            raise ValueError(f"data[{number}]: expected shape ({expected}), got {array.shape}")
        if array.dtype.kind != first.dtype.kind:
            raise TypeError(f"data[{number}]: expected dtype {first.dtype}, got {array.dtype}")
    chosen = [arrays[number] for number in kept]
    starts = np.concatenate([np.arange(len(array) - 1) == 0 for array in chosen])
    return np.concatenate([a[:-1] for a in chosen]), np.concatenate([a[1:] for a in chosen]), starts, 0

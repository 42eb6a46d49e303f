"""A layer's files, and its streams."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np

from . import _check
from ._check import Array
from ._kernel import pack_forward
from .layer_calls import LayerCalls
from .layer_parameters import UNDRAWN
from .stream import Stream, StreamLayers, make_stream
from .weights import checked_parameters, load_file, save_file

_Self = TypeVar("_Self", bound="RecurrentLayer")


class RecurrentLayer(LayerCalls):
    """A stack of layers of one cell, which subclasses name (`_cell`); with files and streams."""

    def stream(self, batch_size: int = 1) -> Stream:
        """A `Stream`, which takes one time step at a time and keeps the state, without allocating anything.

        Parameters
        ----------
        batch_size : int
            B, the sequences that advance side by side.

        Returns
        -------
        Stream
            With the start values of its states, which are zero for LSTM, GRU and RNN.

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
        """Write parameters, configuration and the generator's state to a ``.npz`` file, replacing it as a whole.

        The ending is added to a path without it. The state is that of NumPy's default generator, PCG64; a layer that
        was given another kind is loaded with one of seed 0.

        Parameters
        ----------
        path : str or path
            Where to. A file that is there is replaced and keeps its permissions; a symbolic link stays, and the file
            that it leads to is replaced.

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
            The ending may be left out.

        Returns
        -------
        LSTM, GRU, RNN or Recurrent
            Of the class that `load` is called on, not frozen.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If it is not such a file, or one of another class.
        """
        return cls._from_file(path, *load_file(path))

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
            layer = cls(**configuration, seed=UNDRAWN)
            layer.parameters = checked_parameters(parameters, layer._shapes, layer.dtype)
            layer._rng = np.random.default_rng(0)
            if generator is not None:
                layer._rng.bit_generator.state = generator
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"path: expected a file written by save, got {os.fspath(path)!r} ({error})") from error
        return layer

    def _stream_layers(self) -> StreamLayers:
        """The weights for a new or refreshed stream: the frozen weights, or the current parameters, packed."""
        widths = [self.input_size] + [self.hidden_size] * (self.num_layers - 1)
        frozen = self._frozen_now()
        if frozen is not None:
            packed = frozen.forward
        else:
            packed = [pack_forward(self._cell, one) for one in self._weights_of(self._checked_parameters())]
        return StreamLayers(self._cell, self.dtype, self.hidden_size, widths, packed, self._option_numbers())

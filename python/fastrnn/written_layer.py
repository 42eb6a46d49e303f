"""Stacks of recurrent layers of a written cell: `Recurrent`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from . import _check
from ._check import Array
from ._plan import Given, Tape
from .cell.written_cell import WrittenCell
from .cell_gradients import State
from .given import checked_names, checked_options, input_columns
from .layer_calls import Gradients
from .layer_files import RecurrentLayer
from .weights import CoreCell
from .written_function import checked_cell, core_program

_Self = TypeVar("_Self", bound="Recurrent")


class Recurrent(RecurrentLayer):
    """A stack of layers of a written cell, with all that `fastrnn.LSTM` has.

    Parameters
    ----------
    cell : WrittenCell
        From `fastrnn.cell`.
    input_size : int
        I, the number of values in each time step of x.
    hidden_size : int
        H, the number of units of each layer and direction.
    num_layers : int
        The number of layers on top of each other; each layer reads the output of the layer below.
    bias : bool
        Whether the layers have the biases ``b_ih_*`` and ``b_hh_*``.
    batch_first : bool
        Whether x and y are (B, T, …) instead of (T, B, …). States are always (num_layers*D, B, H).
    dropout : float
        The probability in [0, 1) that ``forward`` zeroes an output of any layer except the last. It scales the other
        outputs by 1/(1 - dropout). Inference drops nothing.
    bidirectional : bool
        Whether each layer also runs backwards over the sequence; then D is 2, otherwise 1.
    heads : int
        With several heads, w_hh is block-diagonal: the units form so many heads of H/heads units each, and the product
        of a unit reads the units of its own head alone, as in the sLSTM (Beck et al. 2024). See `fastrnn.recurrent`.
    options : mapping of str to float, optional
        The cell's options; options that are left out have their defaults.
    dtype : float32 or float64
        The dtype of parameters, inputs and outputs.
    seed : int, sequence of int, numpy.random.Generator or None
        The seed of the initial parameters, uniform in ±1/sqrt(H), and of dropout.

    Attributes
    ----------
    cell, input_size, hidden_size, num_layers, bias, bidirectional, heads, dtype : as given
        Fixed: another value raises AttributeError.
    batch_first, dropout, options : as given
        A new value applies to every later call, also of a frozen layer. Tapes keep the values of their call, and
        streams keep theirs until they are refreshed.
    parameters : dict of str to ndarray
        ``w_ih_l0`` (G*H, I), ``w_hh_l0`` (G*H, H/heads), ``b_ih_l0``, ``b_hh_l0`` (G*H), and each vector of the cell,
        such as ``p_i_l0`` (H), …, with ``_reverse`` for the second direction: the names of `fastrnn.recurrent`, with
        the gates in the order of the cell. Update the arrays in place, or replace them: every call reads and checks
        them.

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For other values, for heads that do not divide hidden_size, and for a cell that exceeds a limit.

    See Also
    --------
    fastrnn.recurrent : one layer in one direction, on plain arrays.
    """

    _fixed = RecurrentLayer._fixed | {"cell", "heads"}

    def __init__(
        self,
        cell: WrittenCell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        heads: int = 1,
        options: Mapping[str, float] | None = None,
        dtype: DTypeLike = np.float32,
        seed: Any = None,
    ) -> None:
        self.cell = checked_cell("cell", cell)
        self.heads = _check.integer("heads", heads, 1)
        if _check.integer("hidden_size", hidden_size, 1) % self.heads:
            raise ValueError(f"heads: expected a divisor of hidden_size = {hidden_size}, got {self.heads}")
        self.options = {} if options is None else options
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype=dtype, seed=seed
        )

    @property
    def _cell(self) -> CoreCell:
        return core_program(self.cell, self.heads)

    def _parameter_name(self, name: str) -> str:
        """Parameters have the names of `fastrnn.recurrent`."""
        return name

    @property
    def options(self) -> Mapping[str, float]:
        """The options of the cell, as a new dict."""
        return dict(zip(self._row.options, self._numbers, strict=True))

    @options.setter
    def options(self, options: Mapping[str, float]) -> None:
        self._numbers = checked_options("options", options, self._row)

    def _option_numbers(self) -> tuple[float, ...]:
        return self._numbers

    def _configuration(self) -> dict[str, Any]:
        heads: dict[str, Any] = {"heads": self.heads} if self.heads > 1 else {}
        options = {"options": self.options} if self._numbers else {}
        return {"cell": self.cell} | super()._configuration() | heads | options

    def __repr__(self) -> str:
        configuration = self._configuration()
        configuration.pop("cell")
        given = ", ".join(f"{name}={value!r}" for name, value in configuration.items())
        return f"{type(self).__name__}({self.cell.program.name}, {given})"

    def __call__(
        self,
        x: Array,
        state: State = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        lengths: Any = None,
        resets: Any = None,
    ) -> tuple[Array, State]:
        """Inference.

        Parameters
        ----------
        x, lengths, resets : as for `fastrnn.LSTM`
            A reset sets each state to its start value.
        state : ndarray (num_layers*D, B, H), or for several states a tuple of them, optional
            The members of the tuple may be None. The default is the start value of each state.
        inputs : mapping of str to ndarray, optional
            The cell's inputs of each step by name, (T, B, H), or (T, B, 1) for inputs of one number, laid out as x. For
            a stack, the value of each name is a sequence of num_layers*D such arrays, in the order of the states.

        Returns
        -------
        y : ndarray (T, B, D*H), laid out as x
            The last layer's output at every step, both directions side by side. Zero beyond a sequence's end.
        state : as the argument
            After each sequence's own last step.

        Raises
        ------
        TypeError, ValueError
            For another kind, dtype or shape, of an argument or of a replaced parameter.
        """
        found: tuple[Array, State] = self._infer(x, state, lengths, resets, inputs)
        return found

    def forward(
        self,
        x: Array,
        state: State = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        lengths: Any = None,
        resets: Any = None,
        checkpoint: Any = None,
        budget: Any = None,
    ) -> tuple[Array, State, Tape]:
        """Training: as the call for inference, with dropout, and a tape for ``backward``.

        Parameters
        ----------
        x, state, inputs, lengths, resets : as for the call
            The call itself is for inference.
        checkpoint, budget : as for ``fastrnn.LSTM.forward``

        Returns
        -------
        y, state
            As from the call.
        tape : Tape
            For ``backward``. It refers to x, state, inputs and y: none of them may change before, and y is read-only
            for that reason. Parameters, options, lengths and resets may change.

        Raises
        ------
        TypeError, ValueError
            As from the call, and for a checkpoint or budget of another kind or value.
        """
        return self._train(x, state, lengths, resets, checkpoint, budget, inputs)

    def backward(
        self, tape: Tape, dy: Array | None = None, dstate: State = None, *, truncation: Any = None
    ) -> Gradients:
        """Gradients of ``sum(dy * y) + sum(dstate * state)`` by backpropagation through the tape's time steps.

        Parameters
        ----------
        tape, dy, dstate, truncation : as for ``fastrnn.LSTM.backward``
            A tape may be used any number of times.

        Returns
        -------
        Gradients
            ``x``, ``state``, ``parameters["w_hh_l0"]``, … and ``inputs``: of the inputs that the cell declares with a
            gradient, in the form of the argument.

        Raises
        ------
        TypeError, ValueError
            For arguments of another kind, dtype or shape, and for a tape of another layer.
        """
        return super().backward(tape, dy, dstate, truncation=truncation)

    def _given(self, inputs: Any, T: int, B: int, unbatched: bool) -> Given:
        """The inputs of each step and the options."""
        row, count = self._row, self.num_layers * self._directions
        found: list[list[Array]] = []
        for name, value in checked_names("inputs", inputs, row.inputs).items():
            label = f"inputs[{name!r}]"
            if count > 1 and (not isinstance(value, list | tuple) or len(value) != count):
                raise ValueError(
                    f"{label}: expected a list of num_layers*D = {count} arrays, one for each layer and direction"
                )
            labels = [f"{label}[{j}]" for j in range(count)] if count > 1 else [label]
            members = value if count > 1 else [value]
            found.append(
                [self._input(one, each, name, T, B, unbatched) for one, each in zip(labels, members, strict=True)]
            )
        return Given([one[j] for j in range(count) for one in found], self._numbers)

    def _input(self, label: str, value: Any, name: str, T: int, B: int, unbatched: bool) -> Array:
        letter, columns = input_columns(self._row, name, self.hidden_size)
        array = _check.array(label, value, self.dtype)
        sizes = (T,) if unbatched else (B, T) if self.batch_first else (T, B)
        _check.shape(label, array, self._letters(unbatched, letter), (*sizes, columns))
        return array

    def _file_header(self) -> dict[str, Any]:
        return super()._file_header() | {"cell": self.cell.text}

    @classmethod
    def _from_file(
        cls: type[_Self], path: str | os.PathLike[str], header: dict[str, Any], parameters: dict[str, Array]
    ) -> _Self:
        if header.get("layer") == cls.__name__:
            try:
                header = header | {"cell": WrittenCell.from_text(header["cell"])}
            except (TypeError, ValueError, KeyError) as error:
                raise ValueError(f"path: expected a file written by save, got {os.fspath(path)!r} ({error})") from error
        return super()._from_file(path, header, parameters)

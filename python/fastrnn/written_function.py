"""One layer of a written cell in one direction, on plain arrays: `recurrent`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from ._check import Array, integer
from ._plan import Tape
from ._program import CellProgram
from .cell.lower import lower
from .cell.written_cell import WrittenCell
from .cell_gradients import MATRICES, CellGradients, State, WeightGradients
from .cells import Cell
from .given import checked_names
from .weights import row_of

KEPT_MAX = 1024  # cells that are kept for the core


@lru_cache(KEPT_MAX)
def core_program(cell: WrittenCell, heads: int = 1) -> CellProgram:
    """The cell for the core; ValueError if the core cannot run it."""
    return CellProgram(lower(cell.program), heads)


def checked_cell(name: str, value: Any) -> WrittenCell:
    """A cell that the core can run."""
    if not isinstance(value, WrittenCell):
        raise TypeError(f"{name}: expected a cell, as fastrnn.cell makes it of a function, got {type(value).__name__}")
    core_program(value)
    return value


def recurrent(cell: WrittenCell, heads: int = 1) -> RecurrentFunction:
    """A function that runs a written cell over sequences, as `fastrnn.lstm` runs the LSTM.

    The function is one layer in one direction, on plain arrays::

        run = fastrnn.recurrent(peephole_lstm)
        y, (h, c) = run(x, w_ih, w_hh, b_ih, b_hh, vectors={"p_i": p_i, "p_f": p_f, "p_o": p_o})

    Call it for inference; call ``forward`` and then ``backward`` for training. `fastrnn.Recurrent` is a layer with
    parameters of its own.

    Parameters
    ----------
    cell : WrittenCell
        From `fastrnn.cell`.
    heads : int
        With several heads, w_hh is block-diagonal, as in the sLSTM (Beck et al. 2024, "xLSTM"). Head j has the units
        from j*d on, d = H/heads, and the product of a unit reads the d units of its own head alone. So w_hh is
        (G*H, d): row g*H + u multiplies the units of u's head.

    Returns
    -------
    callable
        The same object for equal cells and heads. Its arguments are:

        - ``x`` (T, B, I), ``w_ih`` (G*H, I), ``w_hh`` (G*H, H/heads), and ``b_ih`` and ``b_hh`` (G*H,) or None: as for
          `fastrnn.lstm`, with the G gates in the order of the cell.
        - ``state``: (B, H), or for several states a tuple of them, whose members may be None. The default is the start
          value of each state.
        - ``vectors``: a mapping of the cell's vectors to arrays (H,).
        - ``inputs``: a mapping of the cell's inputs to arrays (T, B, H), or (T, B, 1) for inputs of one number.
        - ``options``: a mapping of options to numbers; the rest have their defaults.
        - ``lengths``, ``resets``, ``reverse``: as for `fastrnn.lstm`. A reset sets each state to its start value.

        It returns y (T, B, H), zero beyond a sequence's end, and the state after each sequence's own last step.

    Raises
    ------
    TypeError
        For another object than a cell, and for heads that are no integer.
    ValueError
        For heads below 1, and for a cell that exceeds a limit.

    Examples
    --------
    >>> import numpy as np, fastrnn
    >>> @fastrnn.cell(gates="zn")
    ... def minimal(a, s):
    ...     z = fastrnn.sigmoid(a.z)
    ...     h = s.h + z * (np.tanh(a.n) - s.h)
    ...     return h, (h,)
    >>> run = fastrnn.recurrent(minimal)
    >>> y, h = run(np.ones((5, 2, 3)), np.ones((8, 3)), np.ones((8, 4)))
    >>> y.shape, h.shape
    ((5, 2, 4), (2, 4))
    """
    return _function(checked_cell("cell", cell), integer("heads", heads, 1))


@lru_cache(KEPT_MAX)
def _function(cell: WrittenCell, heads: int) -> RecurrentFunction:
    return RecurrentFunction(cell, heads)


class RecurrentFunction(Cell):
    """One layer of a written cell in one direction; see `recurrent`."""

    _fixed = Cell._fixed | {"cell", "heads"}
    _gradient_names: ClassVar[list[str]] = [*Cell._gradient_names, "vectors", "inputs"]

    def __init__(self, cell: WrittenCell, heads: int) -> None:
        core = core_program(cell, heads)
        self.cell, self.heads = cell, heads
        super().__init__(cell.program.name, core, row_of(core), cell.__doc__)

    def __repr__(self) -> str:
        heads = f", heads={self.heads}" if self.heads > 1 else ""
        return f"<fastrnn.recurrent({self.name}{heads})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return recurrent, (self.cell, self.heads)

    def __call__(
        self,
        x: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array | None = None,
        b_hh: Array | None = None,
        state: State = None,
        *,
        vectors: Mapping[str, Array] | None = None,
        inputs: Mapping[str, Array] | None = None,
        options: Mapping[str, float] | None = None,
        lengths: Any = None,
        resets: Any = None,
        reverse: bool = False,
    ) -> tuple[Array, State]:
        """Inference; see `recurrent`."""
        weights, order = self._weights((w_ih, w_hh, b_ih, b_hh), vectors), (lengths, resets, reverse)
        y, final, _ = self._run(x, weights, state, order, training=False, given=(inputs, options))
        return y, final

    def forward(
        self,
        x: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array | None = None,
        b_hh: Array | None = None,
        state: State = None,
        *,
        vectors: Mapping[str, Array] | None = None,
        inputs: Mapping[str, Array] | None = None,
        options: Mapping[str, float] | None = None,
        lengths: Any = None,
        resets: Any = None,
        reverse: bool = False,
        checkpoint: int | None = None,
    ) -> tuple[Array, State, Tape]:
        """Training: like the call, but with a tape for ``backward``.

        Parameters
        ----------
        x, w_ih, w_hh, b_ih, b_hh, state, vectors, inputs, options, lengths, resets, reverse : as for the call
            See `fastrnn.recurrent`.
        checkpoint : int, optional
            Keep only the states of every n-th step; ``backward`` recomputes the rest, with the same bits.

        Returns
        -------
        y, state
            As from the call.
        tape : Tape
            Refers to x, state, inputs and y, which must not change before ``backward``; y is read-only for that reason.

        Raises
        ------
        TypeError, ValueError, OverflowError
            As the call does.
        """
        weights, order = self._weights((w_ih, w_hh, b_ih, b_hh), vectors), (lengths, resets, reverse)
        y, final, tape = self._run(
            x, weights, state, order, training=True, checkpoint=checkpoint, given=(inputs, options)
        )
        assert tape is not None
        y.flags.writeable = False
        return y, final, tape

    def backward(
        self,
        tape: Tape,
        dy: Array | None = None,
        dstate: State = None,
        *,
        truncation: Any = None,
        wanted: Collection[str] = ("x", "state", "w_ih", "w_hh", "b_ih", "b_hh", "vectors", "inputs"),
        into: WeightGradients | Mapping[str, Array] | None = None,
    ) -> CellGradients:
        """Gradients of ``sum(dy * y) + sum(dstate * state)``.

        Parameters
        ----------
        tape, dy, dstate, truncation, into : as for ``fastrnn.lstm.backward``
            A tape may be used any number of times. As a mapping, ``into`` may also have the names of vectors.
        wanted : collection of str
            The gradients to compute, out of x, state, w_ih, w_hh, b_ih, b_hh, vectors, inputs.

        Returns
        -------
        CellGradients
            ``vectors`` and ``inputs`` are by name; the latter has the inputs that the cell declares with a gradient.

        Raises
        ------
        TypeError, ValueError
            For arguments of another kind, dtype or shape, and for another cell's tape.
        """
        return self._gradients(tape, dy, dstate, truncation, wanted, into)

    def _weights(self, matrices: tuple[Any, ...], vectors: Any) -> tuple[Any, ...]:
        names = [one.name for one in self._row.parameters[MATRICES:]]
        return (*matrices, *checked_names("vectors", vectors, names).values())

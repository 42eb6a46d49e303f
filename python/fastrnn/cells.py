"""One layer in one direction, on plain arrays: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from . import _check, _core
from ._check import Array
from ._plan import Tape
from .attributes import Attributes
from .cell_arguments import CellArguments
from .cell_docs import documentation
from .cell_gradients import CellGradients, State, WeightGradients, cell_gradients, gradient_arrays
from .weights import ROWS, CoreCell, sizes_of


class Cell(Attributes, CellArguments):
    """A recurrent cell run over a whole sequence; the instances are documented one by one."""

    _fixed = frozenset({"name", "gates", "states", "__name__", "__doc__"})
    _instead = "all callers share the cell"
    _gradient_names: ClassVar[list[str]] = ["x", "state", "w_ih", "w_hh", "b_ih", "b_hh"]

    def __init__(self, name: str, core: CoreCell, row: _core.Cell, doc: str | None) -> None:
        super().__init__(name, core, row)
        self.__name__ = name
        self.__doc__ = doc

    def __repr__(self) -> str:
        return f"<fastrnn.{self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _cell, (self.name,)

    def __call__(
        self,
        x: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array | None = None,
        b_hh: Array | None = None,
        state: State = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        reverse: bool = False,
    ) -> tuple[Array, State]:
        """Inference; see the class."""
        y, final, _ = self._run(x, (w_ih, w_hh, b_ih, b_hh), state, (lengths, resets, reverse), training=False)
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
        lengths: Any = None,
        resets: Any = None,
        reverse: bool = False,
        checkpoint: int | None = None,
    ) -> tuple[Array, State, Tape]:
        """Training: like the call, but with a tape for ``backward``.

        Parameters
        ----------
        x, w_ih, w_hh, b_ih, b_hh, state, lengths, resets, reverse : as for the call
            The call itself is for inference.
        checkpoint : int, optional
            Keep only the states of every n-th step; ``backward`` recomputes the rest, with the same bits.

        Returns
        -------
        y, state
            As from the call.
        tape : Tape
            Refers to x, state and y, which must not change before ``backward``; y is read-only for that reason. A write
            to x or state is not detected and gives wrong gradients.

        Raises
        ------
        TypeError, ValueError, OverflowError
            As the call does.
        """
        y, final, tape = self._run(
            x, (w_ih, w_hh, b_ih, b_hh), state, (lengths, resets, reverse), training=True, checkpoint=checkpoint
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
        wanted: Collection[str] = ("x", "state", "w_ih", "w_hh", "b_ih", "b_hh"),
        into: WeightGradients | Mapping[str, Array] | None = None,
    ) -> CellGradients:
        """Gradients of ``sum(dy * y) + sum(dstate * state)``.

        Parameters
        ----------
        tape : Tape
            From ``forward`` of the same cell; may be used any number of times. Backward reads forward's x and state
            again: a write to x in between changes the gradient of w_ih, and with checkpoints every gradient; a write to
            the state changes the gradients of first steps.
        dy : ndarray (T, B, H), optional
            The default is zero.
        dstate : as the state, optional
            For the LSTM a pair; either member may be None. The default is zero.
        truncation : int or pair of int (k1, k2), optional
            Truncated backpropagation through time (Williams & Peng 1990). The steps of each sequence, in the order in
            which they run, are cut into loss windows of k1 steps (the last may be shorter). The gradient of a window's
            part of the loss, with ``dstate`` in the last window, goes back through at most k2 >= k1 steps, counted from
            the end of its k1 steps. The state before that is a constant. k means (k, k): a loop over windows of k steps
            with the state carried on. None means all steps.
        wanted : collection of str
            The gradients to compute, out of x, state, w_ih, w_hh, b_ih, b_hh.
        into : WeightGradients, or mapping of parameters' names to ndarray, optional
            Arrays to which the parameter gradients are added. The default is new arrays.

        Returns
        -------
        CellGradients
            With None for each gradient that is not wanted.

        Raises
        ------
        TypeError, ValueError
            For arguments of another kind, dtype or shape, and for another cell's tape.
        """
        return self._gradients(tape, dy, dstate, truncation, wanted, into)

    def _gradients(
        self,
        tape: Tape,
        dy: Any,
        dstate: State,
        truncation: Any,
        wanted: Collection[str],
        into: WeightGradients | Mapping[str, Array] | None,
    ) -> CellGradients:
        """See `backward`."""
        self._check_tape(tape)
        plan, dtype = tape.plan, tape.arrays.dtype
        T, B, H = plan.T, plan.B, plan.H
        wanted = _check.names("wanted", wanted, self._gradient_names)
        if dy is not None:
            dy = _check.array("dy", dy, dtype)
            _check.shape("dy", dy, "(T, B, H)", (T, B, H))
        d_final = self._states("dstate", dstate, dtype, B, H)
        window = _check.truncation("truncation", truncation)
        gradients, d_inputs = gradient_arrays(self._row, tape, wanted, into), None
        if tape.given is not None and "inputs" in wanted and any(self._row.input_gradients):
            d_inputs = tape.given.new_gradients(tape, self._row.input_gradients)
        dx, d_initial = plan.backward(
            tape, dy, d_final, gradients, window, wants_x="x" in wanted, wants_states="state" in wanted,
            overwrite=into is None, d_inputs=d_inputs,
        )  # fmt: skip
        return cell_gradients(self._row, dx, self._public(d_initial), gradients, d_inputs)

    def _run(
        self,
        x: Any,
        weights: tuple[Any, ...],
        state: State,
        order: tuple[Any, ...],
        *,
        training: bool,
        checkpoint: Any = None,
        given: tuple[Any, Any] | None = None,
    ) -> tuple[Array, State, Tape | None]:
        lengths, resets, reverse = order
        reverse = _check.boolean("reverse", reverse)
        network, initial = self._accepted(x, weights, state, reverse)
        if network is None:
            x, weights, initial = self._checked(x, weights, state)
            network = self._network(x.dtype, *sizes_of(self._core, weights), reverse)
        steps = None if given is None else self._given(*given, x, network.H)
        plan, starting = network.order(self, x, lengths, resets)
        n = None if checkpoint is None else _check.integer("checkpoint", checkpoint, 1)
        parameters = [*weights]
        packed = network.packed_of(plan, parameters, training) if n is None else (None, None)
        y, final, tape = plan.forward(
            network.batched, x, initial, parameters, *packed, None, n, self, training, True, starting, steps
        )
        return y, self._public(final), tape

    def _check_tape(self, tape: Any) -> None:
        if not isinstance(tape, Tape):
            raise TypeError(f"tape: expected a Tape, got {type(tape).__name__}")
        if tape.owner is not self:
            raise ValueError(f"tape: expected one of {self.name}, got one of {tape.plan.like.name}")


CELLS = {name: Cell(name, name, row, documentation(name, row)) for name, row in ROWS.items()}


def _cell(name: str) -> Cell:
    return CELLS[name]


lstm = CELLS["lstm"]
gru = CELLS["gru"]
rnn_tanh = CELLS["rnn_tanh"]
rnn_relu = CELLS["rnn_relu"]

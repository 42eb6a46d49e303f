"""One layer in one direction, on plain arrays: `lstm`, `gru`, `rnn_tanh`, `rnn_relu`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _check, _core, memory
from ._accept import Network
from ._check import Array
from ._kernel import WeightGradients, Weights
from ._plan import Tape
from .attributes import Attributes
from .schedule import Batch

State = Any  # an array (B, H); for the LSTM a pair of them

_EQUATIONS = {
    "lstm": """\
        i, f, g, o = w_ih x[t] + b_ih + w_hh h[t-1] + b_hh,  in four parts
        c[t] = sigmoid(f) * c[t-1] + sigmoid(i) * tanh(g)
        h[t] = sigmoid(o) * tanh(c[t])

    from Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000), as in ``torch.nn.LSTM``.""",
    "gru": """\
        r = sigmoid(w_ir x[t] + b_ir + w_hr h[t-1] + b_hr)
        z = sigmoid(w_iz x[t] + b_iz + w_hz h[t-1] + b_hz)
        n = tanh(w_in x[t] + b_in + r * (w_hn h[t-1] + b_hn))
        h[t] = (1 - z) * n + z * h[t-1]

    from Cho et al. (2014), with the reset gate after the product, as in ``torch.nn.GRU``.""",
    "rnn_tanh": """\
        h[t] = tanh(w_ih x[t] + b_ih + w_hh h[t-1] + b_hh)

    from Elman (1990), as in ``torch.nn.RNN``.""",
    "rnn_relu": """\
        h[t] = max(w_ih x[t] + b_ih + w_hh h[t-1] + b_hh, 0)

    from Elman (1990) with rectified units, as in ``torch.nn.RNN(nonlinearity="relu")``.""",
}

_DOC = """{title}: one layer in one direction, on plain arrays.

    Computes, for every step t,

{equations}

    Call it for inference; call ``forward`` and then ``backward`` for training. G, the number of gates, is {gates}.

    Parameters
    ----------
    x : ndarray (T, B, I), float32 or float64
        T time steps of B sequences. Any strides, as long as the last axis is contiguous.
    w_ih : ndarray (G*H, I)
        Weights of x in torch's layout and gate order, of the dtype of x.
    w_hh : ndarray (G*H, H)
        Weights of the state, likewise.
    b_ih, b_hh : ndarray (G*H,), optional
        Biases. The default is zero.
    state : {state}, optional
        The state before the first step. The default is zero.
    lengths : array of int (B,), optional
        The number of steps of each sequence, 0 … T in any order. Steps beyond are neither read nor computed.
    resets : array of bool (T, B), optional
        Where True, an episode starts: the state is zeroed before this step, and no gradient passes. Also in the reverse
        direction, no state passes between step t - 1 and a reset step t.
    reverse : bool
        Run from the last step to the first; y keeps the order of x.

    Returns
    -------
    y : ndarray (T, B, H)
        Zero beyond a sequence's end.
    state : as the argument
        After each sequence's own last step.

    Raises
    ------
    TypeError
        For another kind or dtype; dtypes are never mixed or cast.
    ValueError
        For another shape.
    OverflowError
        If the arrays would exceed the address space.
    """


@dataclass(frozen=True, eq=False)
class CellGradients:
    """Gradients of one layer in one direction; None for a gradient that is not wanted or has no argument."""

    x: Array | None
    state: State
    w_ih: Array | None
    w_hh: Array | None
    b_ih: Array | None
    b_hh: Array | None


class Cell(Attributes):
    """A recurrent cell that runs over a whole sequence; each instance has its own documentation."""

    _fixed = frozenset({"name", "gates", "states", "__name__", "__doc__"})
    _instead = "all callers share the cell"

    def __init__(self, name: str, row: _core.Cell) -> None:
        self.name, self.gates, self.states = name, row.gates, row.states
        self.__name__ = name
        several = f"{'pair' if len(row.states) == 2 else 'tuple'} of ndarray (B, H): {' and '.join(row.states)}"
        state = several if len(row.states) > 1 else "ndarray (B, H)"
        title, equations = name.split("_", 1)[0].upper(), _EQUATIONS.get(name, f"        csrc/kernels/cells: {name}")
        self.__doc__ = _DOC.format(title=title, equations=equations, gates=row.gates, state=state)

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
        into: WeightGradients | None = None,
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
        into : WeightGradients, optional
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
        self._check_tape(tape)
        plan, dtype = tape.plan, tape.arrays.dtype
        T, B, H = plan.T, plan.B, plan.H
        wanted = _check.names("wanted", wanted, list(CellGradients.__annotations__))
        if dy is not None:
            dy = _check.array("dy", dy, dtype)
            _check.shape("dy", dy, "(T, B, H)", (T, B, H))
        d_final = self._states("dstate", dstate, dtype, B, H)
        window = _check.truncation("truncation", truncation)
        gradients = self._gradient_arrays(tape, wanted, into)
        dx, d_initial = plan.backward(
            tape, dy, d_final, gradients, window, wants_x="x" in wanted, wants_states="state" in wanted,
            overwrite=into is None,
        )  # fmt: skip
        return CellGradients(dx, self._public(d_initial), *gradients)

    def _run(
        self,
        x: Any,
        weights: tuple[Any, ...],
        state: State,
        order: tuple[Any, ...],
        *,
        training: bool,
        checkpoint: Any = None,
    ) -> tuple[Array, State, Tape | None]:
        lengths, resets, reverse = order
        reverse = _check.boolean("reverse", reverse)
        network, initial = self._accepted(x, weights, state, reverse)
        if network is None:
            x, weights, initial = self._checked(x, weights, state)
            network = self._network(x.dtype, x.shape[2], weights[1].shape[1], reverse)
        T, B = x.shape[:2]
        plan, starting = network.dense_plan(T, B), None
        if lengths is not None or resets is not None:
            lengths = _check.lengths("lengths", lengths, T, B)
            batch = Batch(T, B, lengths, _check.resets("resets", resets, "(T, B)", (T, B)), reverse)
            plan, starting = network.plan_of_batches((batch,))
        n = None if checkpoint is None else _check.integer("checkpoint", checkpoint, 1)
        y, final, tape = plan.forward(
            network.batched, x, initial, [*weights], None, None, None, n, self, training, True, starting
        )
        return y, self._public(final), tape

    def _accepted(
        self, x: Any, weights: tuple[Any, ...], state: State, reverse: bool
    ) -> tuple[Network | None, tuple[Array | None, ...]]:
        """The sizes and the states if the core can read all arguments; otherwise None."""
        w_hh, initial = weights[1], state
        if state is None:
            initial = (None,) * len(self.states)
        elif len(self.states) == 1:
            initial = (state,)
        elif type(state) is not tuple:
            initial = ()
        if type(x) is not np.ndarray or type(w_hh) is not np.ndarray or x.ndim != 3 or w_hh.ndim != 2:
            return None, ()
        if len(initial) != len(self.states) or x.dtype.char not in "fd":
            return None, ()
        network = self._network(x.dtype, x.shape[2], w_hh.shape[1], reverse)
        return (network if network.accepts(x, weights, initial) else None), initial

    def _network(self, dtype: np.dtype[Any], I: int, H: int, reverse: bool) -> Network:
        """The network of these sizes; the networks of the last calls are cached."""
        key = self.name, dtype, I, H, reverse
        network = _networks.get(key)
        if network is None:
            if len(_networks) >= NETWORKS_MAX:
                _networks.clear()
            network = _networks[key] = Network(self.name, dtype, I, H, 1, (reverse,), "one")
        return network

    def _checked(
        self, x: Any, weights: tuple[Any, ...], state: State
    ) -> tuple[Array, Weights, tuple[Array | None, ...]]:
        """The same arguments in a form that the core can read, converted if needed."""
        w_ih, w_hh, b_ih, b_hh = weights
        dtype = _check.real_dtype("x", getattr(x, "dtype", None) or _check.unmasked("x", x).dtype)
        x = _check.array("x", x, dtype)
        _check.shape("x", x, "(T, B, I)", (None, None, None))
        w_hh = _check.array("w_hh", w_hh, dtype, "x")
        _check.shape("w_hh", w_hh, "(G*H, H)", (None, None))
        (_, B, I), H, G = x.shape, w_hh.shape[1], self.gates
        _check.shape("w_hh", w_hh, f"({G}*H, H)", (G * H, H))
        checked = _check_weights(dtype, w_ih, w_hh, b_ih, b_hh, G, I, H)
        return x, checked, self._states("state", state, dtype, B, H, "x")

    def _states(
        self, name: str, state: State, dtype: np.dtype[Any], B: int, H: int, dtype_of: str | None = None
    ) -> tuple[Array | None, ...]:
        count = len(self.states)
        if state is None:
            return (None,) * count
        names = [f"{name}[{j}]" for j in range(count)] if count > 1 else [name]
        members = _check.members(name, state, self.states)
        found: list[Array | None] = []
        for label, member in zip(names, members, strict=True):
            if member is not None:
                member = _check.array(label, member, dtype, dtype_of)
                _check.shape(label, member, "(B, H)", (B, H))
            found.append(member)
        return tuple(found)

    def _public(self, states: tuple[Array | None, ...]) -> State:
        return None if states[0] is None else states if len(states) > 1 else states[0]

    def _check_tape(self, tape: Any) -> None:
        if not isinstance(tape, Tape):
            raise TypeError(f"tape: expected a Tape, got {type(tape).__name__}")
        if tape.owner is not self:
            raise ValueError(f"tape: expected one of {self.name}, got one of {tape.plan.cell}")

    def _gradient_arrays(self, tape: Tape, wanted: Collection[str], into: WeightGradients | None) -> list[Array | None]:
        plan, dtype = tape.plan, tape.arrays.dtype
        rows = self.gates * plan.H
        shapes = {"w_ih": (rows, plan.I), "w_hh": (rows, plan.H), "b_ih": (rows,), "b_hh": (rows,)}
        arrays: list[Array | None] = []
        new = memory.empty if into is None else memory.zeros
        for name, given, exists in zip(shapes, into or WeightGradients(), tape.has_parameters, strict=True):
            if name not in wanted or not exists:
                arrays.append(None)
            elif given is None:
                arrays.append(new(shapes[name], dtype))
            else:
                arrays.append(_accumulator(f"into.{name}", given, dtype, shapes[name]))
        return arrays


def _accumulator(name: str, given: Any, dtype: np.dtype[Any], expected: tuple[int, ...]) -> Array:
    if not isinstance(given, np.ndarray):
        raise TypeError(f"{name}: expected an array, got {type(given).__name__}")
    _check.unmasked(name, given)
    if given.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, got {given.dtype}")
    _check.shape(name, given, "(G*H, n)" if len(expected) == 2 else "(G*H)", expected)
    if not (given.flags.c_contiguous and given.flags.writeable and given.flags.aligned):
        raise ValueError(f"{name}: expected a writeable C-contiguous array")
    return given


def _check_weights(
    dtype: np.dtype[Any], w_ih: Any, w_hh: Array, b_ih: Any, b_hh: Any, G: int, I: int, H: int
) -> Weights:
    w_ih = _check.array("w_ih", w_ih, dtype, "x")
    _check.shape("w_ih", w_ih, f"({G}*H, I)", (G * H, I))
    biases = []
    for name, bias in (("b_ih", b_ih), ("b_hh", b_hh)):
        if bias is not None:
            bias = np.ascontiguousarray(_check.array(name, bias, dtype, "x"))
            _check.shape(name, bias, f"({G}*H)", (G * H,))
        biases.append(bias)
    return Weights(np.ascontiguousarray(w_ih), np.ascontiguousarray(w_hh), *biases)


NETWORKS_MAX = 64
_networks: dict[Any, Network] = {}

CELLS = {name: Cell(name, row) for name, row in _core.cells().items()}


def _cell(name: str) -> Cell:
    return CELLS[name]


lstm = CELLS["lstm"]
gru = CELLS["gru"]
rnn_tanh = CELLS["rnn_tanh"]
rnn_relu = CELLS["rnn_relu"]

"""The arguments of a single-layer function: accepted by the core, converted, or refused with the argument's name."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from . import _check, _core
from ._accept import Network
from ._check import Array
from ._plan import Given
from .cell_gradients import State
from .given import checked_names, checked_options, input_columns
from .schedule import Batch
from .weights import CoreCell, Parameters

NETWORKS_MAX = 64


class _Networks(threading.local):
    """The networks of one Python thread."""

    def __init__(self) -> None:
        self.kept: dict[Any, Network] = {}


_networks = _Networks()


class CellArguments:
    """Weights and states of one layer in one direction."""

    def __init__(self, name: str, core: CoreCell, row: _core.Cell) -> None:
        self.name, self.gates, self.states, self._row, self._core = name, row.gates, row.states, row, core
        self._of_state = [one.columns[:1] for one in row.parameters].index("H")  # the first matrix of H columns

    def _checked_batches(
        self, T: int, B: int, lengths: Any, resets: Any, _unbatched: bool, directions: tuple[bool, ...]
    ) -> tuple[Batch, ...]:
        lengths = _check.lengths("lengths", lengths, T, B)
        resets = _check.resets("resets", resets, "(T, B)", (T, B))
        return tuple(Batch(T, B, lengths, resets, reverse) for reverse in directions)

    def _accepted(
        self, x: Any, weights: tuple[Any, ...], state: State, reverse: bool
    ) -> tuple[Network | None, tuple[Array | None, ...]]:
        """The sizes and the states, if all arguments are as the core reads them; else None."""
        initial = state
        if state is None:
            initial = (None,) * len(self.states)
        elif len(self.states) == 1:
            initial = (state,)
        elif type(state) is not tuple:
            initial = ()
        of_state = weights[self._of_state]
        if type(x) is not np.ndarray or type(of_state) is not np.ndarray or x.ndim != 3 or of_state.ndim != 2:
            return None, ()
        if len(initial) != len(self.states) or x.dtype.char not in "fd":
            return None, ()
        network = self._network(x.dtype, x.shape[2], of_state.shape[1] * self._row.heads, reverse)
        return (network if network.accepts(x, weights, initial) else None), initial

    def _network(self, dtype: np.dtype[Any], I: int, H: int, reverse: bool) -> Network:
        """That of these sizes; those of the last calls are kept."""
        key = self._core, dtype, I, H, reverse
        networks = _networks.kept
        network = networks.get(key)
        if network is None:
            if len(networks) >= NETWORKS_MAX:
                networks.clear()
            network = networks[key] = Network(self._core, dtype, I, H, 1, (reverse,), "one")
        return network

    def _checked(
        self, x: Any, weights: tuple[Any, ...], state: State
    ) -> tuple[Array, Parameters, tuple[Array | None, ...]]:
        """The same as the core reads them, converted if need be."""
        dtype = _check.real_dtype("x", getattr(x, "dtype", None) or _check.unmasked("x", x).dtype)
        x = _check.array("x", x, dtype)
        _check.shape("x", x, "(T, B, I)", (None, None, None))
        row = self._row.parameters[self._of_state]
        of_state = _check.array(row.name, weights[self._of_state], dtype, "x")
        _check.shape(row.name, of_state, f"(G*H, {row.columns})", (None, None))
        (_, B, I), H = x.shape, of_state.shape[1] * self._row.heads
        _check.shape(row.name, of_state, _letters(row), row.shape(I, H))
        checked = self._checked_weights(weights, dtype, I, H)
        return x, checked, self._states("state", state, dtype, B, H, "x")

    def _checked_weights(self, weights: tuple[Any, ...], dtype: np.dtype[Any], I: int, H: int) -> Parameters:
        found: list[Array | None] = []
        for one, given in zip(self._row.parameters, weights, strict=True):
            if given is None and not one.required:
                found.append(None)
                continue
            array = _check.array(one.name, given, dtype, "x")
            _check.shape(one.name, array, _letters(one), one.shape(I, H))
            found.append(np.ascontiguousarray(array))
        return tuple(found)

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

    def _given(self, inputs: Any, options: Any, x: Array, H: int) -> Given | None:
        """The inputs of each step (T, B, H) or (T, B, 1) and the options, by name; None for a cell without any."""
        numbers = checked_options("options", options, self._row)
        found: list[Array] = []
        for name, value in checked_names("inputs", inputs, self._row.inputs).items():
            columns, label = input_columns(self._row, name, H), f"inputs[{name!r}]"
            array = _check.array(label, value, x.dtype, "x")
            _check.shape(label, array, f"(T, B, {columns[0]})", (*x.shape[:2], columns[1]))
            found.append(array)
        return Given(found, numbers) if found or numbers else None

    def _public(self, states: tuple[Array | None, ...]) -> State:
        return None if states[0] is None else states if len(states) > 1 else states[0]


def _letters(parameter: _core.Parameter) -> str:
    """How the shape is written."""
    rows = f"{parameter.rows_per_unit}*H"
    return f"({rows}, {parameter.columns})" if parameter.columns else f"({rows})"

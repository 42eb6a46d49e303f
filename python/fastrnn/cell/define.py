"""`cell`: a step that is written in NumPy becomes a cell."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .derive import derive
from .program import Input, Option, State
from .trace import Tables, trace
from .verify_tables import MATRICES, RESERVED
from .written_cell import WrittenCell


def cell(
    *,
    gates: str | Sequence[str],
    states: str | Sequence[str] | Mapping[str, float] = "h",
    vectors: Sequence[str] = (),
    gate_vectors: Sequence[str] = (),
    inputs: Sequence[str] | Mapping[str, str] = (),
    input_gradients: Sequence[str] = (),
    options: Mapping[str, float] | None = None,
    name: str | None = None,
) -> Callable[[Callable[..., Any]], WrittenCell]:
    """Make a cell of one step, a plain function of NumPy operations.

    The step's parameters are found by name; it has those that it needs::

        @cell(gates="ifgo", states="hc", vectors=("p_i", "p_f", "p_o"))
        def peephole_lstm(a, s, v):
            i = fastrnn.sigmoid(a.i + v.p_i * s.c)
            f = fastrnn.sigmoid(a.f + v.p_f * s.c)
            c = f * s.c + i * np.tanh(a.g)
            o = fastrnn.sigmoid(a.o + v.p_o * c)
            h = o * np.tanh(c)
            return h, (h, c)

    - ``a``: pre-activations by gate. ``a.n`` is w_ih x + b_ih + w_hh h + b_hh, for the rows of gate n; its halves are
      ``a.input.n`` and ``a.state.n``. ``a.product.n(vector)`` is w_hh vector + b_hh: the state half with a vector that
      the step computed in place of h.
    - ``s``: states before the step. The first state is h, which w_hh multiplies.
    - ``v``: vectors, parameters with one number per unit.
    - ``x``: inputs of each step, for example masks.
    - ``o``: options, numbers that are constant for a call.

    A step returns its output and the tuple of its states after the step. It runs when the cell is defined, and where
    somebody calls the cell on arrays: then it is the plain function, with read-only arrays.

    Operations: ``+ - * /``, ``x**n`` for integers ``|n| <= 4``, comparisons with ``& | ~``, ``np.where``, ``exp``,
    ``expm1``, ``log``, ``log1p``, ``sqrt``, ``tanh``, ``abs``, ``sign``, ``maximum``, ``minimum``, ``clip``,
    ``square``, ``reciprocal``; `sigmoid`, `relu`, `softplus`, `log_sigmoid`; finite and infinite numbers. Sums over all
    units: ``np.sum`` and ``np.mean(x, axis=-1, keepdims=True)``, `layer_norm`, `rms_norm`. Numbers from outside the
    step are frozen.

    Parameters
    ----------
    gates : str or sequence of str
        In the order of the weights' rows; a string has one gate for each character.
    states : str, sequence of str, or mapping of str to float
        A string has one state for each character. A mapping has the start values, which are 0 otherwise.
    vectors : sequence of str
    gate_vectors : sequence of str
        Vectors for each gate: ``p`` declares ``p_i``, ``p_f``, …, and ``v.p`` has them as members ``i``, ``f``, ….
    inputs : sequence of str, or mapping of str to {"units", "one"}
        "units" (the default): one number per unit; "one": one number for all units.
    input_gradients : sequence of str
        The inputs that have a gradient.
    options : mapping of str to float
        With the defaults.
    name : str, optional
        The default is the function's name.

    Returns
    -------
    callable
        A decorator that turns the step into a `WrittenCell`.

    Raises
    ------
    TypeError
        For an operation that cannot be traced: the message names the line of the step and the replacement.
    ValueError
        For names that repeat or are not used, and for a step beyond the limits: 256 instructions, 32 live registers, 16
        saved vectors, 8 phases, 8 states, 8 gates.
    """
    rows = _some("gates", _names("gates", gates))
    for one in set(RESERVED) & set(rows):
        raise ValueError(f"gates: expected another name than {one}, since a.{one} has a meaning")
    grouped = [
        f"{one}_{gate}" for one in _names("gate_vectors", _listed("gate_vectors", gate_vectors)) for gate in rows
    ]
    units = _names("vectors", (*_listed("vectors", vectors), *grouped))
    for one in set(MATRICES) & set(units):
        raise ValueError(f"vectors: expected another name than {one}, which a parameter of every cell has")
    tables = Tables(
        "cell", rows, _states(states), units,
        _inputs(inputs, input_gradients), _options(options or {}),
    )  # fmt: skip

    def make(step: Callable[..., Any]) -> WrittenCell:
        if not callable(step) or isinstance(step, WrittenCell):
            raise TypeError(f"step: expected a function, got {type(step).__name__}")
        own = getattr(step, "__name__", "cell") if name is None else name
        named = replace(tables, name=own if own.isidentifier() else "cell")
        return WrittenCell(derive(trace(step, named)), step)

    return make


def _listed(kind: str, names: Any) -> Sequence[str]:
    """Names of several characters: a string would be its characters."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise TypeError(f"{kind}: expected a tuple of names, got {names!r}")
    return names


def _names(kind: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, Sequence):
        raise TypeError(f"{kind}: expected a sequence of names, got {type(names).__name__}")
    for one in names:
        if not isinstance(one, str):
            raise TypeError(f"{kind}: expected names, got {one!r}")
        if not one.isidentifier() or keyword.iskeyword(one) or one.startswith("_") or not one.isascii():
            raise ValueError(f"{kind}: expected names that begin with an ASCII letter, got {one!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{kind}: expected different names, got {tuple(names)}")
    return tuple(names)


def _some(kind: str, names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError(f"{kind}: expected at least one name")
    return names


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{where}: expected a number, got {value!r}")
    if np.isnan(value):
        raise ValueError(f"{where}: expected a finite or infinite number, got NaN")
    return float(value)


def _states(states: Any) -> tuple[State, ...]:
    starts = states if isinstance(states, Mapping) else dict.fromkeys(_names("states", states), 0.0)
    return tuple(
        State(one, _number(f"states.{one}", starts[one])) for one in _some("states", _names("states", tuple(starts)))
    )


def _inputs(inputs: Any, gradients: Any) -> tuple[Input, ...]:
    columns = (
        inputs if isinstance(inputs, Mapping) else dict.fromkeys(_names("inputs", _listed("inputs", inputs)), "units")
    )
    moved = _names("input_gradients", _listed("input_gradients", gradients))
    for one in moved:
        if one not in columns:
            raise ValueError(f"input_gradients: expected names of inputs, got {one}")
    for one, width in columns.items():
        if width not in ("units", "one"):
            raise ValueError(f'inputs.{one}: expected "units" or "one", got {width!r}')
    return tuple(Input(one, columns[one], one in moved) for one in _names("inputs", tuple(columns)))


def _options(options: Any) -> tuple[Option, ...]:
    if not isinstance(options, Mapping):
        raise TypeError(f"options: expected a mapping of names to numbers, got {type(options).__name__}")
    return tuple(Option(one, _number(f"options.{one}", options[one])) for one in _names("options", tuple(options)))

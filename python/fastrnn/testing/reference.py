"""The reference for the kernels: the programs of the compiled cells, forward only, in NumPy.

Every function works on real and on complex arrays and in any precision, so the complex step gives gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _check
from ..cell import interpret
from ..cell.library.shipped import SHIPPED

_Array = NDArray[Any]

GATES = {name: len(cell.program.gates) for name, cell in SHIPPED.items()}


def step(cell: str, gx: _Array, gh: _Array, h: _Array, c: _Array) -> tuple[_Array, _Array]:
    """One step of a cell.

    Parameters
    ----------
    cell : {"rnn_tanh", "rnn_relu", "lstm", "gru"}
    gx, gh : ndarray (B, G*H)
        w_ih x + b_ih and w_hh h + b_hh.
    h, c : ndarray (B, H)
        Before the step.

    Returns
    -------
    h, c : ndarray (B, H)
        After the step. Cells without c pass c through.
    """
    program, G = SHIPPED[cell].program, GATES[cell]
    reads = {"before.h": h, "before.c": c}
    for gate, x_gate, h_gate in zip(program.gates, np.split(gx, G, -1), np.split(gh, G, -1), strict=True):
        reads |= {f"gate.{gate}": x_gate + h_gate, f"gate_input.{gate}": x_gate, f"gate_state.{gate}": h_gate}
    found = interpret.forward(program, reads, _no_product)
    return found["after.h"], found.get("after.c", c)


def _no_product(number: int, vector: _Array) -> _Array:
    raise AssertionError(f"no compiled cell has a product {number} of a vector {vector.shape}")


def _cuts(resets: _Array | None, T: int, B: int, reverse: bool) -> _Array:
    """(T, B, 1): whether the state is zeroed before a step, in the order in which steps run."""
    cuts = np.zeros((T, B, 1), bool)
    if resets is not None and reverse:
        cuts[:-1, :, 0] = resets[1:]
    elif resets is not None:
        cuts[..., 0] = resets
    return cuts


def layer(
    cell: str,
    x: _Array,
    w_ih: _Array,
    w_hh: _Array,
    b_ih: _Array,
    b_hh: _Array,
    h0: _Array,
    c0: _Array,
    *,
    reverse: bool = False,
    lengths: _Array | None = None,
    resets: _Array | None = None,
) -> tuple[_Array, _Array, _Array]:
    """One layer in one direction.

    Parameters
    ----------
    cell : {"rnn_tanh", "rnn_relu", "lstm", "gru"}
    x : ndarray (T, B, I)
    w_ih, w_hh, b_ih, b_hh : ndarray (G*H, I), (G*H, H), (G*H,), (G*H,)
    h0, c0 : ndarray (B, H)
        Cells without c pass c0 through.
    reverse : bool
        Whether steps run from the last to the first.
    lengths : ndarray (B,), optional
    resets : ndarray of bool (T, B), optional
        As for the layers: no state passes between step t - 1 and a reset step t.

    Returns
    -------
    y : ndarray (T, B, H)
        Zero beyond a sequence's end.
    h_n, c_n : ndarray (B, H)

    Raises
    ------
    TypeError
        For a masked array.
    """
    arrays = {"x": x, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "h0": h0, "c0": c0}
    for name, array in (arrays | {"lengths": lengths, "resets": resets}).items():
        _check.unmasked(name, array)
    T, B = x.shape[:2]
    h, c = h0, c0
    y = np.zeros((T, B, w_hh.shape[1]), np.result_type(x, w_ih, w_hh, b_ih, b_hh, h0, c0))
    ends = np.full((B, 1), T) if lengths is None else np.asarray(lengths)[:, None]
    cuts = _cuts(resets, T, B, reverse)
    for t in reversed(range(T)) if reverse else range(T):
        # A reverse sequence starts at its own last step, so resets beyond it cut nothing.
        active, cut = t < ends, cuts[t] & ((t + 1 < ends) if reverse else True)
        x_t = np.where(active, x[t], 0)
        h_prev, c_prev = np.where(cut, 0, h), np.where(cut, 0, c)
        h_t, c_t = step(cell, x_t @ w_ih.T + b_ih, h_prev @ w_hh.T + b_hh, h_prev, c_prev)
        h, c = np.where(active, h_t, h), np.where(active, c_t, c)
        y[t] = np.where(active, h, 0)
    return y, h, c


def stack(
    cell: str,
    x: _Array,
    parameters: dict[str, _Array],
    h0: _Array,
    c0: _Array,
    num_layers: int,
    bidirectional: bool,
    *,
    lengths: _Array | None = None,
    resets: _Array | None = None,
) -> tuple[_Array, _Array, _Array]:
    """A stack of layers, as `layer`.

    Parameters
    ----------
    cell, x, lengths, resets
        As for `layer`.
    parameters : dict of str to ndarray
        By torch's names; biases may be absent.
    h0, c0 : ndarray (num_layers*D, B, H)
    num_layers : int
    bidirectional : bool
        If True, D is 2, otherwise 1.

    Returns
    -------
    y : ndarray (T, B, D*H)
    h_n, c_n : ndarray (num_layers*D, B, H)
    """
    finals: list[tuple[_Array, _Array]] = []
    for number in range(num_layers):
        halves = []
        for direction in ("", "_reverse")[: 1 + bidirectional]:
            suffix, j = f"l{number}{direction}", len(finals)
            w_ih, w_hh = parameters[f"weight_ih_{suffix}"], parameters[f"weight_hh_{suffix}"]
            zero = np.zeros(len(w_ih))
            biases = parameters.get(f"bias_ih_{suffix}", zero), parameters.get(f"bias_hh_{suffix}", zero)
            order: dict[str, Any] = {"reverse": bool(direction), "lengths": lengths, "resets": resets}
            y, h, c = layer(cell, x, w_ih, w_hh, *biases, h0[j], c0[j], **order)
            halves.append(y)
            finals.append((h, c))
        x = np.concatenate(halves, axis=-1)
    return x, np.stack([h for h, _ in finals]), np.stack([c for _, c in finals])

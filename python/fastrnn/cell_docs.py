"""The docstrings of cells: their equations and arguments."""

from __future__ import annotations

from . import _core

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
        Biases; zero when left out.
    state : {state}, optional
        Before the first step; zero when left out.
    lengths : array of int (B,), optional
        The steps that each sequence has, 0 … T in any order. What lies beyond is neither read nor computed.
    resets : array of bool (T, B), optional
        Where True, an episode starts: the state is zeroed before this step, and no gradient passes. In the reverse
        direction too, no state passes between step t - 1 and a step t that is reset.
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


def documentation(name: str, row: _core.Cell) -> str:
    """The docstring of a cell of the registry."""
    several = f"{'pair' if len(row.states) == 2 else 'tuple'} of ndarray (B, H): {' and '.join(row.states)}"
    state = several if len(row.states) > 1 else "ndarray (B, H)"
    title, equations = name.split("_", 1)[0].upper(), _EQUATIONS.get(name, f"        csrc/kernels/cells: {name}")
    return _DOC.format(title=title, equations=equations, gates=row.gates, state=state)

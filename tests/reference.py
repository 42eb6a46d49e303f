"""What the kernels are compared with: the equations of docs/math.md, forward only, in NumPy.

Every function works on real and on complex arrays, so that gradients come from it by the complex step, and in any
precision.
"""

import numpy as np

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}


def sigmoid(a):
    return (np.tanh(a / 2) + 1) / 2


def rnn_tanh(gx, gh, h, c):
    return np.tanh(gx + gh), c


def rnn_relu(gx, gh, h, c):
    a = gx + gh
    return np.where(a.real > 0, a, 0), c


def lstm(gx, gh, h, c):
    i, f, g, o = np.split(gx + gh, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(gx, gh, h, c):
    x_r, x_z, x_n = np.split(gx, 3, axis=-1)
    h_r, h_z, h_n = np.split(gh, 3, axis=-1)
    r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
    n = np.tanh(x_n + r * h_n)
    return (1 - z) * n + z * h, c


STEPS = {"rnn_tanh": rnn_tanh, "rnn_relu": rnn_relu, "lstm": lstm, "gru": gru}


def layer(cell, x, w_ih, w_hh, b_ih, b_hh, h0, c0, reverse=False):
    """One layer in one direction: y (T, B, H), h_n, c_n."""
    h, c = h0, c0
    y = np.zeros((*x.shape[:2], w_hh.shape[1]), np.result_type(x, w_ih, w_hh, b_ih, b_hh, h0, c0))
    steps = range(len(x))
    for t in reversed(steps) if reverse else steps:
        h, c = STEPS[cell](x[t] @ w_ih.T + b_ih, h @ w_hh.T + b_hh, h, c)
        y[t] = h
    return y, h, c


def stack(cell, x, parameters, h0, c0, num_layers, bidirectional):
    """A stack of layers, parameters by torch's names: y (T, B, D*H), h_n and c_n (num_layers*D, B, H)."""
    finals = []
    for number in range(num_layers):
        halves = []
        for direction in ("", "_reverse")[: 1 + bidirectional]:
            suffix, j = f"l{number}{direction}", len(finals)
            w_ih, w_hh = parameters[f"weight_ih_{suffix}"], parameters[f"weight_hh_{suffix}"]
            zero = np.zeros(len(w_ih))
            biases = parameters.get(f"bias_ih_{suffix}", zero), parameters.get(f"bias_hh_{suffix}", zero)
            y, h, c = layer(cell, x, w_ih, w_hh, *biases, h0[j], c0[j], reverse=bool(direction))
            halves.append(y)
            finals.append((h, c))
        x = np.concatenate(halves, axis=-1)
    return x, np.stack([h for h, _ in finals]), np.stack([c for _, c in finals])

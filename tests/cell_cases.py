"""Cells as tests use them: three that prove the design, arrays for any cell, and the complex-step derivative."""

import numpy as np
from fastrnn.cell import loop
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import log_sigmoid, relu, sigmoid
from fastrnn.cell.library.elman import rnn_relu, rnn_tanh
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm
from fastrnn.cell.norms import layer_norm

STEP = 1e-30


@cell(gates="ifgo", states="hc", vectors=("p_i", "p_f", "p_o"))
def peephole_lstm(a, s, v):
    """Gers & Schmidhuber (2000): i and f see the cell state before the step, o sees it after the step."""
    i = sigmoid(a.i + v.p_i * s.c)
    f = sigmoid(a.f + v.p_f * s.c)
    c = f * s.c + i * np.tanh(a.g)
    o = sigmoid(a.o + v.p_o * c)
    h = o * np.tanh(c)
    return h, (h, c)


@cell(gates="rzn")
def reset_before_gru(a, s):
    """Cho et al. (2014) as they wrote it: the reset gate acts before the recurrent product."""
    r = sigmoid(a.r)
    z = sigmoid(a.z)
    n = np.tanh(a.input.n + a.product.n(r * s.h))
    h = n + z * (s.h - n)
    return h, (h,)


@cell(gates="ifgo", states="hc", vectors=("gamma", "beta"), gate_vectors=("gamma_x", "gamma_r", "bias"))
def layer_norm_lstm(a, s, v):
    """Ba, Kiros & Hinton (2016), as haste has it: norms over 4H of both products, c carried plain."""
    x = layer_norm(a.input, v.gamma_x)
    r = layer_norm(a.state, v.gamma_r)
    i = sigmoid(x.i + r.i + v.bias.i)
    f = sigmoid(x.f + r.f + v.bias.f)
    g = np.tanh(x.g + r.g + v.bias.g)
    o = sigmoid(x.o + r.o + v.bias.o)
    c = f * s.c + i * g
    h = o * np.tanh(layer_norm(c, v.gamma, v.beta))
    return h, (h, c)


@cell(gates="zn")
def min_gru(a, s):
    """Feng et al. (2024): gates of the input alone, no recurrent product."""
    z = sigmoid(a.input.z)
    h = s.h + z * (np.tanh(a.input.n) - s.h)
    return h, (h,)


@cell(gates="a", vectors=("u",))
def ind_rnn(a, s, v):
    """Li et al. (2018): the recurrent weight is a vector."""
    h = relu(a.input.a + v.u * s.h)
    return h, (h,)


@cell(gates="xfr", states=("c",), vectors=("v_f", "v_r"))
def sru(a, s, v):
    """Lei et al. (2018): a highway output that is no state."""
    f = sigmoid(a.input.f + v.v_f * s.c)
    r = sigmoid(a.input.r + v.v_r * s.c)
    c = f * s.c + (1 - f) * a.input.x
    return r * np.tanh(c) + (1 - r) * a.input.x, (c,)


@cell(gates="ifgo", states="hc", inputs=("keep_h", "keep_c"), input_gradients=("keep_h", "keep_c"))
def zoneout_lstm(a, s, x):
    """Krueger et al. (2017): units keep their states; the output is h without zoneout."""
    c = sigmoid(a.f) * s.c + sigmoid(a.i) * np.tanh(a.g)
    h = sigmoid(a.o) * np.tanh(c)
    return h, (x.keep_h * s.h + (1 - x.keep_h) * h, x.keep_c * s.c + (1 - x.keep_c) * c)


@cell(gates="ifzo", states={"h": 0, "c": 0, "n": 0, "m": -np.inf})
def s_lstm(a, s):
    """Beck et al. (2024): exponential gates, with the stabiliser m that starts at -inf."""
    m = np.maximum(log_sigmoid(a.f) + s.m, a.i)
    i, f = np.exp(a.i - m), np.exp(log_sigmoid(a.f) + s.m - m)
    c = f * s.c + i * np.tanh(a.z)
    n = f * s.n + i
    h = sigmoid(a.o) * c / np.maximum(n, 1e-3)
    return h, (h, c, n, m)


OTHERS = (min_gru, ind_rnn, sru, zoneout_lstm, s_lstm)
SHIPPED = (lstm, gru, rnn_tanh, rnn_relu)
PROOF = (peephole_lstm, reset_before_gru, layer_norm_lstm)


def layer_arrays(program, T, B, I, H, seed=0, dtype=np.float64):
    """All arguments of a layer by name: x, weights, `vector.p`, `initial.h`, `input.m`."""
    rng = np.random.default_rng(seed)
    G = len(program.gates)
    shapes = {"x": (T, B, I), "w_ih": (G * H, I), "w_hh": (G * H, H), "b_ih": (G * H,), "b_hh": (G * H,)}
    shapes |= {f"vector.{name}": (H,) for name in program.vectors}
    shapes |= {f"initial.{one.name}": (B, H) for one in program.states}
    shapes |= {f"input.{one.name}": (T, B, H if one.columns == "units" else 1) for one in program.inputs}
    scale = {"w_ih": 1 / np.sqrt(I + H), "w_hh": 1 / np.sqrt(I + H)}
    return {k: (rng.standard_normal(shape) * scale.get(k, 1)).astype(dtype) for k, shape in shapes.items()}


def _part(arrays, kind):
    return {name.partition(".")[2]: one for name, one in arrays.items() if name.startswith(f"{kind}.")}


def run_layer(program, arrays):
    weights = loop.Weights(*(arrays[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")), _part(arrays, "vector"))
    return loop.forward(program, arrays["x"], weights, _part(arrays, "initial"), _part(arrays, "input"))


def named_gradients(found):
    """Gradients of a layer by the names of `layer_arrays`."""
    names = ("w_ih", "w_hh", "b_ih", "b_hh")
    gradients = {"x": found.x} | {name: getattr(found.weights, name) for name in names}
    gradients |= {f"vector.{name}": one for name, one in found.weights.vectors.items()}
    gradients |= {f"initial.{name}": one for name, one in found.initial.items()}
    return gradients | {f"input.{name}": one for name, one in found.inputs.items()}


def assert_layer_gradients(written, T=4, B=3, I=2, H=5, seed=0, **replaced):
    """The gradients of several steps are the complex-step derivative of sum(dy*y) + sum(d_final*final)."""
    program, rng = written.program, np.random.default_rng(seed + 1)
    arrays = layer_arrays(program, T, B, I, H, seed) | replaced
    record = run_layer(program, arrays)
    dy = rng.standard_normal(record.y.shape)
    d_final = {name: rng.standard_normal((B, H)) for name in record.final}
    for name, found in named_gradients(loop.backward(record, dy, d_final)).items():
        direction = rng.standard_normal(found.shape)
        moved = run_layer(program, arrays | {name: arrays[name] + 1j * STEP * direction})
        loss = (dy * moved.y).sum() + sum((d_final[n] * one).sum() for n, one in moved.final.items())
        size = max(1, np.abs(found).max()) * np.sqrt(found.size)
        np.testing.assert_allclose((found * direction).sum(), loss.imag / STEP, rtol=0, atol=1e-12 * size, err_msg=name)

"""Written cells beyond the compiled ones, drawn problems for them, and their reference: the NumPy loop."""

from dataclasses import dataclass, replace

import numpy as np
from cell_cases import OTHERS, SHIPPED, layer_norm_lstm, peephole_lstm, reset_before_gru
from cell_strategies import SUMS, plans
from cell_strategies import Drawn as DrawnCell
from fastrnn._program import CellProgram
from fastrnn.cell import loop
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import log_sigmoid, relu, sigmoid, softplus
from fastrnn.cell.lower import lower
from fastrnn.cell.norms import layer_norm, rms_norm
from hypothesis import strategies as st


@cell(
    gates="a", states={"h": 0.5, "c": -0.25}, inputs={"mask": "units", "gain": "one"},
    input_gradients=("mask", "gain"), options={"leak": 0.75},
)  # fmt: skip
def masked(a, s, x, o):
    """Inputs of each step, an option, and start values."""
    c = o.leak * s.c + x.gain * np.tanh(a.a)
    h = x.mask * np.tanh(c) + (1 - x.mask) * s.h
    return h, (h, c)


@cell(gates="pqrst", states={"h": 0.0, "m": -np.inf, "c": 1.0}, vectors=("scale",))
def own_output(a, s, v):
    """Five gates, two of them apart, a state that starts at -inf, and an output that is no state.

    A state is read after its successor is computed, so the successor has to wait.
    """
    m = np.maximum(log_sigmoid(a.p), s.m - 1)
    q = np.tanh(a.input.q * a.state.q)
    r = sigmoid(a.state.r + v.scale * a.input.r)
    c = r * s.c + q * softplus(a.s)
    h = np.tanh(c) * sigmoid(a.t)
    y = h + np.where(a.s > 0, s.c, 2 * c) - np.exp(np.minimum(s.m, 0)) + relu(m + 1)
    return y, (h, m, c)


@cell(gates="a")
def input_half(a):
    """The half of a single gate that comes from the input."""
    h = np.where(a.state.a < 2, a.input.a, a.state.a)
    return h, (h,)


@cell(gates="ab", states={"h": 0.0, "c": 0.5}, vectors=("gain",), inputs=("mask",), input_gradients=("mask",))
def normed(a, s, v, x):
    """Four phases: a norm, a softmax over units and a mean. The last phase reads the state that c replaces."""
    c = 0.5 * s.c + rms_norm(a.a * x.mask, v.gain, eps=0.1)
    e = np.exp(np.minimum(c, 2))
    share = e / np.sum(e, axis=-1, keepdims=True)
    h = np.tanh(a.b + c * share - np.mean(share * s.h, axis=-1, keepdims=True))
    return share + h * s.c, (h, c)


@cell(gates="pqr", states={"h": 0.5, "c": -0.25}, vectors=("gain",))
def two_products(a, s, v):
    """Second products one after the other, of vectors that are no products of other vectors; h multiplies one gate.

    The second reads the first, which feeds a sum over units as well.
    """
    p = sigmoid(a.p)
    q = np.tanh(a.input.q + a.product.q(np.tanh(p * s.c)))
    r = a.input.r * a.product.r(q * s.h)
    c = p * s.c + v.gain * rms_norm(q + r, eps=0.1)
    return np.tanh(c) * p, (np.tanh(r) + 0.5 * s.h, c)


@cell(gates="ab")
def crossing_masks(a, s):
    """Masks of the first phase that later phases read, forward and backward."""
    positive, low = a.a > 0, s.h < -0.25
    t = np.tanh(a.b + np.mean(a.a, axis=-1, keepdims=True))
    u = np.where(positive & ~low, t, 0.5 * t) - np.mean(t * s.h, axis=-1, keepdims=True)
    h = np.where(positive | low, np.tanh(u), 0.5 * s.h)
    return h, (h,)


@cell(gates="ab")
def products_alone(a, s):
    """No product of h."""
    h = np.tanh(a.input.a + a.product.a(s.h * s.h)) * sigmoid(a.input.b)
    return h, (h,)


@cell(gates="ab", states={"h": 0.0, "c": 0.5}, vectors=("gain",))
def normed_by_head(a, s, v):
    """Norms of each head, of one gate and of both together, and a mean of all units."""
    c = 0.5 * s.c + rms_norm(a.a, v.gain, eps=0.1, by_head=True)
    x = layer_norm(a.state, by_head=True)
    h = np.tanh(a.input.b + x.b + layer_norm(c * x.a, by_head=True) - np.mean(c, axis=-1, keepdims=True))
    return h, (h, c)


@cell(gates="a")
def head_alone(a):
    """Nothing crosses heads."""
    h = np.tanh(layer_norm(a.a, by_head=True))
    return h, (h,)


COMPILED = {one.program.name: CellProgram(lower(one.program)) for one in SHIPPED}
PROOF = (peephole_lstm, layer_norm_lstm, reset_before_gru)
MADE = (
    masked, own_output, input_half, normed, two_products, products_alone, crossing_masks, normed_by_head, head_alone,
)  # fmt: skip
WRITTEN = {one.program.name: one for one in (*PROOF, *OTHERS, *MADE)}


@st.composite
def one_phase_cells(draw):
    """A random cell of one phase."""
    plan = draw(plans())
    plan = replace(
        plan,
        halves="both" if plan.halves == "product" else plan.halves,
        operations=tuple(one for one in plan.operations if one[0] not in SUMS),
    )
    made = cell(
        gates=plan.gates,
        states={name: 0.25 * n for n, name in enumerate(plan.states)},
        vectors=plan.vectors,
        inputs={"mask": draw(st.sampled_from(["units", "one"]))} if plan.has_input else (),
        input_gradients=("mask",) if plan.has_input else (),
        options={"gain": 0.5} if plan.has_input else None,
    )(plan.step)
    return DrawnCell(made, plan)


@dataclass
class DrawnProgram:
    """One layer of a written cell, for CoreCall: arrays by name."""

    program: object
    cell: CellProgram
    T: int
    B: int
    I: int
    H: int
    arrays: dict

    def _of_states(self, before, after):
        return tuple(self.arrays[f"{before}{one.name}{after}"] for one in self.program.states)

    @property
    def x(self):
        return self.arrays["x"]

    @property
    def dy(self):
        return self.arrays["dy"]

    @property
    def weights(self):
        return tuple(self.arrays[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh", *self.program.vectors))

    @property
    def initial(self):
        return self._of_states("", "0")

    @property
    def d_final(self):
        return self._of_states("d", "_n")

    @property
    def inputs(self):
        return tuple(self.arrays[one.name] for one in self.program.inputs)

    @property
    def options(self):
        return tuple(one.default for one in self.program.options)


def draw(written, T, B, I, H, dtype, seed=0, heads=1):
    """A problem of a written cell."""
    rng, program = np.random.default_rng(seed), written.program
    G, scale = len(program.gates), 1 / np.sqrt(I + H)
    shapes = {"x": (T, B, I), "w_ih": (G * H, I), "w_hh": (G * H, H // heads), "b_ih": (G * H,), "b_hh": (G * H,)}
    shapes |= dict.fromkeys(program.vectors, (H,)) | {"dy": (T, B, H)}
    shapes |= {f"{one.name}0": (B, H) for one in program.states} | {f"d{one.name}_n": (B, H) for one in program.states}
    shapes |= {one.name: (T, B, 1 if one.columns == "one" else H) for one in program.inputs}
    arrays = {
        name: (rng.standard_normal(shape) * (scale if name.startswith("w_") else 1)).astype(dtype)
        for name, shape in shapes.items()
    }
    return DrawnProgram(program, CellProgram(lower(program), heads), T, B, I, H, arrays)


def block_diagonal(w_hh, H):
    """The dense (G*H, H) of w_hh (G*H, H/heads): zero between heads."""
    gates, width = len(w_hh) // H, w_hh.shape[1]
    dense = np.zeros((gates, H, H), w_hh.dtype)
    for first in range(0, H, width):
        own = slice(first, first + width)
        dense[:, own, own] = w_hh.reshape(gates, H, width)[:, own]
    return dense.reshape(gates * H, H)


def of_heads(dense, width):
    """The inverse of `block_diagonal`."""
    gates, H = len(dense) // dense.shape[1], dense.shape[1]
    heads = [
        dense.reshape(gates, H, H)[:, first : first + width, first : first + width] for first in range(0, H, width)
    ]
    return np.concatenate(heads, axis=1).reshape(gates * H, width)


def record_of(d, **arrays):
    """The NumPy loop forward, with some arrays replaced."""
    a, program = d.arrays | arrays, d.program
    weights = loop.Weights(*(a[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")),
                           {name: a[name] for name in program.vectors})  # fmt: skip
    initial = {one.name: a[f"{one.name}0"] for one in program.states}
    inputs = {one.name: a[one.name] for one in program.inputs}
    return loop.forward(program, a["x"], weights, initial, inputs)


def reference(d):
    """What CoreCall computes, by the NumPy loop forward and backward."""
    record = record_of(d)
    g = loop.backward(record, d.dy, {one.name: d.arrays[f"d{one.name}_n"] for one in d.program.states})
    found = {"y": record.y} | {f"{name}_n": one for name, one in record.final.items()}
    found |= {"dx": g.x} | {f"d{name}0": one for name, one in g.initial.items()}
    found |= {f"d{name}": getattr(g.weights, name) for name in ("w_ih", "w_hh", "b_ih", "b_hh")}
    return found | {f"d{name}": one for name, one in (g.weights.vectors | g.inputs).items()}

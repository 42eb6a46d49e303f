"""Strategies for problems and layers: sizes around every edge of the kernels, weights and inputs of sensible scale."""

from dataclasses import dataclass

import fastrnn
import numpy as np
from fastrnn import _core
from fastrnn.testing.reference import GATES
from hypothesis import strategies as st

CELLS = sorted(GATES)
DTYPES = ["float32", "float64"]
NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0")

# 16 is the vector length of AVX-512 in float32; 8, 4 and 2 are the lengths of the other backends and types. 37 is an
# odd prime, and 70 needs more blocks than a tile has.
widths = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 37, 70])
input_sizes = st.one_of(st.just(0), widths)
batches = st.sampled_from([1, 2, 3, 5, 6, 7, 12, 13, 25])
steps = st.sampled_from([1, 2, 3, 7])
cells = st.sampled_from(CELLS)
dtypes = st.sampled_from(DTYPES)
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Drawn:
    """One layer in one direction with all its arrays, by name."""

    cell: str
    T: int
    B: int
    I: int
    H: int
    arrays: dict

    def __getattr__(self, name):
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self):
        return f"Drawn({self.cell}, T={self.T}, B={self.B}, I={self.I}, H={self.H}, {self.x.dtype})"

    @property
    def has_c(self):
        return len(self.initial) > 1

    @property
    def initial(self):
        """One array for each state of the cell."""
        return tuple(self.arrays[f"{name}0"] for name in _core.cells()[self.cell].states)

    @property
    def d_final(self):
        return tuple(self.arrays[f"d{name}_n"] for name in _core.cells()[self.cell].states)

    @property
    def state(self):
        return self.initial if self.has_c else self.h0

    @property
    def dstate(self):
        return self.d_final if self.has_c else self.dh_n

    @property
    def weights(self):
        return self.w_ih, self.w_hh, self.b_ih, self.b_hh


def make(cell, T, B, I, H, dtype, seed):
    rng = np.random.default_rng(seed)
    G = GATES[cell]
    scale = 1 / np.sqrt(I + H)
    shapes = {
        "x": (T, B, I), "w_ih": (G * H, I), "w_hh": (G * H, H), "b_ih": (G * H,), "b_hh": (G * H,),
        "h0": (B, H), "c0": (B, H), "dy": (T, B, H), "dh_n": (B, H), "dc_n": (B, H),
    }  # fmt: skip
    arrays = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape) * (scale if name.startswith("w") else 1.0)
        arrays[name] = values.astype(dtype)
    return Drawn(cell, T, B, I, H, arrays)


@st.composite
def problems(draw, cells=cells, steps=steps, batches=batches, input_sizes=input_sizes, widths=widths, dtypes=dtypes):
    return make(draw(cells), draw(steps), draw(batches), draw(input_sizes), draw(widths), draw(dtypes), draw(seeds))


# ---- layers ----

KINDS = {
    "lstm": fastrnn.LSTM,
    "gru": fastrnn.GRU,
    "rnn_tanh": fastrnn.RNN,
    "rnn_relu": lambda *sizes, **options: fastrnn.RNN(*sizes, nonlinearity="relu", **options),
}


@st.composite
def stacks(draw, **fixed):
    """A layer and matching x, dy and state gradients: (cell, layer, arrays by name)."""
    cell, dtype, seed = draw(cells), draw(dtypes), draw(seeds)
    options = {
        "num_layers": draw(st.sampled_from([1, 2, 3])), "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()), "batch_first": draw(st.booleans()),
    } | fixed  # fmt: skip
    I, H = draw(input_sizes), draw(widths)
    layer = KINDS[cell](I, H, dtype=dtype, seed=seed, **options)
    T, B, D = draw(st.sampled_from([1, 2, 5])), draw(batches), 1 + layer.bidirectional
    rng = np.random.default_rng(seed)
    state, sequence = (layer.num_layers * D, B, H), (B, T) if layer.batch_first else (T, B)
    shapes = {"x": (*sequence, I), "dy": (*sequence, D * H)} | dict.fromkeys(("h0", "c0", "dh", "dc"), state)
    return cell, layer, {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def pair(cell, h, c):
    return (h, c) if cell == "lstm" else h


def members(cell, state):
    return state if cell == "lstm" else (state,)


@st.composite
def ragged_stacks(draw, **fixed):
    """A layer, its arrays by name (time first), lengths and resets; padding is NaN."""
    cell, dtype, seed = draw(cells), draw(dtypes), draw(seeds)
    options = {"num_layers": draw(st.sampled_from([1, 2])), "bidirectional": draw(st.booleans())} | fixed
    layer = KINDS[cell](draw(input_sizes), draw(widths), dtype=dtype, seed=seed, **options)
    T, B, D, H = draw(st.sampled_from([0, 1, 2, 5, 11])), draw(batches), 1 + layer.bidirectional, layer.hidden_size
    rng = np.random.default_rng(seed)
    state = (layer.num_layers * D, B, H)
    shapes = {"x": (T, B, layer.input_size), "dy": (T, B, D * H)} | dict.fromkeys(("h0", "c0", "dh", "dc"), state)
    arrays = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    lengths = rng.integers(0, T + 1, B) if draw(st.booleans()) else None
    resets = rng.random((T, B)) < draw(st.sampled_from([0.1, 0.5])) if draw(st.booleans()) else None
    if resets is not None and draw(st.booleans()):
        resets[1:] = False  # here states are zeroed and nothing is cut
    for b, n in enumerate(lengths if lengths is not None else []):
        arrays["x"][n:, b] = arrays["dy"][n:, b] = np.nan
    return cell, layer, arrays, lengths, resets


@st.composite
def stacks_and_inputs(draw):
    """A layer and matching x: (cell, layer, x)."""
    cell, dtype, seed = draw(cells), draw(dtypes), draw(seeds)
    options = {"num_layers": draw(st.sampled_from([1, 2, 3])), "bias": draw(st.booleans())}
    layer = KINDS[cell](draw(input_sizes), draw(widths), dtype=dtype, seed=seed, **options)
    x = np.random.default_rng(seed).standard_normal((draw(st.sampled_from([1, 2, 5])), draw(batches), layer.input_size))
    return cell, layer, x.astype(dtype)


def a_stream(**options):
    layer = fastrnn.LSTM(3, 4, num_layers=2, seed=0)
    return layer, layer.stream(**options), np.ones((5, options.get("batch_size", 1), 3), np.float32)

"""Problems to draw: sizes around every edge of the kernels, weights and inputs of a sensible scale."""

from dataclasses import dataclass

import numpy as np
from fastrnn.testing.reference import GATES
from hypothesis import strategies as st

CELLS = sorted(GATES)
DTYPES = ["float32", "float64"]
NAMES = ("x", "w_ih", "w_hh", "b_ih", "b_hh", "h0", "c0")

# 16 is the vector length of AVX-512 in float32, 8, 4 and 2 those of the other backends and types; 37 is odd and prime,
# 70 takes more blocks than a tile has.
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
        return self.cell == "lstm"

    @property
    def state(self):
        return (self.h0, self.c0) if self.has_c else self.h0

    @property
    def dstate(self):
        return (self.dh_n, self.dc_n) if self.has_c else self.dh_n

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

"""Forward and backward of one Drawn problem through fastrnn._core, on memory with guard zones and poison."""

import numpy as np
from fastrnn import _core, config

GUARD = 192  # bytes on either side: more than the largest vector
PATTERN = 0xA5


class Guarded:
    """An array inside a larger block with a known pattern, filled with 0xFF bytes (NaN as a float)."""

    def __init__(self, shape, dtype, fill=0xFF):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self.block = np.full(size + 2 * GUARD, PATTERN, np.uint8)
        inside = self.block[GUARD : GUARD + size]
        inside[:] = fill
        self.array = inside.view(dtype).reshape(shape)

    def intact(self):
        return bool((self.block[:GUARD] == PATTERN).all() and (self.block[-GUARD:] == PATTERN).all())


class CoreCall:
    """Runs a problem; outputs by name in `outputs`, all guarded memory in `guarded`.

    Weights are passed packed or unpacked.
    """

    def __init__(self, drawn, threads=1, schedule=None, backend=None, poison=0xFF, into=None, packs=True, team="all"):
        d, dtype = drawn, drawn.x.dtype
        index = config.backend_index() if backend is None else [b.name for b in _core.backends()].index(backend)
        self.guarded = {}
        p = _core.Problem(d.cell, dtype, index, threads, d.T, d.B, d.I, d.H, schedule, team=_core.TEAMS.index(team))
        memory = {
            name: self._new(name, (getattr(p, name),), np.uint8, poison)
            for name in ("packed_forward", "packed_backward", "reserve", "scratch_forward", "scratch_backward")
        }
        packed, as_they_are = (memory["packed_forward"], memory["packed_backward"]), (None,) * 4
        if packs:
            _core.pack_forward(p, *d.weights, packed[0])
            _core.pack_backward(p, *d.weights, packed[1])
        else:
            packed, as_they_are = (None, None), d.weights
        c0, dc_n = (d.c0, d.dc_n) if d.has_c else (None, None)
        state = (d.B, d.H)
        y, h_n = self._new("y", (d.T, d.B, d.H), dtype), self._new("h_n", state, dtype)
        c_n = self._new("c_n", state, dtype) if d.has_c else None
        _core.forward(
            p, packed[0], d.x, d.h0, c0, y, h_n, c_n, memory["reserve"], memory["scratch_forward"], None, as_they_are
        )
        dx, dh0 = self._new("dx", d.x.shape, dtype), self._new("dh0", state, dtype)
        dc0 = self._new("dc0", state, dtype) if d.has_c else None
        for name, weight in zip(("w_ih", "w_hh", "b_ih", "b_hh"), d.weights, strict=True):
            gradient = self._new(f"d{name}", weight.shape, dtype)
            if into is not None:
                gradient[...] = into[f"d{name}"]
        gradients = [self.guarded[f"d{name}"].array for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
        _core.backward(
            p, packed[1], d.x, d.h0, c0, y, memory["reserve"], d.dy, d.dh_n, dc_n, dx, dh0, dc0,
            *gradients, memory["scratch_backward"], into is None, as_they_are,
        )  # fmt: skip
        names = ("y", "h_n", "c_n", "dx", "dh0", "dc0", "dw_ih", "dw_hh", "db_ih", "db_hh")
        self.outputs = {name: self.guarded[name].array for name in names if name in self.guarded}

    def _new(self, name, shape, dtype, fill=0xFF):
        self.guarded[name] = Guarded(shape, dtype, fill)
        return self.guarded[name].array


def same_bits(a, b):
    """Equal in every bit, NaN and signed zeros included."""
    return (
        a.shape == b.shape
        and a.dtype == b.dtype
        and np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
    )


def assert_same_bits(found, expected, names=None):
    for name in names or expected:
        assert same_bits(found[name], expected[name]), name

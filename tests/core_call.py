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

    Weights are passed packed or unpacked. cell: in place of the drawn cell. backward_schedule: in place of `schedule`.
    """

    def __init__(self, drawn, threads=1, schedule=None, backend=None, poison=0xFF, into=None, packs=True, cut="all",
                 cell=None, backward_schedule=None):  # fmt: skip
        d, dtype = drawn, drawn.x.dtype
        index = config.backend_index() if backend is None else [b.name for b in _core.backends()].index(backend)
        self.guarded, self.outputs = {}, {}
        sizes = threads, d.T, d.B, d.I, d.H
        p, back = (
            _core.Problem(cell or d.cell, dtype, index, *sizes, one, cut=_core.CUTS.index(cut))
            for one in (schedule, backward_schedule or schedule)
        )
        given = {name: getattr(d, name, ()) for name in ("inputs", "options")}
        memory = {
            name: self._new(name, (getattr(of, name),), np.uint8, poison)
            for of, name in (
                (p, "packed_forward"), (back, "packed_backward"), (p, "reserve"), (p, "scratch_forward"),
                (back, "scratch_backward"),
            )
        }  # fmt: skip
        packed, unpacked = (memory["packed_forward"], memory["packed_backward"]), None
        if packs:
            _core.pack_forward(p, d.weights, packed[0])
            _core.pack_backward(back, d.weights, packed[1])
        else:
            packed, unpacked = (None, None), d.weights
        states, state = p.row.states, (d.B, d.H)
        y = self._output("y", (d.T, d.B, d.H), dtype)
        final = [self._output(f"{name}_n", state, dtype) for name in states]
        _core.forward(
            p, packed[0], d.x, d.initial, y, final, memory["reserve"], memory["scratch_forward"], None, unpacked,
            **given,
        )  # fmt: skip
        dx = self._output("dx", d.x.shape, dtype)
        d_initial = [self._output(f"d{name}0", state, dtype) for name in states]
        gradients = []
        for one, weight in zip(p.row.parameters, d.weights, strict=True):
            gradients.append(self._output(f"d{one.name}", weight.shape, dtype))
            if into is not None:
                gradients[-1][...] = into[f"d{one.name}"]
        d_inputs = [self._output(f"d{name}", (d.T, d.B, d.H), dtype) for name in p.row.inputs]
        _core.backward(
            back, packed[1], d.x, d.initial, y, memory["reserve"], d.dy, d.d_final, dx, d_initial, gradients,
            memory["scratch_backward"], into is None, unpacked, **given, d_inputs=d_inputs,
        )  # fmt: skip

    def _output(self, name, shape, dtype):
        self.outputs[name] = self._new(name, shape, dtype)
        return self.outputs[name]

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

"""Loops over time in NumPy that allocate nothing, forward and backward: a layer of each cell on buffers made once.

The input product of all steps is one matrix product, and so is each gradient of a parameter. A step is one product and
some ten calls of NumPy that write into views made once. A sigmoid is 0.5 + 0.5 tanh(a / 2), so that an LSTM takes one
tanh of all gates together.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


class Loop:
    """One layer over T steps of B sequences. `gates` (T, B, G*H) first hold the input product, then the gates."""

    gate_count = 1

    def __init__(self, T: int, B: int, I: int, H: int, weights: tuple[Array, ...]) -> None:
        self.w_ih, self.w_hh, self.b_ih, self.b_hh = weights
        dtype, rows = self.w_ih.dtype, self.gate_count * H

        def new(*shape: int) -> Array:
            return np.zeros(shape, dtype)

        self.gates, self.recurrent, self.states = new(T, B, rows), new(B, rows), new(T + 1, B, H)
        self.d_gates, self.d_later, self.dh = new(T, B, rows), new(B, H), new(B, H)
        self.tmp, self.x = new(B, H), new(T * B, I)
        self.dx, self.gradients = new(T, B, I), [np.zeros_like(w) for w in weights]
        self.flat_gates, self.flat_d = self.gates.reshape(T * B, rows), self.d_gates.reshape(T * B, rows)
        self.y, self.before = self.states[1:], self.states[:T]
        self.flat_before = self.before.reshape(T * B, H)
        self.prepare(T, B, H, new)

    def prepare(self, T: int, B: int, H: int, new: Any) -> None:
        """More buffers and views."""

    def start(self, states: tuple[Array, ...]) -> None:
        """Begin with the given states, or with zeros."""
        self.states[0] = states[0] if states else 0

    def forward(self, x: Array, states: tuple[Array, ...]) -> Array:
        """Y (T, B, H) in a buffer of this loop."""
        self.start(states)
        np.copyto(self.x.reshape(x.shape), x)
        np.matmul(self.x, self.w_ih.T, out=self.flat_gates)
        self.flat_gates += self.bias()
        transposed = self.w_hh.T
        for t in range(len(self.gates)):
            np.matmul(self.states[t], transposed, out=self.recurrent)
            self.step(t)
        return self.y

    def bias(self) -> Array:
        """What all gates of the input product get."""
        return self.b_ih + self.b_hh

    def step(self, t: int) -> None:
        """The states after a step, from `gates[t]` and `recurrent`."""
        raise NotImplementedError

    def backward(self, dy: Array) -> None:
        """Fill dx, `gradients` and the gradients of the initial states; forward came just before."""
        self.derive()
        self.dh[:] = 0
        for t in reversed(range(len(dy))):
            self.dh += dy[t]
            self.step_back(t)
        self.finish(self.flat_d, self.flat_d)

    def derive(self) -> None:
        """What does not depend on later steps, for all steps at once."""
        raise NotImplementedError

    def step_back(self, t: int) -> None:
        """`d_gates[t]`, and dh of the step before, from dh."""
        raise NotImplementedError

    def finish(self, d_input: Array, d_recurrent: Array) -> None:
        """The products over all steps; both arguments (T*B, G*H)."""
        np.matmul(d_input, self.w_ih, out=self.dx.reshape(self.x.shape))
        dw_ih, dw_hh, db_ih, db_hh = self.gradients
        np.matmul(d_input.T, self.x, out=dw_ih)
        np.matmul(d_recurrent.T, self.flat_before, out=dw_hh)
        np.sum(d_input, axis=0, out=db_ih)
        if d_recurrent is d_input:
            db_hh[:] = db_ih
        else:
            np.sum(d_recurrent, axis=0, out=db_hh)

    def d_states(self) -> tuple[Array, ...]:
        """The gradients of the initial states."""
        return (self.dh,)


class RnnLoop(Loop):
    """h = tanh(a)."""

    def step(self, t: int) -> None:
        a = self.gates[t]
        a += self.recurrent
        np.tanh(a, out=self.y[t])

    def derive(self) -> None:
        np.multiply(self.y, self.y, out=self.gates)
        np.subtract(1, self.gates, out=self.gates)

    def step_back(self, t: int) -> None:
        np.multiply(self.dh, self.gates[t], out=self.d_gates[t])
        np.matmul(self.d_gates[t], self.w_hh, out=self.dh)


class LstmLoop(Loop):
    """c = f*c + i*g; h = o*tanh(c); gates i, f, g, o."""

    gate_count = 4

    def prepare(self, T: int, B: int, H: int, new: Any) -> None:
        self.c, self.tanh_c, self.dc, self.slope = new(T + 1, B, H), new(T, B, H), new(B, H), new(T, B, H)
        self.derivative = new(T, B, 4 * H)
        self.i, self.f, self.g, self.o = (self.gates[:, :, k * H : (k + 1) * H] for k in range(4))
        self.d_i, self.d_f, self.d_g, self.d_o = (self.d_gates[:, :, k * H : (k + 1) * H] for k in range(4))
        self.scale, self.shift = new(4 * H), new(4 * H)
        self.scale[:], self.shift[:] = 0.5, 0.5
        self.scale[2 * H : 3 * H], self.shift[2 * H : 3 * H] = 1, 0
        self.of_g = slice(2 * H, 3 * H)

    def start(self, states: tuple[Array, ...]) -> None:
        super().start(states)
        self.c[0] = states[1] if states else 0

    def step(self, t: int) -> None:
        a, c, tmp, tanh_c = self.gates[t], self.c[t + 1], self.tmp, self.tanh_c[t]
        a += self.recurrent
        a *= self.scale
        np.tanh(a, out=a)
        a *= self.scale
        a += self.shift
        np.multiply(self.f[t], self.c[t], out=c)
        np.multiply(self.i[t], self.g[t], out=tmp)
        c += tmp
        np.tanh(c, out=tanh_c)
        np.multiply(self.o[t], tanh_c, out=self.y[t])

    def derive(self) -> None:
        d = self.derivative
        np.subtract(1, self.gates, out=d)
        d *= self.gates  # s(1 - s) for a sigmoid
        np.multiply(self.g, self.g, out=d[:, :, self.of_g])
        np.subtract(1, d[:, :, self.of_g], out=d[:, :, self.of_g])  # 1 - g² for the tanh
        np.multiply(self.tanh_c, self.tanh_c, out=self.slope)
        np.subtract(1, self.slope, out=self.slope)
        self.slope *= self.o
        self.dc[:] = 0

    def step_back(self, t: int) -> None:
        dh, dc, d = self.dh, self.dc, self.d_gates[t]
        np.multiply(dh, self.slope[t], out=self.tmp)
        dc += self.tmp
        np.multiply(dc, self.g[t], out=self.d_i[t])
        np.multiply(dc, self.c[t], out=self.d_f[t])
        np.multiply(dc, self.i[t], out=self.d_g[t])
        np.multiply(dh, self.tanh_c[t], out=self.d_o[t])
        d *= self.derivative[t]
        dc *= self.f[t]
        np.matmul(d, self.w_hh, out=dh)

    def d_states(self) -> tuple[Array, ...]:
        return self.dh, self.dc


class GruLoop(Loop):
    """n = tanh(a_n + r*s_n); h = n + z*(h - n); gates r, z, n; s_n is the recurrent part of n with its bias."""

    gate_count = 3

    def prepare(self, T: int, B: int, H: int, new: Any) -> None:
        self.s_n, self.d_input = new(T, B, H), new(T, B, 3 * H)
        self.flat_d_input = self.d_input.reshape(T * B, 3 * H)
        self.r, self.z, self.n = (self.gates[:, :, k * H : (k + 1) * H] for k in range(3))
        self.d_r, self.d_z, self.d_s = (self.d_gates[:, :, k * H : (k + 1) * H] for k in range(3))
        self.d_n, self.sigmoids, self.of_n = self.d_input[:, :, 2 * H :], slice(0, 2 * H), slice(2 * H, None)
        self.by_r, self.by_z, self.by_n, self.summed = new(T, B, H), new(T, B, H), new(T, B, H), new(3 * H)

    def bias(self) -> Array:
        self.summed[:] = self.b_ih
        self.summed[self.sigmoids] += self.b_hh[self.sigmoids]
        return self.summed

    def step(self, t: int) -> None:
        a, s, y, s_n, n = self.gates[t, :, self.sigmoids], self.recurrent, self.y[t], self.s_n[t], self.n[t]
        a += s[:, self.sigmoids]
        a *= 0.5
        np.tanh(a, out=a)
        a *= 0.5
        a += 0.5
        np.add(s[:, self.of_n], self.b_hh[self.of_n], out=s_n)
        np.multiply(self.r[t], s_n, out=self.tmp)
        n += self.tmp
        np.tanh(n, out=n)
        np.subtract(self.states[t], n, out=y)
        y *= self.z[t]
        y += n

    def derive(self) -> None:
        np.multiply(self.n, self.n, out=self.by_n)
        np.subtract(1, self.by_n, out=self.by_n)
        np.subtract(1, self.z, out=self.by_r)
        self.by_n *= self.by_r  # (1 - n²)(1 - z)
        np.subtract(self.before, self.n, out=self.by_z)
        self.by_z *= self.z
        self.by_z *= self.by_r  # (h - n) z (1 - z)
        np.subtract(1, self.r, out=self.by_r)
        self.by_r *= self.r
        self.by_r *= self.s_n  # s_n r (1 - r)

    def step_back(self, t: int) -> None:
        dh, d_n = self.dh, self.d_n[t]
        np.multiply(dh, self.by_n[t], out=d_n)
        np.multiply(dh, self.by_z[t], out=self.d_z[t])
        np.multiply(d_n, self.by_r[t], out=self.d_r[t])
        np.multiply(d_n, self.r[t], out=self.d_s[t])
        dh *= self.z[t]
        np.matmul(self.d_gates[t], self.w_hh, out=self.tmp)
        dh += self.tmp

    def finish(self, d_input: Array, d_recurrent: Array) -> None:
        self.d_input[:, :, self.sigmoids] = self.d_gates[:, :, self.sigmoids]
        super().finish(self.flat_d_input, d_recurrent)


LOOPS: dict[str, type[Loop]] = {"lstm": LstmLoop, "gru": GruLoop, "rnn_tanh": RnnLoop}

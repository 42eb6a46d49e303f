"""Check a package with the cell of probe.h: values, gradients, and every bit where bits must agree."""

import itertools
import os

import fastrnn
import numpy as np
from fastrnn import _core, config

STARTS = (0.25, -0.5, 0.75)


def sigmoid(a):
    return (np.tanh(a / 2) + 1) / 2


def reference(x, w_ih, w_hh, b_ih, b_hh, states, lengths=None, resets=None):
    """The equations in any precision, real or complex: y and the states."""
    states = [np.array(state) for state in states]
    y = np.zeros((*x.shape[:2], w_hh.shape[1]), np.result_type(x, w_ih, w_hh, b_ih, b_hh, *states))
    for t in range(len(x)):
        runs = np.full((x.shape[1], 1), True) if lengths is None else (t < np.asarray(lengths))[:, None]
        if resets is not None:
            cut = runs & resets[t][:, None]
            states = [np.where(cut, start, s) for s, start in zip(states, STARTS, strict=True)]
        h, c_prev, m_prev = states
        (x_p, x_q), (a_p, a_q) = np.split(x[t] @ w_ih.T + b_ih, 2, -1), np.split(h @ w_hh.T + b_hh, 2, -1)
        p, q = sigmoid(x_p + np.tanh(a_p)), np.tanh(x_q * a_q)
        c, m = p * c_prev + q, q * m_prev + p
        h = p * np.tanh(c)
        y[t] = np.where(runs, h + m * c_prev, 0)
        states = [np.where(runs, new, old) for new, old in zip((h, c, m), states, strict=True)]
    return y, states


def drawn(T, B, I, H, dtype):
    rng = np.random.default_rng([T, B, I, H])
    shapes = [(T, B, I), (2 * H, I), (2 * H, H), (2 * H,), (2 * H,), *[(B, H)] * 3, (T, B, H), *[(B, H)] * 3]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    return arrays[:5], tuple(arrays[5:8]), arrays[8], tuple(arrays[9:])


def everything(weights, states, dy, d_final, **order):
    """All results of the package: y, final states, all gradients."""
    truncation = order.pop("truncation", None)
    y, final, tape = fastrnn.probe.forward(*weights, states, **order)
    g = fastrnn.probe.backward(tape, dy, d_final, truncation=truncation)
    return [y, *final, g.x, g.w_ih, g.w_hh, g.b_ih, g.b_hh, *g.state]


def check_values(T, B, I, H, backend, **order):
    """Check in double precision, with gradients by the complex step along one direction for each argument."""
    weights, states, dy, d_final = drawn(T, B, I, H, np.float64)
    found = everything(weights, states, dy, d_final, **order)
    y, final = reference(*weights, states, **order)
    for one, other in zip(found, (y, *final), strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13, err_msg=f"{backend}")
    for j, gradient in enumerate(found[4:]):
        arguments = [*weights, *states]
        direction = np.random.default_rng(j).standard_normal(arguments[j].shape)
        arguments[j] = arguments[j] + 1e-30j * direction
        y, final = reference(*arguments[:5], arguments[5:], **order)
        loss = (dy * y).sum() + sum((d * s).sum() for d, s in zip(d_final, final, strict=True))
        np.testing.assert_allclose((gradient * direction).sum(), loss.imag / 1e-30, rtol=1e-10, atol=1e-11)


def assert_same(found, other):
    for j, (one, two) in enumerate(zip(found, other, strict=True)):
        assert one.tobytes() == two.tobytes(), j


def check_bits(T, B, I, H, dtype, bits):
    """Compare all numbers of threads and all backends, and an absent state with the start values."""
    weights, states, dy, d_final = drawn(T, B, I, H, dtype)
    order = {"lengths": np.arange(B) % (T + 1), "resets": np.arange(T * B).reshape(T, B) % 7 == 3}
    truncated = {"truncation": (2, 3)}
    for more in ({}, order, truncated, order | truncated):
        fastrnn.set_num_threads(1)
        one = everything(weights, states, dy, d_final, **more)
        for threads, team in itertools.product((2, 3), ("all", "rows", "units")):
            fastrnn.set_num_threads(threads)
            with config.use_team(team):
                assert_same(everything(weights, states, dy, d_final, **more), one)
        assert_same(one, bits.setdefault((T, B, I, H, dtype, *more), one))
    starts = tuple(np.full((B, H), start, dtype) for start in STARTS)
    assert_same(fastrnn.probe(*weights)[0], fastrnn.probe(*weights, starts)[0])
    if T == 1:  # reads unpacked weights; a call of two steps packs them, and its second step does not matter
        twice = [np.concatenate([weights[0]] * 2), *weights[1:]]
        assert_same(fastrnn.probe(*twice, states)[0][:1], fastrnn.probe(*weights, states)[0])


def main():
    assert _core.cells()["probe"] == (2, ("h", "c", "m"), STARTS), _core.cells()
    bits = {}
    for backend in (one for one in _core.backends() if one.runs_here):
        with config.use_backend(backend.name):
            for T, B, I, H in itertools.product((1, 4), (1, 3, 13), (1, 5), (1, 7, 16, 33)):
                check_values(T, B, I, H, backend.name)
                for dtype in (np.float32, np.float64):
                    check_bits(T, B, I, H, dtype, bits if backend.has_fma else {})
            check_values(6, 4, 3, 17, backend.name, lengths=[6, 0, 3, 5], resets=np.eye(6, 4, dtype=bool))
        print(backend.name, "computes the new cell")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()

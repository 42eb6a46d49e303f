"""Whether a package with the cells of this folder computes them: values, gradients, and every bit that must agree."""

import itertools
import os

import fastrnn
import numpy as np
from fastrnn import _core, config
from fastrnn.layer_files import RecurrentLayer

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
        for threads, cut in itertools.product((2, 3), ("all", "sequences", "units", "pieces")):
            fastrnn.set_num_threads(threads)
            with config.use_cut(cut):
                assert_same(everything(weights, states, dy, d_final, **more), one)
        assert_same(one, bits.setdefault((T, B, I, H, dtype, *more), one))
    starts = tuple(np.full((B, H), start, dtype) for start in STARTS)
    assert_same(fastrnn.probe(*weights)[0], fastrnn.probe(*weights, starts)[0])
    if T == 1:  # reads unpacked weights; a call of two steps packs them, and its second step does not matter
        twice = [np.concatenate([weights[0]] * 2), *weights[1:]]
        assert_same(fastrnn.probe(*twice, states)[0][:1], fastrnn.probe(*weights, states)[0])


class Probe(RecurrentLayer):
    """A layer of the new cell: its name is all that it takes."""

    _cell = "probe"


def check_layer(T, B, I, H):
    """A stack of it is the function, run twice; a stream gives the steps of a call, a frozen layer its bits."""
    layer = Probe(I, H, num_layers=2, dtype=np.float64, seed=0)
    rng = np.random.default_rng(0)
    x, states = rng.standard_normal((T, B, I)), tuple(rng.standard_normal((2, B, H)) for _ in STARTS)
    weights = [[array for name, array in layer.parameters.items() if name.endswith(f"l{j}")] for j in range(2)]
    middle, lower = fastrnn.probe(x, *weights[0], tuple(s[0] for s in states))
    y, upper = fastrnn.probe(middle, *weights[1], tuple(s[1] for s in states))
    expected = [y, *(np.stack(pair) for pair in zip(lower, upper, strict=True))]
    trained, final, tape = layer.forward(x, states)
    assert_same([trained, *final], expected)
    gradients = layer.backward(tape, y, final)
    assert len(gradients.state) == len(STARTS)
    assert gradients.parameters.keys() == layer.parameters.keys()
    stream = layer.stream(B)
    assert [float(s.flat[0]) for s in stream.state] == list(STARTS)
    stream.state = states
    assert_same([np.stack([stream(x_t).copy() for x_t in x]), *stream.state], expected)
    layer.freeze()
    again, final = layer(x, states)
    assert_same([again, *final], expected)


# ---- the cell with inputs of each step and an option, through the core: functions and layers pass none ----

MASKED_STARTS = (0.5, 0.0)
WEIGHTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def masked_reference(x, w_ih, w_hh, b_ih, b_hh, h, c, mask, gain, leak):
    """The equations of masked.h, in any precision, real or complex: y, h, c."""
    y = []
    for t in range(len(x)):
        c = leak * c + gain[t] * np.tanh(x[t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
        h = mask[t] * np.tanh(c) + (1 - mask[t]) * h
        y.append(h)
    return np.stack(y), h, c


def masked_drawn(T, B, I, H, dtype):
    """x, weights and states; mask and gain; gradients of y, h and c. Mask and gain have strides of their own."""
    rng = np.random.default_rng([T, B, I, H])
    shapes = [(T, B, I), (H, I), (H, H), (H,), (H,), (B, H), (B, H)], [(B, T, H), (T, B, 3)], [(T, B, H), *[(B, H)] * 2]
    variables, given, d = ([rng.standard_normal(shape).astype(dtype) for shape in one] for one in shapes)
    return variables, [given[0].swapaxes(0, 1), given[1][..., 1:2]], d


def masked_call(variables, given, d, leak, threads=1, cut="all", packs=True):
    """What the core computes: y, h, c, and the gradients of all variables."""
    x, *weights, h0, c0 = variables
    initial = h0, c0
    (T, B, I), H = x.shape, h0.shape[1]
    p = _core.Problem("masked", x.dtype, config.backend_index(), threads, T, B, I, H, cut=_core.CUTS.index(cut))
    assert p.reserve == T * B * (2 + 1) * -(-H // 16) * 16 * x.itemsize
    sizes = p.packed_forward, p.packed_backward, p.reserve, p.scratch_forward, p.scratch_backward
    forward, backward, reserve, *scratch = (np.full(size, 0xFF, np.uint8) for size in sizes)
    if packs:
        _core.pack_forward(p, weights, forward)
        _core.pack_backward(p, weights, backward)
    packed, unpacked = ((forward, backward), None) if packs else ((None, None), weights)
    y, h, c = (np.full((*shape, H), np.nan, x.dtype) for shape in ((T, B), (B,), (B,)))
    g = [np.full_like(variable, np.nan) for variable in variables]
    more = {"parameters": unpacked, "inputs": given, "options": (leak,)}
    _core.forward(p, packed[0], x, initial, y, (h, c), reserve, scratch[0], **more)
    dy, *d_final = d
    _core.backward(
        p, packed[1], x, initial, y, reserve, dy, d_final, g[0], g[5:], g[1:5], scratch[1], overwrite=True, **more
    )
    return [y, h, c, *g]


def check_masked_values(T, B, I, H):
    leak = 0.75
    variables, given, d = masked_drawn(T, B, I, H, np.float64)
    found = masked_call(variables, given, d, leak)
    for one, other in zip(found, masked_reference(*variables, *given, leak), strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    for j, gradient in enumerate(found[3:]):
        moved, direction = list(variables), np.random.default_rng(j).standard_normal(variables[j].shape)
        moved[j] = moved[j] + 1e-30j * direction
        loss = sum((one * two).sum() for one, two in zip(d, masked_reference(*moved, *given, leak), strict=True))
        np.testing.assert_allclose((gradient * direction).sum(), loss.imag / 1e-30, rtol=1e-10, atol=1e-11)


def check_masked_bits(T, B, I, H, dtype, bits):
    variables, given, d = masked_drawn(T, B, I, H, dtype)
    one = masked_call(variables, given, d, 0.75)
    for threads, cut, packs in itertools.product((1, 2, 3), ("all", "sequences", "units"), (True, False)):
        assert_same(masked_call(variables, given, d, 0.75, threads, cut, packs), one)
    assert_same(one, bits.setdefault(("masked", T, B, I, H, dtype), one))


def refusal(*arguments, **more):
    """The message with which forward refuses its arguments."""
    try:
        _core.forward(*arguments, **more)
    except ValueError as error:
        return str(error)
    return "none"


def check_masked_is_refused():
    """Without its inputs or its option, and with one input more."""
    p = _core.Problem("masked", np.float32, config.backend_index(), 1, 2, 3, 4, 5)
    memory = np.zeros(p.packed_forward, np.uint8), np.zeros(p.scratch_forward, np.uint8)
    x, wide, narrow = (np.zeros((2, 3, n), np.float32) for n in (4, 5, 1))
    call = p, memory[0], x, None, np.zeros_like(wide), None, None, memory[1]
    _core.forward(*call, inputs=(wide, narrow), options=(1.0,))
    assert "missing" in refusal(*call, inputs=(wide, narrow))
    assert "missing" in refusal(*call, inputs=(wide,), options=(1.0,))
    assert "inputs, options" in refusal(*call, inputs=(wide, narrow, wide), options=(1.0,))


def main():
    row = _core.cells()["probe"]
    assert (row.gates, row.output, row.states, row.starts) == (2, -1, ("h", "c", "m"), STARTS), row
    assert (row.saved, row.inputs, row.options) == ({"all": 8}, (), ()), row
    assert [one.shape(3, 5) for one in row.parameters] == [(10, 3), (10, 5), (10,), (10,)], row
    row = _core.cells()["masked"]
    assert (row.gates, row.states, row.starts) == (1, ("h", "c"), MASKED_STARTS), row
    assert (row.saved, row.inputs, row.options) == ({"pair": 2, "c": 1}, ("mask", "gain"), ("leak",)), row
    bits = {}
    check_masked_is_refused()
    for backend in (one for one in _core.backends() if one.runs_here):
        with config.use_backend(backend.name):
            for T, B, I, H in itertools.product((1, 4), (1, 3, 13), (1, 5), (1, 7, 16, 33)):
                check_values(T, B, I, H, backend.name)
                for dtype in (np.float32, np.float64):
                    check_bits(T, B, I, H, dtype, bits if backend.has_fma else {})
            check_layer(4, 3, 5, 7)
            for T, B, I, H in itertools.product((1, 4), (1, 13), (1, 5), (1, 7, 16, 33)):
                check_masked_values(T, B, I, H)
                for dtype in (np.float32, np.float64):
                    check_masked_bits(T, B, I, H, dtype, bits if backend.has_fma else {})
            check_values(6, 4, 3, 17, backend.name, lengths=[6, 0, 3, 5], resets=np.eye(6, 4, dtype=bool))
        print(backend.name, "computes the new cells")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()

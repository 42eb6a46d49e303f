"""The effects of a write between forward and backward, which no code checks for.

Doubling an array is exact, so a gradient that is linear in the array doubles exactly.
"""

import fastrnn
import numpy as np
import pytest

T, B, I, H = 6, 3, 2, 5
LENGTHS, RESETS = np.array([6, 2, 5]), np.arange(T * B).reshape(T, B) % 7 == 5


def path(make=None, forward=None, backward=None, x=lambda x: x):
    """Options of the layer, of forward and of backward, and the memory layout of x."""
    return make or {}, forward or {}, backward or {}, x


WAYS = {
    "dense": path(),
    "unbatched": path(x=lambda x: x[:, 0]),
    "steps in other order": path(x=lambda x: x[::-1]),
    "rows with gaps": path(x=lambda x: np.repeat(x, 2, 1)[:, ::2]),
    "batch_first": path({"batch_first": True}, x=lambda x: x.swapaxes(0, 1)),
    "truncated": path(backward={"truncation": 2}),
    "lengths": path(forward={"lengths": LENGTHS}),
    "lengths, truncated": path({}, {"lengths": LENGTHS}, {"truncation": (2, 4)}),
    "resets": path(forward={"resets": RESETS}),
    "without biases": path({"bias": False}),
    "two layers": path({"num_layers": 2}),
    "dropout": path({"num_layers": 2, "dropout": 0.5}),
    "two directions": path({"num_layers": 2, "bidirectional": True}),
    "two directions, lengths": path({"bidirectional": True}, {"lengths": LENGTHS}),
}
CHECKPOINTED = {
    f"{name}, checkpoint={n}": (make, forward | {"checkpoint": n}, backward, x)
    for name in ("dense", "lengths", "resets", "two directions", "dropout")
    for make, forward, backward, x in [WAYS[name]]
    for n in (1, 2, T)
}
kinds = pytest.mark.parametrize("kind", [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN])


class Run:
    """A forward call, and the gradients of backward by name."""

    def __init__(self, kind, way, with_state=True):
        make, forward, self.backward, lay_out = way
        rng = np.random.default_rng(0)
        self.layer = kind(I, H, seed=0, **make)
        self.x = lay_out(rng.standard_normal((T, B, I)).astype(np.float32))
        count = self.layer.num_layers * (1 + self.layer.bidirectional)
        shape = (count, H) if self.x.ndim == 2 else (count, B, H)
        self.h0, self.c0 = rng.standard_normal((2, *shape)).astype(np.float32)
        self.state = ((self.h0, self.c0) if kind is fastrnn.LSTM else self.h0) if with_state else None
        self.y, self.final, self.tape = self.layer.forward(self.x, self.state, **forward)
        self.dy, self.members = np.cos(self.y), ("h0", "c0") if kind is fastrnn.LSTM else ("h0",)

    def gradients(self):
        found = self.layer.backward(self.tape, self.dy, **self.backward)
        state = found.state if len(self.members) == 2 else (found.state,)
        return {"x": found.x, **dict(zip(self.members, state, strict=True)), **found.parameters}


def assert_changed(now, before, **expected):
    """Named gradients are `before` times a number, or differ if it is None; all others have the same bits."""
    for name, array in before.items():
        factor = expected.get(name, 1)
        if factor is None:
            assert now[name].tobytes() != array.tobytes(), name
        else:
            assert (factor * array).tobytes() == now[name].tobytes(), name


@pytest.mark.parametrize("way", WAYS)
@kinds
def test_a_write_to_x_reaches_the_gradient_of_the_first_weight_ih_alone(kind, way):
    run = Run(kind, WAYS[way])
    before = run.gradients()
    first = [name for name in before if name.startswith("weight_ih_l0")]
    run.x *= 2
    assert_changed(run.gradients(), before, **dict.fromkeys(first, 2))
    run.x *= -0.25
    assert_changed(run.gradients(), before, **dict.fromkeys(first, -0.5))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_so_it_is_with_single_layer_functions(name, lengths, reverse):
    cell, rng = getattr(fastrnn, name), np.random.default_rng(0)
    G = cell.gates * H
    x, *weights = (rng.standard_normal(shape).astype(np.float32) for shape in ((T, B, I), (G, I), (G, H), G, G))
    y, _, tape = cell.forward(x, *weights, lengths=lengths, reverse=reverse)

    def gradients():
        found = cell.backward(tape, np.cos(y))
        return {one: getattr(found, one) for one in ("x", "w_ih", "w_hh", "b_ih", "b_hh")}

    before = gradients()
    x *= 2
    for weight in weights:
        weight[...] = 1
    assert_changed(gradients(), before, w_ih=2)


@pytest.mark.parametrize("way", [name for name in WAYS | CHECKPOINTED if "lengths" in name])
@kinds
def test_what_is_written_beyond_the_end_of_a_sequence_is_not_read(kind, way):
    run = Run(kind, (WAYS | CHECKPOINTED)[way])
    before = run.gradients()
    run.x[np.arange(T)[:, None] >= LENGTHS] = np.nan
    assert_changed(run.gradients(), before)


@pytest.mark.parametrize("layout", ["last axis with gaps", "last axis in other order", "misaligned"])
@kinds
def test_x_that_forward_has_to_copy_may_change(kind, layout):
    lay_out = {
        "last axis with gaps": lambda x: np.repeat(x, 2, 2)[..., ::2],
        "last axis in other order": lambda x: x[..., ::-1],
        "misaligned": lambda x: np.frombuffer(bytearray(b"0" + x.tobytes()), np.float32, offset=1).reshape(x.shape),
    }[layout]
    run = Run(kind, path(x=lay_out))
    before = run.gradients()
    run.x *= 2
    assert_changed(run.gradients(), before)


@pytest.mark.parametrize("way", ["dense", "lengths", "resets", "two directions", "two layers", "batch_first"])
@kinds
def test_with_checkpoints_everything_is_computed_again_from_the_new_x(kind, way):
    """With one chunk, the gradients belong to the new x; with more chunks, they belong to neither x."""
    make, forward, backward, lay_out = WAYS[way]
    for n in (1, 2, T, 2 * T):
        run = Run(kind, (make, forward | {"checkpoint": n}, backward, lay_out))
        old = run.gradients()
        run.x *= -2
        now = run.gradients()
        run.tape = run.layer.forward(run.x, run.state, **forward)[2]
        new = run.gradients()
        changed = [name for name in now if now[name].tobytes() != new[name].tobytes()]
        if n >= T and run.layer.num_layers == 1:
            assert not changed
        else:
            assert {"x", "weight_ih_l0", "weight_hh_l0"} <= set(changed)
            assert all(now[name].tobytes() != old[name].tobytes() for name in ("x", "weight_ih_l0", "weight_hh_l0"))


@pytest.mark.parametrize("way", WAYS)
@kinds
def test_a_write_to_the_state_reaches_the_gradients_of_first_steps(kind, way):
    for member in ("h0", "c0") if kind is fastrnn.LSTM else ("h0",):
        run = Run(kind, WAYS[way])
        before = run.gradients()
        getattr(run, member)[...] *= 2
        now = run.gradients()
        if (kind, member) in ((fastrnn.LSTM, "h0"), (fastrnn.RNN, "h0")):  # the gate gradients do not read it
            assert_changed(now, before, **{name: None for name in before if name.startswith("weight_hh")})
            continue
        assert all(now[n].tobytes() != before[n].tobytes() for n in before if n.startswith(("weight", "bias", "h0")))
        if not run.layer.bidirectional and run.layer.num_layers == 1:
            later = np.s_[:, 1:] if run.layer.batch_first else np.s_[1:]
            assert np.array_equal(now["x"][later], before["x"][later])


@pytest.mark.parametrize("kind", [fastrnn.LSTM, fastrnn.RNN])
def test_the_gradient_of_weight_hh_takes_the_state_of_backward(kind):
    run = Run(kind, path(x=lambda x: x[:1]))
    before = run.gradients()
    run.h0 *= 2
    assert_changed(run.gradients(), before, weight_hh_l0=2)


@pytest.mark.parametrize("way", CHECKPOINTED)
@kinds
def test_a_tape_with_checkpoints_has_a_state_of_its_own(kind, way):
    run = Run(kind, CHECKPOINTED[way])
    before = run.gradients()
    run.h0 *= 2
    run.c0 *= 2
    assert_changed(run.gradients(), before)


@pytest.mark.parametrize("way", WAYS | CHECKPOINTED)
@kinds
def test_parameters_lengths_resets_final_states_and_earlier_gradients_may_change(kind, way):
    make, forward, backward, lay_out = (WAYS | CHECKPOINTED)[way]
    forward = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in forward.items()}
    run = Run(kind, (make, forward, backward, lay_out))
    first = run.gradients()
    before = {name: array.copy() for name, array in first.items()}
    written = [*first.values(), *run.layer.parameters.values(), *forward.values()]
    written += run.final if isinstance(run.final, tuple) else [run.final]
    for array in written:
        if isinstance(array, np.ndarray):
            array[...] = 1
    assert_changed(run.gradients(), before)


@pytest.mark.parametrize("way", WAYS | CHECKPOINTED)
@kinds
def test_y_is_read_only(kind, way):
    run = Run(kind, (WAYS | CHECKPOINTED)[way])
    with pytest.raises(ValueError, match="read-only"):
        run.y[...] = 0


@pytest.mark.parametrize("way", ["batch_first", "lengths"])
def test_a_write_to_the_memory_of_y_reaches_the_gradient_of_weight_hh(way):
    """In an LSTM, only this gradient reads y."""
    make, forward, backward, lay_out = WAYS[way]
    run = Run(fastrnn.LSTM, (make | {"batch_first": True}, forward | {"resets": np.zeros((B, T), bool)}, backward,
                             lambda x: lay_out(x) if make else x.swapaxes(0, 1)), with_state=False)  # fmt: skip
    before = run.gradients()
    run.y.flags.writeable = True
    run.y[...] *= 2
    assert_changed(run.gradients(), before, weight_hh_l0=2)

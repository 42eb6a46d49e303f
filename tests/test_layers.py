"""Stacks of layers compared with the reference, and promises beyond one cell."""

import itertools
import pickle

import bounds
import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from fastrnn.testing import reference
from hypothesis import given
from hypothesis import strategies as st
from strategies import KINDS, members, pair, stacks

STEP = 1e-30


def expect(cell, layer, arrays, parameters):
    """y in the user's layout, h_n, c_n."""
    swap = (lambda a: a.swapaxes(0, 1)) if layer.batch_first else (lambda a: a)
    y, *finals = reference.stack(
        cell, swap(arrays["x"]), parameters, arrays["h0"], arrays["c0"], layer.num_layers, layer.bidirectional
    )
    return swap(y), *finals


def sizes(layer, arrays):
    T, B = arrays["x"].shape[1::-1] if layer.batch_first else arrays["x"].shape[:2]
    wide = max(layer.input_size, layer.hidden_size * (1 + layer.bidirectional))
    return layer.dtype, wide, layer.hidden_size, T, B


@given(drawn=stacks())
def test_stack_equals_the_reference(backend, drawn):
    cell, layer, a = drawn
    dtype, I, H, T, _ = sizes(layer, a)
    found_y, found_state = layer(a["x"], pair(cell, a["h0"], a["c0"]))
    longer = {name: array.astype(np.longdouble) for name, array in a.items()}
    parameters = {name: array.astype(np.longdouble) for name, array in layer.parameters.items()}
    y, h_n, c_n = expect(cell, layer, longer, parameters)
    limit = bounds.of_values(dtype, I, H, T, layer.num_layers)
    for found, expected in zip((found_y, *members(cell, found_state)), (y, h_n, c_n), strict=False):
        assert found.dtype == dtype
        bounds.assert_within(found, expected, limit)


@given(drawn=stacks(), dropout=st.sampled_from([0.0, 0.5]))
def test_gradients_of_a_stack_are_the_derivative_of_the_reference(backend, drawn, dropout):
    """Each input and parameter has its own random direction, since errors could cancel in one joint direction."""
    cell, layer, a = drawn
    layer.dropout = dropout
    _, _, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]))
    gradients = layer.backward(tape, a["dy"], pair(cell, a["dh"], a["dc"]))
    found = gradients.parameters | {"x": gradients.x}
    found |= dict(zip(("h0", "c0"), members(cell, gradients.state), strict=False))
    limit = bounds.of_gradients(*sizes(layer, a), layer.num_layers)
    rng = np.random.default_rng(0)
    for name, gradient in found.items():
        direction = rng.standard_normal(gradient.shape)
        point = {key: value.astype(complex) for key, value in (layer.parameters | a).items()}
        point[name] = point[name] + 1j * STEP * direction
        y, h_n, c_n = expect_with_masks(cell, layer, point, tape.masks or [None] * layer.num_layers)
        loss = (a["dy"] * y).sum() + (a["dh"] * h_n).sum() + ((a["dc"] * c_n).sum() if cell == "lstm" else 0)
        size = max(1.0, np.abs(gradient).max(initial=0)) / (1 - dropout) ** layer.num_layers
        off = abs((gradient.astype(float) * direction).sum() - loss.imag / STEP)
        assert off <= limit * size * np.linalg.norm(direction.reshape(-1)), name


def expect_with_masks(cell, layer, point, masks):
    """The reference, layer by layer, with the dropout masks of a tape (time first) on the input of each layer."""
    D = 1 + layer.bidirectional
    x = point["x"].swapaxes(0, 1) if layer.batch_first else point["x"]
    finals = []
    for number, mask in enumerate(masks):
        rows = slice(number * D, (number + 1) * D)
        one = {name.replace(f"_l{number}", "_l0"): value for name, value in point.items() if f"_l{number}" in name}
        x = x if mask is None else x * mask
        x, *final = reference.stack(cell, x, one, point["h0"][rows], point["c0"][rows], 1, layer.bidirectional)
        finals.append(final)
    h_n, c_n = (np.concatenate(members) for members in zip(*finals, strict=True))
    return (x.swapaxes(0, 1) if layer.batch_first else x), h_n, c_n


@given(drawn=stacks())
def test_training_without_dropout_gives_the_bits_of_inference(backend, drawn):
    cell, layer, a = drawn
    y, state = layer(a["x"], pair(cell, a["h0"], a["c0"]))
    y_training, state_training, _ = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]))
    assert same_bits(y, y_training)
    for one, other in zip(members(cell, state), members(cell, state_training), strict=True):
        assert same_bits(one, other)


@given(drawn=stacks(batch_first=False))
def test_batch_first_only_swaps_the_axes(backend, drawn):
    cell, layer, a = drawn
    y, _, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]))
    g = layer.backward(tape, a["dy"])
    layer.batch_first = True
    swapped = np.ascontiguousarray(a["x"].swapaxes(0, 1)), np.ascontiguousarray(a["dy"].swapaxes(0, 1))
    y_swapped, _, tape = layer.forward(swapped[0], pair(cell, a["h0"], a["c0"]))
    g_swapped = layer.backward(tape, swapped[1])
    assert y_swapped.flags.c_contiguous
    assert same_bits(y_swapped.swapaxes(0, 1), y)
    assert same_bits(g_swapped.x.swapaxes(0, 1), g.x)
    for name, gradient in g.parameters.items():
        assert same_bits(g_swapped.parameters[name], gradient), name


@given(drawn=stacks())
def test_one_sequence_needs_no_batch_axis(backend, drawn):
    cell, layer, a = drawn
    one = (slice(0, 1),) if layer.batch_first else (slice(None), slice(0, 1))
    alone = (0,) if layer.batch_first else (slice(None), 0)
    state = pair(cell, a["h0"][:, :1], a["c0"][:, :1]), pair(cell, a["h0"][:, 0], a["c0"][:, 0])
    y, final, tape = layer.forward(a["x"][one], state[0])
    g = layer.backward(tape, a["dy"][one], pair(cell, a["dh"][:, :1], a["dc"][:, :1]))
    y_alone, final_alone, tape = layer.forward(a["x"][alone], state[1])
    g_alone = layer.backward(tape, a["dy"][alone], pair(cell, a["dh"][:, 0], a["dc"][:, 0]))
    assert same_bits(y_alone, y[0] if layer.batch_first else y[:, 0])
    assert same_bits(g_alone.x, g.x[0] if layer.batch_first else g.x[:, 0])
    for found, expected in zip(members(cell, final_alone), members(cell, final), strict=True):
        assert same_bits(found, expected[:, 0])
    for found, expected in zip(members(cell, g_alone.state), members(cell, g.state), strict=True):
        assert same_bits(found, expected[:, 0])
    for name, gradient in g.parameters.items():
        assert same_bits(g_alone.parameters[name], gradient), name


@given(drawn=stacks(bidirectional=False), data=st.data())
def test_a_stack_fed_in_pieces_has_the_bits_of_the_whole(backend, drawn, data):
    cell, layer, a = drawn
    axis = 1 if layer.batch_first else 0
    cut = data.draw(st.integers(0, a["x"].shape[axis]))
    y, final = layer(a["x"], pair(cell, a["h0"], a["c0"]))
    first, second = np.split(a["x"], [cut], axis=axis)
    y1, state = layer(first, pair(cell, a["h0"], a["c0"]))
    y2, state = layer(second, state)
    assert same_bits(np.concatenate([y1, y2], axis=axis), y)
    for found, expected in zip(members(cell, state), members(cell, final), strict=True):
        assert same_bits(found, expected)


@given(drawn=stacks())
def test_absent_state_and_gradients_are_zeros(backend, drawn):
    cell, layer, a = drawn
    zero = np.zeros_like(a["h0"])
    y, _, tape = layer.forward(a["x"])
    y_zero, _, tape_zero = layer.forward(a["x"], pair(cell, zero, zero))
    assert same_bits(y, y_zero)
    for dy, dstate in itertools.product((None, a["dy"]), (None, pair(cell, a["dh"], a["dc"]))):
        g = layer.backward(tape, dy, dstate)
        dy_zero = np.zeros_like(a["dy"]) if dy is None else dy
        g_zero = layer.backward(tape_zero, dy_zero, pair(cell, zero, zero) if dstate is None else dstate)
        np.testing.assert_array_equal(g.x, g_zero.x)
        for name, gradient in g.parameters.items():
            np.testing.assert_array_equal(gradient, g_zero.parameters[name])


@given(drawn=stacks())
def test_calls_modify_nothing_and_take_read_only_arrays(backend, drawn):
    cell, layer, a = drawn
    everything = a | layer.parameters
    before = {name: array.copy() for name, array in everything.items()}
    for array in everything.values():
        array.flags.writeable = False
    _, _, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]))
    first = layer.backward(tape, a["dy"], pair(cell, a["dh"], a["dc"]))
    second = layer.backward(tape, a["dy"], pair(cell, a["dh"], a["dc"]))
    for name, array in everything.items():
        assert same_bits(array, before[name]), name
    assert same_bits(first.x, second.x)
    for name, gradient in first.parameters.items():
        assert same_bits(gradient, second.parameters[name]), name


def dropping(seed=3, dropout=0.4):
    layer = fastrnn.GRU(5, 40, num_layers=3, dropout=dropout, seed=seed)
    return layer, np.random.default_rng(0).standard_normal((11, 9, 5)).astype(np.float32)


def test_dropout_masks_scale_what_they_keep_and_spare_the_input(backend):
    layer, x = dropping()
    _, _, tape = layer.forward(x)
    assert tape.masks[0] is None
    for mask in tape.masks[1:]:
        kept = mask != 0
        assert (mask[kept] == np.float32(1 / 0.6)).all()
        n = mask.size
        assert abs(kept.sum() - 0.6 * n) < 6 * np.sqrt(n * 0.6 * 0.4)
    assert not same_bits(tape.masks[1], tape.masks[2])


def test_dropout_follows_the_seed_and_changes_from_call_to_call(backend):
    layer, x = dropping()
    same, _ = dropping()
    other, _ = dropping(seed=4)
    first, second = layer.forward(x)[0], layer.forward(x)[0]
    assert not same_bits(first, second)
    assert same_bits(same.forward(x)[0], first)
    assert same_bits(same.forward(x)[0], second)
    assert not same_bits(other.forward(x)[2].masks[1], dropping()[0].forward(x)[2].masks[1])


def test_inference_drops_nothing(backend):
    layer, x = dropping()
    without, _ = dropping(dropout=0.0)
    y, state = layer(x)
    assert same_bits(y, without(x)[0])
    assert same_bits(y, layer(x)[0])
    assert same_bits(state, without(x)[1])


@given(drawn=stacks(), dropout=st.sampled_from([0.0, 0.25]))
def test_a_saved_layer_comes_back_with_its_bits(drawn, dropout, tmp_path_factory):
    _, layer, a = drawn
    layer.dropout = dropout
    layer.forward(a["x"])
    path = tmp_path_factory.mktemp("saved") / "layer.npz"
    layer.save(path)
    loaded = type(layer).load(path)
    assert repr(loaded) == repr(layer)
    assert list(loaded.parameters) == list(layer.parameters)
    for name, array in layer.parameters.items():
        assert same_bits(loaded.parameters[name], array), name
    assert same_bits(loaded.forward(a["x"])[0], layer.forward(a["x"])[0])


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)])
def test_parameters_have_the_names_order_and_shapes_of_torch(kind, gates):
    layer = KINDS[kind](5, 7, num_layers=2, bidirectional=True)
    rows, expected = gates * 7, {}
    for number, width in ((0, 5), (1, 14)):
        for direction in ("", "_reverse"):
            suffix = f"l{number}{direction}"
            expected |= {
                f"weight_ih_{suffix}": (rows, width), f"weight_hh_{suffix}": (rows, 7),
                f"bias_ih_{suffix}": (rows,), f"bias_hh_{suffix}": (rows,),
            }  # fmt: skip
    assert {name: array.shape for name, array in layer.parameters.items()} == expected
    assert list(layer.parameters) == list(expected)
    assert all((np.abs(array) <= 1 / np.sqrt(7)).all() for array in layer.parameters.values())
    assert max(np.abs(array).max() for array in layer.parameters.values()) > 0.9 / np.sqrt(7)


def test_initial_parameters_follow_the_seed():
    one, same, other = (fastrnn.LSTM(3, 4, seed=s).parameters["weight_hh_l0"] for s in (1, 1, 2))
    assert same_bits(one, same)
    assert not same_bits(one, other)


@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_steps_or_no_sequences_give_empty_outputs_and_the_state_back(backend, kind, bidirectional, T, B):
    layer = KINDS[kind](5, 6, num_layers=2, bidirectional=bidirectional, seed=0)
    D, rng = 1 + bidirectional, np.random.default_rng(0)
    state = pair(kind, *rng.standard_normal((2, 2 * D, B, 6)).astype(np.float32))
    y, final, tape = layer.forward(np.empty((T, B, 5), np.float32), state)
    assert y.shape == (T, B, 6 * D)
    gradients = layer.backward(tape, np.empty_like(y), state)
    assert gradients.x.shape == (T, B, 5)
    for found in (final, gradients.state):
        for one, other in zip(members(kind, found), members(kind, state), strict=True):
            assert same_bits(one, other)
    assert not any(gradient.any() for gradient in gradients.parameters.values())


def test_replaced_parameters_are_read_at_the_next_call(backend):
    layer = fastrnn.LSTM(3, 4, seed=0)
    x = np.ones((2, 1, 3), np.float32)
    before, _ = layer(x)
    layer.parameters["weight_hh_l0"] *= 2
    changed, _ = layer(x)
    layer.parameters["weight_hh_l0"] = layer.parameters["weight_hh_l0"] / 2
    restored, _ = layer(x)
    assert not same_bits(before, changed)
    assert same_bits(before, restored)


def test_files_have_the_name_that_was_asked_for_and_a_failure_leaves_no_other(tmp_path, monkeypatch):
    layer = fastrnn.GRU(3, 4, seed=0)
    layer.save(tmp_path / "a.b")
    assert [path.name for path in tmp_path.iterdir()] == ["a.b.npz"]
    (tmp_path / "a.b.npz").rename(tmp_path / "c")
    assert same_bits(fastrnn.GRU.load(tmp_path / "c").parameters["weight_hh_l0"], layer.parameters["weight_hh_l0"])

    def failing(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", failing)
    with pytest.raises(OSError, match="disk full"):
        layer.save(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_x_may_be_misaligned_or_lie_in_records_of_odd_size(backend):
    layer, x = fastrnn.GRU(3, 4, seed=0), np.random.default_rng(0).standard_normal((5, 2, 3)).astype(np.float32)
    shifted = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    records = np.zeros(x.shape[:2], [("x", np.float32, 3), ("mark", np.uint8)])
    aligned = np.zeros(5 * 2 * 14 + 4, np.uint8)[:140].view([("x", np.float32, 3), ("marks", np.uint8, 2)])
    for other in (shifted, records["x"], aligned.reshape(5, 2)["x"]):
        other[...] = x
        assert same_bits(layer(other)[0], layer(x)[0])


def test_replaced_parameters_may_have_any_strides(backend):
    layer, x = fastrnn.GRU(3, 4, seed=0), np.ones((5, 2, 3), np.float32)
    y, _ = layer(x)
    y_trained, _, _ = layer.forward(x)
    for name, array in layer.parameters.items():
        spaced = np.repeat(array, 2, axis=0)[::2]
        layer.parameters[name] = np.asfortranarray(spaced) if name == "weight_hh_l0" else spaced
    assert same_bits(layer(x)[0], y)
    assert same_bits(layer.forward(x)[0], y_trained)
    stream = layer.stream(2)
    assert same_bits(stream(x[0]), y[0])


@pytest.mark.parametrize("options", [{}, {"lengths": [5, 2]}, {"resets": np.ones((5, 2), bool)}, {"checkpoint": 2}])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_y_is_read_only_where_a_tape_refers_to_it(options, bidirectional):
    layer = fastrnn.GRU(3, 4, bidirectional=bidirectional, seed=0)
    y, _, _ = layer.forward(np.ones((5, 2, 3), np.float32), **options)
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 0


def test_tapes_keep_the_parameters_they_were_made_with(backend):
    layer = fastrnn.GRU(3, 4, num_layers=2, seed=0)
    x = np.ones((5, 2, 3), np.float32)
    y, _, tape = layer.forward(x)
    first = layer.backward(tape, y)
    for array in layer.parameters.values():
        array *= 3
    second = layer.backward(tape, y)
    assert same_bits(first.x, second.x)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_cells_can_be_pickled(cell):
    function = getattr(fastrnn, cell)
    assert pickle.loads(pickle.dumps(function)) is function

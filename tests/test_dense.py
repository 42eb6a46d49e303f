"""Short training calls read unpacked weights, and have the bits of packed weights."""

import copy
import gc
import pickle
import weakref

import fastrnn
import numpy as np
import pytest
from core_call import CoreCall, assert_same_bits, same_bits
from fastrnn import _core, _plan, config
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, make, members, pair, problems, seeds, stacks


@given(p=problems(), threads=st.sampled_from([1, 2, 5]))
def test_weights_as_they_are_give_the_bits_of_packed_ones(backend, p, threads):
    found = CoreCall(p, threads, packs=False)
    assert_same_bits(found.outputs, CoreCall(p, threads).outputs)
    assert all(guarded.intact() for guarded in found.guarded.values())


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("cut", ["sequences", "units"])
@pytest.mark.parametrize(("T", "B"), [(1, 9), (3, 16), (2, 100)])
@pytest.mark.parametrize("cell", _core.cells())
def test_products_of_many_rows_pack_some_blocks_at_a_time(backend, cell, T, B, cut, threads):
    """More than LAYOUT_UNPACKED_ROWS rows; 100 are more than a strip has, and H fills more than one room."""
    p = make(cell, T, B, I=21, H=77, dtype="float32", seed=T * B)
    found = CoreCall(p, threads, packs=False, cut=cut)
    assert_same_bits(found.outputs, CoreCall(p).outputs)
    assert all(guarded.intact() for guarded in found.guarded.values())


@given(p=problems(), bias=st.sampled_from([(True, False), (False, True), (False, False)]))
def test_an_absent_bias_is_zero_for_weights_as_they_are(backend, p, bias):
    for name, there in zip(("b_ih", "b_hh"), bias, strict=True):
        p.arrays[name][...] = p.arrays[name] if there else 0
    expected = CoreCall(p, packs=False).outputs["y"]
    dtype, index = p.x.dtype, config.backend_index()
    problem = _core.Problem(p.cell, dtype, index, 1, p.T, p.B, p.I, p.H)
    y, scratch = np.empty((p.T, p.B, p.H), dtype), np.empty(problem.scratch_forward, np.uint8)
    biases = [array if there else None for array, there in zip((p.b_ih, p.b_hh), bias, strict=True)]
    _core.forward(problem, None, p.x, p.initial, y, None, None, scratch, None, (p.w_ih, p.w_hh, *biases))
    assert same_bits(y, expected)


def test_a_core_call_without_any_weights_is_refused():
    problem = _core.Problem("lstm", "float32", config.backend_index(), 1, 1, 1, 2, 3)
    x, y, scratch = np.zeros((1, 1, 2), "f"), np.zeros((1, 1, 3), "f"), np.zeros(problem.scratch_forward, np.uint8)
    with pytest.raises(ValueError, match="a required array is missing"):
        _core.forward(problem, None, x, None, y, None, None, scratch)
    weights = np.zeros((12, 2), "f"), None, None, None
    with pytest.raises(ValueError, match="a required array is missing"):
        _core.forward(problem, None, x, None, y, None, None, scratch, None, weights)


def train(layer, cell, a, y_gradient=True, **options):
    """y, the final states and all gradients, and the tape."""
    y, state, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]), **options)
    found = layer.backward(tape, a["dy"] if y_gradient else None, pair(cell, a["dh"], a["dc"]))
    arrays = {"y": y, "x": found.x, **found.parameters}
    for name, values in (("state", state), ("gradient", found.state)):
        arrays |= {f"{name}{j}": member for j, member in enumerate(members(cell, values))}
    return arrays, tape


def packed(layer):
    """The same layer with packed weights for every call."""
    frozen = copy.deepcopy(layer)
    frozen.freeze()
    return frozen


@given(drawn=stacks(), threads=st.sampled_from([1, 2]))
def test_a_dense_call_has_the_bits_of_packed_weights(backend, drawn, threads):
    cell, layer, a = drawn
    fastrnn.set_num_threads(threads)
    (found, _), (expected, _) = train(layer, cell, a), train(packed(layer), cell, a)
    assert_same_bits(found, expected)
    assert all(type(found[name]) is np.ndarray and found[name].flags.aligned for name in found)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("dtype", "I", "H"), [(np.float32, 512, 512), (np.float32, 530, 419), (np.float64, 320, 352)])
def test_weights_and_gradients_beyond_the_caches_have_the_bits_of_packed_ones(backend, dtype, I, H, threads):
    """For more than 2 MiB, kernels prefetch the next weights and write whole vectors with non-temporal stores."""
    layer, rng = fastrnn.GRU(I, H, dtype=dtype, seed=0), np.random.default_rng(0)
    shapes = {"x": (1, 2, I), "dy": (1, 2, H), "h0": (1, 2, H), "dh": (1, 2, H)}
    a = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()} | {"c0": None, "dc": None}
    fastrnn.set_num_threads(threads)
    assert_same_bits(train(layer, "gru", a)[0], train(packed(layer), "gru", a)[0])


@given(drawn=stacks(bidirectional=False, batch_first=False), steps=st.sampled_from([1, 3]))
def test_a_dense_call_without_batch_axis_has_the_bits_of_a_batch_of_one(backend, drawn, steps):
    cell, layer, a = drawn
    alone = {name: array[:, 0] for name, array in a.items()}
    a = {name: array[:, :1] for name, array in a.items()}
    found, _ = train(layer, cell, alone)
    expected, _ = train(layer, cell, a)
    for name, array in expected.items():
        if name in layer.parameters:
            assert same_bits(found[name], array), name
        else:
            assert same_bits(found[name], array[:, 0]), name


@given(drawn=stacks(bidirectional=False), k=st.sampled_from([1, 2, (1, 3)]))
def test_a_dense_tape_can_be_truncated(backend, drawn, k):
    _, layer, a = drawn
    found, expected = (one.backward(one.forward(a["x"])[2], a["dy"], truncation=k) for one in (layer, packed(layer)))
    assert same_bits(found.x, expected.x)
    assert_same_bits(found.parameters, expected.parameters)


@given(drawn=stacks(bidirectional=False), seed=seeds)
def test_a_dense_tape_keeps_the_weights_as_they_were(drawn, seed):
    _, layer, a = drawn
    _, _, tape = layer.forward(a["x"])
    expected = layer.backward(tape, a["dy"])
    for array in layer.parameters.values():
        array[...] = np.random.default_rng(seed).standard_normal(array.shape)
    for _ in range(2):
        found = layer.backward(tape, a["dy"])
        assert same_bits(found.x, expected.x)
        assert_same_bits(found.parameters, expected.parameters)


@given(drawn=stacks(bidirectional=False), B=batches)
def test_arguments_that_the_core_cannot_read_are_converted(drawn, B):
    """Converted arguments, absent arguments, and memory that the core cannot read."""
    cell, layer, a = drawn
    expected, _ = train(layer, cell, a)
    wide = {name: np.stack([array, array], -1)[..., 0] for name, array in a.items()}  # no contiguous last axis
    found, _ = train(layer, cell, wide)
    assert_same_bits(found, expected)
    _, _, tape = layer.forward(a["x"], pair(cell, a["h0"], a["c0"]))
    lists = layer.backward(tape, a["dy"], [a["dh"], a["dc"]] if cell == "lstm" else a["dh"])
    assert_same_bits(lists.parameters, {name: expected[name] for name in layer.parameters})
    layer.parameters = {name: np.asfortranarray(array) for name, array in layer.parameters.items()}
    found, _ = train(layer, cell, a)
    assert_same_bits(found, expected)


def test_a_dense_tape_belongs_to_its_layer_and_its_process():
    layer, x = fastrnn.GRU(3, 4, seed=0), np.zeros((1, 1, 3), np.float32)
    _, _, tape = layer.forward(x)
    with pytest.raises(ValueError, match="tape: expected a tape of this layer, got one of another"):
        fastrnn.GRU(3, 4, seed=0).backward(tape)
    with pytest.raises(TypeError):
        pickle.dumps(tape)
    with pytest.raises(TypeError, match="made by a forward call"):
        _plan.Tape()
    with pytest.raises(ValueError, match=r"dy: expected shape"):
        layer.backward(tape, np.zeros((1, 2, 4), np.float32))
    with pytest.raises(TypeError, match=r"dstate: expected dtype float32"):
        layer.backward(tape, None, np.zeros((1, 1, 4)))


def test_copies_of_a_layer_that_has_trained_train_on():
    layer, x = fastrnn.LSTM(3, 4, seed=0), np.ones((1, 1, 3), np.float32)
    y, _, _ = layer.forward(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert same_bits(other.forward(x)[0], y)
    layer.batch_first = True
    assert layer.forward(np.ones((2, 5, 3), np.float32))[1][0].shape == (1, 2, 4)


def test_a_dense_tape_is_freed_with_what_it_keeps():
    layer = fastrnn.LSTM(3, 4, seed=0)
    x = np.ones((1, 1, 3), np.float32)
    y, _, tape = layer.forward(x)
    assert not y.flags.writeable
    reference = weakref.ref(y)
    del y, tape
    gc.collect()
    assert reference() is None

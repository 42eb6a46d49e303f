"""Packed weights that short calls share while the parameters do not change."""

import gc
import threading

import fastrnn
import numpy as np
import pytest
from fastrnn import _core, cell_arguments, config

H = 128  # large enough for weights to be kept
named = pytest.mark.parametrize
NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def new_layer(T=5, B=3, **options):
    layer = fastrnn.LSTM(H, H, seed=1, **options)
    return layer, np.random.default_rng(2).standard_normal((T, B, H)).astype(np.float32)


def expected(layer, x):
    """The output of a layer that has packed nothing before."""
    fresh = fastrnn.LSTM(H, H, layer.num_layers, seed=1)
    fresh.parameters = {name: array.copy() for name, array in layer.parameters.items()}
    return fresh(x)[0]


@named("name", NAMES)
def test_a_call_sees_a_write_to_any_element(name):
    layer, x = new_layer()
    array = layer.parameters[name].reshape(-1)
    for position in {0, 1, 2, 3, 77, array.size // 2 + 1, array.size - 2, array.size - 1}:
        for _ in range(4):
            layer(x)
        array[position] += 1
        np.testing.assert_array_equal(layer(x)[0], expected(layer, x))


def test_a_call_sees_replaced_parameters():
    layer, x = new_layer(num_layers=2)
    for _ in range(4):
        layer(x)
    layer.parameters = {name: array + np.float32(0.5) for name, array in layer.parameters.items()}
    np.testing.assert_array_equal(layer(x)[0], expected(layer, x))


def test_negative_zero_counts_as_a_change():
    layer, x = new_layer()
    bias = layer.parameters["bias_ih_l0"]
    bias[:] = 0
    for _ in range(4):
        layer(x)
    bias[:] = -0.0
    np.testing.assert_array_equal(layer(x)[0], expected(layer, x))


def test_gradients_are_those_of_the_weights_of_their_forward_call():
    layer, x = new_layer()
    tapes = []
    for step in range(6):
        y, _, tape = layer.forward(x)
        tapes.append((tape, y, {name: array.copy() for name, array in layer.parameters.items()}))
        if step == 3:
            layer.parameters["weight_hh_l0"][5, 7] += 1
    for tape, y, parameters in tapes:
        fresh = fastrnn.LSTM(H, H)
        fresh.parameters = parameters
        of_fresh = fresh.backward(fresh.forward(x)[2], y)
        found = layer.backward(tape, y)
        np.testing.assert_array_equal(found.x, of_fresh.x)
        for name in NAMES:
            np.testing.assert_array_equal(found.parameters[name], of_fresh.parameters[name])


def test_functions_see_writes_and_new_arrays():
    layer, x = new_layer()
    weights = [layer.parameters[name].copy() for name in NAMES]
    for _ in range(4):
        y, _ = fastrnn.lstm(x, *weights)
    np.testing.assert_array_equal(y, layer(x)[0])
    weights[1][3, 4] += 1
    layer.parameters["weight_hh_l0"][3, 4] += 1
    np.testing.assert_array_equal(fastrnn.lstm(x, *weights)[0], expected(layer, x))
    np.testing.assert_array_equal(fastrnn.lstm(x, *[array.copy() for array in weights])[0], expected(layer, x))


def test_what_is_kept_for_a_function_dies_with_its_weights():
    layer, x = new_layer()
    weights = [layer.parameters[name].copy() for name in NAMES]
    for _ in range(4):
        fastrnn.lstm(x, *weights)
    network = cell_arguments._networks.kept["lstm", np.dtype(np.float32), H, H, False]
    assert network.keeps_weights
    del weights
    gc.collect()
    assert not network.keeps_weights


def test_nothing_is_kept_while_weights_change():
    layer, x = new_layer()
    for _ in range(5):
        layer.parameters["weight_hh_l0"][:] *= np.float32(0.9)
        layer(x)
        assert not layer._network.keeps_weights


def test_kept_weights_belong_to_a_backend():
    names = [backend.name for backend in _core.backends() if backend.runs_here]
    layer, x = new_layer()
    found = {}
    for name in [*names, *names]:
        with config.use_backend(name):
            for _ in range(4):
                y, _ = layer(x)
            np.testing.assert_array_equal(y, found.setdefault(name, y))


def test_threads_that_share_a_layer_agree():
    layer, x = new_layer()
    reference = expected(layer, x)
    wrong = []

    def call():
        for _ in range(50):
            wrong.extend([] if np.array_equal(layer(x)[0], reference) else [1])

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

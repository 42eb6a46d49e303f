"""Attributes of torch's modules may change between calls: every path of our modules sees the change, as torch does."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastrnn.torch import packed_weights
from fastrnn.torch._tensor_arrays import TensorArrays
from torch_cases import CELLS, KINDS, assert_close, flat, make_pair

LAYER_CHANGES = {
    "batch_first": [True], "training": [False], "dropout": [0.0, 0.5, 2.0], "input_size": [5], "hidden_size": [3, 6],
    "num_layers": [1, 2, 3], "bias": [False, True], "bidirectional": [True, False], "proj_size": [2],
    "mode": ["RNN_RELU", "RNN_TANH", "GRU", "LSTM", "other"], "nonlinearity": ["relu", "tanh"],
}  # fmt: skip
CELL_CHANGES = {"input_size": [5], "hidden_size": [3, 6], "bias": [False, True], "nonlinearity": ["relu", "tanh", "no"]}
SHAPES = [{}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False}]


def outcome(module, *arguments):
    """The values, or the type and text of the error."""
    try:
        return [t.detach() for t in flat(module(*arguments))]
    except Exception as error:
        return type(error), str(error)


def assert_alike(ours, theirs, *arguments):
    expected = outcome(theirs, *arguments)
    for _ in range(3):
        found = outcome(ours, *arguments)
        if isinstance(expected, tuple) or isinstance(found, tuple):
            assert found == expected
        elif not (theirs.training and getattr(theirs, "dropout", 0)):
            assert_close(found, expected)


def assert_the_change_is_seen(pair, x, states, name, value):
    with torch.no_grad():
        for state in states(pair[0]):
            for _ in range(3):  # the third call repeats the second
                pair[1](x, state)
    for module in pair:
        setattr(module, name, value)
    for needs_graph in (False, True):
        with torch.set_grad_enabled(needs_graph):
            for state in states(pair[0]):
                assert_alike(*reversed(pair), x, state)


@pytest.mark.parametrize("options", SHAPES, ids=str)
@pytest.mark.parametrize("name", LAYER_CHANGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("I", [3, 4])
def test_a_changed_attribute_of_a_layer_does_what_it_does_in_torch(kind, name, options, I):
    def states(module):
        """None, and states with the shape that the attributes require."""
        shape = module.num_layers * (2 if module.bidirectional else 1), 4, module.hidden_size
        h = torch.linspace(-1, 1, shape[0] * shape[1] * shape[2]).reshape(shape).double()
        return None, ((h, h.cos()) if kind == "LSTM" else h)

    for value in LAYER_CHANGES[name]:
        torch.manual_seed(0)
        pair = make_pair(kind, I, 4, **options)
        x = torch.randn(4, 4, I, dtype=torch.float64)
        assert_the_change_is_seen(pair, x, states, name, value)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CELL_CHANGES)
@pytest.mark.parametrize("kind", CELLS)
def test_a_changed_attribute_of_a_cell_does_what_it_does_in_torch(kind, name, bias):
    def states(module):
        h = torch.linspace(-1, 1, 2 * module.hidden_size).reshape(2, -1).double()
        return None, ((h, h.cos()) if kind == "LSTMCell" else h)

    for value in CELL_CHANGES[name]:
        torch.manual_seed(0)
        assert_the_change_is_seen(
            make_pair(kind, 3, 4, bias=bias), torch.randn(2, 3, dtype=torch.float64), states, name, value
        )


@pytest.mark.parametrize("kind", CELLS)
def test_biases_that_a_cell_gets_later_count(kind):
    torch.manual_seed(0)
    pair, x = make_pair(kind, 3, 4, bias=False), torch.randn(2, 3, dtype=torch.float64)
    bias = torch.randn(pair[0].weight_hh.shape[0], dtype=torch.float64)
    with torch.no_grad():
        for _ in range(3):
            pair[1](x)
        for name in ("bias_hh", "bias_ih"):
            for module in pair:
                setattr(module, name, torch.nn.Parameter(bias))
            assert_alike(*reversed(pair), x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "bias_ih_l0", "bias_hh_l1"])
def test_a_parameter_of_another_shape_is_refused_as_by_torch(kind, name):
    for axis in (0, -1):
        torch.manual_seed(0)
        pair, x = make_pair(kind, 3, 4, num_layers=2), torch.randn(2, 2, 3, dtype=torch.float64)
        with torch.no_grad():
            for _ in range(3):
                pair[1](x)
        old = getattr(pair[0], name)
        shape = list(old.shape)
        shape[axis] += 1
        parameter = torch.nn.Parameter(torch.randn(shape, dtype=torch.float64))
        for module in pair:
            setattr(module, name, parameter)
        assert isinstance(outcome(pair[0], x), tuple)
        assert_alike(*reversed(pair), x)


def test_the_operator_refuses_weights_that_do_not_fit():
    from fastrnn.torch.keys import key_of
    from fastrnn.torch.operator import recurrence
    from fastrnn.torch.plan import Network

    module = make_pair("LSTM", 3, 4, num_layers=2)[1]
    x, weights = torch.randn(2, 2, 3, dtype=torch.float64), list(module.parameters())
    for layers, directions, hidden_size in ((1, 1, 4), (1, 2, 4), (3, 1, 4), (2, 1, 3), (2, 1, 5)):
        key = key_of(Network("lstm", layers, directions, hidden_size, True), "dense", None, True)
        with pytest.raises(ValueError, match="weights: expected tensors of shapes"):
            recurrence(x, [None] * 2, weights, None, [None] * 3, key)
    key = key_of(Network("lstm", 2, 1, 4, True), "dense", None, True)
    with pytest.raises(ValueError, match="states: expected a tensor for each state"):
        recurrence(x, [torch.zeros(2, 2, 4, dtype=torch.float64), None], weights, None, [None] * 3, key)
    for wrong in ("", "lstm", f"{key} more=1", key.replace("k1=0 ", ""), key.replace("=2", "=two")):
        with pytest.raises(ValueError, match="key: expected"):
            recurrence(x, [None] * 2, weights, None, [None] * 3, wrong)


def test_a_repeated_call_of_sizes_that_do_not_fit_is_refused():
    """A repeated call writes its memory without further checks."""
    module = make_pair("LSTM", 3, 100)[1]  # weights that are kept
    x, made, original = torch.randn(5, 2, 3, dtype=torch.float64), [], packed_weights.Repeat
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(packed_weights, "Repeat", lambda *arguments: made.append(arguments) or original(*arguments))
        for _ in range(3):
            module(x)
    configuration, plan, arrays, packed, parameters, (x_shape, state_shape), *rest = made[-1]
    for weights in (packed * 2, packed[:0], [packed[0][:-1]]):
        with pytest.raises(ValueError, match="packed"):
            original(configuration, plan, arrays, weights, parameters, (x_shape, state_shape), *rest)
    for shapes in (((*x_shape[:-1], 5), state_shape), (x_shape, (1, 2, 5)), (x_shape, (2, 2, 4))):
        with pytest.raises(ValueError, match="expected those of the plan"):
            original(configuration, plan, arrays, packed, parameters, shapes, *rest)
    outlines, names = (torch.empty(5, 2, 5), torch.empty(1, 2, 5)), (torch.empty_like, torch.from_numpy, torch.empty(0))
    others = TensorArrays("dense", np.dtype(np.float64), outlines, names, (5, 2), 2, 5, True)
    with pytest.raises(ValueError, match="arrays: expected those of the plan"):
        original(configuration, plan, others, packed, parameters, (x_shape, state_shape), *rest)

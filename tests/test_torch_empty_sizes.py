"""No units, no inputs, no sequences: our modules accept everything that torch's modules accept, on every path."""

import pytest

torch = pytest.importorskip("torch")

import fastrnn
import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import CELLS, KINDS, assert_close, flat, make_pair

SIZES = [(4, 0), (0, 4), (0, 0)]  # I, H


class Mode(TorchDispatchMode):
    """Sends calls through the operator."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def infer(module, x, hx):
    with torch.no_grad():
        for _ in range(3):
            outputs = flat(module(x, hx))
    return outputs


def train(module, x, hx, **more):
    leaves = [x.requires_grad_(), *module.parameters()]
    outputs = flat(module(x, hx))
    loss = sum(y.square().sum() for y in outputs)
    return [*outputs, *torch.autograd.grad(loss, leaves, **more)]


def train_twice(module, x, hx):
    first = train(module, x, hx, create_graph=True)
    loss = sum(t.square().sum() for t in first)
    return [*first, *torch.autograd.grad(loss, [x, *module.parameters()])]


def train_by_the_operator(module, x, hx):
    with Mode():
        return train(module, x, hx)


ROUTES = {"inference": infer, "training": train, "second order": train_twice, "operator": train_by_the_operator}


def state_of(kind, shape):
    h = torch.randn(shape, dtype=torch.float64)
    return (h, h.clone()) if "LSTM" in kind else h


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("leading", [(3,), (0,), ()])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", CELLS)
def test_cells_without_units_inputs_or_sequences_equal_torchs(kind, sizes, leading, route):
    theirs, ours = make_pair(kind, *sizes)
    x = torch.randn(*leading, sizes[0], dtype=torch.float64)
    for hx in (None, state_of(kind, (*leading, sizes[1]))):
        assert_close(ROUTES[route](ours, x, hx), ROUTES[route](theirs, x, hx))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", CELLS)
def test_compiled_cells_without_units_or_inputs_equal_torchs(kind, sizes):
    theirs, ours = make_pair(kind, *sizes)
    x = torch.randn(3, sizes[0], dtype=torch.float64)
    torch._dynamo.reset()
    fast = torch.compile(ours, fullgraph=True, backend="aot_eager")
    assert_close(train(fast, x, None), train(theirs, x, None))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_without_sequences_equal_torchs(kind, route):
    theirs, ours = make_pair(kind, 4, 5, num_layers=2)
    x = torch.randn(2, 0, 4, dtype=torch.float64)
    for hx in (None, state_of(kind, (2, 0, 5))):
        assert_close(ROUTES[route](ours, x, hx), ROUTES[route](theirs, x, hx))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("shape", [(0, 3, 4), (0, 0, 4), (0, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_refuse_sequences_without_steps_as_torchs_do(kind, shape, route):
    theirs, ours = make_pair(kind, 4, 5)
    x = torch.randn(shape, dtype=torch.float64)
    with pytest.raises(RuntimeError) as expected:
        ROUTES[route](theirs, x, None)
    with pytest.raises(RuntimeError) as found:
        ROUTES[route](ours, x, None)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("name", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("sizes", [(2, 3, 4, 0), (2, 3, 0, 4), (0, 3, 4, 4), (2, 0, 4, 4), (0, 0, 0, 0)])
def test_functions_on_arrays_take_any_size_that_is_zero(name, sizes):
    (T, B, I, H), cell = sizes, getattr(fastrnn, name)
    rows = {"lstm": 4, "gru": 3}.get(name, 1) * H
    x = np.ones((T, B, I), np.float32)
    weights = [np.ones(shape, np.float32) for shape in ((rows, I), (rows, H), (rows,), (rows,))]
    y, state = cell(x, *weights)
    again, _, tape = cell.forward(x, *weights)
    gradients = cell.backward(tape, np.ones_like(y))
    assert y.shape == (T, B, H)
    assert np.array_equal(again, y)
    assert gradients.x.shape == x.shape
    members = state if isinstance(state, tuple) else (state,)
    assert all(member.shape == (B, H) for member in members)
    if T == 0:
        assert not any(member.any() for member in members)
    if H == 0:
        assert not gradients.x.any()

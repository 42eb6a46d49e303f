"""Training calls of one layer on a dense batch take a short way, with the bits of the long one."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch as drop_in
from fastrnn import _core, config
from fastrnn.torch import single_layer

CELLS = ["LSTM", "GRU", "RNN"]
KINDS = ["dense", "batch_first", "unbatched", "step", "unbatched_step"]
# Weights are read as they are at T = 1, B <= 4, and packed elsewhere.
SIZES = [(1, 1), (1, 4), (1, 7), (3, 2)]


def case(name, kind, size, dtype, bias=True):
    """A module, its input and its states, in leaves of the graph."""
    T, B = size
    I, H = 5, 19
    torch.manual_seed(T + B)
    if kind.endswith("step"):
        module = getattr(drop_in, f"{name}Cell")(I, H, bias=bias, dtype=dtype)
        x, state = ((B, I), (B, H)) if kind == "step" else ((I,), (H,))
    else:
        module = getattr(drop_in, name)(I, H, bias=bias, batch_first=kind == "batch_first", dtype=dtype)
        x = {"dense": (T, B, I), "batch_first": (B, T, I), "unbatched": (T, I)}[kind]
        state = (1, H) if kind == "unbatched" else (1, B, H)
    shapes = [x, *[state] * (2 if name == "LSTM" else 1)]
    return module, [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def train(module, inputs):
    """All outputs and gradients."""
    x, *states = inputs
    found = module(x, tuple(states) if len(states) == 2 else states[0])
    outputs = []
    for member in found if isinstance(found, tuple) else (found,):
        outputs += member if isinstance(member, tuple) else (member,)
    generator = torch.Generator().manual_seed(1)
    d = [torch.randn(out.shape, dtype=out.dtype, generator=generator) for out in outputs]
    return [*outputs, *torch.autograd.grad(outputs, (*inputs, *module.parameters()), d)]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.fixture
def taken(monkeypatch):
    """Counts the calls that the short way made, forward and backward."""
    counts = {"forward": 0, "backward": 0}

    def counting(name, function):
        def call(*arguments):
            found = function(*arguments)
            counts[name] += found is not None
            return found

        return call

    for name in counts:
        monkeypatch.setattr(single_layer, f"run_{name}", counting(name, getattr(single_layer, f"run_{name}")))
    return counts


@pytest.mark.parametrize(("name", "kind"), list(itertools.product(CELLS, KINDS)))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_short_way_has_the_bits_of_the_long_one(monkeypatch, taken, name, kind, size, dtype):
    module, inputs = case(name, kind, size, dtype, bias=dtype == torch.float32)
    found = train(module, inputs)
    assert taken == {"forward": 1, "backward": 1}
    monkeypatch.setattr(single_layer, "call_of", lambda *_: None)
    assert_equal(found, train(module, inputs))
    assert taken == {"forward": 1, "backward": 1}


@pytest.mark.parametrize("name", CELLS)
def test_strided_inputs_and_gradients_change_no_bit(taken, name):
    module, inputs = case(name, "dense", (1, 4), torch.float32)
    found = train(module, inputs)
    strided = [torch.stack([one.detach(), one.detach()], -1)[..., 0].requires_grad_() for one in inputs]
    assert_equal(train(module, strided), found)
    assert taken["forward"] == 1
    y = module(inputs[0])[0]
    (expected,) = torch.autograd.grad(y, inputs[0], torch.ones_like(y), retain_graph=True)
    assert torch.equal(torch.autograd.grad(y.sum(), inputs[0])[0], expected)  # its gradient is one number, expanded


@pytest.mark.parametrize("size", SIZES)
def test_gradients_that_are_not_asked_for_are_not_there(size):
    module, (x, h0, c0) = case("LSTM", "dense", size, torch.float32)
    every = train(module, [x, h0, c0])[3:]
    module.weight_ih_l0.requires_grad_(False)
    y, (h_n, c_n) = module(x, (h0.detach(), c0))
    generator = torch.Generator().manual_seed(1)
    d = [torch.randn(out.shape, generator=generator) for out in (y, h_n, c_n)]
    found = torch.autograd.grad((y, h_n, c_n), (c0, module.weight_hh_l0, module.bias_hh_l0), d)
    assert_equal(found, [every[2], every[4], every[6]])


def test_saved_tensors_may_come_back_elsewhere_in_memory():
    """The reserve is found at the beginning of a line wherever it lies."""
    module, inputs = case("LSTM", "dense", (3, 2), torch.float32)
    found = train(module, inputs)

    def moved(tensor):
        memory = torch.empty(tensor.numel() * tensor.element_size() + 32, dtype=torch.uint8)[32:]
        other = memory.view(tensor.dtype)[: tensor.numel()].view(tensor.shape)
        return other.copy_(tensor.detach())

    with torch.autograd.graph.saved_tensors_hooks(moved, lambda tensor: tensor):
        assert_equal(train(module, inputs), found)


def test_a_write_to_a_weight_before_backward_is_found_out():
    module, (x, *_) = case("GRU", "dense", (1, 1), torch.float32)
    y, _ = module(x)
    with torch.no_grad():
        module.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_byte_of_what_forward_saves_depends_on_what_memory_held(monkeypatch, backend, name, size, dtype):
    module, inputs = case(name, "dense", size, dtype)
    found, empty_like = [], torch.empty_like
    module(inputs[0])  # what is kept for later calls shall not keep the function below
    for byte in (0, 255):
        monkeypatch.setattr(torch, "empty_like", lambda outline, byte=byte: empty_like(outline).fill_(byte))
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor):
            y, _ = module(inputs[0])
            found.append(y.grad_fn.saved_tensors[-1])
    assert found[0].dtype == torch.uint8
    assert torch.equal(*found)


def test_a_call_takes_tensors_of_its_shapes_alone():
    module, (x, _) = case("GRU", "dense", (1, 1), torch.float32)
    problem = _core.Problem("gru", "float32", config.backend_index(), 1, 1, 1, 5, 19)
    outlines, strides = [torch.empty(1, 1, 19)] * 2, (5, 5, 19, 19)
    names = (torch.Tensor, torch.nn.Parameter), torch.float32, torch.empty_like, torch.from_numpy
    call = _core.TensorCall(problem, (1, 1, 5), outlines, (0, None), strides, np.dtype("f"), names, np.empty)
    weights, reserve = list(module.parameters()), torch.empty(problem.reserve, dtype=torch.uint8)
    assert call.forward(x, None, None, weights, None, reserve) is not None
    short = [weights[0][:-1], *weights[1:]]
    for bad in (
        (x[..., :4], None, None, weights, None, reserve),
        (x.double(), None, None, weights, None, reserve),
        (x, x, None, weights, None, reserve),
        (x, None, None, short, None, reserve),
        (x, None, None, weights, None, reserve[1:]),
        (x, None, None, weights, None, None),
    ):
        assert call.forward(*bad) is None

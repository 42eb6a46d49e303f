"""Training calls of one layer on a dense batch: short calls read unpacked weights, with the bits of packed weights."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrnn
import fastrnn.torch as drop_in
from torch_cases import hold_in_new_memory

CELLS = ["LSTM", "GRU", "RNN"]
KINDS = ["dense", "batch_first", "unbatched", "step", "unbatched_step"]
# Backward of calls with up to four rows reads unpacked weights; other calls pack them.
SIZES = [(1, 1), (1, 4), (1, 7), (3, 2)]


def case(name, kind, size, dtype, bias=True):
    """A module, its input and its states, as leaves of the graph."""
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


def train_numpy(module, inputs, kind):
    """The same on a NumPy layer with packed weights."""
    x, *states = (one.detach().numpy() for one in inputs)
    name = type(module).__name__.removesuffix("Cell")
    layer = getattr(fastrnn, name)(module.input_size, module.hidden_size, bias=module.bias, dtype=x.dtype,
                                   batch_first=kind == "batch_first")  # fmt: skip
    given = dict(module.named_parameters())
    layer.parameters = {f"{one.removesuffix('_l0')}_l0": array.detach().numpy() for one, array in given.items()}
    layer.freeze()
    step = {"step": (0,), "unbatched_step": (0, 1)}.get(kind, ())
    x, states = np.expand_dims(x, step), [np.expand_dims(one, step) for one in states]
    y, final, tape = layer.forward(x, tuple(states) if len(states) == 2 else states[0])
    final = final if len(states) == 2 else (final,)
    generator = torch.Generator().manual_seed(1)
    outputs = [*final] if step else [y, *final]
    outputs = [np.squeeze(one, step) for one in outputs]
    d = [torch.randn(one.shape, dtype=inputs[0].dtype, generator=generator).numpy() for one in outputs]
    d_final = [np.expand_dims(one, step) for one in d[-len(final) :]]
    found = layer.backward(tape, None if step else d[0], tuple(d_final) if len(final) == 2 else d_final[0])
    d_state = found.state if len(final) == 2 else (found.state,)
    gradients = [np.squeeze(one, step) for one in (found.x, *d_state)]
    return [torch.from_numpy(np.array(one)) for one in (*outputs, *gradients, *found.parameters.values())]


@pytest.mark.parametrize(("name", "kind"), list(itertools.product(CELLS, KINDS)))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_call_has_the_bits_of_packed_weights(backend, name, kind, size, dtype):
    if kind == "unbatched":
        size = size[0], 1
    elif kind.endswith("step"):
        size = 1, 1 if kind == "unbatched_step" else size[1]
    module, inputs = case(name, kind, size, dtype, bias=dtype == torch.float32)
    assert_equal(train(module, inputs), train_numpy(module, inputs, kind))


@pytest.mark.parametrize("name", CELLS)
def test_strided_inputs_and_gradients_change_no_bit(name):
    module, inputs = case(name, "dense", (1, 4), torch.float32)
    found = train(module, inputs)
    strided = [torch.stack([one.detach(), one.detach()], -1)[..., 0].requires_grad_() for one in inputs]
    assert_equal(train(module, strided), found)
    y = module(inputs[0])[0]
    (expected,) = torch.autograd.grad(y, inputs[0], torch.ones_like(y), retain_graph=True)
    assert torch.equal(torch.autograd.grad(y.sum(), inputs[0])[0], expected)  # the gradient is one number, expanded


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
    """The reserve may be at any address."""
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
    found = []
    for byte in (0, 255):
        hold_in_new_memory(monkeypatch, byte)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor):
            y, _ = module(inputs[0])
            found.append(y.grad_fn.saved_tensors[-1])
    assert found[0].dtype == torch.uint8
    assert torch.equal(*found)

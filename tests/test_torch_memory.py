"""Tensors stay torch's: storages can be resized before, after and between calls, and calls use the current memory."""

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
from fastrnn import convert
from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import CELLS, KINDS, assert_close, flat, make_pair

everything = pytest.mark.parametrize("kind", [*KINDS, *CELLS])
kinds = pytest.mark.parametrize("kind", KINDS)


class Mode(TorchDispatchMode):
    """Sends calls through the operator."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Call:
    """A module and its input tensors."""

    def __init__(self, kind, requires_grad=False, layers=1):
        torch.manual_seed(0)
        is_cell, states = kind in CELLS, 2 if "LSTM" in kind else 1
        self.module = make_pair(kind, 3, 4, **({} if is_cell else {"num_layers": layers}))[1]
        shapes = [(2, 3), (2, 4)] if is_cell else [(5, 2, 3), (layers, 2, 4)]
        shapes = shapes + shapes[1:] * (states - 1)
        self.inputs = [torch.randn(s, dtype=torch.float64, requires_grad=requires_grad) for s in shapes]

    def __call__(self, module=None):
        x, *state = self.inputs
        return flat((module or self.module)(x, state[0] if len(state) == 1 else tuple(state)))


def assert_resizable(*tensors):
    for tensor in tensors:
        assert tensor.untyped_storage().resizable(), tensor.shape


@everything
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad, Mode])
def test_a_call_leaves_every_storage_resizable(kind, layers, context):
    call = Call(kind, context is torch.enable_grad, layers)
    leaves = [*call.inputs, *call.module.parameters()]
    for _ in range(4):  # the third inference call repeats the second
        with context():
            outputs = call()
        if context is torch.enable_grad:
            for more in ({"retain_graph": True}, {"create_graph": True}):
                torch.autograd.grad(sum(y.sum() for y in outputs), leaves, **more)
        assert_resizable(*leaves, *outputs)


@kinds
@pytest.mark.parametrize("is_training", [False, True])
def test_the_tensors_of_packed_sequences_lengths_and_resets_stay_resizable(kind, is_training):
    module = make_pair(kind, 3, 4, num_layers=2, dropout=0.5, bidirectional=True)[1].train(is_training)
    x, lengths, resets = torch.randn(5, 2, 3).double(), torch.tensor([2, 5]), torch.rand(5, 2) < 0.5
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    given = [x, lengths, resets, *packed]
    with torch.set_grad_enabled(is_training):
        for result in (module(packed), module(packed, resets=resets), module(x, lengths=lengths, resets=resets)):
            if is_training:
                sum(y.sum() for y in flat(result)).backward()
            assert_resizable(*given, *module.parameters(), *flat(result))


def test_conversion_leaves_the_tensors_resizable():
    module = torch.nn.LSTM(3, 4)
    convert.from_torch(module.state_dict())
    assert_resizable(*module.parameters())


@everything
def test_results_follow_an_input_that_was_resized_in_place(kind):
    theirs, ours = make_pair(kind, 3, 4)
    x = torch.randn(*((2, 3) if kind in CELLS else (5, 2, 3)), dtype=torch.float64)
    with torch.no_grad():
        for size in (2, 2, 2, 3, 3, 3, 1):
            x.resize_(*((size, 3) if kind in CELLS else (size, 2, 3))).normal_()
            for _ in range(3):
                assert_close(flat(ours(x)), flat(theirs(x)))


def free(tensor):
    """Free the storage, as FSDP does with gathered parameters until it needs them again."""
    tensor.untyped_storage().resize_(0)


def fill(tensor, values):
    storage = tensor.untyped_storage()
    storage.resize_(values.untyped_storage().nbytes())
    elsewhere = torch.empty(1000)  # so the next allocation of the old size may get another address
    with torch.autograd._unsafe_preserve_version_counter(tensor):
        tensor.detach().copy_(values)
    return elsewhere


@everything
@pytest.mark.parametrize("layers", [1, 2])
def test_storages_may_be_freed_after_forward_and_filled_again_before_backward(kind, layers):
    call = Call(kind, requires_grad=True, layers=layers)
    leaves = [*call.inputs, *call.module.parameters()]
    expected = torch.autograd.grad(sum(y.square().sum() for y in call()), leaves)
    loss = sum(y.square().sum() for y in call())
    values = [leaf.detach().clone() for leaf in leaves]
    for leaf in leaves:
        free(leaf)
    kept = [fill(leaf, value) for leaf, value in zip(leaves, values, strict=True)]
    found = torch.autograd.grad(loss, leaves)
    assert len(kept) == len(leaves)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@everything
def test_packed_weights_are_not_stale_after_storages_were_freed_and_filled(kind):
    call = Call(kind)
    with torch.no_grad():
        for factor in (2, -1, 3):
            for _ in range(3):
                assert_close(call(), call(fastrnn.torch.restore(call.module, inplace=False).model))
            for parameter in call.module.parameters():
                values = parameter.detach() * factor
                free(parameter)
                fill(parameter, values)


@everything
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_a_storage_without_memory_is_refused(kind, layers, context):
    call = Call(kind, layers=layers)
    with context():
        for _ in range(3):
            call()
        for tensor in (*call.module.parameters(), *call.inputs):
            values = tensor.detach().clone()
            free(tensor)
            with pytest.raises(RuntimeError, match="storage"):
                call()
            fill(tensor, values)
        call()


@everything
def test_a_view_into_a_storage_without_memory_is_refused(kind):
    """The address of such a view is the offset, not null."""
    call = Call(kind)
    module, x = call.module, torch.zeros(10, *call.inputs[0].shape, dtype=torch.float64)[5]
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            for _ in range(3):
                module(x)
            free(x)
            with pytest.raises(RuntimeError, match="storage"):
                module(x)
            x.untyped_storage().resize_(10 * x.nbytes)


@everything
@pytest.mark.parametrize("layers", [1, 2])
def test_memory_that_was_freed_before_backward_is_not_read(kind, layers):
    for which in range(3 + ("LSTM" in kind)):
        call = Call(kind, requires_grad=True, layers=layers)
        loss = call()[0].sum()
        free([next(call.module.parameters()), *call.inputs][which])
        with pytest.raises(RuntimeError, match="storage"):
            loss.backward()


@everything
def test_an_input_that_was_resized_before_backward_is_found_out(kind):
    call = Call(kind)
    x, y = call.inputs[0], call()[0]
    x.resize_(*[2 * size for size in x.shape[:-1]], 3)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@everything
def test_outputs_can_be_resized_and_do_not_share_memory(kind):
    call = Call(kind)
    with torch.no_grad():
        expected = [y.clone() for y in call()]
        for _ in range(3):
            outputs = call()
            for number, y in enumerate(outputs):
                y.resize_(100).fill_(number)
            assert all((y == number).all() for number, y in enumerate(outputs))
            assert all(torch.equal(a, b) for a, b in zip(call(), expected, strict=True))


@everything
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad])
def test_outputs_are_where_the_input_is_whatever_the_default_device(kind, device, context):
    call = Call(kind)
    with context():
        expected = call()
        for _ in range(3):
            with torch.device(device):
                found = call()
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_large_outputs_have_the_values_of_small_ones():
    """The pages of large outputs are allocated in a different way."""
    module = fastrnn.torch.RNN(1, 128)
    x = torch.randn(70_000, 1, 1)
    with torch.no_grad():
        y, _ = module(x)
        assert y.nbytes > 32 << 20
        assert_resizable(y)
        first, state = module(x[:35_000])
        second, _ = module(x[35_000:], state)
    assert torch.equal(y, torch.cat([first, second]))

"""Gradients belong to the tensors that the call used, whatever is assigned to ``.data`` before backward."""

import contextlib

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import CELLS, KINDS, assert_close, flat, loss_of, make_pair

CASES = {
    "layer": {},
    "stack": {"num_layers": 2, "bidirectional": True},
    "dropout": {"num_layers": 2, "dropout": 0.5},
    "packed": {"num_layers": 2},
}
every_case = pytest.mark.parametrize(
    ("kind", "case"), [*((kind, case) for kind in KINDS for case in CASES), *((kind, "cell") for kind in CELLS)]
)


class Mode(TorchDispatchMode):
    """Sends calls through the operator."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def make(kind, case):
    """Torch's module, our module, and an input; all tensors are leaves."""
    torch.manual_seed(0)
    pair = make_pair(kind, 3, 4, **CASES.get(case, {}))
    x = torch.randn(*((2, 3) if kind in CELLS else (5, 2, 3)), dtype=torch.float64, requires_grad=True)
    return *pair, x


def call(module, x, case):
    torch.manual_seed(1)
    if case == "packed":
        x = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 3])
    return flat(module(x))


def swap(tensors):
    for tensor in tensors:
        tensor.data = 3 * tensor.data


@every_case
@pytest.mark.parametrize("way", ["eager", "operator", "hooks"])
def test_a_swap_between_forward_and_backward_changes_no_bit_of_the_gradients(kind, case, way):
    module, x = make(kind, case)[1:]
    leaves, found = [x, *module.parameters()], []
    hooks = torch.autograd.graph.saved_tensors_hooks(torch.Tensor.clone, lambda tensor: tensor)
    for is_swapped in (False, True):
        if way == "eager":
            loss = loss_of(call(module, x, case))
        else:
            with Mode() if way == "operator" else hooks:
                loss = loss_of(call(module, x, case))
        if is_swapped:
            swap(leaves if case != "packed" else leaves[1:])  # packing makes a new tensor from x
        found.append(torch.autograd.grad(loss, leaves))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every_case
def test_gradients_after_a_swap_of_the_weights_are_torchs(kind, case):
    *modules, x = make(kind, case)
    found = []
    for module in modules:
        module.eval()
        loss = loss_of(call(module, x, case))
        swap(module.parameters())
        found.append(torch.autograd.grad(loss, [x, *module.parameters()]))
    assert_close(*found[::-1])


@every_case
@pytest.mark.parametrize("way", [contextlib.nullcontext, Mode])
def test_second_derivatives_after_a_swap_of_the_weights_are_torchs(kind, case, way):
    *modules, x = make(kind, case)
    found = []
    for module in modules:
        module.eval()
        leaves = [x, *module.parameters()]
        with way():
            loss = loss_of(call(module, x, case))
        swap(module.parameters())
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        found.append([*first, *torch.autograd.grad(loss_of(first), leaves)])
    assert_close(*found[::-1], 100)


@every_case
@pytest.mark.parametrize("which", ["x", "weight_ih", "weight_hh", "bias_ih", "bias_hh"])
@pytest.mark.parametrize("is_swapped_first", [False, True])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_write_in_place_is_still_refused(kind, case, which, is_swapped_first, create_graph):
    """This also holds after an assignment to ``.data``, which keeps the version counter."""
    if which == "x" and case == "packed":
        which = "weight_ih"
    _, module, x = make(kind, case)
    tensor = x if which == "x" else getattr(module, which if kind in CELLS else f"{which}_l0")
    loss = loss_of(call(module, x, case))
    if is_swapped_first:
        swap([tensor])
    with torch.no_grad():
        tensor.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, [x, *module.parameters()], create_graph=create_graph)

"""Gradients of gradients: the linearised loop against autograd of the loop, and how many operations a step takes."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from cell_cases import SHIPPED, layer_arrays
from cell_strategies import small_cells
from fastrnn.schedule import Batch
from fastrnn.torch.loop import Twice
from fastrnn.torch.one_direction import OneDirection
from fastrnn.torch.rows import Rows
from fastrnn.torch.steps import Step
from program_cases import WRITTEN
from test_torch_recurrent import STACKS, arguments, flat_arguments, made
from torch.utils import checkpoint  # noqa: F401  (torch.utils.checkpoint)
from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import KINDS, assert_close, flat, loss_of, make_pair

named = pytest.mark.parametrize
kinds = named("kind", KINDS)
ELEMENTWISE = [*SHIPPED, *(WRITTEN[name] for name in ("peephole_lstm", "min_gru", "ind_rnn", "sru", "zoneout_lstm",
                                                      "s_lstm", "masked", "own_output"))]  # fmt: skip
MATRICES = ("w_ih", "w_hh", "b_ih", "b_hh")


def derivatives(program, batch, twice):
    """y, the final states, all gradients of a loss, and all gradients of a loss of these."""
    rows, T, B, I, H = Rows(batch), batch.T, batch.B, 2, 3
    arrays = layer_arrays(program, T, B, I, H)
    tensors = {name: torch.from_numpy(one).requires_grad_() for name, one in arrays.items()}
    count = sum(rows.sizes)
    parameters = {name: tensors[name] for name in MATRICES}
    parameters |= {name: tensors[f"vector.{name}"] for name in program.vectors}
    inputs = {one.name: tensors[f"input.{one.name}"].flatten(0, 1)[:count] for one in program.inputs}
    options = [one.default for one in program.options]
    one = OneDirection(Step(program), parameters, options, inputs, tensors["x"].flatten(0, 1)[:count], twice)
    y, final = one.run([tensors[f"initial.{one.name}"] for one in program.states], batch, rows)
    leaves = list(tensors.values())
    first = torch.autograd.grad(loss_of((y, *final)), leaves, create_graph=True, allow_unused=True)
    first = [torch.zeros_like(leaf) if one is None else one for one, leaf in zip(first, leaves, strict=True)]
    second = torch.autograd.grad(loss_of(tuple(first)), leaves, allow_unused=True)
    second = [torch.zeros_like(leaf) if one is None else one for one, leaf in zip(second, leaves, strict=True)]
    return [y, *final, *first, *second]


BATCHES = {
    "dense": {}, "reverse": {"reverse": True},
    "lengths": {"lengths": np.array([4, 1, 0])}, "reverse lengths": {"lengths": np.array([4, 3, 0]), "reverse": True},
    "resets": {"resets": np.eye(4, 3, -1, dtype=bool) | np.eye(4, 3, dtype=bool)},
    "all": {"lengths": np.array([4, 3, 2]), "resets": np.eye(4, 3, -1, dtype=bool), "reverse": True},
}  # fmt: skip


@named("batch", BATCHES)
@named("written", ELEMENTWISE, ids=lambda one: one.program.name)
def test_the_linearised_loop_equals_autograd(written, batch):
    batch = Batch(**{"T": 4, "B": 3, "lengths": None, "resets": None, "reverse": False, **BATCHES[batch]})
    assert_close(*(derivatives(written.program, batch, one) for one in (Twice(), None)), 20)


@given(drawn=small_cells(one_phase=True), batch=st.sampled_from(sorted(BATCHES)))
def test_the_linearised_loop_of_random_cells_equals_autograd(drawn, batch):
    batch = Batch(**{"T": 4, "B": 3, "lengths": None, "resets": None, "reverse": False, **BATCHES[batch]})
    assert_close(*(derivatives(drawn.cell.program, batch, one) for one in (Twice(), None)), 1000)


@named("options", STACKS, ids=str)
@named("name", ["peephole_lstm", "masked"])
def test_gradients_have_the_same_bits_with_and_without_create_graph(name, options):
    module = made(WRITTEN[name], "float32", **options)
    x, state, inputs = arguments(module)
    leaves = [one for one in flat_arguments(x, state, inputs) if one.requires_grad] + list(module.parameters())
    loss = loss_of(module(x, state, inputs=inputs))
    plain = torch.autograd.grad(loss, leaves, retain_graph=True)
    differentiable = torch.autograd.grad(loss, leaves, create_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, differentiable, strict=True))
    assert all(one.requires_grad for one in differentiable)
    assert not any(one.requires_grad for one in plain)


@kinds
def test_a_penalty_of_one_gradient_is_that_of_torch(kind):
    found = []
    for module in make_pair(kind, 3, 4, num_layers=2, bidirectional=True):
        torch.manual_seed(0)
        x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
        of_x = torch.autograd.grad(flat(module(x))[0].square().sum(), x, create_graph=True)[0]
        (of_x.norm() - 1).square().backward()
        found.append([x.grad, *(one.grad for one in module.parameters())])
    assert_close(found[1], found[0], 100)


@kinds
def test_saved_tensors_are_unpacked_once(kind):
    """Activation checkpointing refuses to unpack them twice."""
    module, found = make_pair(kind, 3, 4)[1], []
    x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)

    def of_x(x):
        return torch.autograd.grad(flat(module(x))[0].square().sum(), x, create_graph=True)[0]

    checkpointed = functools.partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)
    y = checkpointed(lambda x: flat(module(x))[0], x)
    for gradient in (
        of_x(x),
        torch.autograd.grad(y.square().sum(), x, create_graph=True)[0],
        checkpointed(of_x, x),
    ):
        found.append(torch.autograd.grad(gradient.square().sum(), [x, *module.parameters()], allow_unused=True))
    for one in found[1:]:
        assert_close(one, found[0])


class Counting(TorchDispatchMode):
    """Counts operations."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations(module, T):
    """Of gradients of gradients."""
    x = torch.randn(T, 2, 3, requires_grad=True)
    leaves = [x, *module.parameters()]
    found = torch.autograd.grad(loss_of(module(x)), leaves, create_graph=True)
    loss = loss_of(found)
    with Counting() as counted:
        torch.autograd.grad(loss, leaves)
    return counted.count


@named(("kind", "most"), [("LSTM", 24), ("GRU", 21), ("RNN", 15)])
def test_second_derivatives_take_few_operations_for_each_step(kind, most):
    module = make_pair(kind, 3, 4, dtype="float32")[1]
    each = (operations(module, 30) - operations(module, 10)) / 20
    assert 0 < each <= most


def test_truncated_gradients_have_no_gradients():
    module = made(WRITTEN["peephole_lstm"])
    y, _ = module(torch.randn(5, 3, 2, dtype=torch.float64), truncation=2)
    with pytest.raises(NotImplementedError, match="truncation: expected None for gradients of gradients"):
        torch.autograd.grad(y.sum(), module.weight_hh_l0, create_graph=True)

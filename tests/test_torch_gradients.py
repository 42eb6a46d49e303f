"""Autograd through fastrnn.torch: first and second order, forward mode, hooks, saved tensors and memory."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import fastrnn.torch
from torch.autograd import gradcheck, gradgradcheck
from torch_cases import CELLS, KINDS, assert_close, flat, loss_of, make_pair, members, random_input, random_state

# torch's forward-mode differentiation uses deprecated features of torch.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

kinds = pytest.mark.parametrize("kind", KINDS)
cells = pytest.mark.parametrize("kind", CELLS)


def as_function(module, count, **more):
    """Return the module as a function of x, `count` states and its parameters, and all of its arguments."""
    names = [name for name, _ in module.named_parameters()]

    def function(x, *rest):
        states, weights = rest[:count], rest[count:]
        hx = None if not states else states if count == 2 else states[0]
        found = torch.func.functional_call(module, dict(zip(names, weights, strict=False)), (x, hx), more)
        return tuple(flat(found))

    return function, [p.detach().clone().requires_grad_() for p in module.parameters()]


def problem(kind, with_state=True, unbatched=False, **more):
    torch.manual_seed(0)
    _, module = make_pair(kind, 2, 3, **more)
    x = random_input(module, 3, 2, leading="none" if unbatched else "batch", requires_grad=True)
    states = members(random_state(module, None if unbatched else 2, requires_grad=True)) if with_state else ()
    return module, x, states


@kinds
@pytest.mark.parametrize(
    "options",
    [dict(zip(("num_layers", "bidirectional", "batch_first", "bias"), row, strict=True))
     for row in itertools.product([1, 2], [False, True], [False, True], [False, True])],
    ids=str,
)  # fmt: skip
def test_gradcheck(kind, options):
    module, x, states = problem(kind, **options)
    function, weights = as_function(module, len(states))
    assert gradcheck(function, (x, *states, *weights), fast_mode=options["num_layers"] > 1)


@kinds
@pytest.mark.parametrize("unbatched", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_gradcheck_of_second_order_forward_mode_and_batched_gradients(kind, unbatched, with_state):
    module, x, states = problem(kind, with_state, unbatched, num_layers=2, bidirectional=True)
    function, weights = as_function(module, len(states))
    inputs = (x, *states, *weights)
    assert gradcheck(function, inputs, fast_mode=True, check_forward_ad=True)
    assert gradcheck(function, (x, *states), check_batched_grad=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


@kinds
def test_gradcheck_with_lengths_and_resets(kind):
    module, x, states = problem(kind, num_layers=2, bidirectional=True)
    resets = torch.tensor([[False, True], [True, False], [False, True]])
    function, weights = as_function(module, len(states), lengths=torch.tensor([3, 2]), resets=resets)
    assert gradcheck(function, (x, *states, *weights), fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(function, (x, *states, *weights), fast_mode=True)


@kinds
@pytest.mark.parametrize("lengths", [[2, 3], [3, 3], [3, 1]])
def test_gradcheck_of_packed_sequences(kind, lengths):
    module, _, states = problem(kind, num_layers=2, bidirectional=True)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)

    def run(x, *states):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return tuple(flat(module(packed, states if len(states) == 2 else states[0])))

    assert gradcheck(run, (x, *states))
    assert gradgradcheck(run, (x, *states), fast_mode=True)


@kinds
def test_gradcheck_with_dropout(kind):
    module, x, states = problem(kind, num_layers=3, dropout=0.5)
    function, weights = as_function(module, len(states))

    def with_the_same_masks(*inputs):
        torch.manual_seed(3)
        return function(*inputs)

    inputs = (x, *states, *weights)
    assert gradcheck(with_the_same_masks, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(with_the_same_masks, inputs, fast_mode=True)


@cells
@pytest.mark.parametrize("leading", [(2,), ()])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_gradcheck_of_cells(kind, leading, bias, with_state):
    _, module = make_pair(kind, 2, 3, bias=bias)
    x = torch.randn(*leading, 2, dtype=torch.float64, requires_grad=True)
    count = (2 if kind == "LSTMCell" else 1) if with_state else 0
    states = [torch.randn(*leading, 3, dtype=torch.float64, requires_grad=True) for _ in range(count)]
    function, weights = as_function(module, count)
    assert gradcheck(function, (x, *states, *weights), check_forward_ad=True)
    assert gradgradcheck(function, (x, *states, *weights), fast_mode=True)


@kinds
@given(which=st.sets(st.integers(0, 10)))
def test_only_gradients_that_are_asked_for(kind, which):
    theirs, ours = make_pair(kind, 3, 4, num_layers=2, bidirectional=True)
    found = []
    torch.manual_seed(0)
    x, hx = random_input(ours, 3, 2), random_state(ours, 2)
    for module in (theirs, ours):
        leaves = [x, *members(hx), *module.parameters()]
        chosen = [leaf for j, leaf in enumerate(leaves) if j in which and j < len(leaves)] or [x]
        for leaf in leaves:
            leaf.requires_grad_(any(leaf is one for one in chosen))
        result = module(x, hx)
        assert all(t.requires_grad for t in flat(result))
        found.append(torch.autograd.grad(loss_of(result), chosen, allow_unused=True))
    assert_close(found[1], found[0], 20)


@kinds
def test_frozen_parameters_get_no_gradient(kind):
    module = make_pair(kind, 3, 4)[1]
    module.weight_hh_l0.requires_grad_(False)
    loss_of(module(torch.randn(3, 2, 3, dtype=torch.float64))).backward()
    assert module.weight_hh_l0.grad is None
    assert module.weight_ih_l0.grad is not None
    module.requires_grad_(False)
    assert not module(torch.randn(3, 2, 3, dtype=torch.float64))[0].requires_grad


@kinds
def test_a_part_of_the_outputs_may_go_unused(kind):
    theirs, ours = make_pair(kind, 3, 4)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    for chosen in range(len(flat(ours(x)))):
        found = [torch.autograd.grad(flat(m(x))[chosen].sum(), list(m.parameters())) for m in (theirs, ours)]
        assert_close(found[1], found[0], 20)


def test_retain_graph_gives_the_same_bits_and_a_second_backward_without_it_is_refused():
    module, x = fastrnn.torch.GRU(3, 4), torch.randn(3, 2, 3)
    loss = loss_of(module(x))
    first = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


@pytest.mark.parametrize("changed", ["weight_hh_l0", "bias_ih_l0", "x", "y", "h0"])
def test_a_write_between_forward_and_backward_is_found_out(changed):
    module = fastrnn.torch.LSTM(3, 4)
    x, h0 = torch.randn(3, 2, 3), torch.zeros(1, 2, 4)
    y, _ = module(x, (h0, torch.zeros(1, 2, 4)))
    loss = y.sum()
    tensor = {"x": x, "y": y, "h0": h0}.get(changed)
    with torch.no_grad():
        (getattr(module, changed) if tensor is None else tensor).add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_hooks_on_modules_tensors_and_saved_tensors():
    module, seen = fastrnn.torch.RNN(3, 4), []
    module.register_forward_pre_hook(lambda *_: seen.append("before"))
    module.register_forward_hook(lambda *_: seen.append("after"))
    module.register_full_backward_hook(lambda *_: seen.append("backward"))
    module.weight_hh_l0.register_hook(lambda g: seen.append("gradient"))
    x = torch.randn(3, 2, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y, _ = module(x)
    y.register_hook(lambda g: 2 * g)
    y.sum().backward()
    assert set(seen) == {"before", "after", "backward", "gradient"}
    grad = x.grad.clone()
    y, _ = module(x)
    assert torch.equal(grad, 2 * torch.autograd.grad(y.sum(), x)[0])


@kinds
@pytest.mark.parametrize("shift", [0, 1, 4, 60])
def test_saved_memory_may_move(kind, shift):
    module = make_pair(kind, 3, 5, dtype="float32", num_layers=2)[1]
    x = torch.randn(3, 2, 3)

    def moved(tensor):
        if tensor.dtype != torch.uint8:
            return tensor.clone()
        longer = torch.empty(tensor.numel() + shift, dtype=tensor.dtype)
        longer[shift:] = tensor
        return longer[shift:]

    expected = torch.autograd.grad(loss_of(module(x)), list(module.parameters()))
    with torch.autograd.graph.saved_tensors_hooks(moved, lambda t: t):
        loss = loss_of(module(x))
    found = torch.autograd.grad(loss, list(module.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_activation_checkpointing():
    module = fastrnn.torch.LSTM(3, 4, num_layers=2, dropout=0.5)
    x = torch.randn(3, 2, 3, requires_grad=True)
    torch.manual_seed(1)
    expected = torch.autograd.grad(module(x)[0].sum(), x)[0]
    for use_reentrant in (False, True):
        torch.manual_seed(1)
        y = torch.utils.checkpoint.checkpoint(lambda x: module(x)[0], x, use_reentrant=use_reentrant)
        assert torch.equal(torch.autograd.grad(y.sum(), x)[0] if not use_reentrant else _grad(y, x), expected)


def _grad(y, x):
    x.grad = None
    y.sum().backward()
    return x.grad


def test_truncation_has_no_second_order():
    module = fastrnn.torch.GRU(3, 4)
    y, _ = module(torch.randn(5, 2, 3), truncation=2)
    with pytest.raises(NotImplementedError, match="truncation"):
        torch.autograd.grad(y.sum(), module.weight_hh_l0, create_graph=True)


def test_memory_is_freed_with_the_graph():
    module, freed = fastrnn.torch.LSTM(3, 4), []

    class Tracked(torch.autograd.graph.saved_tensors_hooks):
        def __init__(self):
            super().__init__(self.pack, lambda box: box.tensor)

        def pack(self, tensor):
            box = type("Box", (), {"__del__": lambda _: freed.append(1)})()
            box.tensor = tensor
            return box

    with Tracked():
        y, _ = module(torch.randn(3, 2, 3))
    loss = y.sum()
    assert not freed
    loss.backward()
    assert len(freed) >= 7  # y, x, four parameters, the reserve: while y and loss are still there

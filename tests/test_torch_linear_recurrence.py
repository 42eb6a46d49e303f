"""`fastrnn.torch.linear_recurrence`: the bits of NumPy's function, autograd of any order, fallbacks, compilers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import fastrnn
import fastrnn.torch
import numpy as np
from core_call import same_bits
from fastrnn.torch import linear_calls, linear_formulation
from test_linear_recurrence import calls, make
from torch.autograd import gradcheck, gradgradcheck

# torch's forward-mode differentiation and its compiler use deprecated features of torch and Python.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`torch.jit:DeprecationWarning")

recurrence = fastrnn.torch.linear_recurrence
KINDS = ["all", "scalar", "t", "bh"]
MORE = {
    "plain": {},
    "reverse": {"reverse": True},
    "lengths": {"lengths": torch.tensor([3, 0, 5])},
    "resets": {"resets": torch.arange(15).reshape(5, 3) % 4 == 2},
    "all": {
        "lengths": torch.tensor([3, 0, 5]), "resets": torch.arange(15).reshape(5, 3) % 4 == 2, "reverse": True,
    },
}  # fmt: skip
orders = pytest.mark.parametrize("more", MORE.values(), ids=MORE)


def on_tensors(p):
    return [None if one is None else torch.from_numpy(np.array(one)).requires_grad_() for one in p.arguments]


def drawn(kind="all", h0_kind="all", dtype="float64", **more):
    p = make(5, 3, 2, dtype, 0, a_kind=kind, h0_kind=h0_kind, **more)
    return on_tensors(p), torch.from_numpy(p.dh)


def assert_near(found, expected, dtype):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=200 * torch.finfo(dtype).eps, atol=200 * torch.finfo(dtype).eps)


@given(p=calls())
def test_values_and_gradients_have_the_bits_of_the_numpy_function(p):
    tensors, expected = on_tensors(p), p.train()
    h = recurrence(*tensors, **p.more)
    h.backward(torch.from_numpy(p.dh))
    assert same_bits(h.detach().numpy(), expected["h"])
    for name, tensor in zip(("a", "b", "h0"), tensors, strict=True):
        assert tensor is None or same_bits(tensor.grad.numpy(), expected[name])
    with torch.no_grad():
        assert same_bits(recurrence(*tensors, **p.more).numpy(), expected["h"])


@given(p=calls())
def test_the_loop_in_operations_of_torch_agrees(p):
    tensors = on_tensors(p)
    kernels = recurrence(*tensors, **p.more)
    dh = torch.from_numpy(p.dh)
    expected = kernels, *grads(kernels, tensors, dh)
    assert_near((looped := loop(tensors, p.more), *grads(looped, tensors, dh)), expected, dh.dtype)


def grads(h, tensors, dh, **more):
    inputs = [one for one in tensors if one is not None]
    found = iter(torch.autograd.grad(h, inputs, dh, allow_unused=True, materialize_grads=True, **more))
    return [None if one is None else next(found) for one in tensors]


def loop(tensors, more):
    lengths, resets = (
        None if more.get(name) is None else torch.as_tensor(more[name]) for name in ("lengths", "resets")
    )
    return linear_formulation.loop(*tensors, lengths, resets, more.get("reverse", False))


@orders
@pytest.mark.parametrize("h0_kind", [None, "b"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_of_first_and_second_order(kind, h0_kind, more):
    tensors, _ = drawn(kind, h0_kind)
    given = [one for one in tensors if one is not None]

    def run(*given):
        return recurrence(*given, **more)

    assert gradcheck(run, given, fast_mode=True, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(run, given, fast_mode=True)


@pytest.mark.parametrize("rank", [1, 2])
def test_gradcheck_of_fewer_axes(rank):
    shape = (6, 3)[:rank]
    a, b, h0 = (torch.randn(one, dtype=torch.float64, requires_grad=True) for one in (shape, shape, shape[1:]))
    resets = torch.arange(6 * 3).reshape(6, 3)[(..., *[0] * (2 - rank))] % 5 == 3
    for reverse in (False, True):
        assert gradcheck(lambda *x, reverse=reverse: recurrence(*x, resets=resets, reverse=reverse), (a, b, h0))
        assert gradgradcheck(lambda *x, reverse=reverse: recurrence(*x, resets=resets, reverse=reverse), (a, b, h0))


@orders
def test_the_gradient_that_can_be_differentiated_equals_the_kernels(more):
    tensors, dh = drawn()
    h = recurrence(*tensors, **more)
    expected = grads(h, tensors, dh, retain_graph=True)
    assert_near(grads(h, tensors, dh, create_graph=True), expected, dh.dtype)


@orders
def test_infinite_factors_and_padding_do_not_spoil_gradients(more):
    tensors, dh = drawn(h0_kind=None)
    expected = grads(recurrence(*tensors, **more), tensors, dh)
    first = (torch.tensor([3, 0, 5]) if "lengths" in more else torch.tensor([5, 5, 5])) - 1
    poisoned = tensors[0].detach().clone()
    for b, last in enumerate(first.tolist()):
        if last >= 0:
            poisoned[last if more.get("reverse") else 0, b] = torch.inf
        poisoned[last + 1 :, b] = torch.nan
    tensors[0] = poisoned.requires_grad_()
    for create_graph in (False, True):
        assert_near(grads(recurrence(*tensors, **more), tensors, dh, create_graph=create_graph), expected, dh.dtype)
    looped = loop(tensors, more)
    assert_near(grads(looped, tensors, dh), expected, dh.dtype)


def test_strided_tensors_have_the_same_bits():
    tensors, dh = drawn()
    expected = recurrence(*tensors)
    turned = [one.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for one in tensors]
    assert not turned[0].is_contiguous()
    found = recurrence(*turned)
    assert torch.equal(found, expected)
    both = (grads(h, one, dh) for h, one in ((found, turned), (expected, tensors)))
    assert all(map(torch.equal, *both))
    expanded = torch.tensor(0.5, dtype=torch.float64).expand(5, 3, 2)
    assert torch.equal(recurrence(expanded, tensors[1]), recurrence(0.5, tensors[1]))


def test_a_write_to_a_saved_tensor_is_found_out():
    (a, b, _), dh = drawn()
    factors = a * 1
    h = recurrence(factors, b)
    with torch.no_grad():
        factors += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        h.backward(dh)


def test_only_wanted_gradients_are_computed():
    (a, b, h0), dh = drawn()
    h = recurrence(a.detach(), b, h0.detach())
    assert h.requires_grad
    h.backward(dh)
    assert a.grad is None
    assert same_bits(b.grad.numpy(), grads(recurrence(a, b, h0), (a, b, h0), dh)[1].numpy())
    assert not recurrence(a.detach(), b.detach()).requires_grad


# ---- other ways to call ----


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_run_in_operations_of_torch(dtype):
    (a, b, h0), _ = drawn()
    found = recurrence(a.to(dtype), b.to(dtype), h0.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), recurrence(a, b, h0), rtol=0.2, atol=0.2)


def test_other_devices_run_in_operations_of_torch():
    found = recurrence(0.5, torch.empty(5, 3, device="meta"), lengths=[5, 2, 1], resets=np.ones((5, 3), bool))
    assert found.device.type == "meta"
    assert found.shape == (5, 3)


@orders
def test_transforms_of_torch_func(more):
    (a, b, h0), dh = drawn()
    expected = grads(recurrence(a, b, h0, **more), (a, b, h0), dh)

    def loss(*tensors):
        return (recurrence(*tensors, **more) * dh).sum()

    assert_near(torch.func.grad(loss, (0, 1, 2))(a, b, h0), expected, dh.dtype)
    several = torch.func.vmap(lambda b: recurrence(a, b, h0, **more))(torch.stack([b, 2 * b]))
    assert_near(several, (recurrence(a, b, h0, **more), recurrence(a, 2 * b, h0, **more)), dh.dtype)
    _, slope = torch.func.jvp(loss, (a, b, h0), (torch.ones_like(a), torch.zeros_like(b), torch.zeros_like(h0)))
    assert_near([slope], [expected[0].sum()], dh.dtype)


@orders
def test_the_operator_passes_torch_s_own_checks(more):
    (a, b, h0), _ = drawn()
    marks = more.get("lengths"), more.get("resets"), more.get("reverse", False)
    torch.library.opcheck(linear_calls.operator, (a, b, h0, *marks))
    narrow = (one.detach().clone().requires_grad_() for one in (a[:, :, :1], b))
    torch.library.opcheck(linear_calls.operator, (*narrow, None, *marks))


@pytest.mark.parametrize("dynamic", [False, True])
@orders
def test_a_compiled_call_has_the_bits_of_the_eager_one(more, dynamic):
    (a, b, h0), dh = drawn(dtype="float32")
    torch._dynamo.reset()

    @torch.compile(backend="aot_eager", fullgraph=True, dynamic=dynamic)
    def compiled(a, b, h0):
        return recurrence(a, b * 2, h0, **more) + 1

    found, expected = compiled(a, b, h0), recurrence(a, b * 2, h0, **more) + 1
    assert same_bits(found.detach().numpy(), expected.detach().numpy())
    assert_near(grads(found, (a, b, h0), dh), grads(expected, (a, b, h0), dh), dh.dtype)
    assert same_bits(compiled(a.detach(), b.detach(), h0.detach()).numpy(), expected.detach().numpy())


def test_a_module_with_the_recurrence_can_be_exported():
    class MinGRU(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 6)

        def forward(self, x):
            z, candidate = self.linear(x).chunk(2, -1)
            z = torch.sigmoid(z)
            return recurrence(1 - z, z * candidate)

    module, x = MinGRU(), torch.randn(5, 2, 4)
    program = torch.export.export(module, (x,))
    assert torch.equal(program.module()(x), module(x))


# ---- arguments ----


def test_lengths_and_resets_may_be_arrays_or_lists():
    (a, b, h0), _ = drawn()
    lengths, resets = [2, 5, 3], np.arange(15).reshape(5, 3) % 4 == 1
    expected = recurrence(a, b, h0, lengths=torch.tensor(lengths), resets=torch.from_numpy(resets))
    assert torch.equal(recurrence(a, b, h0, lengths=lengths, resets=resets), expected)


@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 2), (4, 3, 0), (0,)])
def test_empty_sizes(shape):
    b, h0 = torch.ones(shape, requires_grad=True), torch.ones(shape[1:], requires_grad=True)
    h = recurrence(0.5, b, h0)
    assert h.shape == shape
    h.sum().backward()
    assert b.grad.shape == shape
    assert not h0.grad.any()


T = torch.ones(3, 2)
REFUSED = [
    ((0.5, 0.5), {}, TypeError, "b: expected a tensor, or a to be one, got float and float"),
    ((T, None), {}, TypeError, "b: expected a tensor, got NoneType"),
    ((np.ones((3, 2)), T), {}, TypeError, "a: expected a tensor, got ndarray"),
    ((T.double(), T), {}, TypeError, r"a: expected dtype torch.float32, got torch.float64"),
    ((torch.ones(3, 3), T), {}, ValueError, "a: expected a shape that broadcasts"),
    ((T, T, torch.ones(3)), {}, ValueError, "h0: expected a shape"),
    ((T, T), {"lengths": torch.tensor([4, 1])}, ValueError, "lengths: expected lengths from 0 to T = 3"),
    ((T, T), {"resets": torch.ones(3, 2)}, TypeError, "resets: expected booleans"),
    ((T, T), {"reverse": None}, TypeError, "reverse: expected True or False"),
]


@pytest.mark.parametrize(("arguments", "more", "error", "message"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_bad_input_is_refused_by_name(arguments, more, error, message):
    with pytest.raises(error, match=f"^{message}"):
        recurrence(*arguments, **more)


@given(p=calls(st.just("all")))
def test_inputs_stay(p):
    tensors = on_tensors(p)
    before = [None if one is None else one.detach().clone() for one in tensors]
    recurrence(*tensors, **p.more).backward(torch.from_numpy(p.dh))
    assert all(one is None or torch.equal(one, old) for one, old in zip(tensors, before, strict=True))

"""fastrnn.torch inside torch.func's transforms, forward mode, batched gradients and modes that intercept operators."""

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode
from torch_cases import CELLS, KINDS, assert_close, flat, loss_of, make_pair

# torch's forward-mode differentiation uses deprecated features of torch.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize("transform", ["grad", "vmap", "jacrev", "jvp", "ensemble"])
@kinds
def test_transforms_of_torch_func(kind, transform):
    theirs, ours = make_pair(kind, 3, 4)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    del theirs
    plain = lambda x: ours(x)[0]  # noqa: E731
    if transform == "grad":
        found = torch.func.grad(lambda x: plain(x).sin().sum())(x)
        leaf = x.clone().requires_grad_()
        expected = torch.autograd.grad(plain(leaf).sin().sum(), leaf)[0]
    elif transform == "vmap":
        many = torch.stack([x, 2 * x])
        found, expected = torch.func.vmap(plain)(many), torch.stack([plain(one) for one in many])
    elif transform == "jacrev":
        found, expected = torch.func.jacrev(plain)(x), torch.autograd.functional.jacobian(plain, x)
    elif transform == "jvp":
        _, found = torch.func.jvp(plain, (x,), (x,))
        expected = torch.einsum("abcdef,def->abc", torch.autograd.functional.jacobian(plain, x), x)
    else:
        parameters, _ = torch.func.stack_module_state([ours, ours])
        call = lambda p, x: torch.func.functional_call(ours, p, (x,))[0]  # noqa: E731
        found, expected = torch.func.vmap(call, (0, None))(parameters, x), torch.stack([plain(x)] * 2)
    assert_close([found.detach()], [expected.detach()])


@pytest.mark.parametrize("way", ["dual numbers", "jvp", "vmap", "is_grads_batched"])
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_backward_of_more_than_plain_numbers_is_that_of_torch(kind, way):
    """A graph of plain tensors, and a backward pass of dual numbers or of several gradients at once."""
    found, forward_ad = [], torch.autograd.forward_ad
    torch.manual_seed(0)
    x = torch.randn(*(2, 3) if kind in CELLS else (4, 2, 3), dtype=torch.float64)
    for module in make_pair(kind, 3, 4):
        leaves = [x.clone().requires_grad_(), *module.parameters()]
        y = flat(module(leaves[0]))[0]
        many = torch.stack([y.detach().cos(), y.detach().exp()])

        def gradients(dy, leaves=leaves, y=y, **more):
            return torch.autograd.grad(y, leaves, dy, retain_graph=True, **more)

        if way == "dual numbers":
            with forward_ad.dual_level():
                found.append([forward_ad.unpack_dual(g).tangent for g in gradients(forward_ad.make_dual(*many))])
        elif way == "jvp":
            found.append(torch.func.jvp(gradients, (many[0],), (many[1],))[1])
        elif way == "vmap":
            found.append(torch.func.vmap(gradients)(many))
        else:
            found.append(gradients(many, is_grads_batched=True))
    assert not any(g.requires_grad for g in found[1])
    assert_close(found[1], found[0], 20)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_gradients_under_a_mode_that_intercepts_operators_are_those_of_torch(kind, batched):
    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    found = []
    x = torch.randn(*(2, 3) if kind in CELLS else (4, 2, 3), dtype=torch.float64)
    for module in make_pair(kind, 3, 4):
        with Watching():
            y = flat(module(x))[0]
        leaves = list(module.parameters())
        if batched:
            found.append(torch.autograd.grad(y, leaves, torch.stack([y, 2 * y]).detach(), is_grads_batched=True))
        else:
            first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
            found.append(torch.autograd.grad(loss_of(first), leaves))
    assert_close(found[1], found[0], 20)


@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap"])
def test_lengths_and_resets_may_be_made_inside_of_a_transform(transform):
    module = make_pair("LSTM", 3, 4)[1]
    x, resets = torch.randn(4, 2, 3, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.bool)
    resets[2, 0] = True

    def inside(x):
        marks = torch.zeros(4, 2, dtype=torch.bool)
        marks[2, 0] = True
        return module(x, lengths=torch.arange(3, 5), resets=marks)[0].sin().sum()

    def outside(x):
        return module(x, lengths=torch.tensor([3, 4]), resets=resets)[0].sin().sum()

    if transform == "vmap":
        many = torch.stack([x, 2 * x])
        found, expected = [torch.func.vmap(inside)(many)], [torch.stack([outside(one) for one in many])]
        with pytest.raises(NotImplementedError, match="lengths: expected the same for all calls"):
            torch.func.vmap(lambda x, n: module(x, lengths=n)[0])(many, torch.tensor([[3, 4], [4, 3]]))
    else:
        gradient = torch.autograd.functional.jacobian(outside, x)
        found, expected = [torch.func.grad(inside)(x)], [gradient]
        if transform == "jvp":
            found, expected = [torch.func.jvp(inside, (x,), (x,))[1]], [(gradient * x).sum()]
    assert_close([one.detach() for one in found], [one.detach() for one in expected])

"""Packed weights are never stale, however a parameter changes."""

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
from fastrnn import _core, config
from torch_cases import CELLS, KINDS, flat, make_pair


def replace(module, name):
    setattr(module, name, torch.nn.Parameter(torch.randn_like(getattr(module, name))))


def step_of_optimizer(module, name):
    with torch.enable_grad():
        x = torch.randn(2, module.input_size)
        flat(module(x if isinstance(module, torch.nn.RNNCellBase) else x[None]))[0].sum().backward()
        torch.optim.SGD(module.parameters(), 0.5).step()
        module.zero_grad()


def load(module, name, **more):
    module.load_state_dict({key: torch.randn_like(value) for key, value in module.state_dict().items()}, **more)


def swap_memory(module, name):
    """Assign twice, so the second assignment may get the address of the parameter's old memory."""
    parameter = getattr(module, name)
    parameter.data = torch.randn_like(parameter)
    parameter.data = torch.randn_like(parameter)


def transpose(module, name):
    """Keep the address but change the strides; square weights also keep their shape."""
    parameter = getattr(module, "weight_hh" + name.removeprefix("weight_ih"))
    if parameter.shape[0] == parameter.shape[1]:
        parameter.data = parameter.data.t()
    else:
        parameter.data.neg_()


def set_source(module, name):
    with torch.no_grad():
        getattr(module, name).set_(torch.randn_like(getattr(module, name)))


def apply_and_back(module, name):
    module.double()
    getattr(module, name).data.mul_(3)
    module.float()


WAYS = {
    "in place": lambda m, n: getattr(m, n).detach().mul_(2),
    "in place under no_grad": lambda m, n: getattr(m, n).requires_grad_(False).add_(1).requires_grad_(True),
    ".data in place": lambda m, n: getattr(m, n).data.mul_(2),
    ".data one element": lambda m, n: getattr(m, n).data.view(-1)[-1:].add_(1),
    ".data signs": lambda m, n: getattr(m, n).data.neg_(),
    ".data assigned": lambda m, n: setattr(getattr(m, n), "data", torch.randn_like(getattr(m, n))),
    ".data assigned twice": swap_memory,
    ".data transposed": transpose,
    "NumPy view": lambda m, n: getattr(m, n).detach().numpy().__imul__(2),
    "copy_": lambda m, n: getattr(m, n).data.copy_(torch.randn_like(getattr(m, n))),
    "set_": set_source,
    "untyped storage": lambda m, n: getattr(m, n).untyped_storage().fill_(0),
    "storage copied": lambda m, n: getattr(m, n).untyped_storage().copy_(
        torch.randn_like(getattr(m, n)).untyped_storage()
    ),
    "a new Parameter": replace,
    "nn.init": lambda m, n: torch.nn.init.normal_(getattr(m, n)),
    "reset_parameters": lambda m, n: m.reset_parameters(),
    "optimizer": step_of_optimizer,
    "load_state_dict": load,
    "load_state_dict, assigned": lambda m, n: load(m, n, assign=True),
    "vector_to_parameters": lambda m, n: torch.nn.utils.vector_to_parameters(
        torch.randn(sum(p.numel() for p in m.parameters())), m.parameters()
    ),
    "to double and back": apply_and_back,
    "share_memory_": lambda m, n: (m.share_memory(), getattr(m, n).data.mul_(2)),
    "swap_tensors": lambda m, n: torch.utils.swap_tensors(
        getattr(m, n), torch.nn.Parameter(torch.randn_like(getattr(m, n)))
    ),
}  # fmt: skip


def expected_of(module, x, hx=None):
    plain = fastrnn.torch.restore(module, inplace=False).model
    return flat(plain(x, hx))


@pytest.mark.filterwarnings("ignore:.*(TypedStorage|UntypedStorage|swap_tensors|__get__)")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("B", [2, 9])  # unpacked weights, and packed ones
def test_every_way_of_changing_a_parameter_is_seen(kind, way, context, B):
    if way == "swap_tensors" and kind in KINDS:
        pytest.skip("torch refuses it where there are weak references, which its layers keep")
    torch.manual_seed(0)
    _, module = make_pair(kind, 5, 5, dtype="float32")
    name = "weight_ih" if kind in CELLS else "weight_ih_l0"
    x, h = (torch.randn(B, 5), torch.randn(B, 5)) if kind in CELLS else (torch.randn(1, B, 5), torch.randn(1, B, 5))
    hx = (h, h.clone()) if "LSTM" in kind else h
    for _ in range(3):  # packed weights are kept from the second call on
        with context():
            before = flat(module(x, hx))[0]
    for _ in range(3):
        WAYS[way](module, name)
        with context():
            for _ in range(3):
                found = flat(module(x, hx))
                for a, b in zip(found, expected_of(module, x, hx), strict=True):
                    torch.testing.assert_close(a, b)
        if way != "untyped storage" and "relu" not in kind:
            assert not torch.equal(found[0], before)
        before = found[0]


def test_parameters_made_in_inference_mode_have_no_versions_and_are_still_not_stale():
    with torch.inference_mode():
        module, x = fastrnn.torch.GRU(3, 4), torch.randn(3, 2, 3)
        for _ in range(4):
            for _ in range(3):
                y, _ = module(x)
                torch.testing.assert_close(y, expected_of(module, x)[0])
            module.weight_hh_l0.mul_(2)


def test_packed_weights_are_kept_while_nothing_changes():
    module, x = fastrnn.torch.LSTM(3, 4), torch.randn(3, 2, 3)
    with torch.no_grad():
        module(x)
        module(x)
        kept = module._fastrnn_memory._kept
        module(x)
        assert module._fastrnn_memory._kept is kept
        module.weight_hh_l0.mul_(2)
        module(x)
        assert module._fastrnn_memory._kept is None


def test_training_keeps_no_copies():
    module, x = fastrnn.torch.LSTM(3, 4), torch.randn(3, 2, 3)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(4):
        module(x)[0].sum().backward()
        optimizer.step()
        assert module._fastrnn_memory._kept is None


def test_another_backend_packs_anew():
    module, x = fastrnn.torch.GRU(3, 20), torch.randn(3, 2, 3)
    with torch.no_grad():
        for backend in (b.name for b in _core.backends() if b.runs_here):
            with config.use_backend(backend):
                for _ in range(3):
                    torch.testing.assert_close(module(x)[0], expected_of(module, x)[0])


def test_functional_call_and_tied_parameters():
    one, two = fastrnn.torch.GRU(3, 3), fastrnn.torch.GRU(3, 3)
    two.weight_hh_l0 = one.weight_hh_l0
    x = torch.randn(3, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            one(x), two(x)
        one.weight_hh_l0.data.mul_(2)
        for module in (one, two):
            torch.testing.assert_close(module(x)[0], expected_of(module, x)[0])
        other = {name: torch.randn_like(p) for name, p in one.named_parameters()}
        found = torch.func.functional_call(one, other, (x,))[0]
        plain = torch.nn.GRU(3, 3)
        plain.load_state_dict(other)
        torch.testing.assert_close(found, plain(x)[0])
        torch.testing.assert_close(one(x)[0], expected_of(one, x)[0])


def test_calls_of_several_shapes_and_slices_take_turns_without_a_mistake():
    """More shapes of inputs and states than the cache keeps, contiguous or not."""
    module, rng = fastrnn.torch.LSTM(3, 4), torch.Generator().manual_seed(0)
    big = torch.randn(4, 12, 6, generator=rng)
    with torch.no_grad():
        for _ in range(3):
            for B in range(1, 12):
                for x in (big[:1, :B, :3], big[:1, :B, 1:4], big[:, :B, :3].contiguous()[:1]):
                    state = torch.randn(2, 1, 2 * B, 4, generator=rng)[:, :, ::2].unbind()
                    for hx in (None, state, tuple(one.contiguous() for one in state)):
                        for found, expected in zip(flat(module(x, hx)), expected_of(module, x, hx), strict=True):
                            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("hidden", [5, 100])  # small weights, and weights that are kept
@pytest.mark.parametrize("T", [1, 5])
def test_weights_that_change_in_every_call_and_then_stay(T, hidden, training):
    theirs, ours = make_pair("LSTM", 3, hidden)
    x = torch.randn(T, 2, 3, dtype=torch.float64, requires_grad=True)
    for call in range(14):
        for pair in zip(theirs.parameters(), ours.parameters(), strict=True):
            with torch.no_grad():
                for one in pair if call < 6 or call == 11 else ():
                    one.neg_()
        with torch.set_grad_enabled(training):
            expected, found = theirs(x)[0], ours(x)[0]
        torch.testing.assert_close(found, expected)
        if training:
            weights = [*theirs.parameters()], [*ours.parameters()]
            for y, of_module in zip((expected, found), weights, strict=True):
                of_module[:] = torch.autograd.grad(y.square().sum(), of_module)
            for one, other in zip(*weights, strict=True):
                torch.testing.assert_close(other, one)
        assert call != 10 or (ours._fastrnn_memory._kept is not None) == (hidden == 100 and T == 5)

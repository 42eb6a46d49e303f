"""fastrnn.torch's modules behave like torch's: construction, parameters, copies, errors, dropout, fallbacks."""

import collections
import contextlib
import copy
import io
import logging
import pickle
import warnings

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
import numpy as np
from fastrnn import memory
from fastrnn.torch import routes
from torch_cases import CELLS, KINDS, assert_close, flat, make_pair, random_input

kinds = pytest.mark.parametrize("kind", KINDS)
everything = pytest.mark.parametrize("kind", [*KINDS, *CELLS])


def make_input(kind, *sizes):
    return torch.randn(2, *sizes) if kind in CELLS else torch.randn(3, 2, *sizes)


# ---- what a module is ----


@everything
def test_modules_are_subclasses_with_the_same_parameters_initialisation_and_repr(kind):
    name, more = kind.split()[0], (KINDS | CELLS)[kind]
    more = more | ({} if kind in CELLS else {"num_layers": 2, "bidirectional": True, "batch_first": True})
    made = []
    for namespace in (torch.nn, fastrnn.torch):
        torch.manual_seed(3)
        made.append(getattr(namespace, name)(4, 5, bias=True, dtype=torch.float64, **more))
    theirs, ours = made
    assert isinstance(ours, type(theirs))
    assert repr(ours) == f"fastrnn.torch.{theirs!r}"
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name_a, a), (name_b, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name_a == name_b
        assert torch.equal(a, b)
    if kind in KINDS:
        assert [[p.shape for p in row] for row in ours.all_weights] == [
            [p.shape for p in r] for r in theirs.all_weights
        ]
        ours.flatten_parameters()


REFUSED_LATELY = [((0, 3), {}), ((3, 4), {"bias": 1}), ((3, 4), {"batch_first": 0})]  # torch 2.6 accepts them


def refusal(make, arguments, more):
    try:
        make(*arguments, **more)
    except Exception as error:
        return error
    return None


@kinds
def test_constructors_refuse_what_torchs_refuse(kind):
    theirs, ours = (getattr(namespace, kind.split()[0]) for namespace in (torch.nn, fastrnn.torch))
    is_late = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
    for arguments, more in [
        ((3, 0), {}), ((3, 4, 0), {}), ((3.0, 4), {}), ((3, "4"), {}), ((3, 4), {"dropout": 1.5}),
        ((3, 4), {"dropout": True}), ((3, 4), {"proj_size": 9}), ((3, 4), {"nonlinearity": "sin"}),
        ((3, 4), {"unknown": 1}), *REFUSED_LATELY,
    ]:  # fmt: skip
        expected, found = (refusal(make, arguments, more) for make in (theirs, ours))
        assert expected is not None or (not is_late and (arguments, more) in REFUSED_LATELY)
        assert (type(found), str(found)) == (type(expected), str(expected))


@everything
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_copies_and_pickles(kind, way):
    theirs, ours = make_pair(kind, 3, 4, dtype="float32")
    x = make_input(kind, 3)
    with torch.no_grad():
        for _ in range(3):
            expected = flat(ours(x))
    if way == "deepcopy":
        other = copy.deepcopy(ours)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(ours))
    else:
        file = io.BytesIO()
        torch.save(ours if way == "torch.save" else ours.state_dict(), file)
        file.seek(0)
        other = torch.load(file, weights_only=way == "state_dict")
        if way == "state_dict":
            theirs.load_state_dict(other)
            other = make_pair(kind, 3, 4, dtype="float32")[1]
            other.load_state_dict(theirs.state_dict())
    assert type(other) is type(ours)
    assert all(a is not b for a, b in zip(ours.parameters(), other.parameters(), strict=True))
    with torch.no_grad():
        for a, b in zip(flat(other(x)), expected, strict=True):
            assert torch.equal(a, b)
        next(other.parameters()).data.zero_()
        assert torch.equal(flat(ours(x))[0], expected[0])


@kinds
def test_a_new_order_of_parameters_in_the_optimizer_and_groups(kind):
    theirs, ours = make_pair(kind, 3, 4, num_layers=2)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    for module in (theirs, ours):
        groups = [{"params": [p]} for p in reversed(list(module.parameters()))]
        optimizer = torch.optim.Adam(groups, 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            flat(module(x))[0].square().sum().backward()
            optimizer.step()
    assert_close(ours.parameters(), theirs.parameters(), 1e4)


# ---- errors ----

BAD_INPUTS = {
    "4 dimensions": lambda m: (torch.randn(2, 2, 2, 3), None),
    "1 dimension": lambda m: (torch.randn(3), None),
    "wrong size": lambda m: (torch.randn(3, 2, 5), None),
    "wrong size, unbatched": lambda m: (torch.randn(3, 5), None),
    "no steps": lambda m: (torch.randn(0, 2, 3), None),
    "another dtype": lambda m: (torch.randn(3, 2, 3, dtype=torch.float64), None),
    "integers": lambda m: (torch.ones(3, 2, 3, dtype=torch.int64), None),
    "hidden: size": lambda m: (torch.randn(3, 2, 3), state_like(m, 1, 2, 7)),
    "hidden: batch": lambda m: (torch.randn(3, 2, 3), state_like(m, 1, 5, 4)),
    "hidden: layers": lambda m: (torch.randn(3, 2, 3), state_like(m, 2, 2, 4)),
    "hidden: dimensions": lambda m: (torch.randn(3, 2, 3), state_like(m, 1, 4)),
    "hidden: dimensions, unbatched": lambda m: (torch.randn(3, 3), state_like(m, 1, 1, 4)),
    "hidden: size, unbatched": lambda m: (torch.randn(3, 3), state_like(m, 1, 9)),
    "packed: size": lambda m: (torch.nn.utils.rnn.pack_sequence([torch.randn(3, 5)]), None),
    "packed: hidden": lambda m: (torch.nn.utils.rnn.pack_sequence([torch.randn(3, 3)]), state_like(m, 1, 2, 4)),
}


def state_like(module, *shape):
    h = torch.randn(shape)
    return (h, h.clone()) if isinstance(module, torch.nn.LSTM) else h


@kinds
@pytest.mark.parametrize("bad", BAD_INPUTS)
@pytest.mark.parametrize("grad", [False, True])
def test_bad_arguments_raise_what_torchs_modules_raise(kind, bad, grad):
    theirs, ours = make_pair(kind, 3, 4, dtype="float32")
    x, hx = BAD_INPUTS[bad](ours)
    if kind == "LSTM" and bad.startswith("packed"):  # torch's LSTM does not check this and reads whatever is in memory
        with pytest.raises(RuntimeError, match="input_size" if "hidden" not in bad else "Expected hidden"):
            ours(x, hx)
        return
    with torch.set_grad_enabled(grad):
        with pytest.raises(Exception) as expected:
            theirs(x, hx)
        with pytest.raises(expected.type) as found:
            ours(x, hx)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("kind", CELLS)
def test_bad_arguments_of_cells_raise_what_torchs_cells_raise(kind):
    theirs, ours = make_pair(kind, 3, 4, dtype="float32")
    state = lambda *shape: (torch.randn(shape),) * 2 if kind == "LSTMCell" else torch.randn(shape)  # noqa: E731
    for x, hx in [
        (torch.randn(2, 5), None), (torch.randn(2, 2, 3), None), (torch.randn(2, 3), state(2, 5)),
        (torch.randn(2, 3), state(5, 4)), (torch.randn(2, 3), state(2, 1, 4)), (torch.randn(2, 3).double(), None),
        (torch.randn(5), None), *([(torch.randn(2, 3), (torch.randn(2, 4),))] if kind == "LSTMCell" else []),
    ]:  # fmt: skip
        with pytest.raises(Exception) as expected:
            theirs(x, hx)
        with pytest.raises(expected.type) as found:
            ours(x, hx)
        assert str(found.value) == str(expected.value)


def test_bad_lengths_resets_and_truncation_are_named():
    module, x = fastrnn.torch.GRU(3, 4), torch.randn(5, 2, 3)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 4])
    for kind, match, more in [
        (TypeError, "lengths: expected integers", {"lengths": torch.tensor([1.0, 2.0])}),
        (ValueError, r"lengths: expected shape \(B,\) = \(2,\), got \(3,\)", {"lengths": [1, 2, 3]}),
        (ValueError, "lengths: expected lengths from 0 to T = 5", {"lengths": [1, 6]}),
        (TypeError, "resets: expected booleans", {"resets": torch.zeros(5, 2)}),
        (ValueError, r"resets: expected shape \(T, B\) = \(5, 2\)", {"resets": torch.zeros(2, 5, dtype=torch.bool)}),
        (ValueError, "truncation: expected k2 >= k1", {"truncation": (3, 2)}),
        (TypeError, "truncation: expected an integer", {"truncation": 1.5}),
    ]:
        with pytest.raises(kind, match=match):
            module(x, **more)
    with pytest.raises(ValueError, match="lengths: expected None with a PackedSequence"):
        module(packed, lengths=[5, 4])
    with pytest.raises(ValueError, match="lengths: expected None for input without a batch axis"):
        module(x[:, 0], lengths=[5])
    with pytest.raises(ValueError, match=r"resets: expected shape \(T, B\)"):
        module(packed, resets=torch.zeros(2, 5, dtype=torch.bool))


# ---- dropout ----


def test_dropout_of_a_single_layer_warns_as_torch_does():
    with pytest.warns(UserWarning, match="non-zero dropout expects num_layers greater than 1"):
        fastrnn.torch.GRU(3, 4, dropout=0.5)


@kinds
def test_dropout_follows_torchs_generator_and_stops_in_eval(kind):
    name = kind.split()[0]
    module = getattr(fastrnn.torch, name)(3, 40, num_layers=2, dropout=0.5, **KINDS[kind])
    x = torch.randn(3, 2, 3)
    for context in (torch.no_grad, torch.enable_grad):
        with context():
            torch.manual_seed(1)
            first, second = module(x)[0], module(x)[0]
            torch.manual_seed(1)
            assert torch.equal(module(x)[0], first)
            assert not torch.equal(first, second)
    module.eval()
    plain = getattr(torch.nn, name)(3, 40, num_layers=2, **KINDS[kind])
    plain.load_state_dict(module.state_dict())
    assert_close([module(x)[0]], [plain(x)[0]])


def test_dropout_reads_zeros_beyond_the_ends_of_sequences(monkeypatch):
    """Old contents of memory would overflow when they are scaled, and NumPy would warn."""
    empty = memory.empty

    def full(shape, dtype):
        array = empty(shape, dtype)
        if array.dtype.kind == "f":
            array.fill(np.finfo(dtype).max)
        return array

    monkeypatch.setattr(memory, "empty", full)
    module = fastrnn.torch.LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.5)
    y, _ = module(torch.randn(5, 2, 3), lengths=[5, 2])
    y.sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())


def test_a_call_that_was_repeated_drops_when_training_comes_back():
    module, x = fastrnn.torch.GRU(3, 40, num_layers=2, dropout=0.5).eval(), torch.randn(3, 2, 3)
    with torch.no_grad():
        first, second, third = (module(x)[0] for _ in range(3))
        module.train()
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        assert not torch.equal(module(x)[0], first)


@everything
def test_repeated_calls_find_their_parameters_in_an_ordered_dict_as_torch_before_2_5_has_it(kind):
    module = make_pair(kind, 3, 4, dtype="float32")[1]
    module._parameters = collections.OrderedDict(module._parameters)
    x = make_input(kind, 3)
    with torch.no_grad():
        first, *others = (flat(module(x)) for _ in range(4))
        for other in others:
            assert all(map(torch.equal, other, first))
        for parameter in module._parameters.values():
            parameter.zero_()
        assert not flat(module(x))[0].any()


def test_a_call_that_was_repeated_follows_a_change_of_options():
    module, cell = fastrnn.torch.GRU(3, 4), fastrnn.torch.RNNCell(3, 4)
    x = torch.randn(2, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            module(x), cell(x[0])
        module.batch_first, cell.nonlinearity = True, "relu"
        assert_close([module(x)[0]], [fastrnn.torch.restore(module, inplace=False).model(x)[0]])
        assert_close([cell(x[0])], [fastrnn.torch.restore(cell, inplace=False).model(x[0])])


@pytest.mark.parametrize("dropout", [0.0, 0.25, 0.5, 1.0])
def test_dropout_drops_the_stated_share_of_the_outputs_between_layers_and_scales_the_rest(dropout):
    """A second layer with the identity as its weights shows its input."""
    module = fastrnn.torch.RNN(8, 8, num_layers=2, nonlinearity="relu", bias=False, dropout=dropout)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.eye(8) if "ih" in name else torch.zeros(8, 8))
    y, h_n = module(torch.ones(100, 50, 8))
    kept = y[y > 0]
    assert abs(1 - len(kept) / y.numel() - dropout) < 0.02
    assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - dropout) if dropout < 1 else 0))
    assert (h_n[0] == 1).all()


@kinds
def test_gradient_through_dropout(kind):
    module = make_pair(kind, 3, 4, num_layers=3, bidirectional=True, dropout=0.4)[1]
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)

    def run(x):
        torch.manual_seed(5)
        return module(x)[0]

    assert torch.autograd.gradcheck(run, x)
    assert torch.autograd.gradgradcheck(run, x, fast_mode=True)


# ---- falling back ----


@pytest.fixture
def said(caplog, monkeypatch):
    """Messages of the logger, each as often as it was logged."""
    monkeypatch.setattr(routes, "_said", set())
    caplog.set_level(logging.INFO, "fastrnn.torch")
    return lambda: caplog.messages


def test_what_the_kernels_cannot_run_falls_back_and_says_so_once(said):
    theirs, ours = make_pair("GRU", 3, 4, dtype="float32")
    x = torch.randn(3, 2, 3)
    scalar = lambda m: lambda x: m(x)[0].sum()  # noqa: E731
    jacobian = torch.autograd.functional.jacobian
    for reason, run in {
        "autocast": lambda m: torch.autocast("cpu", torch.bfloat16)(m)(x)[0].float(),
        "bfloat16": lambda m: copy.deepcopy(m).bfloat16()(x.bfloat16())[0].float(),
        "'meta'": lambda m: copy.deepcopy(m).to("meta")(x.to("meta"))[0].new_zeros((), device="cpu"),
        "torch.func": lambda m: torch.func.grad(scalar(m))(x) if m is ours else jacobian(scalar(m), x),
    }.items():  # fmt: skip
        before = len(said())
        for _ in range(3):
            torch.testing.assert_close(run(ours), run(theirs), rtol=1e-4, atol=1e-4)
        assert len(said()) == before + 1
        assert reason in said()[-1]
        assert said()[-1].startswith("GRU uses torch's own" if reason != "torch.func" else "GRU uses the diff")
    ours(x)
    assert len(said()) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@everything
def test_autocast_gives_what_torch_gives_on_this_cpu_be_it_an_error(kind, dtype):
    """torch's LSTM raises under autocast if the CPU has no instructions for the half type."""
    pair = make_pair(kind, 3, 4, dtype="float32")
    x, outcomes = make_input(kind, 3), []
    for module in pair:
        try:
            with torch.autocast("cpu", dtype):
                outcomes.append(flat(module(x)))
        except RuntimeError as error:
            outcomes.append(str(error))
    theirs, ours = outcomes
    if isinstance(theirs, str):
        assert ours == theirs
    else:
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_projections_are_torchs_own(said):
    theirs = torch.nn.LSTM(3, 5, proj_size=2, num_layers=2, bidirectional=True)
    ours = fastrnn.torch.LSTM(3, 5, proj_size=2, num_layers=2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 2, 3)
    assert all(torch.equal(a, b) for a, b in zip(flat(ours(x)), flat(theirs(x)), strict=True))
    assert "proj_size" in said()[0]
    with pytest.raises(NotImplementedError, match="lengths: expected None with proj_size"):
        ours(x, lengths=[1, 2])


@kinds
def test_lengths_and_resets_work_where_the_kernels_do_not_run(kind):
    module = make_pair(kind, 3, 4)[1]
    x, lengths = torch.randn(5, 2, 3, dtype=torch.float64), torch.tensor([3, 5])
    resets = torch.rand(5, 2) < 0.3
    expected = module(x, lengths=lengths, resets=resets)
    half = copy.deepcopy(module).bfloat16()
    found = half(x.bfloat16(), lengths=lengths, resets=resets)
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0.1, atol=0.1)
    with pytest.raises(NotImplementedError, match="truncation"):
        half(x.bfloat16(), truncation=2)


@kinds
@pytest.mark.parametrize("compiled", [False, True])
def test_masked_lengths_and_resets_are_refused(kind, compiled):
    """torch.as_tensor would also drop the mask."""
    module = make_pair(kind, 3, 4, dtype="float32")[1]
    x, lengths, resets = torch.randn(5, 2, 3), np.ma.array([5, 2]), np.ma.zeros((5, 2), bool)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [5, 2])
    calls = [
        lambda: module(x, lengths=lengths),
        lambda: module(x, resets=resets),
        lambda: module(packed, resets=resets),
    ]
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) if compiled else contextlib.nullcontext():
        for call in calls:
            with pytest.raises(TypeError, match=r"expected .*, got a masked array"):
                call()


class Tagged(torch.Tensor):
    pass


def test_subclasses_of_tensor_go_torchs_way(said):
    module = fastrnn.torch.GRU(3, 4)
    y, _ = module(torch.randn(3, 2, 3).as_subclass(Tagged))
    assert isinstance(y, Tagged)
    assert "Tagged" in said()[0]


def test_modes_that_see_operators_see_one():
    module, seen = fastrnn.torch.LSTM(3, 4, num_layers=2), []

    class Mode(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    x = torch.randn(3, 2, 3)
    expected = module(x)[0]
    with Mode():
        y, _ = module(x)
    assert torch.equal(y, expected)
    assert "fastrnn.recurrence.default" in seen
    assert set(seen) <= {"fastrnn.recurrence.default", "aten.detach.default"}
    y.sum().backward()
    assert module.weight_ih_l1.grad is not None
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as fake:
        assert module(fake.from_tensor(x))[0].shape == (3, 2, 4)


@pytest.mark.parametrize("way", ["parametrizations.weight_norm", "parametrizations.spectral_norm", "weight_norm"])
@kinds
def test_parametrizations(kind, way):
    theirs, ours = make_pair(kind, 3, 4)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    apply = torch.nn.utils.weight_norm if way == "weight_norm" else None
    apply = apply or getattr(torch.nn.utils.parametrizations, way.split(".")[1])
    found = []
    for module in (theirs, ours):
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            apply(module, "weight_hh_l0")
        module.eval()
        for _ in range(3):
            with torch.no_grad():
                module(x)
        y, _ = module(x)
        found.append([y, *torch.autograd.grad(y.sum(), list(module.parameters()))])
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(1.5)
            found[-1].append(module(x)[0])
    assert_close(found[1], found[0], 20)


def test_fx_sees_one_call():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.cell = fastrnn.torch.GRU(3, 4), fastrnn.torch.GRUCell(4, 4)

        def forward(self, x):
            return self.cell(self.rnn(x)[0][-1])

    model, x = Model(), torch.randn(3, 2, 3)
    traced = torch.fx.symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["rnn", "cell"]
    assert torch.equal(traced(x), model(x))


def test_fx_hands_on_what_torchs_modules_do_not_take():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = fastrnn.torch.GRU(3, 4)

        def forward(self, x, lengths):
            return self.rnn(x, lengths=lengths, truncation=2)[0]

    model, x, lengths = Model(), torch.randn(5, 2, 3), torch.tensor([5, 2])
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced(x, lengths), model(x, lengths))
    assert not traced(x, lengths)[2:, 1].any()


@kinds
def test_more_arguments_may_be_given_by_position(kind):
    """Some tools do this: they fill in defaults from the signature."""
    module, x, lengths = make_pair(kind, 3, 4)[1], torch.randn(5, 2, 3).double(), torch.tensor([5, 2])
    assert torch.equal(module(x, None, lengths)[0], module(x, lengths=lengths)[0])
    assert torch.equal(module(x, None, None, None, None)[0], module(x)[0])


@kinds
def test_default_device_and_batch_first_states(kind):
    module = make_pair(kind, 3, 4, batch_first=True)[1]
    with torch.device("cpu"):
        assert module(random_input(module, 3, 2))[0].is_contiguous()

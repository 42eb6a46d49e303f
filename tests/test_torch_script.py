"""TorchScript contains torch's modules with the same parameters instead of ours, and the model is unchanged."""

import io
import logging
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
from fastrnn.torch import routes
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch_cases import CELLS, KINDS, assert_close, flat, loss_of, make_pair

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
everything = pytest.mark.parametrize("kind", [*KINDS, *CELLS])
kinds = pytest.mark.parametrize("kind", KINDS)


class Model(torch.nn.Module):
    """A recurrent module between other modules."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(torch.tanh(x))


def compiled_model(inner):
    """The same model, compiled when it is made."""

    class Compiled(torch.jit.ScriptModule):
        def __init__(self):
            super().__init__()
            self.inner = inner

        @torch.jit.script_method
        def forward(self, x):
            return self.inner(torch.tanh(x))

    return Compiled()


def compiled_for_packed(inner):
    class Compiled(torch.jit.ScriptModule):
        def __init__(self):
            super().__init__()
            self.inner = inner

        @torch.jit.script_method
        def forward(self, x: PackedSequence):
            return self.inner(x)

    return Compiled()


def saved_and_loaded(model):
    file = io.BytesIO()
    torch.jit.save(model, file)
    file.seek(0)
    return torch.jit.load(file)


def accelerated_again(model):
    return fastrnn.torch.accelerate(fastrnn.torch.restore(model, inplace=False).model).model


WAYS = {
    "a ScriptModule": lambda model, x: compiled_model(model.inner),
    "a compiled module in a ScriptModule": lambda model, x: compiled_model(torch.jit.script(model.inner)),
    "torch.jit.script": lambda model, x: torch.jit.script(model),
    "accelerated": lambda model, x: torch.jit.script(accelerated_again(model)),
    "saved": lambda model, x: saved_and_loaded(torch.jit.script(model)),
    "frozen": lambda model, x: torch.jit.freeze(torch.jit.script(model)),
    "traced": lambda model, x: torch.jit.trace(model, (x,)),
    "traced and saved": lambda model, x: saved_and_loaded(torch.jit.trace(model, (x,))),
}


def make_input(kind, **more):
    return torch.randn(*((2, 3) if kind in CELLS else (5, 2, 3)), dtype=torch.float64, **more)


@everything
@pytest.mark.parametrize("way", WAYS)
def test_compiled_models_compute_what_torchs_do(kind, way):
    theirs, ours = make_pair(kind, 3, 4)
    model, x = Model(ours).eval(), make_input(kind)
    compiled = WAYS[way](model, x)
    for x in (make_input(kind), make_input(kind)):
        assert_close(flat(compiled(x)), flat(Model(theirs)(x)))


@everything
@pytest.mark.parametrize("make", [compiled_model, lambda inner: torch.jit.script(Model(inner))])
def test_compiled_models_train_the_same_parameters(kind, make):
    theirs, ours = make_pair(kind, 3, 4)
    compiled, x = make(ours), make_input(kind, requires_grad=True)
    assert all(a is b for a, b in zip(compiled.parameters(), ours.parameters(), strict=True))
    found = torch.autograd.grad(loss_of(compiled(x)), [x, *ours.parameters()])
    expected = torch.autograd.grad(loss_of(Model(theirs)(x)), [x, *theirs.parameters()])
    assert_close(found, expected)


@kinds
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_compiled_layers_take_packed_sequences(kind, options):
    theirs, ours = make_pair(kind, 3, 4, **options)
    packed = pack_padded_sequence(make_input(kind), torch.tensor([3, 5]), enforce_sorted=False)
    compiled = compiled_for_packed(ours)
    expected, last = theirs(packed)
    for again in (compiled, saved_and_loaded(compiled)):
        y, state = again(packed)
        assert_close([y.data, *flat(state)], [expected.data, *flat(last)])
        assert torch.equal(y.batch_sizes, expected.batch_sizes)


class First(torch.nn.Module):
    """Return y from the result of a layer."""

    def forward(self, found: tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]):
        return found[0]


COMPILERS = {"script": torch.jit.script, "trace": lambda model: torch.jit.trace(model, (torch.randn(5, 2, 3),))}


@pytest.mark.parametrize("compiler", COMPILERS)
@kinds
def test_the_model_itself_stays_on_the_kernels(kind, compiler):
    first, second = (make_pair(one, width, 4, dtype="float32")[1] for one, width in (("LSTM", 3), (kind, 4)))
    model = torch.nn.Sequential(first, First(), second)
    before = [type(module) for module in model.modules()]
    compiled = COMPILERS[compiler](model)
    assert [type(module) for module in model.modules()] == before
    x = torch.randn(5, 2, 3)
    assert_close(flat(compiled(x)), flat(model(x)))


class Loop(torch.nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor, h: torch.Tensor):
        for t in range(x.size(0)):
            h = self.cell(x[t], h)
        return h


@pytest.mark.parametrize("kind", ["GRUCell", "RNNCell", "RNNCell relu"])
def test_a_compiled_loop_over_a_cell(kind):
    theirs, ours = make_pair(kind, 3, 4)
    x, h = make_input("GRU"), torch.zeros(2, 4, dtype=torch.float64)
    assert_close([torch.jit.script(Loop(ours))(x, h)], [Loop(theirs)(x, h)])


class Derived(fastrnn.torch.GRUCell):
    """A class without its own forward."""


class Projected(fastrnn.torch.GRUCell):
    def forward(self, x: torch.Tensor):
        return torch.matmul(x, self.weight_ih.t())


@pytest.mark.parametrize("kind", [Derived, Projected])
def test_classes_derived_from_ours_are_compiled_with_torchs_forward_or_their_own(kind):
    cell, x = kind(3, 4), torch.randn(2, 3)
    torch.testing.assert_close(torch.jit.script(cell)(x), cell(x))
    torch.testing.assert_close(compiled_model(cell)(x), cell(torch.tanh(x)))


def test_files_need_no_fastrnn(tmp_path):
    model, x = Model(fastrnn.torch.LSTM(3, 4)).eval(), torch.randn(5, 2, 3)
    for name, compiled in (("script", torch.jit.script(model)), ("trace", torch.jit.trace(model, (x,)))):
        torch.jit.save(compiled, tmp_path / f"{name}.pt")
        torch.save((x, model(x)[0]), tmp_path / f"{name}.values")
        code = (
            "import sys, torch\n"
            "x, y = torch.load(sys.argv[2])\n"
            "found = torch.jit.load(sys.argv[1])(x)[0]\n"
            "print(torch.allclose(found, y, atol=1e-5), 'fastrnn' in sys.modules)\n"
        )
        paths = [str(tmp_path / f"{name}.{end}") for end in ("pt", "values")]
        result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=100)
        assert result.stdout.split() == ["True", "False"], result.stderr


def test_it_is_said_once(caplog, monkeypatch):
    monkeypatch.setattr(routes, "_said", set())
    caplog.set_level(logging.INFO, "fastrnn.torch")
    for _ in range(2):
        torch.jit.script(Model(fastrnn.torch.GRU(3, 4)))
    assert caplog.messages == ["GRU uses torch's own implementation: TorchScript holds torch's operations alone"]

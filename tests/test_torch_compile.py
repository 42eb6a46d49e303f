"""torch.compile, export, trace and script: the layer stays one operator, or becomes torch's own module."""

import os
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
from fastrnn import _core, config
from fastrnn.torch import calls
from fastrnn.torch.keys import key_of
from torch_cases import (
    CELLS,
    KINDS,
    assert_close,
    flat,
    hold_in_new_memory,
    loss_of,
    make_pair,
    random_input,
    random_state,
)

# Deprecated features that torch itself uses, and its hints about speed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
kinds = pytest.mark.parametrize("kind", KINDS)


class Model(torch.nn.Module):
    """A recurrent module between other modules."""

    def __init__(self, module, before=torch.tanh):
        super().__init__()
        self.inner, self.before = module, before

    def forward(self, x, hx=None):
        found = self.inner(self.before(x), hx)
        return tuple(2 * t for t in flat(found))


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    """Start without compiled code: torch's cache on disk would return code of another run, even for another CPU."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def operators(graph):
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def compiled(model, seen, **more):
    def backend(graph, example):
        seen.append(graph.graph)
        return graph.forward

    return torch.compile(model, fullgraph=True, backend=backend, **more)


@kinds
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}])
@pytest.mark.parametrize("with_state", [False, True])
def test_compile_keeps_one_operator_and_the_bits(kind, options, with_state):
    module = make_pair(kind, 3, 4, **options)[1]
    model, seen = Model(module), []
    fast = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = random_input(module, 5, 2, requires_grad=True)
    hx = random_state(module, 2, requires_grad=True) if with_state else None
    leaves = [x, *(flat(hx) if with_state else ()), *module.parameters()]
    expected, found = model(x, hx), fast(x, hx)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    gradients = [torch.autograd.grad(loss_of(one), leaves) for one in (found, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    torch._dynamo.reset()
    with torch.no_grad():
        found = compiled(model, seen)(x, hx)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert sum("recurrence" in name for name in operators(seen[0])) == 1
    assert not any(
        "lstm" in name or "gru" in name or "rnn" in name.replace("fastrnn", "") for name in operators(seen[0])
    )


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("leading", [(2,), ()])
def test_compiled_cells(kind, leading):
    module = make_pair(kind, 3, 4)[1]
    model, x = Model(module), torch.randn(*leading, 3, dtype=torch.float64, requires_grad=True)
    found = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    assert all(torch.equal(a, b) for a, b in zip(found, model(x), strict=True))
    loss_of(found).backward()
    expected = torch.autograd.grad(loss_of(model(x)), x)[0]
    assert torch.equal(x.grad, expected)


def test_compile_with_lengths_resets_truncation_and_sizes_that_change():
    module = fastrnn.torch.GRU(3, 4, num_layers=2)
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    for T, B in ((5, 2), (6, 3), (9, 4)):
        x, resets = torch.randn(T, B, 3), torch.rand(T, B) < 0.2
        lengths = torch.randint(0, T + 1, (B,))
        for more in ({"lengths": lengths}, {"resets": resets}, {"lengths": lengths, "truncation": (2, 3)}):
            found = fast(x, **more)[0]
            expected = module(x, **more)[0]
            assert torch.equal(found, expected)
            gradients = [torch.autograd.grad(y.sum(), list(module.parameters())) for y in (found, expected)]
            assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_compile_with_packed_sequences_breaks_the_graph_and_gives_the_same():
    module = fastrnn.torch.LSTM(3, 4)

    def run(x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return torch.nn.utils.rnn.pad_packed_sequence(module(packed)[0])[0]

    x, lengths = torch.randn(5, 3, 3), torch.tensor([2, 5, 1])
    assert torch.equal(torch.compile(run, backend="aot_eager")(x, lengths), run(x, lengths))


def test_compiled_dropout_follows_torchs_generator():
    module = fastrnn.torch.LSTM(3, 40, num_layers=2, dropout=0.5)
    fast, x = torch.compile(module, fullgraph=True, backend="aot_eager"), torch.randn(5, 2, 3)
    torch.manual_seed(0)
    first, second = fast(x)[0], fast(x)[0]
    torch.manual_seed(0)
    assert torch.equal(fast(x)[0], first)
    assert not torch.equal(first, second)
    module.eval()
    assert torch.equal(fast(x)[0], module(x)[0])


def test_compile_leaves_plain_modules_of_torch_as_it_found_them():
    fast = torch.compile(torch.nn.GRU(3, 4), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"RNN, GRU,? (or )?LSTM"):
        fast(torch.randn(5, 2, 3))


@kinds
def test_inductor(kind):
    module = make_pair(kind, 3, 4, dtype="float32", num_layers=2)[1]
    model, x = Model(module), torch.randn(5, 2, 3)
    try:
        found = torch.compile(model, fullgraph=True)(x)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"no compiler for inductor here: {error}")
    expected = model(x)
    assert_close(found, expected)
    gradients = [torch.autograd.grad(loss_of(one), list(module.parameters())) for one in (found, expected)]
    assert_close(*gradients, 100)


RESERVES = """
import numpy as np
from fastrnn.torch.calls import reserve_bytes

for cell in ("lstm", "gru", "rnn_tanh"):
    for dtype in (np.float32, np.float64):
        print(cell, *(reserve_bytes(cell, dtype, H, 7) for H in (0, 1, 4, 9, 16, 17, 70)))
"""


def test_sizes_in_compiled_graphs_do_not_depend_on_the_instruction_sets_of_the_machine():
    """torch keeps compiled graphs on disk, and several kinds of machines may share a home folder."""
    hidden = ",".join(b.name for b in _core.backends() if b.can_be_hidden)
    environment = {name: value for name, value in os.environ.items() if name != "FASTRNN_BACKEND"}
    found = [
        subprocess.run(
            [sys.executable, "-c", RESERVES],
            env=environment | {"FASTRNN_HIDE": hide},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
        for hide in ("", hidden)
    ]
    assert found[0] == found[1]
    assert len(found[0].splitlines()) == 6


@pytest.mark.parametrize("size", [(5, 2, 4), (3, 1, 1), (1, 3, 9), (7, 1, 17)])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_byte_of_what_forward_saves_depends_on_what_memory_held(backend, monkeypatch, kind, size, dtype):
    T, B, H = size
    module = make_pair(kind, 3, H, dtype=dtype)[1]
    x, network = torch.randn(T, B, 3, dtype=module.weight_ih_l0.dtype), module._network()
    states = [None] * len(network.row.states)
    arguments = x, states, list(module.parameters()), None, [None] * 3, key_of(network, "dense", None, True)
    found = []
    for held in (0x55, 0xAA):
        hold_in_new_memory(monkeypatch, held)
        found.append(torch.ops.fastrnn.recurrence.default(*arguments))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_what_forward_saves_fits_the_size_in_a_compiled_graph(backend, cell, dtype):
    for H in (1, 3, 4, 9, 16, 17, 31, 70):
        for rows in (0, 1, 2, 13):
            needed = _core.Problem(cell, dtype, config.backend_index(), 1, rows, 1, 0, H).reserve
            assert needed <= calls.reserve_bytes(cell, dtype, H, rows)


@kinds
@pytest.mark.parametrize("strict", [False, True])
def test_export_keeps_one_operator_with_dynamic_sizes(kind, strict, tmp_path):
    module = make_pair(kind, 3, 4, dtype="float32", num_layers=2)[1].eval()
    model, x = Model(module), torch.randn(5, 2, 3)
    T, B = torch.export.Dim("T", min=2), torch.export.Dim("B", min=2)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: T, 1: B},), strict=strict)
    assert operators(program.graph).count("fastrnn.recurrence.default") == 1
    torch.export.save(program, tmp_path / "model.pt2")
    again = torch.export.load(tmp_path / "model.pt2").module()
    for shape in ((5, 2, 3), (7, 3, 3)):
        x = torch.randn(shape)
        assert all(torch.equal(a, b) for a, b in zip(again(x), model(x), strict=True))


def test_a_package_of_aotinductor_runs_the_operator(tmp_path):
    module = make_pair("LSTM", 3, 4, dtype="float32", num_layers=2)[1].eval()
    model, x = Model(module, torch.neg), torch.randn(5, 2, 3)  # compiled code has a different tanh, with other bits
    path = torch._inductor.aoti_compile_and_package(
        torch.export.export(model, (x,)), package_path=str(tmp_path / "model.pt2")
    )
    with torch.no_grad():
        found = torch._inductor.aoti_load_package(path)(x)
        assert all(torch.equal(a, b) for a, b in zip(found, model(x), strict=True))


def test_a_truncation_may_be_an_argument_of_a_compiled_function():
    """A symbol of the compiler's becomes a number in the operator's key."""
    module, x = make_pair("GRU", 3, 4, dtype="float32")[1], torch.randn(7, 2, 3)
    compiled = torch.compile(lambda x, k: module(x, truncation=k)[0], fullgraph=True, dynamic=True)
    for k in (2, 3):
        found, expected = (
            torch.autograd.grad(f(x, k).sum(), module.parameters())
            for f in (compiled, lambda x, k: module(x, truncation=k)[0])
        )
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "dropout": 0.5}])
@kinds
def test_opcheck(kind, options):
    module = make_pair(kind, 3, 4, dtype="float32", **options)[1]
    x, hx = torch.randn(5, 2, 3, requires_grad=True), random_state(module, 2)
    states = list(hx if isinstance(hx, tuple) else (hx,))
    masks = torch.ones(1, 5, 2, 8) if options else None
    key = key_of(module._network(), "dense", None, True)
    arguments = x, states, list(module.parameters()), masks, [None] * 3, key
    torch.library.opcheck(torch.ops.fastrnn.recurrence.default, arguments)


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_trace_records_torchs_own(kind):
    module = make_pair(kind, 3, 4, dtype="float32")[1].eval()
    x = torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)
    traced = torch.jit.trace(module, (x,))
    other = torch.randn_like(x)
    assert_close(flat(traced(other)), flat(module(other)))
    assert "fastrnn::" not in str(traced.inlined_graph)


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_script_compiles_torchs_own_with_the_same_parameters(kind):
    module = make_pair(kind, 3, 4, dtype="float32")[1].eval()
    model = torch.nn.Sequential(torch.nn.Tanh(), module)
    x = torch.randn(2, 3) if kind in CELLS else torch.randn(5, 2, 3)
    expected = flat(model(x))
    scripted = torch.jit.script(model)
    assert_close(flat(scripted(x)), expected)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert not flat(scripted(x))[0].any()

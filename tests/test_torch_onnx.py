"""torch.onnx.export of our modules gives torch's operations, and ONNX Runtime computes the module's results."""

import io

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
runtime = pytest.importorskip("onnxruntime")

import fastrnn.torch
from torch_cases import CELLS, KINDS, assert_close, flat, make_pair, random_state

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
# Before torch 2.8 a module cannot detect that dynamo exports it.
has_dynamo = pytest.mark.skipif(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 8), reason="torch before 2.8")
exporters = pytest.mark.parametrize(
    "dynamo", [pytest.param(True, marks=has_dynamo), False], ids=["dynamo", "TorchScript"]
)
LAYERS = {"layer": {}, "stack": {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5}}


class Model(torch.nn.Module):
    """A recurrent module between other modules."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, hx=None):
        return self.inner(torch.tanh(x), hx)


def exported(model, arguments, dynamo):
    """A function that runs the exported model in ONNX Runtime, for arguments like these."""
    file = io.BytesIO()
    if dynamo:
        torch.onnx.export(model, arguments, dynamo=True, verbose=False).save(file)
    else:
        torch.onnx.export(model, arguments, file, dynamo=False)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(*given):
        feed = {name: tensor.numpy() for name, tensor in zip(names, flat(given), strict=True)}
        return [torch.from_numpy(y) for y in session.run(None, feed)]

    return run


def inputs_of(kind, module, options):
    x = torch.randn(*((2, 3) if kind in CELLS else (5, 2, 3)))
    if kind not in CELLS:
        return x, random_state(module, 5 if options.get("batch_first") else 2)
    h = torch.randn(2, 4)
    return x, ((h, h.clone()) if kind == "LSTMCell" else h)


@exporters
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"), [*((kind, name) for kind in KINDS for name in LAYERS), *((kind, "layer") for kind in CELLS)]
)
def test_an_exported_module_computes_what_the_module_does(kind, options, with_state, dynamo):
    """The module is the whole model."""
    torch.manual_seed(0)
    module = make_pair(kind, 3, 4, dtype="float32", **LAYERS[options])[1].eval()
    arguments = inputs_of(kind, module, LAYERS[options])[: 1 + with_state]
    run = exported(module, arguments, dynamo)
    arguments = inputs_of(kind, module, LAYERS[options])[: 1 + with_state]
    assert_close(run(*arguments), [y.detach() for y in flat(module(*arguments))])


@exporters
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_an_exported_model_has_the_nodes_of_torchs_and_stays_on_the_kernels(kind, dynamo):
    theirs, ours = make_pair(kind, 3, 4, dtype="float32")
    found = []
    for module in (theirs, ours):
        file, model = io.BytesIO(), Model(module).eval()
        if dynamo:
            torch.onnx.export(model, (torch.randn(5, 2, 3),), dynamo=True, verbose=False).save(file)
        else:
            torch.onnx.export(model, (torch.randn(5, 2, 3),), file, dynamo=False)
        found.append([node.op_type for node in onnx.load_from_string(file.getvalue()).graph.node])
    assert kind in found[1]
    assert found[1] == found[0]
    assert type(ours) is getattr(fastrnn.torch, kind)
    with torch.no_grad():
        seen = torch.export.export(Model(ours), (torch.randn(5, 2, 3),))
    assert "fastrnn.recurrence.default" in [str(node.target) for node in seen.graph.nodes]


@has_dynamo
@pytest.mark.parametrize("name", ["lengths", "resets", "truncation"])
def test_what_torchs_operations_do_not_know_is_refused(name):
    module = fastrnn.torch.GRU(3, 4).eval()
    value = {"lengths": [5, 3], "resets": [[True, False]] * 5, "truncation": 2}[name]

    class Given(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x):
            return self.inner(x, **{name: value})[0]

    with pytest.raises(Exception, match=r"fastrnn\.recurrence|expected None in torch\.onnx\.export"):
        torch.onnx.export(Given(), (torch.randn(5, 2, 3),), dynamo=True, verbose=False)

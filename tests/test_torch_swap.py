"""accelerate and restore: classes change, objects stay."""

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
from torch_cases import assert_close, flat


class Named(torch.nn.LSTM):
    """A subclass without its own forward."""

    def __init__(self, *sizes, tag="", **more):
        super().__init__(*sizes, **more)
        self.tag = tag


class Doubled(torch.nn.GRU):
    def forward(self, input, hx=None):  # noqa: A002
        y, h = super().forward(input, hx)
        return 2 * y, h


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.1)
        self.named = Named(8, 4, tag="kept")
        self.rest = torch.nn.ModuleList([torch.nn.GRU(4, 4), torch.nn.RNN(4, 4), Doubled(4, 4)])
        self.again = self.rest[0]
        self.cells = torch.nn.ModuleDict({"lstm": torch.nn.LSTMCell(4, 4), "gru": torch.nn.GRUCell(4, 4)})
        self.rnn_cell = torch.nn.RNNCell(4, 4)
        self.projected = torch.nn.LSTM(4, 4, proj_size=2)
        self.rest[1].weight_hh_l0 = self.rnn_cell.weight_hh  # weights shared between modules

    def forward(self, x):
        x, _ = self.named(self.lstm(x)[0])
        for module in (*self.rest, self.again):
            x, _ = module(x)
        x = self.cells["lstm"](x[-1])[0]
        return self.rnn_cell(self.cells["gru"](x))


def classes(model):
    return {name: type(module) for name, module in model.named_modules()}


def test_every_recurrent_module_is_swapped_and_the_report_says_so():
    model = Model()
    before = dict(model.named_parameters())
    report = fastrnn.torch.accelerate(model)
    assert report.model is model
    assert report.swapped == {
        "lstm": "fastrnn.torch.LSTM", "named": "fastrnn.torch.Named", "rest.0": "fastrnn.torch.GRU",
        "rest.1": "fastrnn.torch.RNN", "cells.lstm": "fastrnn.torch.LSTMCell", "cells.gru": "fastrnn.torch.GRUCell",
        "rnn_cell": "fastrnn.torch.RNNCell",
    }  # fmt: skip
    assert set(report.left) == {"rest.2", "projected"}
    assert "forward of its own" in report.left["rest.2"]
    assert "proj_size" in report.left["projected"]
    assert "rest.2: left as it is, since" in str(report)
    assert model.again is model.rest[0]
    assert model.named.tag == "kept"
    assert isinstance(model.named, Named)
    for name, parameter in model.named_parameters():
        assert parameter is before[name]
    again = fastrnn.torch.accelerate(model)
    assert not again.swapped
    assert again.left["lstm"] == "it is fastrnn's already"


def test_restore_undoes_it():
    model = Model()
    before, parameters = classes(model), dict(model.named_parameters())
    swapped = fastrnn.torch.accelerate(model).swapped
    assert classes(model) != before
    model(torch.randn(5, 2, 3))
    assert "_fastrnn_memory" in model.lstm.__dict__
    report = fastrnn.torch.restore(model)
    assert classes(model) == before
    assert list(report.swapped) == list(swapped)
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert "_fastrnn_memory" not in model.lstm.__dict__


def test_the_model_computes_the_same_and_optimizers_go_on():
    torch.manual_seed(0)
    theirs = Model().double().eval()
    ours = copy.deepcopy(theirs)
    optimizers = [torch.optim.Adam(m.parameters(), 0.01) for m in (theirs, ours)]
    fastrnn.torch.accelerate(ours)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    for _ in range(3):
        for model, optimizer in zip((theirs, ours), optimizers, strict=True):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert_close([ours(x)], [theirs(x)], 1e3)
    fastrnn.torch.restore(ours)
    assert_close([ours(x)], [theirs(x)], 1e3)


def test_a_copy_leaves_the_model_alone():
    model = Model()
    before = classes(model)
    report = fastrnn.torch.accelerate(model, inplace=False)
    assert report.model is not model
    assert classes(model) == before
    assert isinstance(report.model.lstm, fastrnn.torch.LSTM)
    assert report.model.lstm.weight_ih_l0 is not model.lstm.weight_ih_l0


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_the_model_itself_may_be_a_recurrent_module(kind):
    module = getattr(torch.nn, kind)(3, 4)
    x = torch.randn(2, 3)
    expected = flat(module(x))
    report = fastrnn.torch.accelerate(module)
    assert report.swapped == {"": f"fastrnn.torch.{kind}"}
    first, *notes = str(report).splitlines()
    assert first == f"(the model): fastrnn.torch.{kind}"
    assert notes == [f"note: {report.note}"]
    assert type(module) is getattr(fastrnn.torch, kind)
    assert_close(flat(module(x)), expected)
    fastrnn.torch.restore(module)
    assert type(module) is getattr(torch.nn, kind)


def test_hooks_training_flag_and_buffers_are_kept():
    module, seen = torch.nn.GRU(3, 4, num_layers=2, dropout=0.5).eval(), []
    module.register_forward_hook(lambda *_: seen.append(1))
    module.register_buffer("mark", torch.ones(1))
    handle = module.register_forward_pre_hook(lambda *_: seen.append(2))
    fastrnn.torch.accelerate(module)
    x = torch.randn(5, 2, 3)
    assert torch.equal(module(x)[0], module(x)[0])
    assert seen == [2, 1, 2, 1]
    assert not module.training
    assert "mark" in module.state_dict()
    handle.remove()
    module(x)
    assert seen == [2, 1, 2, 1, 1]


@pytest.mark.parametrize("swap_first", [False, True])
@pytest.mark.parametrize("kind", [torch.nn.GRU, Named])
def test_parametrizations_may_come_before_and_after_and_go_again(kind, swap_first):
    module = kind(3, 4)
    x = torch.randn(5, 2, 3)
    if swap_first:
        fastrnn.torch.accelerate(module)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    plain = copy.deepcopy(module)
    if not swap_first:
        fastrnn.torch.accelerate(module)
    else:
        fastrnn.torch.restore(plain)
    assert not isinstance(plain, fastrnn.torch.GRU | fastrnn.torch.modules.RecurrentForward)
    assert isinstance(module, fastrnn.torch.modules.RecurrentForward)
    assert isinstance(copy.deepcopy(module), fastrnn.torch.modules.RecurrentForward)
    assert_close([module(x)[0]], [plain(x)[0]])
    torch.nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")
    assert isinstance(module, fastrnn.torch.modules.RecurrentForward)
    assert_close([module(x)[0]], [plain(x)[0]])
    fastrnn.torch.restore(module)
    assert type(module) is kind


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_swapped_subclasses_can_be_copied_and_pickled(how):
    module = Named(3, 4, tag="kept")
    fastrnn.torch.accelerate(module)
    other = copy.deepcopy(module) if how == "deepcopy" else pickle.loads(pickle.dumps(module))
    assert type(other) is type(module)
    assert other.tag == "kept"
    x = torch.randn(5, 2, 3)
    assert torch.equal(other(x)[0], module(x)[0])
    assert type(fastrnn.torch.restore(other).model) is Named


def test_a_forward_replaced_on_the_object_is_left():
    module = torch.nn.GRU(3, 4)
    module.forward = lambda *_: "mine"
    report = fastrnn.torch.accelerate(module)
    assert report.left == {"": "its forward was replaced"}
    assert module(1) == "mine"


def test_restore_of_modules_that_were_made_as_fastrnns():
    model = torch.nn.Sequential(fastrnn.torch.GRU(3, 4))
    assert fastrnn.torch.restore(model).swapped == {"0": "torch.nn.modules.rnn.GRU"}
    assert type(model[0]) is torch.nn.GRU


def test_other_arguments_are_refused():
    with pytest.raises(TypeError, match=r"model: expected a torch\.nn\.Module, got int"):
        fastrnn.torch.accelerate(3)
    with pytest.raises(TypeError, match="inplace: expected True or False, got 1"):
        fastrnn.torch.accelerate(torch.nn.GRU(3, 4), 1)
    assert str(fastrnn.torch.accelerate(torch.nn.Linear(3, 4))) == "no recurrent modules"


def test_state_dicts_load_into_torch_and_back():
    model, other = Model(), Model()
    fastrnn.torch.accelerate(model)
    other.load_state_dict(model.state_dict())
    model.load_state_dict(other.state_dict())
    torch.optim.swa_utils.AveragedModel(model).update_parameters(model)

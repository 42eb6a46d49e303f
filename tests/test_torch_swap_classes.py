"""accelerate and restore on classes with __init_subclass__, and on modules that are compiled or quantized."""

import abc
import copy
import io
import pickle
from typing import ClassVar

import pytest

torch = pytest.importorskip("torch")

import fastrnn.torch
from fastrnn.torch.modules import RecurrentForward
from torch_cases import assert_close


class WithKey(torch.nn.LSTM):
    """Subclasses must pass a key."""

    known: ClassVar = {}

    def __init_subclass__(cls, *, key, **more):
        super().__init_subclass__(**more)
        WithKey.known[key] = cls


class Encoder(WithKey, key="encoder"):
    pass


class Listed(torch.nn.GRU):
    known: ClassVar = []

    def __init_subclass__(cls, **more):
        super().__init_subclass__(**more)
        Listed.known.append(cls)


class Decoder(Listed):
    pass


class Final(torch.nn.RNN):
    def __init_subclass__(cls, **more):
        raise TypeError("there are no subclasses")


class Abstract(torch.nn.GRU, abc.ABC):
    pass


class Guarded(torch.nn.GRU):
    """Refuses new attributes after its construction."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.__dict__["is_made"] = True

    def __setattr__(self, name, value):
        if self.__dict__.get("is_made") and name == "__class__":
            raise AttributeError("it is made")
        super().__setattr__(name, value)


class Registry(type):
    known: ClassVar = []

    def __init__(cls, *arguments):
        super().__init__(*arguments)
        Registry.known.append(cls)


class Registered(torch.nn.GRU, metaclass=Registry):
    pass


class Slotted(torch.nn.GRU):
    __slots__ = ("slot",)


class Reduced(torch.nn.GRU):
    """Defines its own pickling."""

    def __reduce__(self):
        return rebuild, (type(self), self.input_size, self.hidden_size), self.state_dict()

    def __setstate__(self, state):
        self.load_state_dict(state)


def rebuild(kind, *sizes):
    return kind(*sizes)


TAKEN = [Encoder, Decoder, Final, Abstract, Guarded, Reduced]
LEFT = {Registered: "metaclass Registry", Slotted: "takes no other base"}


def known():
    return dict(WithKey.known), list(Listed.known), list(Registry.known)


def outputs(model, x):
    return [module(x)[0] for module in model]


@pytest.mark.parametrize("kind", TAKEN)
def test_classes_that_watch_their_subclasses_are_swapped_and_hear_of_nothing(kind):
    model, x, before = torch.nn.ModuleList([torch.nn.LSTM(3, 4), kind(3, 4)]), torch.randn(5, 2, 3), known()
    expected = outputs(model, x)
    report = fastrnn.torch.accelerate(model)
    assert report.swapped == {"0": "fastrnn.torch.LSTM", "1": f"fastrnn.torch.{kind.__name__}"}
    assert isinstance(model[1], kind)
    assert isinstance(model[1], RecurrentForward)
    assert_close(outputs(model, x), expected)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert [type(module) for module in other] == [type(module) for module in model]
        assert_close(outputs(other, x), expected)
    fastrnn.torch.restore(model)
    assert [type(module) for module in model] == [torch.nn.LSTM, kind]
    assert known() == before


@pytest.mark.parametrize("kind", LEFT)
def test_classes_that_cannot_be_swapped_are_left_with_a_reason_and_the_rest_is_swapped(kind):
    model, x, before = torch.nn.ModuleList([kind(3, 4), torch.nn.GRU(3, 4)]), torch.randn(5, 2, 3), known()
    expected = outputs(model, x)
    report = fastrnn.torch.accelerate(model)
    assert report.swapped == {"1": "fastrnn.torch.GRU"}
    assert LEFT[kind] in report.left["0"]
    assert type(model[0]) is kind
    assert_close(outputs(model, x), expected)
    assert known() == before


def test_a_parametrized_module_of_such_a_class_is_swapped_and_restored_without_a_word():
    module = torch.nn.utils.parametrizations.weight_norm(
        Decoder(3, 4), "weight_hh_l0"
    )  # Decoder's __init_subclass__ runs for torch's class
    x, before = torch.randn(5, 2, 3), known()
    expected = module(x)[0]
    fastrnn.torch.accelerate(module)
    assert isinstance(module, RecurrentForward)
    assert_close([module(x)[0]], [expected])
    fastrnn.torch.restore(module)
    assert_close([module(x)[0]], [expected])
    torch.nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")
    assert type(module) is Decoder
    assert known() == before


@pytest.mark.parametrize("inplace", [True, False])
def test_an_error_leaves_the_whole_model_as_it_was(monkeypatch, inplace):
    model = torch.nn.ModuleList([torch.nn.LSTM(3, 4), Decoder(3, 4), torch.nn.GRUCell(3, 4)])
    kinds = [type(module) for module in model]
    class_of_ours = fastrnn.torch.swap.class_of_ours

    def fails(kind, is_parametrized):
        if kind is torch.nn.GRUCell:
            raise KeyboardInterrupt
        return class_of_ours(kind, is_parametrized)

    monkeypatch.setattr(fastrnn.torch.swap, "class_of_ours", fails)
    with pytest.raises(KeyboardInterrupt):
        fastrnn.torch.accelerate(model, inplace)
    assert [type(module) for module in model] == kinds


def test_an_error_in_the_middle_of_the_assignment_is_undone():
    model = torch.nn.ModuleList([torch.nn.LSTM(3, 4), torch.nn.GRU(3, 4)])
    kinds = [type(module) for module in model]
    with pytest.raises(TypeError):
        fastrnn.torch.swap._assign([(model[0], fastrnn.torch.LSTM), (model[1], int)])
    assert [type(module) for module in model] == kinds


class Derived(fastrnn.torch.GRU):
    pass


def test_restore_changes_nothing_where_it_refuses():
    model = torch.nn.ModuleList([fastrnn.torch.LSTM(3, 4), Derived(3, 4)])
    with pytest.raises(TypeError, match="Derived, which is fastrnn's"):
        fastrnn.torch.restore(model)
    assert [type(module) for module in model] == [fastrnn.torch.LSTM, Derived]


# ---- what is not torch's class any more ----


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.cell, self.rest = torch.nn.GRU(3, 4), torch.nn.LSTMCell(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.rest(self.cell(self.rnn(x)[0][-1])[0])


def loaded(compiled):
    file = io.BytesIO()
    torch.jit.save(compiled, file)
    file.seek(0)
    return torch.jit.load(file)


COMPILERS = {
    "script": lambda: torch.jit.script(Model()),
    "trace": lambda: torch.jit.trace(Model(), (torch.randn(5, 2, 3),)),
    "script, loaded": lambda: loaded(torch.jit.script(Model())),
    "trace, loaded": lambda: loaded(torch.jit.trace(Model(), (torch.randn(5, 2, 3),))),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiled_modules_are_left_with_a_reason(compiler):
    model = torch.nn.ModuleDict({"compiled": COMPILERS[compiler](), "plain": torch.nn.GRU(3, 4)})
    report = fastrnn.torch.accelerate(model)
    assert report.swapped == {"plain": "fastrnn.torch.GRU"}
    assert set(report.left) == {"compiled.rnn", "compiled.cell"}
    assert all("TorchScript" in reason for reason in report.left.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_frozen_module_is_left_as_a_whole():
    frozen = torch.jit.freeze(torch.jit.script(Model().eval()))
    report = fastrnn.torch.accelerate(torch.nn.Sequential(frozen))
    assert set(report.left) == {"0"}
    plain = torch.nn.Sequential(torch.jit.script(torch.nn.Linear(3, 4)))
    assert str(fastrnn.torch.accelerate(plain)) == "no recurrent modules"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantization_passes_ours_by_as_the_report_says_and_quantized_modules_are_left():
    model = torch.nn.Sequential(torch.nn.LSTM(3, 4))
    report = fastrnn.torch.accelerate(model)
    assert "quantize_dynamic" in str(report)
    quantize = torch.ao.quantization.quantize_dynamic
    assert type(quantize(model, {torch.nn.LSTM})[0]) is fastrnn.torch.LSTM
    fastrnn.torch.restore(model)
    if set(torch.backends.quantized.supported_engines) <= {"none"}:
        pytest.skip("torch was built without quantization")
    quantized = quantize(model, {torch.nn.LSTM})
    report = fastrnn.torch.accelerate(quantized)
    assert report.left == {"0": "it is quantized"}
    assert not report.swapped
    assert "note" not in str(report)


def test_a_printed_model_names_fastrnn_where_its_kernels_run():
    model = Model()
    fastrnn.torch.accelerate(model)
    assert "(rnn): fastrnn.torch.GRU(3, 4)" in repr(model)
    assert "(cell): fastrnn.torch.LSTMCell(4, 4)" in repr(model)
    fastrnn.torch.restore(model)
    assert "fastrnn" not in repr(model)

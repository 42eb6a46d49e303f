"""Converters compared with torch: the same weights give the same numbers. Needs the extra `torch`."""

import fastrnn
import numpy as np
import pytest
from convert_cases import NAMES, assert_agree, assert_same_layer, layers, members, random_input, steps
from fastrnn import convert
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, dtypes, seeds, widths

torch = pytest.importorskip("torch")

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN}


def module_like(layer):
    names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
    options = {name: getattr(layer, name) for name in names} | nonlinearity_of(layer)
    return MODULES[layer._cell](**options, dtype=getattr(torch, layer.dtype.name)).eval()


def nonlinearity_of(layer):
    return {"nonlinearity": layer.nonlinearity} if isinstance(layer, fastrnn.RNN) else {}


def as_tensors(state):
    tensors = tuple(torch.from_numpy(member) for member in members(state))
    return tensors if len(tensors) == 2 else tensors[0]


def outputs(module, x, state):
    with torch.no_grad():
        y, final = module(torch.from_numpy(x), as_tensors(state))
    return y.numpy(), *(member.numpy() for member in members(final))


@given(layer=layers(counts=(1, 2, 3), dropout=0.5), T=steps, B=batches, seed=seeds)
@pytest.mark.filterwarnings("ignore:dropout option adds dropout:UserWarning")
def test_a_module_takes_the_weights_and_gives_the_same_numbers(layer, T, B, seed):
    model = torch.nn.Module()
    model.encoder = module_like(layer)
    tensors = {name: torch.from_numpy(array) for name, array in convert.to_torch(layer, "encoder").items()}
    assert list(tensors) == list(model.state_dict())
    model.load_state_dict(tensors)
    x, state = random_input(layer, T, B, seed)
    y, final = layer(x, state)
    assert_agree(layer, T, (y, *members(final)), outputs(model.encoder, x, state))


@given(layer=layers(counts=(1, 2, 3)), T=steps, B=batches, seed=seeds)
def test_a_layer_takes_the_weights_and_gives_the_same_numbers(layer, T, B, seed):
    """`layer` only determines the module to make; the test uses the module's own weights."""
    torch.manual_seed(seed % 2**31)
    model = torch.nn.Module()
    model.encoder, model.head = module_like(layer), torch.nn.Linear(3, 4)
    found = convert.from_torch(model.state_dict(), "encoder", batch_first=layer.batch_first, **nonlinearity_of(layer))
    assert repr(found) == repr(layer)
    x, state = random_input(found, T, B, seed)
    y, final = found(x, state)
    assert_agree(found, T, (y, *members(final)), outputs(model.encoder, x, state))
    again = {name: torch.from_numpy(array) for name, array in convert.to_torch(found).items()}
    assert all(torch.equal(again[name], tensor) for name, tensor in model.encoder.state_dict().items())


@given(cell=st.sampled_from(NAMES), I=widths, H=widths, dtype=dtypes, seed=seeds)
def test_a_cell_of_torch_is_a_step_of_the_layer(cell, I, H, dtype, seed):
    torch.manual_seed(seed % 2**31)
    kind, *nonlinearity = cell.split("_")
    options = {"nonlinearity": nonlinearity[0]} if nonlinearity else {}
    module = getattr(torch.nn, kind.upper() + "Cell")(I, H, dtype=getattr(torch, dtype), **options)
    layer = convert.from_torch(module.state_dict(), **options)
    x, state = random_input(layer, 1, 5, seed)
    with torch.no_grad():
        expected = members(module(torch.from_numpy(x[0]), as_tensors(tuple(m[0] for m in members(state)))))
    _, final = layer(x, state)
    assert_agree(layer, 1, [m[0] for m in members(final)], [e.numpy() for e in expected])


def test_parameters_that_need_gradients_are_taken_as_they_are_and_copied():
    module = torch.nn.GRU(3, 4)
    layer = convert.from_torch(dict(module.named_parameters()))
    assert_same_layer(layer, convert.from_torch(module.state_dict()))
    layer.parameters["weight_ih_l0"][:] = 7
    assert not (module.weight_ih_l0 == 7).any()


def test_projections_and_other_dtypes_of_torch_are_refused():
    with pytest.raises(ValueError, match="state_dict: expected a module without projections"):
        convert.from_torch(torch.nn.LSTM(3, 4, proj_size=2).state_dict())
    for dtype in ("bfloat16", "float16"):
        state_dict = torch.nn.GRU(3, 4, dtype=getattr(torch, dtype)).state_dict()
        with pytest.raises(TypeError, match=f"weight_ih_l0: expected float32 or float64, got .*{dtype}"):
            convert.from_torch(state_dict)


def test_a_missing_module_is_refused_with_the_names_of_those_that_there_are():
    model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 4), "step": torch.nn.GRUCell(3, 4)})
    with pytest.raises(
        ValueError, match=r"prefix: expected the name of .*, out of \['encoder', 'step'\], got 'decoder'"
    ):
        convert.from_torch(model.state_dict(), "decoder")
    assert isinstance(convert.from_torch(model.state_dict(), "step"), fastrnn.GRU)


def test_weight_normalisation_is_refused():
    module = torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(3, 4), "weight_hh_l0")
    with pytest.raises(ValueError, match="prefix: expected"):
        convert.from_torch(module.state_dict())
    folded = torch.nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")
    assert np.array_equal(
        convert.from_torch(folded.state_dict()).parameters["weight_hh_l0"], folded.weight_hh_l0.detach().numpy()
    )

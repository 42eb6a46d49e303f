"""The same numbers as torch.nn, value and gradients, from the same parameters. Needs the extra `torch`."""

import bounds
import fastrnn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, dtypes, seeds, widths

torch = pytest.importorskip("torch")

KINDS = {
    "LSTM": (fastrnn.LSTM, torch.nn.LSTM, {}),
    "GRU": (fastrnn.GRU, torch.nn.GRU, {}),
    "RNN tanh": (fastrnn.RNN, torch.nn.RNN, {"nonlinearity": "tanh"}),
    "RNN relu": (fastrnn.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
}


@st.composite
def pairs(draw):
    """Our layer, torch's layer with the same parameters, and arrays by name."""
    ours, theirs, options = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    options = options | {
        "num_layers": draw(st.sampled_from([1, 2, 3])), "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()), "batch_first": draw(st.booleans()),
    }  # fmt: skip
    I, H, dtype, seed = draw(widths), draw(widths), draw(dtypes), draw(seeds)
    layer = ours(I, H, dtype=dtype, seed=seed, **options)
    module = theirs(I, H, dtype=getattr(torch, dtype), **options)
    assert list(layer.parameters) == [name for name, _ in module.named_parameters()]
    module.load_state_dict({name: torch.from_numpy(array) for name, array in layer.parameters.items()})
    T, B, D = draw(st.sampled_from([1, 2, 5])), draw(batches), 1 + layer.bidirectional
    leading = (B, T) if layer.batch_first else (T, B)
    if draw(st.booleans()):
        leading, B = (T,), 1
    rng = np.random.default_rng(seed)
    state = (layer.num_layers * D, H) if len(leading) == 1 else (layer.num_layers * D, B, H)
    shapes = {"x": (*leading, I), "dy": (*leading, D * H)} | dict.fromkeys(("h0", "c0", "dh", "dc"), state)
    return layer, module, T, B, {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def members(state):
    return state if isinstance(state, tuple) else (state,)


@given(drawn=pairs(), with_state=st.booleans())
def test_values_and_gradients_equal_those_of_torch(drawn, with_state):
    layer, module, T, B, a = drawn
    is_lstm = isinstance(layer, fastrnn.LSTM)
    tensors = {name: torch.from_numpy(a[name]).requires_grad_() for name in ("x", "h0", "c0")}
    ours_state = (a["h0"], a["c0"]) if is_lstm else a["h0"]
    theirs_state = (tensors["h0"], tensors["c0"]) if is_lstm else tensors["h0"]
    y_t, final_t = module(tensors["x"], theirs_state if with_state else None)
    loss = (y_t * torch.from_numpy(a["dy"])).sum()
    for member, d in zip(members(final_t), (a["dh"], a["dc"]), strict=False):
        loss = loss + (member * torch.from_numpy(d)).sum()
    loss.backward()
    y, final, tape = layer.forward(a["x"], ours_state if with_state else None)
    gradients = layer.backward(tape, a["dy"], (a["dh"], a["dc"]) if is_lstm else a["dh"])
    wide = max(layer.input_size, layer.hidden_size * (1 + layer.bidirectional))
    # Both sides round, so the limit is twice the bound of one side.
    limit = 2 * bounds.of_values(layer.dtype, wide, layer.hidden_size, T, layer.num_layers)
    for found, expected in zip((y, *members(final)), (y_t, *members(final_t)), strict=True):
        bounds.assert_within(found, expected.detach().numpy(), limit)
    limit = 2 * bounds.of_gradients(layer.dtype, wide, layer.hidden_size, T, B, layer.num_layers)
    bounds.assert_within(gradients.x, tensors["x"].grad.numpy(), limit, "x")
    if with_state:
        for found, name in zip(members(gradients.state), ("h0", "c0"), strict=False):
            bounds.assert_within(found, tensors[name].grad.numpy(), limit, name)
    for name, parameter in module.named_parameters():
        bounds.assert_within(gradients.parameters[name], parameter.grad.numpy(), limit, name)


@given(drawn=pairs())
def test_shapes_follow_torch(drawn):
    layer, module, _, _, a = drawn
    with torch.no_grad():
        y_t, final_t = module(torch.from_numpy(a["x"]))
    y, final = layer(a["x"])
    assert y.shape == tuple(y_t.shape)
    assert [m.shape for m in members(final)] == [tuple(m.shape) for m in members(final_t)]

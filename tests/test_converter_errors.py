"""Errors of converters: each message names the argument, the expected value and the given value."""

import importlib
import sys

import fastrnn
import numpy as np
import pytest
from fastrnn import convert

LSTM, GRU, RNN = (kind(3, 4, seed=0) for kind in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN))
KERAS, NODE, TF1 = convert.to_keras(LSTM), convert.to_onnx(LSTM), convert.to_tensorflow1(LSTM)
TORCH = convert.to_torch(LSTM)
WRAPPED = {"layer": {"class_name": "LSTM", "config": {}}}


def f32(*shape):
    return np.zeros(shape, np.float32)


def onnx(op_type="LSTM", W=NODE.W, R=NODE.R, B=NODE.B, P=None, **attributes):
    return convert.from_onnx(op_type, W, R, B, attributes, P=P)


def without(name):
    return {key: array for key, array in TORCH.items() if key != name}


CASES = {
    # torch
    "a list for a state_dict": (lambda: convert.from_torch(KERAS), TypeError, "state_dict: expected a dict"),
    "no module of that name": (
        lambda: convert.from_torch(convert.to_torch(LSTM, "a.b"), "a"),
        ValueError,
        r"prefix: expected the name of a recurrent module, out of \['a.b'\], got 'a'",
    ),
    "a prefix that is no text": (lambda: convert.from_torch(TORCH, 3), TypeError, "prefix: expected a string, got int"),
    "a missing entry": (
        lambda: convert.from_torch(without("bias_hh_l0")),
        ValueError,
        r"state_dict: .*missing \['bias_hh_l0'\]",
    ),
    "an unknown entry": (
        lambda: convert.from_torch(TORCH | {"scale": f32(1)}),
        ValueError,
        r"state_dict: .*unknown \['scale'\]",
    ),
    "a missing layer": (
        lambda: convert.from_torch(TORCH | {"weight_ih_l999999999": f32(16, 4)}),
        ValueError,
        r"state_dict: .*missing \['bias_hh_l1'",
    ),
    "a projection": (
        lambda: convert.from_torch(TORCH | {"weight_hr_l0": f32(2, 4)}),
        ValueError,
        r"without projections \(proj_size\)",
    ),
    "a number of gates that no cell has": (
        lambda: convert.from_torch(TORCH | {"weight_hh_l0": f32(8, 4)}),
        ValueError,
        r"weight_hh_l0: expected shape \(4\*H, H\), \(3\*H, H\) or \(H, H\), got \(8, 4\)",
    ),
    "a vector for a matrix": (
        lambda: convert.from_torch(TORCH | {"weight_ih_l0": f32(16)}),
        ValueError,
        r"weight_ih_l0: expected shape \(4\*H, input_size\) = \(16, input_size\), got \(16,\)",
    ),
    "a bias of another length": (
        lambda: convert.from_torch(TORCH | {"bias_ih_l0": f32(15)}),
        ValueError,
        r"bias_ih_l0: expected shape \(4\*H,\)",
    ),
    "two dtypes": (
        lambda: convert.from_torch(TORCH | {"bias_ih_l0": np.zeros(16)}),
        TypeError,
        "bias_ih_l0: expected dtype float32, got float64",
    ),
    "half precision": (
        lambda: convert.from_torch({k: v.astype(np.float16) for k, v in TORCH.items()}),
        TypeError,
        "weight_ih_l0: expected float32 or float64, got float16",
    ),
    "another nonlinearity": (
        lambda: convert.from_torch(convert.to_torch(RNN), nonlinearity="gelu"),
        ValueError,
        "nonlinearity: expected 'tanh' or 'relu', got 'gelu'",
    ),
    "no layer to torch": (
        lambda: convert.to_torch(TORCH),
        TypeError,
        "layer: expected a fastrnn.LSTM, GRU or RNN, got",
    ),
    # Keras
    "another class of Keras": (
        lambda: convert.from_keras("Dense", KERAS),
        ValueError,
        "kind: expected 'LSTM', 'GRU', ",
    ),
    "one array": (
        lambda: convert.from_keras("LSTM", KERAS[0]),
        TypeError,
        "weights: expected a list of arrays, as get_weights returns",
    ),
    "five arrays": (
        lambda: convert.from_keras("LSTM", KERAS + KERAS[:2]),
        ValueError,
        "expected 2, 3, 4 or 6 arrays, .*, got 5",
    ),
    "None for an array": (
        lambda: convert.from_keras("LSTM", [*KERAS[:2], None]),
        TypeError,
        r"weights\[2\]: expected an array, got NoneType",
    ),
    "a kernel of other units": (
        lambda: convert.from_keras("LSTM", [f32(3, 20), *KERAS[1:]]),
        ValueError,
        r"weights\[0\]: expected shape \(input_size, 4\*H\) = \(input_size, 16\), got \(3, 20\)",
    ),
    "a recurrent kernel that is not square": (
        lambda: convert.from_keras("LSTM", [KERAS[0], f32(5, 16), KERAS[2]]),
        ValueError,
        r"weights\[1\]: expected shape \(H, 4\*H\) = \(4, 16\), got \(5, 16\)",
    ),
    "weights of an LSTM for a GRU": (
        lambda: convert.from_keras("GRU", KERAS),
        ValueError,
        r"weights\[1\]: expected shape \(H, 3\*H\), got \(4, 16\)",
    ),
    "directions of other sizes": (
        lambda: convert.from_keras("LSTM", KERAS + convert.to_keras(fastrnn.LSTM(2, 4))),
        ValueError,
        r"weights\[3\]: expected shape \(3, 16\) = \(3, 16\), got \(2, 16\)",
    ),
    "a GRU that resets before the product": (
        lambda: convert.from_keras("GRU", [f32(3, 12), f32(4, 12), f32(12)]),
        ValueError,
        "a GRU with reset_after=False",
    ),
    "a config that is none": (
        lambda: convert.from_keras("LSTM", KERAS, 3),
        TypeError,
        "config: expected what get_config",
    ),
    "a wrapper without its config": (
        lambda: convert.from_keras("Bidirectional", KERAS),
        ValueError,
        "config: expected what get_config of the Bidir",
    ),
    "one direction for both": (
        lambda: convert.from_keras("Bidirectional", KERAS, WRAPPED),
        ValueError,
        "weights: expected those of both directions, 6 arrays, got 3",
    ),
    "a wrapper of something else": (
        lambda: convert.from_keras("Bidirectional", KERAS * 2, {"layer": {"class_name": "Dense", "config": {}}}),
        ValueError,
        r"config\['layer'\]: expected LSTM, GRU or SimpleRNN twice, got Dense",
    ),
    "a kernel of no units": (
        lambda: convert.from_keras("LSTM", [f32(3, 0), f32(0, 0), f32(0)]),
        ValueError,
        r"weights\[1\]: expected shape \(H, 4\*H\), got \(0, 0\)",
    ),
    "a stack to Keras": (
        lambda: convert.to_keras(fastrnn.GRU(3, 4, num_layers=2)),
        ValueError,
        "layer: expected num_layers=1, got 2; unstack gives its layers one by one",
    ),
    # ONNX
    "another operator": (lambda: onnx("Conv"), ValueError, "op_type: expected 'LSTM', 'GRU' or 'RNN', got 'Conv'"),
    "an unknown attribute": (
        lambda: onnx(units=3),
        ValueError,
        r"attributes: expected names out of .*, got \['units'\]",
    ),
    "attributes that are none": (
        lambda: convert.from_onnx("LSTM", NODE.W, NODE.R, NODE.B, 3),
        TypeError,
        "attributes: expected a dict, got int",
    ),
    "peepholes": (lambda: onnx(P=f32(1, 12)), ValueError, "P: expected None, since fastrnn's LSTM has no peepholes"),
    "one direction backwards": (
        lambda: onnx(direction=b"reverse"),
        ValueError,
        r"attributes\['direction'\]: expected 'forward' or 'bidirectional'",
    ),
    "clipping": (lambda: onnx(clip=3.0), ValueError, r"attributes\['clip'\]: expected none, got 3.0"),
    "coupled gates": (lambda: onnx(input_forget=1), ValueError, r"attributes\['input_forget'\]: expected 0, got 1"),
    "a GRU with ONNX's default": (
        lambda: convert.from_onnx(*convert.to_onnx(GRU)[:4]),
        ValueError,
        r"attributes\['linear_before_reset'\]: expected 1, got 0; fastrnn's GRU applies the reset gate after",
    ),
    "other activations": (
        lambda: onnx(activations=["Sigmoid", "Relu", "Tanh"]),
        ValueError,
        r"attributes\['activations'\]: expected \['Sigmoid', 'Tanh', 'Tanh'\], got \['Sigmoid', 'Relu'",
    ),
    "activations of one direction for two": (
        lambda: convert.from_onnx(
            *convert.to_onnx(fastrnn.RNN(3, 4, bidirectional=True))[:4],
            {"direction": "bidirectional", "activations": ["Relu"]},
        ),
        ValueError,
        r"attributes\['activations'\]: expected \['Tanh', 'Tanh'\] \(or Relu\)",
    ),
    "parameters of activations": (
        lambda: onnx(activation_alpha=[0.5]),
        ValueError,
        r"attributes\['activation_alpha'\]: expected none, got \[0.5\]",
    ),
    "another layout": (lambda: onnx(layout=2), ValueError, r"attributes\['layout'\]: expected 0 or 1, got 2"),
    "another hidden size": (
        lambda: onnx(hidden_size=5),
        ValueError,
        r"R: expected shape .* = \(1, 20, 5\), got \(1, 16, 4\)",
    ),
    "weights of one direction for two": (
        lambda: onnx(direction="bidirectional"),
        ValueError,
        r"R: expected shape .* = \(2, 16, 4\), got \(1, 16, 4\)",
    ),
    "weights without the directions": (
        lambda: onnx(R=NODE.R[0]),
        ValueError,
        r"R: expected shape \(directions, 4\*H, H\) = \(1, 4\*H, H\), got \(16, 4\)",
    ),
    "a W of other units": (lambda: onnx(W=f32(1, 12, 3)), ValueError, r"W: expected shape .* = \(1, 16, input_size\)"),
    "half of B": (
        lambda: onnx(B=NODE.B[:, :16]),
        ValueError,
        r"B: expected shape \(directions, 8\*H\) = \(1, 32\), got \(1, 16\)",
    ),
    "a B of another dtype": (
        lambda: onnx(B=NODE.B.astype(np.float64)),
        TypeError,
        "B: expected dtype float32, got float64",
    ),
    # TensorFlow 1
    "a bias of another dtype": (
        lambda: convert.from_tensorflow1("BasicLSTMCell", [TF1[0], TF1[1].astype(np.float64)]),
        TypeError,
        r"weights\[1\]: expected dtype float32, got float64",
    ),
    "a GRUCell": (
        lambda: convert.from_tensorflow1("GRUCell", TF1),
        ValueError,
        "'GRUCell', which applies the reset gate before the",
    ),
    "another cell": (lambda: convert.from_tensorflow1("NASCell", TF1), ValueError, "kind: expected 'BasicLSTMCell'"),
    "three arrays": (
        lambda: convert.from_tensorflow1("BasicLSTMCell", [*TF1, TF1[0]]),
        ValueError,
        "expected 2 or 4 arrays, .*, got 3",
    ),
    "an LSTM with another activation": (
        lambda: convert.from_tensorflow1("BasicLSTMCell", TF1, activation="relu"),
        ValueError,
        "activation: expected 'tanh', got 'relu'",
    ),
    "a kernel that is no multiple": (
        lambda: convert.from_tensorflow1("BasicLSTMCell", [f32(7, 15), f32(15)]),
        ValueError,
        r"weights\[0\]: expected shape \(input_size \+ H, 4\*H\), got \(7, 15\)",
    ),
    "a kernel with too few rows": (
        lambda: convert.from_tensorflow1("BasicRNNCell", [f32(3, 4), f32(4)]),
        ValueError,
        r"weights\[0\]: expected at least H = 4 rows, those of the state, got shape \(3, 4\)",
    ),
    "a forget bias that is no number": (
        lambda: convert.from_tensorflow1("BasicLSTMCell", TF1, forget_bias="1"),
        TypeError,
        "forget_bias: expected a number, got str",
    ),
    "a GRU to TensorFlow 1": (
        lambda: convert.to_tensorflow1(GRU),
        ValueError,
        "layer: expected an LSTM or RNN, .*, got a GRU",
    ),
    # stacks
    "no layers": (lambda: convert.stack([]), ValueError, "layers: expected at least one, got none"),
    "one layer without a list": (lambda: convert.stack(LSTM), TypeError, "layers: expected a list of layers, got LSTM"),
    "layers of other sizes": (
        lambda: convert.stack([LSTM, fastrnn.LSTM(5, 4)]),
        ValueError,
        r"layers\[1\]: expected input_size = D\*H = 4, got 5",
    ),
    "layers of other kinds": (
        lambda: convert.stack([LSTM, fastrnn.GRU(4, 4)]),
        ValueError,
        r"layers\[1\]: expected {'cell': 'lstm', .*got {'cell'",
    ),
    "layers of two layouts": (
        lambda: convert.stack([LSTM, fastrnn.LSTM(4, 4, batch_first=True)]),
        ValueError,
        r"layers\[1\]: expected .*'batch_first': False.* as of layers\[0\], got .*'batch_first': True",
    ),
    "layers of two dtypes": (
        lambda: convert.stack([LSTM, fastrnn.LSTM(4, 4, dtype=np.float64)]),
        ValueError,
        r"layers\[1\]: expected .*'dtype': 'float32'.* as of layers\[0\], got .*'dtype': 'float64'",
    ),
    "parameters in the list": (lambda: convert.stack([LSTM, TORCH]), TypeError, "layer: expected a fastrnn.LSTM"),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_the_reason(case):
    call, kind, text = CASES[case]
    with pytest.raises(kind, match=text):
        call()


def test_parameters_that_a_user_broke_are_refused_on_the_way_out():
    layer = fastrnn.LSTM(3, 4)
    layer.parameters["weight_hh_l0"] = f32(1)
    for convert_it in (convert.to_torch, convert.to_keras, convert.to_onnx, convert.to_tensorflow1, convert.unstack):
        with pytest.raises(ValueError, match="weight_hh_l0: expected shape"):
            convert_it(layer)


def test_safetensors_without_the_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "fastrnn.safetensors", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fastrnn\[safetensors\]'"):
        importlib.import_module("fastrnn.safetensors")

"""Converters compared with ONNX's reference and ONNX Runtime: the same weights give the same numbers. Needs both.

The reference supports float64 and both layouts; ONNX Runtime supports float32, time first, and sequence_lens.
"""

import numpy as np
import pytest
from convert_cases import assert_agree, assert_same_layer, layers, members, random_input, steps
from fastrnn import convert
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches, seeds

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

RUNTIME = "ONNX Runtime"


def model_of(layer, with_lengths):
    """A model of one node, with the weights as initializers."""
    node, has_c = convert.to_onnx(layer), layer._cell == "lstm"
    weights = {name: array for name in "WRB" if (array := getattr(node, name)) is not None}
    inputs = ["X", "W", "R", "B" if "B" in weights else "", "lengths" if with_lengths else "", "h", *["c"] * has_c]
    outputs = ["Y", "Y_h", *["Y_c"] * has_c]
    kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[layer.dtype.name]
    given = [helper.make_tensor_value_info(name, kind, [None] * 3) for name in ("X", "h", *["c"] * has_c)]
    if with_lengths:
        given.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [None]))
    graph = helper.make_graph(
        [helper.make_node(node.op_type, inputs, outputs, **node.attributes)], "one",
        given, [helper.make_tensor_value_info(name, kind, [None] * (4 if name == "Y" else 3)) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model, library, inputs):
    if library != RUNTIME:
        return ReferenceEvaluator(model).run(None, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, inputs)


def outputs(layer, library, x, state, lengths=None):
    """y and the final states in fastrnn's layout, as in docs/coming-from.md."""
    swap = (lambda a: a.swapaxes(0, 1)) if layer.batch_first else (lambda a: a)
    inputs = {"X": x} | {name: swap(member) for name, member in zip("hc", members(state), strict=False)}
    if lengths is not None:
        inputs["lengths"] = lengths
    Y, *final = run(model_of(layer, lengths is not None), library, inputs)
    D, H = 1 + layer.bidirectional, layer.hidden_size
    axes = (0, 1, 2, 3) if layer.batch_first else (0, 2, 1, 3)
    y = Y.transpose(axes).reshape(*x.shape[:2], D * H)
    return y, *(swap(member) for member in final)


runtime = st.tuples(layers(batch_first=False, dtype="float32"), st.just(RUNTIME))
reference = st.tuples(layers(cells=("lstm", "gru", "rnn_tanh")), st.just("reference"))  # the reference has no Relu


@given(drawn=st.one_of(runtime, reference), T=steps, B=batches, seed=seeds)
def test_a_node_takes_the_weights_and_gives_the_same_numbers(drawn, T, B, seed):
    layer, library = drawn
    x, state = random_input(layer, T, B, seed)
    y, final = layer(x, state)
    assert_agree(layer, T, (y, *members(final)), outputs(layer, library, x, state))


@given(drawn=runtime, B=batches, seed=seeds)
def test_sequence_lens_are_lengths(drawn, B, seed):
    layer, _ = drawn
    x, state = random_input(layer, 5, B, seed)
    lengths = np.random.default_rng(seed).integers(1, 6, B).astype(np.int32)
    y, final = layer(x, state, lengths=lengths)
    assert_agree(layer, 5, (y, *members(final)), outputs(layer, RUNTIME, x, state, lengths))


@given(layer=layers())
def test_a_layer_comes_back_from_a_serialised_node_in_every_bit(layer):
    """Read a model as docs/coming-from.md does."""
    model = onnx.load_model_from_string(model_of(layer, False).SerializeToString())
    (node,) = model.graph.node
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert_same_layer(convert.from_onnx(node.op_type, *(arrays.get(n) for n in node.input[1:4]), attributes), layer)


def test_every_attribute_of_the_operators_is_known_or_refused():
    for op_type in ("LSTM", "GRU", "RNN"):
        assert set(onnx.defs.get_schema(op_type).attributes) <= set(convert.onnx._KNOWN)

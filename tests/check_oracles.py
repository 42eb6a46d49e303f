"""Run the cells of oracle_cases.py in other libraries, and compare with the committed files. Prints the differences.

    pip install tensorflow-cpu tf_keras keras onnx onnxruntime
    python tests/check_oracles.py tensorflow keras onnxruntime
    pip install torch setuptools wheel
    PATH=$VIRTUAL_ENV/bin pip install --no-build-isolation haste-pytorch-cpu      its build imports torch
    python tests/check_oracles.py haste
    python tests/check_oracles.py haste --write      write the file instead

This is not part of the suite because the libraries are large; the suite reads the files.
"""

import argparse
import os
from importlib.metadata import version

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow 1's cells need it; Keras 3 ignores it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import bounds
import numpy as np
from oracle_cases import GATES, ORACLES, STATES, B, H, I, T, arguments_of, read, write


def reordered(array, gates, order):
    """The parts of the first axis, one for each of `gates`, in another order."""
    parts = dict(zip(gates, np.split(array, len(gates)), strict=True))
    return np.concatenate([parts[gate] for gate in order])


def versions(*packages):
    return ", ".join(f"{package} {version(package)}" for package in packages)


def peephole_lstm_tensorflow(given):
    """TensorFlow 1's cell in dynamic_rnn; its gates are i, g, f, o."""
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default(), tf.Session() as session:
        cell = tf.nn.rnn_cell.LSTMCell(H, use_peepholes=True, forget_bias=0.0, dtype=tf.float64)
        x, h0, c0 = (tf.constant(given[name]) for name in ("x", "h0", "c0"))
        start = tf.nn.rnn_cell.LSTMStateTuple(c0, h0)
        y, (c_n, h_n) = tf.nn.dynamic_rnn(cell, x, initial_state=start, time_major=True)
        parameters = {one.name.rpartition("/")[2].partition(":")[0]: one for one in tf.global_variables()}
        kernel, bias, *peepholes = (parameters[name] for name in ("kernel", "bias", "w_i_diag", "w_f_diag", "w_o_diag"))
        loss = sum(
            tf.reduce_sum(given[name] * one) for name, one in (("dy", y), ("dh_n", h_n), ("dc_n", c_n))
        )  # fmt: skip
        gradients = tf.gradients(loss, [x, h0, c0, kernel, bias, *peepholes])
        weights = reordered(np.concatenate([given["w_ih"], given["w_hh"]], 1), "ifgo", "igfo")
        session.run([kernel.assign(weights.T), bias.assign(reordered(given["b_ih"], "ifgo", "igfo"))])
        session.run([one.assign(given[name]) for one, name in zip(peepholes, ("p_i", "p_f", "p_o"), strict=True)])
        outputs, (dx, dh0, dc0, dkernel, dbias, *dp) = session.run(([y, h_n, c_n], gradients))
    dw = reordered(dkernel.T, "igfo", "ifgo")
    found = dict(zip(("y", "h_n", "c_n", "dp_i", "dp_f", "dp_o"), (*outputs, *dp), strict=True))
    found |= {"dx": dx, "dh0": dh0, "dc0": dc0, "dw_ih": dw[:, :I], "dw_hh": dw[:, I:]}
    return found | {"db_ih": reordered(dbias, "igfo", "ifgo")}


def reset_before_gru_keras(given):
    """Keras's layer in (B, T, I); its gates are z, r, n."""
    import keras
    import tensorflow as tf

    layer = keras.layers.GRU(H, reset_after=False, return_sequences=True, return_state=True, dtype="float64")
    layer.build((B, T, I))
    arrays = [reordered(given[name], "rzn", "zrn") for name in ("w_ih", "w_hh", "b_ih")]
    layer.set_weights([arrays[0].T, arrays[1].T, arrays[2]])
    x, h0 = tf.constant(given["x"].swapaxes(0, 1)), tf.constant(given["h0"])
    with tf.GradientTape() as tape:
        tape.watch([x, h0])
        y, h_n = layer(x, initial_state=h0)
        loss = tf.reduce_sum(y * given["dy"].swapaxes(0, 1)) + tf.reduce_sum(h_n * given["dh_n"])
    variables = [one.value for one in layer.trainable_variables]
    dx, dh0, dkernel, drecurrent, dbias = (one.numpy() for one in tape.gradient(loss, [x, h0, *variables]))
    found = {"y": y.numpy().swapaxes(0, 1), "h_n": h_n.numpy(), "dx": dx.swapaxes(0, 1), "dh0": dh0}
    of_weights = {"dw_ih": dkernel.T, "dw_hh": drecurrent.T, "db_ih": dbias}
    return found | {name: reordered(one, "zrn", "rzn") for name, one in of_weights.items()}


def onnx_outputs(operator, gates, given, states, **attributes):
    """A model of one node. `gates` in the operator's order; `states`: h0, and c0 with the peepholes."""
    import onnx
    import onnxruntime
    from onnx import helper

    own = GATES["peephole_lstm" if operator == "LSTM" else "reset_before_gru"]
    bias = reordered(given["b_ih"], own, gates)
    feeds = {"X": given["x"], "B": np.concatenate([bias, np.zeros_like(bias)])[None]}
    feeds |= {name: reordered(given[w], own, gates)[None] for name, w in (("W", "w_ih"), ("R", "w_hh"))}
    feeds |= {f"initial_{name[0]}": given[name][None] for name in states}
    names = ["X", "W", "R", "B", "", *(f"initial_{name[0]}" for name in states)]
    if operator == "LSTM":  # peepholes in the order i, o, f
        feeds["P"] = np.concatenate([given[f"p_{gate}"] for gate in "iof"])[None]
        names.append("P")
    results = ["Y", *(f"Y_{name[0]}" for name in states)]
    node = helper.make_node(operator, names, results, hidden_size=H, **attributes)
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, one.shape) for name, one in feeds.items()]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results]
    graph = helper.make_graph([node], operator, inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y, *final = session.run(None, feeds)
    return {"y": y[:, 0]} | {f"{name[0]}_n": one[0] for name, one in zip(states, final, strict=True)}


def peephole_lstm_onnxruntime(given):
    return onnx_outputs("LSTM", "iofg", given, ("h0", "c0"))


def reset_before_gru_onnxruntime(given):
    return onnx_outputs("GRU", "zrn", given, ("h0",), linear_before_reset=0)


def layer_norm_lstm_haste(given):
    """haste's layer, which runs on the CPU as a loop of torch's operations; its gates are i, g, f, o."""
    import torch
    from haste_pytorch import LayerNormLSTM

    layer = LayerNormLSTM(I, H).double()
    of_gates = {name: np.stack([given[f"{name}_{gate}"] for gate in "igfo"]) for name in ("gamma_x", "gamma_r", "bias")}
    arrays = {"kernel": reordered(given["w_ih"], "ifgo", "igfo").T, "bias": of_gates["bias"].ravel()}
    arrays |= {"recurrent_kernel": reordered(given["w_hh"], "ifgo", "igfo").T}
    arrays |= {"gamma": np.stack([of_gates["gamma_x"].ravel(), of_gates["gamma_r"].ravel()])}
    arrays |= {"gamma_h": given["gamma"], "beta_h": given["beta"]}
    layer.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in arrays.items()})
    x, h0, c0 = (torch.from_numpy(given[name]).requires_grad_() for name in ("x", "h0", "c0"))
    y, (h_n, c_n) = layer(x, (h0[None], c0[None]))
    outputs = {"y": y, "h_n": h_n[0], "c_n": c_n[0]}
    loss = sum((torch.from_numpy(given[f"d{name}"]) * one).sum() for name, one in outputs.items())
    leaves = {"x": x, "h0": h0, "c0": c0} | dict(layer.named_parameters())
    gradients = dict(zip(leaves, torch.autograd.grad(loss, leaves.values()), strict=True))
    d = {name: one.numpy() for name, one in gradients.items()}
    found = {name: one.detach().numpy() for name, one in outputs.items()} | {f"d{n}": d[n] for n in ("x", "h0", "c0")}
    found |= {"dw_ih": reordered(d["kernel"].T, "igfo", "ifgo"), "dgamma": d["gamma_h"], "dbeta": d["beta_h"]}
    found |= {"dw_hh": reordered(d["recurrent_kernel"].T, "igfo", "ifgo")}
    for name, one in (("gamma_x", d["gamma"][0]), ("gamma_r", d["gamma"][1]), ("bias", d["bias"])):
        found |= {f"d{name}_{gate}": part for gate, part in zip("igfo", np.split(one, 4), strict=True)}
    return found


# The function and the packages of each file.
LIBRARIES = {
    "peephole_lstm-tensorflow": (peephole_lstm_tensorflow, ("tensorflow-cpu", "tf_keras")),
    "reset_before_gru-keras": (reset_before_gru_keras, ("keras", "tensorflow-cpu")),
    "peephole_lstm-onnxruntime": (peephole_lstm_onnxruntime, ("onnxruntime",)),
    "reset_before_gru-onnxruntime": (reset_before_gru_onnxruntime, ("onnxruntime",)),
    "layer_norm_lstm-haste": (layer_norm_lstm_haste, ("haste-pytorch-cpu", "torch")),
}


def compare(oracle, found):
    """Both sides round, so the limit is twice the bound of one side. The result is the largest difference in eps."""
    _, expected = read(oracle)
    assert found.keys() == expected.keys()
    of_values, of_gradients = bounds.of_values(oracle.dtype, I, H, T), bounds.of_gradients(oracle.dtype, I, H, T, B)
    worst, outputs = 0.0, ["y", *(f"{state}_n" for state in STATES[oracle.cell])]
    for name, one in expected.items():
        limit = 2 * (of_values if name in outputs else of_gradients)
        bounds.assert_within(found[name], one, limit, f"{oracle.name}: {name}")
        worst = max(worst, float(np.abs(found[name] - one).max()) / np.finfo(oracle.dtype).eps)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("libraries", nargs="+", choices=sorted({oracle.library for oracle in ORACLES}))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    for oracle in (one for one in ORACLES if one.library in options.libraries):
        run, packages = LIBRARIES[oracle.name]
        found = run(arguments_of(oracle.cell, oracle.dtype))
        if options.write:
            write(oracle, versions(*packages), found)
        else:
            print(f"{oracle.name}, {versions(*packages)}: at most {compare(oracle, found):.1f} eps apart")


if __name__ == "__main__":
    main()

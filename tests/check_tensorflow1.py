"""Compare converters with TensorFlow 1's own cells, which TensorFlow 2 runs with legacy Keras. Prints the errors.

    pip install tensorflow-cpu tf_keras && python tests/check_tensorflow1.py

This is not part of the suite because TensorFlow is large; the suite has the definition of the cells instead.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import bounds
import numpy as np
import tensorflow.compat.v1 as tf
from convert_cases import random_input, random_weights
from fastrnn import convert

CASES = [
    (kind, directions, dtype, sizes, forget_bias)
    for kind in ("BasicLSTMCell", "LSTMCell", "BasicRNNCell")
    for directions in (1, 2)
    for dtype in ("float32", "float64")
    for sizes in ((1, 1, 1, 1), (7, 5, 17, 16), (20, 3, 9, 70))
    for forget_bias in (1.0, 0.25)
]


def run_tensorflow(kind, weights, x, state, forget_bias):
    """y and the final states of each direction, from a graph with these variables."""
    H = weights[1].size // (1 if kind == "BasicRNNCell" else 4)
    options = {} if kind == "BasicRNNCell" else {"forget_bias": forget_bias}
    with tf.Graph().as_default(), tf.Session() as session:
        cells = [getattr(tf.nn.rnn_cell, kind)(H, **options, dtype=x.dtype) for _ in range(len(weights) // 2)]
        initial = [
            tf.nn.rnn_cell.LSTMStateTuple(state[1][d], state[0][d]) if options else tf.constant(state[d])
            for d in range(len(cells))
        ]
        if len(cells) == 1:
            y, final = tf.nn.dynamic_rnn(cells[0], x, initial_state=initial[0])
            y, final = (y,), (final,)
        else:
            states = dict(zip(("initial_state_fw", "initial_state_bw"), initial, strict=True))
            y, final = tf.nn.bidirectional_dynamic_rnn(*cells, x, **states)
        session.run([v.assign(array) for v, array in zip(tf.global_variables(), weights, strict=True)])
        return session.run((y, final))


def main():
    worst = {}
    for number, (kind, directions, dtype, (T, B, I, H), forget_bias) in enumerate(CASES):
        rng = np.random.default_rng(number)
        G = 1 if kind == "BasicRNNCell" else 4
        shapes = [(I + H, G * H), (G * H,)] * directions
        weights = [random_weights(rng, shape, I + H).astype(dtype) for shape in shapes]
        layer = convert.from_tensorflow1(kind, weights, forget_bias=forget_bias)
        x, state = random_input(layer, T, B, number)
        y, final = layer(x, state)
        expected, ends = run_tensorflow(kind, weights, x, state, forget_bias)
        # Both sides round, so the limit is twice the bound of one side.
        limit = 2 * bounds.of_values(dtype, I, H, T)
        bounds.assert_within(y, np.concatenate(expected, axis=2), limit, kind)
        for d, end in enumerate(ends):
            pairs = [(final[0][d], end.h), (final[1][d], end.c)] if G == 4 else [(final[d], end)]
            for found, member in pairs:
                bounds.assert_within(found, member, limit, kind)
        error = float(np.abs(y - np.concatenate(expected, axis=2)).max()) / np.finfo(dtype).eps
        worst[kind] = max(worst.get(kind, 0), error)
    for kind, error in worst.items():
        print(f"{kind}: at most {error:.1f} eps apart")


if __name__ == "__main__":
    main()

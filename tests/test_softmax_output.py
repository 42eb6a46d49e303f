"""The softmax and the embedding gradient of the language models, compared with their definitions."""

import fastrnn
import numpy as np
import pytest
from softmax_output import BLOCK_ROWS, SMALL, SoftmaxOutput, cross_entropy, summed_by_id


def make(rows, V, H, dtype=np.float32):
    rng = np.random.default_rng(0)
    parameters = {"w_out": rng.standard_normal((V, H)).astype(dtype), "b_out": rng.standard_normal(V).astype(dtype)}
    return SoftmaxOutput(parameters), rng.standard_normal((rows, H)).astype(dtype), rng.integers(0, V, rows)


@pytest.mark.parametrize(("rows", "V"), [(1, 1), (7, 3), (2 * BLOCK_ROWS + 3, 61), (BLOCK_ROWS + 1, 2003)])
def test_loss_and_gradients_equal_their_definition(rows, V):
    """The sizes give several blocks of rows and classes, some of them in threads."""
    output, y, targets = make(rows, V, 5, np.float64)
    w, b = output.parameters.values()
    logits = y @ w.T + b
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    d = 0.25 * (p - np.eye(V)[targets])
    expected = -np.log(p[np.arange(rows), targets]).sum()
    loss, dy, gradients = output.gradients(y, targets, 0.25)
    assert loss == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert output.loss(y, targets) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(output.logits(y), logits, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dy, d @ w, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gradients["w_out"], d.T @ y, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(gradients["b_out"], d.sum(axis=0), rtol=1e-11, atol=1e-12)


def test_bits_do_not_depend_on_the_number_of_threads():
    output, y, targets = make(400, 1000, 16)
    assert SMALL < 400 * 1000
    found = []
    for count in (1, 2, 3):
        fastrnn.set_num_threads(count)
        loss, dy, gradients = output.gradients(y, targets, 0.05)
        found.append([np.float64(loss).tobytes(), dy.tobytes(), *(g.tobytes() for g in gradients.values())])
    assert found[0] == found[1] == found[2]


def test_outputs_and_targets_stay_as_they_are():
    output, y, targets = make(9, 4, 3)
    before = y.copy(), targets.copy()
    output.gradients(y, targets, 1.0)
    np.testing.assert_array_equal(y, before[0])
    np.testing.assert_array_equal(targets, before[1])


def test_fewer_rows_after_more_have_their_own_loss():
    output, y, targets = make(20, 6, 4)
    fresh, _, _ = make(20, 6, 4)
    output.loss(y, targets)
    assert output.loss(y[:3], targets[:3]) == fresh.loss(y[:3], targets[:3])


def test_cross_entropy_of_huge_logits_is_finite():
    logits = np.array([[1000.0, 0.0, -1000.0]], np.float32)
    assert cross_entropy(logits, np.array([1]), 1.0) == 1000
    np.testing.assert_array_equal(logits, [[1, -1, 0]])


def test_gradients_of_an_embedding_are_sums_over_each_id():
    rng = np.random.default_rng(0)
    ids, dx = rng.integers(0, 9, (5, 4)), rng.standard_normal((5, 4, 3))
    dense = np.zeros((12, 3))
    np.add.at(dense, ids.ravel(), dx.reshape(20, 3))
    chosen, sums = summed_by_id(ids, dx)
    np.testing.assert_array_equal(chosen, np.unique(ids))
    np.testing.assert_allclose(sums, dense[chosen], rtol=1e-14, atol=1e-14)

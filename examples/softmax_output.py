"""The two ends of a language model: P(class) = softmax(w y + b) with its loss and gradients, and embedding gradients.

With 10,000 classes, these products are most of the work of a small model. So the logits are written into memory that
is kept, become probabilities and then their own gradient in place, and every product writes where its result belongs.
Blocks of rows are work for threads: each multiplies, exponentiates and multiplies back what is still in its cache. BLAS
runs on one thread in each (OPENBLAS_NUM_THREADS=1). Its own threads would leave the exponentials to one core and spin
on those that the recurrent layers use: an update of 400 words, 10,000 classes and two layers of 200 units takes 44 ms
on two cores, 33 of them here; with two threads of BLAS 56 to 68, and on one core 81, of which 62 here.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import fastrnn
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ids = NDArray[np.int64]

BLOCK_ROWS = 256  # at most, in a product: a block reads all weights once
CACHED_LOGITS = 200_000  # float32 in a second-level cache of 1 MiB
SMALL = 1 << 18  # logits; handing less than this to threads takes longer than it saves


class SoftmaxOutput:
    """w_out (V, H) and b_out (V), read from `parameters`, where they may be updated in place."""

    def __init__(self, parameters: dict[str, Array]) -> None:
        self.parameters = parameters
        weight = parameters["w_out"]
        self._logits: Array = np.empty((0, len(weight)), weight.dtype)
        self._d_weight: Array | None = None
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def logits(self, y: Array) -> Array:
        """Unnormalised log-probabilities (…, V), in an array of their own."""
        return _project(y.reshape(-1, y.shape[-1]), **self.parameters).reshape(*y.shape[:-1], -1)

    def loss(self, y: Array, targets: Ids) -> float:
        """Sum of -log P(target) in nats, of outputs y (…, H) and targets (…)."""
        rows, ids, logits = self._rows(y, targets)

        def run(block: slice) -> float:
            _project(rows[block], **self.parameters, out=logits[block])
            return _cached_cross_entropy(logits[block], ids[block], 1.0)

        return sum(self._map(run, _blocks(len(rows), BLOCK_ROWS), logits.size))

    def gradients(self, y: Array, targets: Ids, scale: float) -> tuple[float, Array, dict[str, Array]]:
        """The loss; and the gradients of `scale` times the loss: of y, of w_out and b_out.

        Those of w_out and b_out stand in memory that the next call overwrites.
        """
        rows, ids, logits = self._rows(y, targets)
        weight = self.parameters["w_out"]
        if self._d_weight is None:
            self._d_weight = np.empty_like(weight)
        dy, d_weight, d_bias = np.empty_like(rows), self._d_weight, np.empty_like(self.parameters["b_out"])

        def of_rows(block: slice) -> float:
            # logits = y w_out' + b_out
            _project(rows[block], **self.parameters, out=logits[block])
            loss = _cached_cross_entropy(logits[block], ids[block], scale)
            np.matmul(logits[block], weight, out=dy[block])
            return loss

        def of_classes(block: slice) -> None:
            np.matmul(logits[:, block].T, rows, out=d_weight[block])
            np.sum(logits[:, block], axis=0, out=d_bias[block])

        loss = sum(self._map(of_rows, _blocks(len(rows), BLOCK_ROWS), logits.size))
        self._map(of_classes, _blocks(len(weight), len(weight) // 4 + 1), logits.size)
        return loss, dy.reshape(y.shape), {"w_out": d_weight, "b_out": d_bias}

    def _rows(self, y: Array, targets: Ids) -> tuple[Array, Ids, Array]:
        """Outputs (N, H), targets (N), and memory for logits (N, V)."""
        rows = y.reshape(-1, y.shape[-1])
        if len(self._logits) < len(rows):
            self._logits = np.empty((len(rows), self._logits.shape[1]), rows.dtype)
        return rows, targets.ravel(), self._logits[: len(rows)]

    def _map(self, run: Callable[[slice], Any], blocks: list[slice], work: int) -> list[Any]:
        count = fastrnn.get_num_threads()
        if count == 1 or work < SMALL:
            return [run(block) for block in blocks]
        if self._threads is None or self._threads[0] != count:
            self._threads = count, ThreadPoolExecutor(count)
        return list(self._threads[1].map(run, blocks))


def _project(rows: Array, w_out: Array, b_out: Array, out: Array | None = None) -> Array:
    logits: Array = np.matmul(rows, w_out.T, out=out)
    logits += b_out
    return logits


def _blocks(count: int, most: int) -> list[slice]:
    """An even number of equal blocks, which does not depend on the number of threads: neither do the bits then."""
    blocks = 2 * max(1, -(-count // (2 * most)))
    edges = [count * j // blocks for j in range(blocks + 1)]
    return [slice(*edge) for edge in pairwise(edges)]


def _cached_cross_entropy(logits: Array, targets: Ids, scale: float) -> float:
    step = max(1, CACHED_LOGITS // logits.shape[1])
    return sum(cross_entropy(logits[j : j + step], targets[j : j + step], scale) for j in range(0, len(logits), step))


def cross_entropy(logits: Array, targets: Ids, scale: float) -> float:
    """Sum of -log softmax(logits)[target] in nats; `logits` (N, V) become the gradient of `scale` times it."""
    each = np.arange(len(targets))
    logits -= logits.max(axis=1, keepdims=True)
    target = logits[each, targets].sum(dtype=np.float64)
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits *= scale / total
    logits[each, targets] -= scale
    return float(np.log(total).sum(dtype=np.float64) - target)


def summed_by_id(ids: Ids, dx: Array) -> tuple[Ids, Array]:
    """The gradient of an embedding read by x = embedding[ids]: the ids that occur, in order, and the sums of their dx.

    By sorting: ``np.add.at`` alone takes three times as long, and a dense gradient is all zeros but for these rows.
    """
    flat = ids.ravel()
    order = np.argsort(flat, kind="stable")
    sorted_ids = flat[order]
    starts = np.flatnonzero(np.diff(sorted_ids, prepend=-1))
    return sorted_ids[starts], np.add.reduceat(dx.reshape(len(flat), -1)[order], starts, axis=0)

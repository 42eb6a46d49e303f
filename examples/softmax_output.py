"""The two ends of a language model: P(class) = softmax(w y + b) with its loss and gradients, and embedding gradients.

With 10,000 classes, these products are most of the work of a small model. So the logits are written into reused memory,
where they become probabilities and then their own gradient in place, and every product writes its result directly to
its destination. Threads work on blocks of rows: each thread multiplies, exponentiates and multiplies back data that is
still in its cache. BLAS runs on one thread in each (OPENBLAS_NUM_THREADS=1). BLAS threads would leave the exponentials
to one core and spin on the cores that the recurrent layers use. An update of 400 words, 10,000 classes and two layers
of 200 units takes 44 ms on two cores, with 33 ms of it here; with two threads of BLAS it takes 56 to 68 ms, and on one
core 81 ms, with 62 ms of it here.
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

BLOCK_ROWS = 256  # at most, per product; each block reads all weights once
CACHED_LOGITS = 200_000  # float32 in a second-level cache of 1 MiB
SMALL = 1 << 18  # logits; for fewer, handing work to threads takes longer than it saves


class SoftmaxOutput:
    """Reads w_out (V, H) and b_out (V) from `parameters`, where they may be updated in place."""

    def __init__(self, parameters: dict[str, Array]) -> None:
        self.parameters = parameters
        weight = parameters["w_out"]
        self._logits: Array = np.empty((0, len(weight)), weight.dtype)
        self._d_weight: Array | None = None
        self._threads: tuple[int, ThreadPoolExecutor] | None = None

    def logits(self, y: Array) -> Array:
        """Unnormalised log-probabilities (…, V), in a new array."""
        return _project(y.reshape(-1, y.shape[-1]), **self.parameters).reshape(*y.shape[:-1], -1)

    def loss(self, y: Array, targets: Ids) -> float:
        """Sum of -log P(target) in nats, for outputs y (…, H) and targets (…)."""
        rows, ids, logits = self._rows(y, targets)

        def run(block: slice) -> float:
            _project(rows[block], **self.parameters, out=logits[block])
            return _cached_cross_entropy(logits[block], ids[block], 1.0)

        return sum(self._map(run, _blocks(len(rows), BLOCK_ROWS), logits.size))

    def gradients(self, y: Array, targets: Ids, scale: float) -> tuple[float, Array, dict[str, Array]]:
        """The loss; and the gradients of `scale` times the loss with respect to y, w_out and b_out.

        The next call overwrites the gradients of w_out and b_out.
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
    """An even number of equal blocks. It does not depend on the number of threads, so the bits do not either."""
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
    """The gradient of an embedding that is read by x = embedding[ids]: the sorted ids that occur, and the sums of dx.

    It sorts the ids: ``np.add.at`` takes three times as long, and a dense gradient is zero except in these rows.
    """
    flat = ids.ravel()
    order = np.argsort(flat, kind="stable")
    sorted_ids = flat[order]
    starts = np.flatnonzero(np.diff(sorted_ids, prepend=-1))
    return sorted_ids[starts], np.add.reduceat(dx.reshape(len(flat), -1)[order], starts, axis=0)

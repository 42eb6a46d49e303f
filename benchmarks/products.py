"""Compare the large products of a call with matrix products of the same sizes: by NumPy's BLAS, by torch's BLAS if it
is installed, and by oneDNN's sgemm if `run.py --install` has made its environment.

The time of our product is the difference between calls with and without inputs or parameter gradients (as in
kernels.py), so it includes gathering rows, adding biases and their gradients. The other libraries multiply prepared
contiguous matrices. All contestants take turns; the comparison uses medians.

    python benchmarks/products.py [--threads N] [--rounds N]
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import fastrnn
import numpy as np
import threadpoolctl
from contestants import python_of
from fastrnn import config
from kernels import Layer, seconds
from rich.console import Console
from rich.table import Table

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

SHAPES = [(1000, 8, 64), (50, 32, 128), (20, 32, 256), (20, 32, 512), (35, 20, 650), (50, 64, 1024), (35, 20, 1500)]
REST_SECONDS = 0.02
Call = Callable[[], object]
Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclass
class Product:
    """`ours` minus `minus` does the work of each of `others`: `work` operations."""

    name: str
    work: float
    ours: Call
    minus: Call
    others: dict[str, Call]


def with_numpy(pairs: Pairs, targets: list[np.ndarray]) -> Call:
    """The products by np.matmul."""

    def call() -> None:
        for (a, b), to in zip(pairs, targets, strict=True):
            np.matmul(a, b, out=to)

    return call


def with_torch(pairs: Pairs, targets: list[np.ndarray]) -> Call:
    """The products by torch.mm."""
    tensors = [(*map(torch.from_numpy, pair), torch.from_numpy(to)) for pair, to in zip(pairs, targets, strict=True)]

    def call() -> None:
        for a, b, to in tensors:
            torch.mm(a, b, out=to)

    return call


def onednn() -> ctypes.CDLL | None:
    """The library in the environment of its contestant, or None."""
    python = python_of("onednn")
    found = sorted(python.parent.parent.glob("lib/libdnnl.so.*")) if python else []
    return ctypes.CDLL(str(found[0])) if found else None


def with_onednn(library: ctypes.CDLL, pairs: Pairs, targets: list[np.ndarray]) -> Call:
    """The products by dnnl_sgemm, which multiplies matrices in C's order."""

    def pointer(matrix: np.ndarray) -> ctypes.c_void_p:
        return matrix.ctypes.data_as(ctypes.c_void_p)  # the pointer keeps the array alive

    def operand(matrix: np.ndarray) -> tuple[bytes, ctypes.c_void_p, ctypes.c_int64]:
        transposed = not matrix.flags.c_contiguous
        straight = matrix.T if transposed else matrix
        return b"T" if transposed else b"N", pointer(matrix), ctypes.c_int64(straight.shape[1])

    def sgemm(a: np.ndarray, b: np.ndarray, to: np.ndarray) -> tuple[object, ...]:
        (transpose_a, a_data, a_row), (transpose_b, b_data, b_row) = operand(a), operand(b)
        M, N, K = (ctypes.c_int64(n) for n in (*to.shape, a.shape[1]))
        chars = ctypes.c_char(transpose_a), ctypes.c_char(transpose_b)
        return *chars, M, N, K, ctypes.c_float(1), a_data, a_row, b_data, b_row, ctypes.c_float(0), pointer(to), N

    calls = [sgemm(a, b, to) for (a, b), to in zip(pairs, targets, strict=True)]

    def call() -> None:
        for arguments in calls:
            if library.dnnl_sgemm(*arguments) != 0:
                raise RuntimeError("dnnl_sgemm failed")

    return call


def blas(pairs: Pairs, library: ctypes.CDLL | None) -> dict[str, Call]:
    """The products of all pairs by each library, after a comparison with NumPy's products."""
    expected = [a @ b for a, b in pairs]
    found: dict[str, Call] = {}
    makers: dict[str, Callable[[Pairs, list[np.ndarray]], Call]] = {"NumPy": with_numpy}
    if torch is not None:
        makers["torch"] = with_torch
    if library is not None:
        makers["oneDNN"] = functools.partial(with_onednn, library)
    for name, make in makers.items():
        targets = [np.empty(product.shape, np.float32) for product in expected]
        found[name] = make(pairs, targets)
        found[name]()
        for product, wanted in zip(targets, expected, strict=True):
            np.testing.assert_allclose(product, wanted, rtol=0, atol=1e-3 * abs(wanted).max(), err_msg=name)
    return found


def products(T: int, B: int, H: int, threads: int, library: ctypes.CDLL | None) -> list[Product]:
    """The input projection, and backward's three products, of an LSTM."""
    backend, rows = config.backend_index(), T * B
    alone, whole = (Layer("lstm", T, B, I, H, backend, threads) for I in (0, H))
    whole.forward()
    rng = np.random.default_rng(0)
    x, h, d, w = (rng.standard_normal(s).astype("f") for s in ((rows, H), (rows, H), (rows, 4 * H), (4 * H, H)))
    work, shape = 2e-9 * rows * 4 * H * H, f"T={T} B={B} H={H}"
    backward = blas([(d, w), (d.T, x), (d.T, h)], library)
    return [
        Product(f"{shape}: x w_ih'", work, whole.forward, alone.forward, blas([(x, w.T)], library)),
        Product(f"{shape}: dx, dw_ih, dw_hh", 3 * work, whole.backward, whole.backward_recurrence, backward),
    ]


def rates(product: Product, rounds: int) -> dict[str, float]:
    """GFLOP/s of each contestant, ours first."""
    times: dict[str, list[float]] = {"fastrnn": [], **{name: [] for name in product.others}}
    for _ in range(rounds):
        for name, call in {"fastrnn": product.ours, **product.others}.items():
            time.sleep(REST_SECONDS)
            call()
            times[name].append(seconds(call) - (seconds(product.minus) if name == "fastrnn" else 0.0))
    return {name: product.work / statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: 15)")
    options = parser.parse_args()
    fastrnn.set_num_threads(options.threads)
    if torch is not None:
        torch.set_num_threads(options.threads)
    library = onednn()  # load it before the limit is set, which must find its OpenMP
    table = Table(title=f"GFLOP/s, LSTM, {options.threads} threads")
    with threadpoolctl.threadpool_limits(options.threads):
        for shape in SHAPES:
            for product in products(*shape, options.threads, library):
                found = rates(product, options.rounds)
                if not table.columns:
                    for title in ("product", *found):
                        table.add_column(title, justify="left" if title == "product" else "right")
                table.add_row(product.name, *(f"{rate:.0f}" for rate in found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

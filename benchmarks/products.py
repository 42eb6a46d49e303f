"""The large products of a call beside matrix products of the same sizes by BLAS: NumPy's, and torch's if it is there.

A product of ours is the difference that inputs or parameter gradients make to a call (as in kernels.py), so it includes
gathering rows, adding biases and their gradients. BLAS multiplies contiguous matrices that are ready. All take turns;
medians are compared.

    python benchmarks/products.py [--threads N] [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import fastrnn
import numpy as np
import threadpoolctl
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


@dataclass
class Product:
    """`ours`, less `minus`, does what each of `others` does in `work` operations."""

    name: str
    work: float
    ours: Call
    minus: Call
    others: dict[str, Call]


def blas(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Call]:
    """The products of all pairs, by each library."""
    targets = [np.empty((a.shape[0], b.shape[1]), np.float32) for a, b in pairs]

    def with_numpy() -> None:
        for (a, b), to in zip(pairs, targets, strict=True):
            np.matmul(a, b, out=to)

    if torch is None:
        return {"NumPy": with_numpy}
    tensors = [
        (torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(to))
        for (a, b), to in zip(pairs, targets, strict=True)
    ]

    def with_torch() -> None:
        for a, b, to in tensors:
            torch.mm(a, b, out=to)

    return {"NumPy": with_numpy, "torch": with_torch}


def products(T: int, B: int, H: int, threads: int) -> list[Product]:
    """The input projection, and backward's three products, of an LSTM."""
    backend, rows = config.backend_index(), T * B
    alone, whole = (Layer("lstm", T, B, I, H, backend, threads) for I in (0, H))
    whole.forward()
    rng = np.random.default_rng(0)
    x, h, d, w = (rng.standard_normal(s).astype("f") for s in ((rows, H), (rows, H), (rows, 4 * H), (4 * H, H)))
    work, shape = 2e-9 * rows * 4 * H * H, f"T={T} B={B} H={H}"
    backward = blas([(d, w), (d.T, x), (d.T, h)])
    return [
        Product(f"{shape}: x w_ih'", work, whole.forward, alone.forward, blas([(x, w.T)])),
        Product(f"{shape}: dx, dw_ih, dw_hh", 3 * work, whole.backward, whole.backward_recurrence, backward),
    ]


def rates(product: Product, rounds: int) -> dict[str, float]:
    """GFLOP/s of each: ours first."""
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
    table = Table(title=f"GFLOP/s, LSTM, {options.threads} threads")
    with threadpoolctl.threadpool_limits(options.threads):
        for shape in SHAPES:
            for product in products(*shape, options.threads):
                found = rates(product, options.rounds)
                if not table.columns:
                    for title in ("product", *found):
                        table.add_column(title, justify="left" if title == "product" else "right")
                table.add_row(product.name, *(f"{rate:.0f}" for rate in found.values()))
    Console().print(table)


if __name__ == "__main__":
    main()

"""fastrnn's compiled cells in the group `cells`: LSTM and GRU, also beside the cells that are variants of them."""

from __future__ import annotations

import numpy as np
from cells_worker import COMPILED, PLAIN, CellCase, Opened, data_of, serve
from cells_written import Written, opened
from fastrnn_layers import LAYERS


class Compiled(Written):
    """`fastrnn.LSTM` and `fastrnn.GRU`."""

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        cell = COMPILED[case.cell]
        if case.cell not in PLAIN:
            data = data_of(CellCase(cell, case.mode, case.B, case.H, case.threads, case.T))
        short = {"weight": "w", "bias": "b"}
        return opened(
            case, LAYERS[cell](case.H, case.H), data,
            lambda name: "_".join(short.get(part, part) for part in name.split("_")[:2]),
        )  # fmt: skip


if __name__ == "__main__":
    serve(Compiled)

"""torch.nn.LSTM and GRU in the group `cells`."""

from __future__ import annotations

import numpy as np
import torch
from cells_torch import CellsTorch, Output, opened
from cells_worker import PLAIN, CellCase, Opened, serve
from torch_eager import KINDS
from worker import Unsupported

NAMES = {"weight_ih_l0": "w_ih", "weight_hh_l0": "w_hh", "bias_ih_l0": "b_ih", "bias_hh_l0": "b_hh"}


class CellsTorchNN(CellsTorch):
    """torch.nn's own layers."""

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        if case.cell not in PLAIN:
            raise Unsupported("LSTM and GRU only")
        layer = KINDS[case.cell](case.H, case.H)
        layer.load_state_dict({name: torch.from_numpy(data[NAMES[name]]) for name in NAMES})
        return opened(
            case, Output(layer), data,
            lambda gradients: {NAMES[name.removeprefix("layer.")]: one for name, one in gradients.items()},
        )  # fmt: skip


if __name__ == "__main__":
    serve(CellsTorchNN)

"""haste's layer-norm LSTM in the group `cells`; on a CPU it is a loop of torch's operations. Gates are i, g, f, o."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from cells_torch import Output, opened
from cells_worker import CellCase, Opened, serve, stacked, unstacked
from haste_pytorch import LayerNormLSTM
from worker import Unsupported

ORDER = "igfo"


def reordered(array: np.ndarray, gates: str, order: str) -> np.ndarray:
    """The parts of the first axis, one for each of `gates`, in another order."""
    parts = dict(zip(gates, np.split(array, len(gates)), strict=True))
    return np.concatenate([parts[gate] for gate in order])


def named(d: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients by the names of the data."""
    d = {name.removeprefix("layer."): one for name, one in d.items()}
    weights = {"w_ih": d["kernel"].T, "w_hh": d["recurrent_kernel"].T}
    found = {name: reordered(one, ORDER, "ifgo") for name, one in weights.items()}
    for name, one in (("gamma_x", d["gamma"][0]), ("gamma_r", d["gamma"][1]), ("bias", d["bias"])):
        found |= unstacked(one, name, ORDER)
    return found | {"gamma": d["gamma_h"], "beta": d["beta_h"]}


class CellsHaste:
    """haste_pytorch."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def version(self) -> str:
        return f"haste-pytorch-cpu {version('haste-pytorch-cpu')}"

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        if case.cell != "layer_norm_lstm":
            raise Unsupported("layer_norm_lstm only")
        layer = LayerNormLSTM(case.H, case.H)
        arrays = {"kernel": reordered(data["w_ih"], "ifgo", ORDER).T, "bias": stacked(data, "bias", ORDER)}
        arrays |= {"recurrent_kernel": reordered(data["w_hh"], "ifgo", ORDER).T}
        arrays |= {"gamma": np.stack([stacked(data, name, ORDER) for name in ("gamma_x", "gamma_r")])}
        arrays |= {"gamma_h": data["gamma"], "beta_h": data["beta"]}
        layer.load_state_dict({name: torch.from_numpy(one.copy()) for name, one in arrays.items()})
        return opened(case, Output(layer), data, named)


if __name__ == "__main__":
    serve(CellsHaste)

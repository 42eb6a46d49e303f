"""A loop of torch's operations in the group `cells`: a module of one's own, with the input product before the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from cells_worker import CellCase, Opened, serve, stacked, unstacked
from torch.nn import functional

Steps = Callable[["Loop", Any, Any], Any]
GROUPS = ("gamma_x", "gamma_r", "bias")  # of the layer-norm LSTM: one parameter for all gates


def lstm(p: Loop, x: Any, state: Any) -> Any:
    h, c = state
    i, f, g, o = torch.addmm(x, h, p.w_hh.T).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def peephole_lstm(p: Loop, x: Any, state: Any) -> Any:
    h, c = state
    i, f, g, o = torch.addmm(x, h, p.w_hh.T).chunk(4, 1)
    c_ = (f + p.p_f * c).sigmoid() * c + (i + p.p_i * c).sigmoid() * g.tanh()
    return (o + p.p_o * c_).sigmoid() * c_.tanh(), c_


def layer_norm_lstm(p: Loop, x: Any, state: Any) -> Any:
    h, c = state
    i, f, g, o = (x + functional.layer_norm(h @ p.w_hh.T, p.gamma_r.shape, p.gamma_r)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * functional.layer_norm(c, p.gamma.shape, p.gamma, p.beta).tanh(), c


def gru(p: Loop, x: Any, state: Any) -> Any:
    (h,) = state
    (x_r, x_z, x_n), (h_r, h_z, h_n) = x.chunk(3, 1), torch.addmm(p.b_hh, h, p.w_hh.T).chunk(3, 1)
    z, n = (x_z + h_z).sigmoid(), (x_n + (x_r + h_r).sigmoid() * h_n).tanh()
    return (n + z * (h - n),)


def reset_before_gru(p: Loop, x: Any, state: Any) -> Any:
    (h,), H = state, state[0].shape[1]
    x_rz, x_n = x.split([2 * H, H], 1)
    r, z = torch.addmm(x_rz, h, p.w_hh[: 2 * H].T).sigmoid().chunk(2, 1)
    n = torch.addmm(x_n, r * h, p.w_hh[2 * H :].T).tanh()
    return (n + z * (h - n),)


STEPS: dict[str, Steps] = {
    "lstm": lstm, "gru": gru, "peephole_lstm": peephole_lstm, "layer_norm_lstm": layer_norm_lstm,
    "reset_before_gru": reset_before_gru,
}  # fmt: skip


class Loop(torch.nn.Module):
    """One layer, on parameters with the names of the data."""

    def __init__(self, case: CellCase, data: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.case, self.step = case, STEPS[case.cell]
        groups = GROUPS if case.cell == "layer_norm_lstm" else ()
        arrays = {name: one for name, one in data.items() if not any(name.startswith(f"{g}_") for g in groups)}
        for name, array in (arrays | {group: stacked(data, group) for group in groups}).items():
            if name not in ("x", "dy"):
                self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(array.copy())))

    def project(self, x: Any) -> Any:
        """The part of the gates that depends on x alone."""
        if self.case.cell == "layer_norm_lstm":
            return functional.layer_norm(x @ self.w_ih.T, self.bias.shape, self.gamma_x, self.bias)
        return x @ self.w_ih.T + (self.b_ih if self.case.cell == "gru" else self.b_ih + self.b_hh)

    def run(self, projected: Any, state: Any) -> Any:
        """Y of some steps, and the state after them."""
        found = []
        for row in projected.unbind(0):
            state = self.step(self, row, state)
            found.append(state[0])
        return torch.stack(found), state

    def forward(self, x: Any) -> Any:
        """Y (T, B, H)."""
        zero = x.new_zeros(x.shape[1], self.case.H)
        return self.run(self.project(x), (zero,) * (1 if "gru" in self.case.cell else 2))[0]


class Output(torch.nn.Module):
    """Y of a layer, without the state."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        """Y (T, B, H)."""
        return self.layer(x)[0]


def opened(case: CellCase, module: Any, data: dict[str, np.ndarray], named: Any, compiles: bool = False) -> Opened:
    """The calls of a module; `named` turns its gradients by parameter into arrays by the names of the data."""
    x, dy = torch.from_numpy(data["x"]), torch.from_numpy(data["dy"])
    if case.mode == "forward":

        def infer() -> Any:
            with torch.inference_mode():
                return module(x)

        return Opened(infer, lambda y: {"y": y.numpy()}, compiles)
    x.requires_grad_()
    names, parameters = zip(*module.named_parameters(), strict=True)

    def train() -> Any:
        y = module(x)
        return y, torch.autograd.grad(y, (x, *parameters), dy)

    def outputs(result: Any) -> dict[str, np.ndarray]:
        y, (dx, *gradients) = result
        found = named({name: one.numpy() for name, one in zip(names, gradients, strict=True)})
        return {"y": y.detach().numpy(), "dx": dx.numpy()} | {f"d{name}": one for name, one in found.items()}

    return Opened(train, outputs, compiles)


def named_by_gate(gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients of a loop, with the parameters of all gates apart."""
    found = dict[str, np.ndarray]()
    for name, one in gradients.items():
        found |= unstacked(one, name) if name in GROUPS else {name: one}
    return found


class CellsTorch:
    """The loop, not compiled."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        return opened(case, Loop(case, data), data, named_by_gate)


if __name__ == "__main__":
    serve(CellsTorch)

"""torch.nn in the group `small`: layers and cells; inference under inference_mode, gradients by autograd.grad."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from small_worker import Opened, SmallCase, laid_out, serve
from torch_eager import KINDS

CELLS: dict[str, Any] = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn_tanh": torch.nn.RNNCell}


def module_of(case: SmallCase, data: dict[str, np.ndarray]) -> Any:
    """The layer or cell with the data's parameters."""
    dtype = getattr(torch, case.dtype)
    if case.kind == "cell":
        module = CELLS[case.cell](case.H, case.H, dtype=dtype)
        suffix = "_l0"
    else:
        module = KINDS[case.cell](case.H, case.H, case.layers, batch_first=case.batch_first, dtype=dtype)
        suffix = ""
    module.load_state_dict({name: torch.from_numpy(data[name + suffix]) for name in module.state_dict()})
    return module


class SmallTorch:
    """torch.nn as it comes."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def module(self, case: SmallCase, data: dict[str, np.ndarray]) -> Any:
        """What is called."""
        return module_of(case, data)

    def opened(self, case: SmallCase, data: dict[str, np.ndarray]) -> Opened:
        module, x = self.module(case, data), torch.from_numpy(laid_out(case, data["x"]))
        states = [torch.from_numpy(data[name]) for name in ("h0", "c0") if name in data]
        if case.kind == "cell":
            x, states = x[0], [state[0] for state in states]
        parameters = list(module.parameters())

        def negate() -> None:
            with torch.no_grad():
                torch._foreach_neg_(parameters)

        if case.mode == "training":
            return Opened(*_training(case, data, module, x, states), negate)
        return Opened(*_inference(case, module, x, states), negate)


def _argument(states: list[Any]) -> Any:
    return None if not states else states[0] if len(states) == 1 else tuple(states)


def _inference(case: SmallCase, module: Any, x: Any, states: list[Any]) -> Any:
    module.eval()
    state = _argument(states)

    def call() -> Any:
        with torch.inference_mode():
            return module(x, state)

    return call, lambda result: _y(case, result)


def _y(case: SmallCase, result: Any) -> dict[str, np.ndarray]:
    if case.kind == "cell":
        members = result if isinstance(result, tuple) else (result,)
        return {name: member.detach()[None].numpy() for name, member in zip(("y", "c_n"), members, strict=False)}
    y = result[0].detach()
    return {"y": (y.transpose(0, 1) if case.batch_first else y).numpy()}


def _training(case: SmallCase, data: dict[str, np.ndarray], module: Any, x: Any, states: list[Any]) -> Any:
    x.requires_grad_()
    for state in states:
        state.requires_grad_()
    state, dy = _argument(states), torch.from_numpy(data["dy"])
    names, parameters = zip(*module.named_parameters(), strict=True)
    inputs = (x, *states, *parameters)
    dy = dy[0] if case.kind == "cell" else dy.transpose(0, 1).contiguous() if case.batch_first else dy
    d = (dy, torch.from_numpy(data["dc"])) if "dc" in data else (dy,)

    def call() -> Any:
        result = module(x, state)
        outputs = (result if isinstance(result, tuple) else (result,)) if case.kind == "cell" else result[:1]
        return result, torch.autograd.grad(outputs, inputs, d)

    def outputs(found: Any) -> dict[str, np.ndarray]:
        result, (dx, *gradients) = found
        dx = dx[None] if case.kind == "cell" else dx.transpose(0, 1) if case.batch_first else dx
        labels = [*("dh0", "dc0")[: len(states)], *names]
        shape = (case.layers, case.B, case.H)
        each = {n: g.reshape(shape) if n in ("dh0", "dc0") else g for n, g in zip(labels, gradients, strict=True)}
        return _y(case, result) | {"dx": dx.numpy()} | {name: gradient.numpy() for name, gradient in each.items()}

    return call, outputs


if __name__ == "__main__":
    serve(SmallTorch)

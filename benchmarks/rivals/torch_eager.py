"""torch.nn: packed sequences if lengths differ, one call for each stretch without resets, a loop over windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from worker import Call, Case, Contestant, Outputs, serve, states_of

KINDS: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN}


def module_of(case: Case, data: dict[str, np.ndarray]) -> Any:
    """The stack of the case with the parameters of the data."""
    dtype = getattr(torch, case.dtype)
    module = KINDS[case.cell](case.I, case.H, case.layers, bidirectional=case.bidirectional, dtype=dtype)
    module.load_state_dict({name: torch.from_numpy(data[name]) for name in module.state_dict()})
    return module


def state_of(case: Case, data: dict[str, np.ndarray]) -> Any:
    """The initial state as torch's modules accept it."""
    found = tuple(torch.from_numpy(data[name]) for name in states_of(case))
    return None if not found else found if len(found) == 2 else found[0]


class Pieces(torch.nn.Module):
    """A module with the calls that a case needs: ragged, with resets, or in windows."""

    def __init__(self, case: Case, module: Any) -> None:
        super().__init__()
        self.module, self.case = module, case
        self.lengths = torch.from_numpy(case.sequence_lengths())
        resets = case.resets()
        self.kept = torch.from_numpy(~resets).to(getattr(torch, case.dtype))[:, np.newaxis, :, np.newaxis]
        self.cuts = [0, *np.flatnonzero(resets.any(1)).tolist(), case.T]
        if case.truncation:
            self.cuts = [*range(0, case.T, case.truncation), case.T]

    def forward(self, x: Any, state: Any = None) -> Any:
        """Y (T, B, D*H)."""
        if self.case.lengths:
            packed, _ = self.module(pack_padded_sequence(x, self.lengths, enforce_sorted=False))
            return pad_packed_sequence(packed, total_length=self.case.T)[0]
        if len(self.cuts) == 2:
            return self.module(x, state)[0]
        found = []
        for begin, end in zip(self.cuts, self.cuts[1:], strict=False):
            if state is not None:
                state = self._between(state, begin)
            y, state = self.module(x[begin:end], state)
            found.append(y)
        return torch.cat(found)

    def _between(self, state: Any, step: int) -> Any:
        members = state if isinstance(state, tuple) else (state,)
        if self.case.truncation:
            members = tuple(m.detach() for m in members)
        else:
            members = tuple(m * self.kept[step] for m in members)
        return members if isinstance(state, tuple) else members[0]


class TorchEager(Contestant):
    """Plain torch.nn."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        torch.set_num_threads(threads)

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def module(self, case: Case, data: dict[str, np.ndarray]) -> Any:
        """The module that is called with x."""
        return Pieces(case, module_of(case, data))

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        module, x, state = self.module(case, data).eval(), torch.from_numpy(data["x"]), state_of(case, data)
        plain = not case.lengths and not case.reset_every
        target = module.module if plain and isinstance(module, Pieces) else module

        def call() -> Any:
            with torch.inference_mode():
                return target(x, state)

        return call, lambda y: {"y": (y[0] if isinstance(y, tuple) else y).numpy()}

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        module, x, dy = self.module(case, data), torch.from_numpy(data["x"]), torch.from_numpy(data["dy"])
        state = state_of(case, data)
        names, parameters = zip(*((n.rsplit(".", 1)[-1], p) for n, p in module.named_parameters()), strict=True)
        x.requires_grad_()

        def call() -> Any:
            y = module(x, state)
            return y, torch.autograd.grad(y, (x, *parameters), dy)

        return call, lambda result: {
            "y": result[0].detach().numpy(),
            **{name: gradient.numpy() for name, gradient in zip(("dx", *names), result[1], strict=True)},
        }


if __name__ == "__main__":
    serve(TorchEager)

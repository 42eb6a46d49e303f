"""fastrnn through its torch drop-in: swapped torch modules."""

from __future__ import annotations

from typing import Any

import fastrnn
import fastrnn.torch
import numpy as np
import torch
from torch_eager import Pieces, TorchEager, module_of
from worker import Case, serve


class Direct(torch.nn.Module):
    """A swapped module with the case's lengths, resets and truncation as keyword arguments."""

    def __init__(self, case: Case, module: Any) -> None:
        super().__init__()
        self.module = module
        self.options: dict[str, Any] = {}
        if case.lengths:
            self.options["lengths"] = torch.from_numpy(case.sequence_lengths())
        if case.reset_every:
            self.options["resets"] = torch.from_numpy(case.resets())
        if case.truncation:
            self.options["truncation"] = case.truncation

    def forward(self, x: Any, state: Any = None) -> Any:
        """Y (T, B, D*H)."""
        return self.module(x, state, **self.options)[0]


class FastrnnTorch(TorchEager):
    """A torch module after `accelerate`."""

    def version(self) -> str:
        return f"fastrnn {fastrnn.__version__} in torch {torch.__version__}"

    def module(self, case: Case, data: dict[str, np.ndarray]) -> Any:
        module = fastrnn.torch.accelerate(module_of(case, data)).model
        dense = not case.lengths and not case.reset_every and not case.truncation
        return Pieces(case, module) if dense else Direct(case, module)


if __name__ == "__main__":
    serve(FastrnnTorch)

"""torch.compile of the loop over steps, which fuses the cell; torch.nn's own layers would stay one opaque operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch_eager import TorchEager
from worker import Case, Unsupported, serve

STEPS_MAX = 50  # the loop is unrolled; for more steps, compilation takes minutes


class Loop(torch.nn.Module):
    """Layers of one direction, step by step, on parameters with torch's names."""

    def __init__(self, case: Case, data: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.case = case
        for name, array in data.items():
            if name not in ("x", "dy", "h0", "c0"):
                self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(array.copy())))

    def forward(self, x: Any, state: Any = None) -> Any:
        """Y (T, B, H)."""
        for layer in range(self.case.layers):
            w_hh, b_hh = getattr(self, f"weight_hh_l{layer}"), getattr(self, f"bias_hh_l{layer}")
            projected = x @ getattr(self, f"weight_ih_l{layer}").T + getattr(self, f"bias_ih_l{layer}")
            h = c = x.new_zeros(x.shape[1], self.case.H)
            if state is not None:
                h, c = (s[layer] for s in state) if isinstance(state, tuple) else (state[layer], c)
            found = []
            for p in projected.unbind(0):
                h, c = self._step(p, torch.addmm(b_hh, h, w_hh.T), h, c)
                found.append(h)
            x = torch.stack(found)
        return x

    def _step(self, p: Any, s: Any, h: Any, c: Any) -> tuple[Any, Any]:
        if self.case.cell == "lstm":
            i, f, g, o = (p + s).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            return o.sigmoid() * c.tanh(), c
        if self.case.cell == "gru":
            (pr, pz, pn), (sr, sz, sn) = p.chunk(3, 1), s.chunk(3, 1)
            z, n = (pz + sz).sigmoid(), (pn + (pr + sr).sigmoid() * sn).tanh()
            return n + z * (h - n), c
        return (p + s).tanh(), c


class TorchCompiled(TorchEager):
    """Dense stacks of one direction and few steps."""

    def version(self) -> str:
        return f"torch.compile {torch.__version__}"

    def module(self, case: Case, data: dict[str, np.ndarray]) -> Any:
        if case.T > STEPS_MAX:
            raise Unsupported(f"more than {STEPS_MAX} steps to unroll")
        if case.lengths or case.reset_every or case.truncation or case.bidirectional:
            raise Unsupported("dense stacks of one direction only")
        torch.compiler.reset()
        return torch.compile(Loop(case, data), dynamic=False)


if __name__ == "__main__":
    serve(TorchCompiled)

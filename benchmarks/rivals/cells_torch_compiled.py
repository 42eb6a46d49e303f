"""torch.compile of the loop in the group `cells`, a few steps at a time.

torch.compile unrolls a loop, and compiles 100 steps for minutes. So a compiled function runs some steps, and a call
runs it several times. The time to compile is limited.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from cells_torch import CellsTorch, Loop, named_by_gate, opened
from cells_worker import CellCase, Opened, serve
from worker import Unsupported

STEPS_AT_A_TIME = 5
COMPILE_SECONDS = 60.0


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Refuse what takes longer. torch turns an exception into another, so the reason is found by the clock."""
    begin = time.monotonic()

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Exception:
        if time.monotonic() >= begin + seconds:
            raise Unsupported(f"its compilation takes more than {seconds:.0f} s") from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class CompiledLoop(Loop):
    """A loop over compiled runs of some steps."""

    def __init__(self, case: CellCase, data: dict[str, np.ndarray]) -> None:
        super().__init__(case, data)
        self.compiled = torch.compile(self.run, dynamic=False)

    def start(self, x: Any) -> Any:
        """Zeros that torch.compile cannot tell from a later state, so it compiles once."""
        trains = self.case.mode == "training"
        shape = x.shape[1], self.case.H
        return tuple(x.new_zeros(shape, requires_grad=trains) for _ in range(1 if "gru" in self.case.cell else 2))

    def forward(self, x: Any) -> Any:
        """Y (T, B, H)."""
        state, found = self.start(x), []
        for part in self.project(x).split(STEPS_AT_A_TIME):
            y, state = self.compiled(part, state)
            found.append(y)
        return torch.cat(found)


class CellsTorchCompiled(CellsTorch):
    """The compiled loop."""

    def opened(self, case: CellCase, data: dict[str, np.ndarray]) -> Opened:
        torch.compiler.reset()
        found = opened(case, CompiledLoop(case, data), data, named_by_gate, compiles=True)
        with limit(COMPILE_SECONDS):
            found.call()
        return found


if __name__ == "__main__":
    serve(CellsTorchCompiled)

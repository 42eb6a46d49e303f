"""NumPy in the group `small`: the loops of numpy_training.py, stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import threadpoolctl
from numpy_training import LOOPS, Loop
from small_worker import Opened, SmallCase, laid_out, negation_of, serve

KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class SmallNumpy:
    """Loops on buffers that are made before the first call."""

    def __init__(self, threads: int) -> None:
        threadpoolctl.threadpool_limits(threads)

    def version(self) -> str:
        return f"numpy {np.__version__}"

    def opened(self, case: SmallCase, data: dict[str, np.ndarray]) -> Opened:
        names = [[f"{kind}_l{layer}" for kind in KINDS] for layer in range(case.layers)]
        make = LOOPS[case.cell]
        loops = [make(case.T, case.B, case.H, case.H, tuple(data[name] for name in one)) for one in names]
        x = laid_out(case, data["x"])
        x = x.swapaxes(0, 1) if case.batch_first else x
        given = [data[name] for name in ("h0", "c0") if name in data]
        states = [tuple(state[layer] for state in given) for layer in range(case.layers)]
        negate = negation_of([data[name] for one in names for name in one])

        def forward() -> np.ndarray:
            y = x
            for loop, initial in zip(loops, states, strict=True):
                y = loop.forward(y, initial)
            return y

        def train() -> np.ndarray:
            y, dy = forward(), data["dy"]
            for loop in reversed(loops):
                loop.backward(dy)
                dy = loop.dx
            return y

        if case.mode == "training":
            return Opened(train, lambda y: {"y": y} | _gradients(case, loops, names), negate)
        return Opened(forward, lambda y: {"y": y}, negate)


def _gradients(case: SmallCase, loops: list[Loop], names: list[list[str]]) -> dict[str, Any]:
    found = {"dx": loops[0].dx}
    for loop, one in zip(loops, names, strict=True):
        found |= dict(zip(one, loop.gradients, strict=True))
    if case.carried:
        members = zip(*(loop.d_states() for loop in loops), strict=True)
        found |= {name: np.stack(each) for name, each in zip(("dh0", "dc0"), members, strict=False)}
    return found


if __name__ == "__main__":
    serve(SmallNumpy)

"""The parts of a call at T = 1, for the overhead table of the group `small`: all in one process, taking turns.

    {"do": "parts", "cell": "lstm", "B": 1, "H": 64, "seconds": 0.02, "rounds": 5}
                          {"times": {name: [seconds of forward, seconds of backward or null]}}

`kernel` is the time of a stream's step without Python. `unpacked kernel` and `training kernel` are calls of the core on
ready buffers with unpacked weights. Their time at H = 1, which is Python's part, is taken off. `empty` is an autograd
function with the same inputs and outputs that computes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import fastrnn
import fastrnn.torch
import numpy as np
import torch
import worker
from fastrnn.config import backend_index
from single_steps import Step
from small_cases import SmallCase, data_of
from small_fastrnn import LAYERS, PARAMETERS, state_of
from small_torch import module_of

KERNEL_STEPS = 20  # of a stream in one measurement
PYTHON = ", Python"  # ends the names of what is taken off
Part = tuple[Callable[[], Any], Callable[[Any], Any] | None, int]  # forward, backward of its result, calls in one


class Empty(torch.autograd.Function):
    """New outputs of the right shapes, and gradients that are there already."""

    @staticmethod
    def forward(ctx: Any, like: Any, gradients: Any, *_: Any) -> Any:
        ctx.gradients = gradients
        ctx.set_materialize_grads(False)
        return tuple(torch.empty_like(one) for one in like)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        return None, None, *ctx.gradients


def kernel_parts(cell: str, B: int, H: int, threads: int) -> dict[str, Part]:
    """The core alone."""
    stream = LAYERS[cell](H, H, seed=0).stream(B)
    x, found = np.zeros((B, H), np.float32), {}
    found["kernel"] = (lambda: stream._kernel_steps(x, KERNEL_STEPS)), None, KERNEL_STEPS
    for size, of in ((H, ""), (1, PYTHON)):
        step = Step(cell, B, size, backend_index(), threads)
        found["unpacked kernel" + of] = step.infer_unpacked, None, 1
        found["training kernel" + of] = step.forward_unpacked, lambda _, step=step: step.backward(), 1
    return found


def numpy_parts(case: SmallCase, data: dict[str, np.ndarray]) -> dict[str, Part]:
    """Functions and layers, inference and training."""
    function, layer = getattr(fastrnn, case.cell), LAYERS[case.cell](case.H, case.H)
    layer.parameters = {name: data[name] for name in layer.parameters}
    x, dy, weights = data["x"], data["dy"], [data[name] for name in PARAMETERS]
    one, stacked = state_of(data, one_layer=True), state_of(data, one_layer=False)
    return {
        "function": (lambda: function(x, *weights, one), None, 1),
        "layer": (lambda: layer(x, stacked), None, 1),
        "function, training": (
            lambda: function.forward(x, *weights, one),
            lambda result: function.backward(result[2], dy),
            1,
        ),
        "layer, training": (lambda: layer.forward(x, stacked), lambda result: layer.backward(result[2], dy), 1),
    }


def torch_parts(kind: str, case: SmallCase, data: dict[str, np.ndarray]) -> dict[str, Part]:
    """A module or a cell of fastrnn.torch, and the empty function in its place."""
    module = fastrnn.torch.accelerate(module_of(case, data)).model
    x, states = torch.from_numpy(data["x"]), [torch.from_numpy(data[name]) for name in ("h0", "c0") if name in data]
    dy = torch.from_numpy(data["dy"])
    if kind == "cell":
        x, dy, states = x[0], dy[0], [state[0] for state in states]
    state = tuple(states) if len(states) > 1 else states[0]
    training_x = x.clone().requires_grad_()
    inputs = [training_x, *module.parameters()]
    gradients = [torch.zeros_like(one) for one in inputs]
    like = states if kind == "cell" else [dy, *states]

    def infer() -> Any:
        with torch.inference_mode():
            return module(x, state)

    def first(result: Any) -> Any:
        return result[0] if isinstance(result, tuple) else result

    return {
        f"{kind}, inference": (infer, None, 1),
        kind: (lambda: module(training_x, state), lambda y: torch.autograd.grad(first(y), inputs, dy), 1),
        f"{kind}, empty": (
            lambda: Empty.apply(like, gradients, *inputs),
            lambda y: torch.autograd.grad(y[0], inputs, dy),
            1,
        ),
    }


def turn(part: Part, seconds: float) -> tuple[float, float | None]:
    """Medians of forward and backward in one turn; the first call does not count."""
    forward, backward, count = part
    clock, end = time.perf_counter, time.perf_counter() + seconds
    there, back = list[float](), list[float]()
    while len(there) < 2 or clock() < end:
        begin = clock()
        result = forward()
        middle = clock()
        there.append((middle - begin) / count)
        if backward:
            middle = clock()
            backward(result)
            back.append(clock() - middle)
    return median(there[1:]), median(back[1:]) if backward else None


class OverheadCommands(worker.Commands):
    """Beside `hello`, `parts`."""

    def parts(self, command: dict[str, Any]) -> dict[str, Any]:
        cell, B, H = command["cell"], command["B"], command["H"]
        found = kernel_parts(cell, B, H, self.threads)
        for kind in ("layer", "module", "cell"):
            case = SmallCase(kind, "training", cell, 1, B, H, 1, "float32", "contiguous", "unchanged", self.threads)
            make = numpy_parts if kind == "layer" else lambda *of, kind=kind: torch_parts(kind, *of)
            found |= make(case, data_of(case))
        turns: dict[str, list[Any]] = {name: [] for name in found}
        with worker.without_collection():
            for _ in range(command["rounds"]):
                for name, part in found.items():
                    turns[name].append(turn(part, command["seconds"]))
        medians = {name: [_median(column) for column in zip(*each, strict=True)] for name, each in turns.items()}
        for name in ("unpacked kernel", "training kernel"):
            python = medians.pop(name + PYTHON)
            medians[name] = [_difference(*pair) for pair in zip(medians[name], python, strict=True)]
        return {"times": medians}


def _median(values: Any) -> float | None:
    return None if values[0] is None else float(median(values))


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(0.0, one - other)


class CallOverhead:
    """Nothing but the threads."""

    def __init__(self, threads: int) -> None:
        fastrnn.set_num_threads(threads)
        torch.set_num_threads(threads)

    def version(self) -> str:
        return f"fastrnn {fastrnn.__version__} in torch {torch.__version__}"


if __name__ == "__main__":
    worker.serve(CallOverhead, OverheadCommands)

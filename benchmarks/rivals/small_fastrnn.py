"""fastrnn in the group `small`: single-layer functions, and layers that are not frozen."""

from __future__ import annotations

from typing import Any

import fastrnn
import numpy as np
from fastrnn_layers import LAYERS
from small_worker import Opened, SmallCase, laid_out, negation_of, serve

PARAMETERS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
Array = np.ndarray


def state_of(data: dict[str, Array], *, one_layer: bool) -> Any:
    """The given state as an argument."""
    states = [data[name][0] if one_layer else data[name] for name in ("h0", "c0") if name in data]
    return None if not states else states[0] if len(states) == 1 else tuple(states)


def state_gradients(case: SmallCase, gradient: Any) -> dict[str, Array]:
    """dh0 and dc0 (layers, B, H) of a case that has a state."""
    if not case.carried:
        return {}
    members = gradient if isinstance(gradient, tuple) else (gradient,)
    shape = (case.layers, case.B, case.H)
    return {name: member.reshape(shape) for name, member in zip(("dh0", "dc0"), members, strict=False)}


class SmallFastrnn:
    """Functions and layers."""

    def __init__(self, threads: int) -> None:
        fastrnn.set_num_threads(threads)

    def version(self) -> str:
        return f"fastrnn {fastrnn.__version__} ({fastrnn.show_config('dicts')['backend']})"

    def opened(self, case: SmallCase, data: dict[str, Array]) -> Opened:
        return (self._function if case.kind == "function" else self._layer)(case, data)

    def _function(self, case: SmallCase, data: dict[str, Array]) -> Opened:
        function, x, dy = getattr(fastrnn, case.cell), laid_out(case, data["x"]), data["dy"]
        weights, state = [data[name] for name in PARAMETERS], state_of(data, one_layer=True)
        wanted = ("x", "state") if case.carried else ("x",)
        wanted += ("w_ih", "w_hh", "b_ih", "b_hh")

        def train() -> Any:
            y, _, tape = function.forward(x, *weights, state)
            return y, function.backward(tape, dy, wanted=wanted)

        def trained(result: Any) -> dict[str, Array]:
            y, d = result
            found = dict(zip(PARAMETERS, (d.w_ih, d.w_hh, d.b_ih, d.b_hh), strict=True))
            return {"y": y, "dx": d.x, **found, **state_gradients(case, d.state)}

        if case.mode == "training":
            return Opened(train, trained, negation_of(weights))
        return Opened(lambda: function(x, *weights, state), lambda result: {"y": result[0]}, negation_of(weights))

    def _layer(self, case: SmallCase, data: dict[str, Array]) -> Opened:
        layer = LAYERS[case.cell](case.H, case.H, case.layers, batch_first=case.batch_first, dtype=case.dtype)
        layer.parameters = {name: data[name] for name in layer.parameters}
        x, dy, state = laid_out(case, data["x"]), data["dy"], state_of(data, one_layer=False)
        dy = np.ascontiguousarray(dy.swapaxes(0, 1)) if case.batch_first else dy
        negate = negation_of(list(layer.parameters.values()))

        def time_first(array: Array) -> Array:
            return array.swapaxes(0, 1) if case.batch_first else array

        def train() -> Any:
            y, _, tape = layer.forward(x, state)
            return y, layer.backward(tape, dy)

        def trained(result: Any) -> dict[str, Array]:
            y, d = result
            return {"y": time_first(y), "dx": time_first(d.x), **d.parameters, **state_gradients(case, d.state)}

        if case.mode == "training":
            return Opened(train, trained, negate)
        return Opened(lambda: layer(x, state), lambda result: {"y": time_first(result[0])}, negate)


if __name__ == "__main__":
    serve(SmallFastrnn)

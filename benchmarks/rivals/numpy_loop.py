"""The usual loop in NumPy: one input product for all steps, then a product and the cell for every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import threadpoolctl
from worker import Call, Case, Contestant, Outputs, Unsupported, serve


def _sigmoid(a: Any) -> Any:
    return 1 / (1 + np.exp(-a))


def lstm_step(p: Any, s: Any, _: Any, c: Any) -> tuple[Any, Any]:
    """P: input part, s: recurrent part (B, 4H); gates i, f, g, o."""
    i, f, g, o = np.split(p + s, 4, axis=1)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(c), c


def gru_step(p: Any, s: Any, h: Any, c: Any) -> tuple[Any, Any]:
    """Gates r, z, n."""
    (pr, pz, pn), (sr, sz, sn) = np.split(p, 3, axis=1), np.split(s, 3, axis=1)
    z, n = _sigmoid(pz + sz), np.tanh(pn + _sigmoid(pr + sr) * sn)
    return n + z * (h - n), c


def rnn_step(p: Any, s: Any, _: Any, c: Any) -> tuple[Any, Any]:
    """One gate."""
    return np.tanh(p + s), c


STEPS = {"lstm": lstm_step, "gru": gru_step, "rnn_tanh": rnn_step}


class NumpyLoop(Contestant):
    """Inference, dense, in both directions."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        threadpoolctl.threadpool_limits(threads)

    def version(self) -> str:
        return f"numpy {np.__version__}"

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        if case.reset_every:
            raise Unsupported("no resets")
        step, H = STEPS[case.cell], case.H
        suffixes = [f"l{layer}{way}" for layer in range(case.layers) for way in ("", "_reverse")[: case.directions]]
        weights = {
            s: [data[f"{kind}_{s}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")] for s in suffixes
        }
        valid = (np.arange(case.T)[:, np.newaxis] < case.sequence_lengths())[:, :, np.newaxis]

        zeros = np.zeros((len(suffixes), case.B, H), case.dtype)
        h0, c0 = data.get("h0", zeros), data.get("c0", zeros)

        def one_way(x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
            y = np.empty((case.T, case.B, H), x.dtype)
            projected = x @ w_ih.T + b_ih
            for t in range(case.T):
                h, c = step(projected[t], h @ w_hh.T + b_hh, h, c)
                y[t] = h
            return y

        def call() -> Any:
            y = data["x"]
            for layer in range(case.layers):
                at = layer * case.directions
                forth = one_way(y, h0[at], c0[at], *weights[f"l{layer}"])
                if case.bidirectional:
                    back = one_way(y[::-1], h0[at + 1], c0[at + 1], *weights[f"l{layer}_reverse"])[::-1]
                    forth = np.concatenate([forth, back], axis=2)
                y = forth
            return y * valid if case.lengths else y

        return call, lambda y: {"y": y}


if __name__ == "__main__":
    serve(NumpyLoop)

"""oneDNN's RNN primitives without a framework, as a program written directly for oneDNN would use them.

Such a program keeps weights (out, in) as torch does, but gates in oneDNN's order (GRU z r n), and one bias where one is
enough. In inference, weights are in the formats of the primitives before the call. In training, each call begins with
reorders to the formats of forward and backward, and ends with reorders of the gradients.

One primitive runs a unidirectional stack; another primitive runs before it if x has another width. In a bidirectional
stack, each layer is a primitive, since oneDNN's own stack keeps the directions separate up to the last layer.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from worker import Call, Case, Contestant, Outputs, Unsupported, serve, states_of

CELLS = ("lstm", "gru", "rnn_tanh")  # in the order of the driver's numbers
SIZES = ("cell", "T", "B", "I", "H", "L", "D", "windows", "training")
ARRAYS = ("x", "w_ih", "w_hh", "bias", "y", "h0", "c0", "dx", "dw_ih", "dw_hh", "dbias", "dy")
TORCH_ROWS = {"lstm": [0, 1, 2, 3], "gru": [1, 0, 2], "rnn_tanh": [0]}  # of oneDNN's gates; its own inverse


class StageSpec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in SIZES] + [(name, ctypes.c_void_p) for name in ARRAYS]


def compiled_driver() -> ctypes.CDLL:
    """The driver, which is compiled again if its source or oneDNN differs from the cache."""
    source = Path(__file__).with_name("onednn_driver.cpp")
    include, library = Path(sys.prefix) / "include", Path(sys.prefix) / "lib"
    options = ["-O2", "-std=c++17", "-shared", "-fPIC", "-fopenmp", f"-I{include}", str(source)]
    options += [f"-L{library}", f"-Wl,-rpath,{library}", "-ldnnl"]
    version = (include / "oneapi" / "dnnl" / "dnnl_version.h").read_bytes()
    key = hashlib.sha256(source.read_bytes() + version + " ".join(options).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / f"onednn_driver-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    if not (cache / "driver.so").exists():
        unfinished = cache / f"{os.getpid()}.so"
        subprocess.run(["g++", *options, "-o", str(unfinished)], check=True)
        unfinished.replace(cache / "driver.so")
    driver = ctypes.CDLL(str(cache / "driver.so"))
    driver.onednn_open.restype = ctypes.c_void_p
    driver.onednn_last_error.restype = driver.onednn_version.restype = ctypes.c_char_p
    return driver


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros that start at a cache line."""
    raw = np.zeros(int(np.prod(shape)) * 4 + 64, np.uint8)
    begin = -raw.ctypes.data % 64
    return raw[begin : begin + int(np.prod(shape)) * 4].view(np.float32).reshape(shape)


class Stage:
    """Layers of one primitive, and their arrays in oneDNN's gate order; the header of the driver has the shapes."""

    def __init__(self, case: Case, data: dict[str, np.ndarray], layers: range, x: np.ndarray, training: bool) -> None:
        self.case, self.layers = case, layers
        self.suffixes = ("", "_reverse")[: case.directions]
        self.rows = TORCH_ROWS[case.cell]
        self.x, self.y = x, aligned((case.T, case.B, case.directions * case.H))
        self.w_ih, self.w_hh = self._stacked(data, "weight_ih"), self._stacked(data, "weight_hh")
        b_ih, b_hh = self._stacked(data, "bias_ih"), self._stacked(data, "bias_hh")
        self.bias = b_ih + b_hh
        if case.cell == "gru":  # n has two biases: the reset gate multiplies h's product and its bias
            self.bias = np.concatenate([self.bias[:, :, :2], b_ih[:, :, 2:], b_hh[:, :, 2:]], axis=2)
        for name in states_of(case):
            state = aligned(data[name].shape)
            state[:] = data[name]
            setattr(self, name, state)
        if training:
            self.dx, self.dw_ih, self.dw_hh, self.dbias = (
                aligned(array.shape) for array in (x, self.w_ih, self.w_hh, self.bias)
            )
        self.spec = {
            "cell": CELLS.index(case.cell),
            "T": case.T,
            "B": case.B,
            "I": x.shape[2],
            "H": case.H,
            "L": len(layers),
            "D": case.directions,
            "windows": case.T // case.truncation if training and case.truncation else 1,
            "training": training,
        }

    def _stacked(self, data: dict[str, np.ndarray], kind: str) -> np.ndarray:
        """(L, D, G, H, …) from torch's (G*H, …)."""
        parts = [[data[f"{kind}_l{layer}{suffix}"] for suffix in self.suffixes] for layer in self.layers]
        torch = np.array(parts).reshape(len(parts), len(self.suffixes), len(self.rows), self.case.H, -1)
        found = aligned(torch.shape)
        found[:] = torch[:, :, self.rows]
        return found[..., 0] if kind.startswith("bias") else found

    def as_struct(self, dy: np.ndarray | None) -> StageSpec:
        """The struct for the driver; dy is None in inference."""
        found = {name: getattr(self, name, None) for name in ARRAYS} | {"dy": dy}
        pointers = {name: array.ctypes.data for name, array in found.items() if array is not None}
        return StageSpec(**self.spec, **pointers)

    def gradients(self) -> dict[str, np.ndarray]:
        """Gradients under torch's names, in torch's order of gates. Both biases get the gradient of their sum."""
        d_bias_ih = d_bias_hh = self.dbias[:, :, : len(self.rows)]
        if self.case.cell == "gru":
            d_bias_hh = self.dbias[:, :, [0, 1, 3]]
        kinds = {"weight_ih": self.dw_ih, "weight_hh": self.dw_hh, "bias_ih": d_bias_ih, "bias_hh": d_bias_hh}
        return {
            f"{kind}_l{layer}{suffix}": array[i, j][self.rows].reshape(-1, *array.shape[4:])
            for kind, array in kinds.items()
            for i, layer in enumerate(self.layers)
            for j, suffix in enumerate(self.suffixes)
        }


class Primitives(Contestant):
    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.driver = compiled_driver()
        self.driver.onednn_set_threads(threads)

    def version(self) -> str:
        return f"oneDNN {self.driver.onednn_version().decode()} (gomp)"

    def _split(self, case: Case) -> list[range]:
        """The layers of each primitive; layers of one primitive have inputs as wide as their outputs."""
        if case.bidirectional:
            return [range(layer, layer + 1) for layer in range(case.layers)]
        first = 1 if case.I != case.H else case.layers
        return [layers for layers in (range(first), range(first, case.layers)) if layers]

    def _opened(self, case: Case, data: dict[str, np.ndarray], training: bool) -> tuple[Call, list[Stage]]:
        if case.dtype != "float32":
            raise Unsupported(f"no {case.dtype}")
        if case.reset_every:
            raise Unsupported("no resets")
        if case.bidirectional and (case.lengths or case.truncation):
            raise Unsupported("no lengths: a reverse direction would begin in the padding, or a window's end")
        if case.carried and (len(self._split(case)) > 1 or case.truncation):
            raise Unsupported("initial states of several primitives or windows")
        if case.truncation and case.T % case.truncation:
            raise Unsupported("no windows of unequal length")
        x, dy = (aligned(data[name].shape) for name in ("x", "dy"))
        x[:], dy[:] = data["x"], data["dy"]
        stages: list[Stage] = []
        for layers in self._split(case):
            stages.append(Stage(case, data, layers, stages[-1].y if stages else x, training))
        dys = [stage.dx for stage in stages[1:]] + [dy] if training else [None] * len(stages)
        structs = (StageSpec * len(stages))(*(stage.as_struct(dy) for stage, dy in zip(stages, dys, strict=True)))
        lengths = case.sequence_lengths().astype(np.int64)
        handle = self.driver.onednn_open(structs, ctypes.c_int64(len(stages)), ctypes.c_void_p(lengths.ctypes.data))
        if not handle:
            raise Unsupported(self.driver.onednn_last_error().decode())
        return Opened(self.driver, handle, [stages, dy]), stages

    def forward(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        call, stages = self._opened(case, data, training=False)
        return call, lambda _: {"y": stages[-1].y}

    def training(self, case: Case, data: dict[str, np.ndarray]) -> tuple[Call, Outputs]:
        call, stages = self._opened(case, data, training=True)

        def outputs(_: Any) -> dict[str, np.ndarray]:
            found = {"y": stages[-1].y, "dx": stages[0].dx}
            for stage in stages:
                found |= stage.gradients()
            return found

        return call, outputs


class Opened:
    """A network of the driver. A call runs it, and garbage collection closes it. It keeps the arrays alive."""

    def __init__(self, driver: ctypes.CDLL, handle: int, arrays: list[Any]) -> None:
        self.driver, self.handle, self.arrays = driver, ctypes.c_void_p(handle), arrays
        self.run = driver.onednn_run

    def __call__(self) -> None:
        if self.run(self.handle):
            raise RuntimeError(self.driver.onednn_last_error().decode())

    def __del__(self) -> None:
        self.driver.onednn_close(self.handle)


if __name__ == "__main__":
    serve(Primitives)

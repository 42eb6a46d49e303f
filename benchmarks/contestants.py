"""Who takes part in `run.py`, and the environment that each needs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hiding

PROGRAMS = Path(__file__).with_name("rivals")
ENVIRONMENTS = Path(__file__).with_name(".environments")  # not part of the repository


@dataclass(frozen=True)
class Entry:
    """A program in rivals/, and what pip installs for it; `ours`: an entry of this library.

    One that compiles for up to a minute in each case is `slow_to_prepare`, and in the tour only if it is named.
    `interpreter` stands for the environment's.
    """

    name: str
    program: str
    environment: str
    ours: bool = False
    slow_to_prepare: bool = False
    interpreter: Path | None = None

    def python(self) -> Path | None:
        """What runs the program; None if its environment has not been made."""
        return self.interpreter or python_of(self.environment)


# fastrnn, NumPy and torch share the environment that run.py itself runs in.
HERE = "here"
REQUIREMENTS = {
    "onnx": ["numpy", "onnx", "onnxruntime", "openvino"],
    "jax": ["numpy", "jax"],
    "keras": ["numpy", "tensorflow-cpu"],
    "onednn": ["numpy", "onednn-cpu-gomp", "onednn-devel-cpu-gomp"],
}
ENTRIES = [
    Entry("fastrnn", "fastrnn_layers.py", HERE, ours=True),
    Entry("fastrnn.torch", "fastrnn_torch.py", HERE, ours=True),
    Entry("numpy", "numpy_loop.py", HERE),
    Entry("torch", "torch_eager.py", HERE),
    Entry("torch.compile", "torch_compiled.py", HERE, slow_to_prepare=True),
    Entry("onednn", "onednn_primitives.py", "onednn"),
    Entry("onnxruntime", "onnx_runtime.py", "onnx"),
    Entry("openvino", "openvino_model.py", "onnx"),
    Entry("jax", "jax_scan.py", "jax"),
    Entry("keras", "keras_layers.py", "keras"),
]


def folder_of(environment: str) -> Path:
    """Where an environment is; one that hides instruction sets is another."""
    return ENVIRONMENTS / (f"{environment}-without-avx512" if hiding.hides_avx512() else environment)


def python_of(environment: str) -> Path | None:
    """The interpreter of an environment; None if it has not been made."""
    if environment == HERE:
        return Path(sys.executable)
    folder = folder_of(environment)
    found = [folder / "bin" / "python", folder / "Scripts" / "python.exe"]
    return next((path for path in found if path.exists()), None)


def install(environment: str) -> None:
    """Make an environment, with its packages, from which this run's instruction sets are hidden."""
    folder = folder_of(environment)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = python_of(environment)
    assert python is not None
    subprocess.run([str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[environment]], check=True)
    if hiding.hides_avx512():
        hiding.hide(folder)

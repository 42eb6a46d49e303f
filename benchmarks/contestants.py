"""The contestants of `run.py` and their environments."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import hiding

PROGRAMS = Path(__file__).with_name("rivals")
ENVIRONMENTS = Path(__file__).with_name(".environments")  # not part of the repository


@dataclass(frozen=True)
class Entry:
    """A program in rivals/ and its pip requirements; `ours` marks an entry of this library.

    `slow_to_prepare` marks a contestant that compiles for up to a minute in each case; the suite "tour" includes it
    only if it is named. `interpreter` replaces the interpreter of the environment.
    """

    name: str
    program: str
    environment: str
    ours: bool = False
    slow_to_prepare: bool = False
    interpreter: Path | None = None

    def python(self) -> Path | None:
        """The interpreter that runs the program; None if its environment does not exist."""
        return self.interpreter or python_of(self.environment)


# fastrnn, NumPy and torch share the environment of run.py itself.
HERE = "here"
REQUIREMENTS = {
    "onnx": ["numpy", "onnx", "onnxruntime", "openvino"],
    "jax": ["numpy", "jax"],
    "keras": ["numpy", "tensorflow-cpu"],
    "onednn": ["numpy", "onednn-cpu-gomp", "onednn-devel-cpu-gomp"],
    "haste": ["numpy", "torch==2.13.0", "setuptools", "wheel"],
}
# Source distributions that import the requirements to build. They find no other program: haste would compile for CUDA.
BUILT = {"haste": ["haste-pytorch-cpu==0.5.5"]}
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
    """The folder of an environment; hiding instruction sets needs a separate environment."""
    return ENVIRONMENTS / (f"{environment}-without-avx512" if hiding.hides_avx512() else environment)


def python_of(environment: str) -> Path | None:
    """The interpreter of an environment; None if the environment does not exist."""
    if environment == HERE:
        return Path(sys.executable)
    folder = folder_of(environment)
    found = [folder / "bin" / "python", folder / "Scripts" / "python.exe"]
    return next((path for path in found if path.exists()), None)


def install(environment: str) -> None:
    """Make an environment with its packages, and hide this run's hidden instruction sets from it."""
    folder = folder_of(environment)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = python_of(environment)
    assert python is not None
    install = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*install, *REQUIREMENTS[environment]], check=True)
    if environment in BUILT:
        build = [*install, "--no-build-isolation", *BUILT[environment]]
        subprocess.run(build, check=True, env=os.environ | {"PATH": str(python.parent)})
    if hiding.hides_avx512():
        hiding.hide(folder)

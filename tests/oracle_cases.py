"""Layers that other libraries have run: the arguments, and files of what the libraries returned.

Arguments are multiples of 1/64, so every dtype and machine has the same numbers. `check_oracles.py` writes the files.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).with_name("oracles")
T, B, I, H = SIZES = 4, 2, 3, 6
GATES = {"peephole_lstm": "ifgo", "reset_before_gru": "rzn", "layer_norm_lstm": "ifgo"}
STATES = {"peephole_lstm": "hc", "reset_before_gru": "h", "layer_norm_lstm": "hc"}
OF_GATES = tuple(f"{name}_{gate}" for name in ("gamma_x", "gamma_r", "bias") for gate in "ifgo")
VECTORS = {
    "peephole_lstm": ("p_i", "p_f", "p_o"),
    "reset_before_gru": (),
    "layer_norm_lstm": ("gamma", "beta", *OF_GATES),
}
MULTIPLIER, INCREMENT = 6364136223846793005, 1442695040888963407  # the generator of Knuth's MMIX


@dataclass(frozen=True)
class Oracle:
    """A file: the cell, and the dtype of the library's results; without gradients in an inference library."""

    cell: str
    library: str
    dtype: str
    has_gradients: bool

    @property
    def name(self):
        return f"{self.cell}-{self.library}"

    @property
    def path(self):
        return FOLDER / f"{self.name}.json"


ORACLES = (
    Oracle("peephole_lstm", "tensorflow", "float64", True),
    Oracle("peephole_lstm", "onnxruntime", "float32", False),
    Oracle("reset_before_gru", "keras", "float64", True),
    Oracle("reset_before_gru", "onnxruntime", "float32", False),
    Oracle("layer_norm_lstm", "haste", "float64", True),
)


def shapes_of(cell):
    """The arguments by name; the libraries have one bias, which is `b_ih` here."""
    rows = len(GATES[cell]) * H
    shapes = {"x": (T, B, I), "w_ih": (rows, I), "w_hh": (rows, H)}
    shapes |= {} if cell == "layer_norm_lstm" else {"b_ih": (rows,)}  # its biases are vectors
    shapes |= dict.fromkeys(VECTORS[cell], (H,)) | {f"{state}0": (B, H) for state in STATES[cell]}
    return shapes | {"dy": (T, B, H)} | {f"d{state}_n": (B, H) for state in STATES[cell]}


def arguments_of(cell, dtype):
    """Arrays in [-1, 1) by name, of the same numbers in each dtype."""
    state, found = 1, {}
    for name, shape in shapes_of(cell).items():
        numbers = []
        for _ in range(math.prod(shape)):
            state = (state * MULTIPLIER + INCREMENT) % 2**64
            numbers.append((state >> 57) / 64 - 1)
        found[name] = np.array(numbers, dtype).reshape(shape)
    return found


def results_of(cell, has_gradients):
    """The names of what a library returns: outputs, and the gradients of sum(dy*y) + sum(dh_n*h_n) + …."""
    names = ["y", *(f"{state}_n" for state in STATES[cell])]
    return names + [f"d{name}" for name in shapes_of(cell) if has_gradients and name[0] != "d"]


def write(oracle, source, arrays):
    """A line for each array."""
    lines = [f'"{name}": {json.dumps(arrays[name].tolist())}' for name in results_of(oracle.cell, oracle.has_gradients)]
    head = f'"source": {json.dumps(source)},\n"dtype": "{oracle.dtype}",\n"sizes": {json.dumps(SIZES)},\n'
    oracle.path.write_text(f'{{\n{head}"arrays": {{\n' + ",\n".join(lines) + "\n}\n}\n", encoding="utf-8")


def read(oracle):
    """The source, which names the library and its version, and the arrays."""
    content = json.loads(oracle.path.read_text(encoding="utf-8"))
    assert (content["dtype"], tuple(content["sizes"])) == (oracle.dtype, SIZES)
    return content["source"], {name: np.array(one, oracle.dtype) for name, one in content["arrays"].items()}

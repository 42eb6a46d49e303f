"""Parameters of a stack: names, shapes, initial values, files."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from . import _check, _core
from ._check import Array
from ._program import CellProgram

FORMAT = "fastrnn-1"

# The compiled cells, by name: their parameters and states.
ROWS = _core.cells()
# A cell for the core: the name of a compiled one, or a program.
CoreCell = str | CellProgram
# Of one layer in one direction, in the order of the cell's row, torch's layout. None: an absent parameter.
Parameters = tuple[Array | None, ...]


_KINDS = {"w": "weight", "b": "bias"}


def row_of(cell: CoreCell) -> _core.Cell:
    """Parameters, states, inputs of each step and options of a cell."""
    return ROWS[cell] if isinstance(cell, str) else _core.row_of_program(cell)


def suffixes(num_layers: int, bidirectional: bool) -> list[str]:
    """Endings of parameter names, in torch's order: l0, l0_reverse, l1, …"""
    directions = ("", "_reverse") if bidirectional else ("",)
    return [f"l{layer}{direction}" for layer in range(num_layers) for direction in directions]


def torch_name(name: str) -> str:
    """A parameter's name in torch, without its layer: w_ih is weight_ih, b_ih is bias_ih."""
    kind, _, rest = name.partition("_")
    return f"{_KINDS.get(kind, kind)}_{rest}"


def shapes_of(
    row: _core.Cell,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    bias: bool,
    bidirectional: bool,
    name_of: Callable[[str], str] = torch_name,
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map name -> (how the shape is written, the shape).

    bias: whether there are optional parameters. name_of: a parameter's name of its name in the row.
    """
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    present = [(name_of(one.name), one) for one in row.parameters if bias or one.required]
    for number, suffix in enumerate(suffixes(num_layers, bidirectional)):
        first = number < 1 + bidirectional
        width = input_size if first else hidden_size * (1 + bidirectional)
        letters = {"I": ", input_size" if first else ", H*directions", "H": ", H", "H/heads": ", H/heads", "": ""}
        for name, one in present:
            rows = f"{one.rows_per_unit}*H" if one.rows_per_unit > 1 else "H"
            shapes[f"{name}_{suffix}"] = (f"({rows}{letters[one.columns]})", one.shape(width, hidden_size))
    return shapes


def sizes_of(cell: CoreCell, parameters: Parameters) -> tuple[int, int]:
    """The input size and the hidden size of a layer, of the columns of its matrices."""
    row = row_of(cell)
    found = {
        parameter.columns[0]: one.shape[1]
        for parameter, one in zip(row.parameters, parameters, strict=True)
        if parameter.columns and one is not None
    }
    return found["I"], found["H"] * row.heads


def initial_parameters(
    shapes: dict[str, tuple[str, tuple[int, ...]]], hidden_size: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> dict[str, Array]:
    """Uniform in ±1/sqrt(H), as torch initialises them."""
    bound = 1 / np.sqrt(hidden_size)
    return {name: rng.uniform(-bound, bound, shape).astype(dtype) for name, (_, shape) in shapes.items()}


def checked_parameters(
    parameters: dict[str, Any], shapes: dict[str, tuple[str, tuple[int, ...]]], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """The user's parameters in a form that the kernels can read."""
    if not isinstance(parameters, Mapping):
        raise TypeError(f"parameters: expected a dict, got {type(parameters).__name__}")
    if parameters.keys() != shapes.keys():
        missing, extra = sorted(shapes.keys() - parameters.keys()), sorted(parameters.keys() - shapes.keys())
        raise ValueError(f"parameters: expected exactly {list(shapes)}; missing {missing}, unknown {extra}")
    checked = {}
    for name, (letters, shape) in shapes.items():
        value = _check.array(name, parameters[name], dtype)
        if value.shape != shape:
            _check.shape(name, value, letters, shape)
        checked[name] = value if value.flags.c_contiguous else np.ascontiguousarray(value)
    return checked


class ReadOnlyParameters(dict[str, Array]):
    """A read-only dict of read-only arrays. Copies and pickles are plain dicts of plain arrays."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError("parameters: expected a layer that is not frozen; call thaw() first")

    __setitem__ = __delitem__ = __ior__ = update = pop = popitem = clear = setdefault = _refuse

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, ({name: np.array(array) for name, array in self.items()},)


class Frozen:
    """Copies of a layer's parameters at the time of freezing."""

    def __init__(self, parameters: dict[str, Array]) -> None:
        copies = {name: array.copy() for name, array in parameters.items()}
        for array in copies.values():
            array.flags.writeable = False
        self.parameters = ReadOnlyParameters(copies)


def weights_of(
    row: _core.Cell, parameters: dict[str, Array], suffix: str, name_of: Callable[[str], str] = torch_name
) -> Parameters:
    """The parameters of one layer in one direction; name_of: as for `shapes_of`."""
    return tuple(parameters.get(f"{name_of(one.name)}_{suffix}") for one in row.parameters)


def save_file(path: str | os.PathLike[str], header: dict[str, Any], parameters: dict[str, Array]) -> None:
    """Write a .npz file."""
    with replacing(with_ending(path, ".npz")) as file:
        np.savez(file, fastrnn=np.array(header_text(header)), **parameters)  # type: ignore[arg-type, unused-ignore]


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the parameters; ValueError for a file that `save_file` did not write."""
    name = os.fspath(path)
    ended = with_ending(path, ".npz")
    content = (ended if ended.exists() else Path(path)).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for foreign and damaged files
        raise ValueError(f"path: expected a file written by save, got {name!r} ({error})") from error
    return parsed_header(path, arrays.pop("fastrnn", None)), arrays


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file next to the target that is moved into place at the end, so that a failure leaves an old file intact.

    A symbolic link is followed, and its target keeps its permissions. A new file gets the permissions of the umask.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mode = None
    temporary = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666 if mode is None else mode & 0o666)  # readable by no more than the target

    try:
        with open(temporary, "wb", opener=opener) as file:
            yield file
        if mode is not None and os.name == "posix":
            temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def with_ending(path: str | os.PathLike[str], ending: str) -> Path:
    target = Path(path)
    return target if target.suffix == ending else target.with_name(target.name + ending)


def header_text(header: dict[str, Any]) -> str:
    """A layer's configuration and generator, as text for files."""
    return json.dumps({"format": FORMAT, **header})


def parsed_header(path: str | os.PathLike[str], text: Any) -> dict[str, Any]:
    """The argument of `header_text`; ValueError for any text that it did not return."""
    try:
        header: dict[str, Any] = json.loads(str(text))
        known = header.pop("format")
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        name = os.fspath(path)
        raise ValueError(f"path: expected a file written by save, got {name!r} (no configuration in it)") from error
    if known != FORMAT:
        raise ValueError(f"path: expected format {FORMAT!r}, got {known!r}")
    return header

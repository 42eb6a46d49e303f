"""Layers as safetensors files, for other programs. Needs the extra ``fastrnn[safetensors]``.

The tensors have torch's names, so ``module.load_state_dict(safetensors.torch.load_file(path))`` loads such a file.
Configuration and generator, which ``layer.save`` also writes, are JSON under "fastrnn" in the file's metadata. Read
safetensors files of other programs as dicts of arrays and convert them with `fastrnn.convert`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

try:
    import safetensors.numpy as _format
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fastrnn.safetensors needs safetensors: pip install 'fastrnn[safetensors]'", name="safetensors"
    ) from error

from .layers import GRU, LSTM, RNN
from .weights import header_text, parsed_header, replacing, with_ending

__all__ = ["load", "save"]

_ENDING = ".safetensors"
_CLASSES: dict[str, type[LSTM | GRU | RNN]] = {"LSTM": LSTM, "GRU": GRU, "RNN": RNN}


def save(layer: LSTM | GRU | RNN, path: str | os.PathLike[str]) -> None:
    """Write the data of ``layer.save`` to a ``.safetensors`` file, replacing the whole file.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        The layer; its parameters, configuration and generator's state are written.
    path : str or path
        A path without the extension ``.safetensors`` gets it. Permissions and symbolic links stay, as with
        ``layer.save``.

    Raises
    ------
    TypeError
        If `layer` is not a layer.
    OSError
        If the file cannot be written.
    """
    if not isinstance(layer, LSTM | GRU | RNN):
        raise TypeError(f"layer: expected a fastrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    content = _format.save(layer._checked_parameters(), {"fastrnn": header_text(layer._file_header())})
    with replacing(with_ending(path, _ENDING)) as file:
        file.write(content)


def load(path: str | os.PathLike[str]) -> LSTM | GRU | RNN:
    """Load a layer of any class from a file that ``save`` wrote.

    Parameters
    ----------
    path : str or path
        The extension may be left out.

    Returns
    -------
    LSTM, GRU or RNN
        With the saved parameters, configuration and generator's state.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If the file is not such a file. Files of other programs have no configuration of a layer: pass their tensors,
        from ``safetensors.numpy.load_file``, to `fastrnn.convert.from_torch`.
    """
    ended = with_ending(path, _ENDING)
    content = (ended if ended.exists() else Path(path)).read_bytes()
    try:
        arrays = _format.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except Exception as error:  # the library has its own exception, and NumPy lacks some dtypes
        raise ValueError(f"path: expected a file written by save, got {os.fspath(path)!r} ({error})") from error
    header = parsed_header(path, metadata.get("fastrnn"))
    kind = _CLASSES.get(str(header.get("layer")))
    if kind is None:
        raise ValueError(f"path: expected a file of {', '.join(_CLASSES)}, got one of {header.get('layer')}")
    return kind._from_file(path, header, arrays)

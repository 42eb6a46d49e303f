"""Layers as safetensors files, for programs that read these. Needs the extra ``fastrnn[safetensors]``.

The tensors have torch's names, so that ``module.load_state_dict(safetensors.torch.load_file(path))`` takes such a file.
What ``layer.save`` writes besides, configuration and generator, is JSON under "fastrnn" in the file's metadata.
Other programs' safetensors files are dicts of arrays for `fastrnn.convert`.
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
    """Write what ``layer.save`` writes to a ``.safetensors`` file, replacing it as a whole.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        Its parameters, configuration and generator's state are written.
    path : str or path
        The ending is added to a path without it. Permissions and symbolic links stay, as with ``layer.save``.

    Raises
    ------
    TypeError
        If `layer` is no layer.
    OSError
        If the file cannot be written.
    """
    if not isinstance(layer, LSTM | GRU | RNN):
        raise TypeError(f"layer: expected a fastrnn.LSTM, GRU or RNN, got {type(layer).__name__}")
    content = _format.save(layer._checked_parameters(), {"fastrnn": header_text(layer._file_header())})
    with replacing(with_ending(path, _ENDING)) as file:
        file.write(content)


def load(path: str | os.PathLike[str]) -> LSTM | GRU | RNN:
    """The layer that ``save`` wrote to a file, of any class.

    Parameters
    ----------
    path : str or path
        The ending may be left out.

    Returns
    -------
    LSTM, GRU or RNN
        With the parameters, the configuration and the generator's state that were saved.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no such file. Those of other programs have no configuration of a layer: their tensors, as
        ``safetensors.numpy.load_file`` returns them, are what `fastrnn.convert.from_torch` takes.
    """
    ended = with_ending(path, _ENDING)
    content = (ended if ended.exists() else Path(path)).read_bytes()
    try:
        arrays = _format.load(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except Exception as error:  # the library has an exception of its own, and NumPy lacks some dtypes
        raise ValueError(f"path: expected a file written by save, got {os.fspath(path)!r} ({error})") from error
    header = parsed_header(path, metadata.get("fastrnn"))
    kind = _CLASSES.get(str(header.get("layer")))
    if kind is None:
        raise ValueError(f"path: expected a file of {', '.join(_CLASSES)}, got one of {header.get('layer')}")
    return kind._from_file(path, header, arrays)

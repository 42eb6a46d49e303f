"""Programs as canonical JSON text: equal programs have equal text. It has no function and no code."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from .program import FORMAT, Program
from .verify import verify


def text(program: Program) -> str:
    """The canonical JSON text of a program: fixed order, no spaces, and no member that has its default."""
    return json.dumps(_plain(program), separators=(",", ":"), allow_nan=False)


def from_text(source: str) -> Program:
    """The program of a JSON text, verified.

    Raises
    ------
    ValueError
        If the text is no JSON, has other members than a program, or breaks a rule of `verify`. The message names the
        place.
    """
    try:
        data = json.loads(source, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("program: expected JSON text, got text that is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"program: expected JSON text, got an error: {error}") from None
    version = data.get("format") if isinstance(data, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(f"program.format: expected at most {FORMAT}, got {version}; a newer fastrnn reads it")
    program = _build(Program, data, "program")
    assert isinstance(program, Program)
    verify(program)
    return program


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        members = ((f, getattr(value, f.name)) for f in fields(value))
        return {f.name: _plain(one) for f, one in members if f.default is MISSING or one != f.default}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"program: expected numbers of JSON, got {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError(f"program: expected each member once, got {[name for name, _ in pairs]}")
    return members


def _build(kind: Any, data: Any, where: str) -> Any:
    """`data` of JSON as a value of the annotation `kind`."""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        kinds = [one for one in get_args(kind) if isinstance(data, one) and not isinstance(data, bool)]
        kind = kinds[0] if kinds else next(one for one in get_args(kind) if one is not NoneType)
        return _build(kind, data, where)
    if is_dataclass(kind):
        return _build_members(kind, _expect(dict, data, where), where)
    if origin is tuple:
        element = get_args(kind)[0]
        return tuple(_build(element, one, f"{where}[{n}]") for n, one in enumerate(_expect(list, data, where)))
    if origin is dict:
        return {name: _build(int, one, f"{where}.{name}") for name, one in _expect(dict, data, where).items()}
    if kind is float:
        return _number(data, where)
    return _expect(kind, data, where)


def _build_members(kind: Any, data: dict[str, Any], where: str) -> Any:
    names = {f.name: f.default is MISSING for f in fields(kind)}
    for name in data.keys() - names.keys():
        raise ValueError(f"{where}.{name}: unknown; known are {', '.join(names)}")
    for name, required in names.items():
        if required and name not in data:
            raise ValueError(f"{where}.{name}: missing")
    hints = _hints(kind)
    return kind(**{name: _build(hints[name], one, f"{where}.{name}") for name, one in data.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _number(data: Any, where: str) -> float:
    if data in ("inf", "-inf"):
        return float(data)
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise ValueError(f'{where}: expected a number, "inf" or "-inf", got {data!r}')
    number = float(data) if abs(data) < 2**1024 else math.inf
    if math.isinf(number):
        raise ValueError(f"{where}: expected a number of float64, got {data!r:.40}")
    return number


def _expect(kind: Any, data: Any, where: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise ValueError(f"{where}: expected {kind.__name__}, got {data!r:.40}")
    return data

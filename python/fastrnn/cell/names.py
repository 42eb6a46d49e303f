"""The arguments of a step: vectors by name, as `a.i`, `s.c`, `v.p_i`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .user_line import refusal, user_line


class Names:
    """Vectors by name. Each is read when it is asked for; none can be set."""

    __slots__ = ("_get", "_kind", "_names")

    def __init__(self, kind: str, names: Iterable[str], get: Callable[[str], Any]) -> None:
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_names", tuple(names))
        object.__setattr__(self, "_get", get)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._names:
            known = ", ".join(self._names) or "none"
            raise AttributeError(f"{name}: no {self._kind} of this name; declared: {known} [{user_line()}]")
        return self._get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise refusal(f"{self._kind} {name} = …", "give the value a name of its own, and return it")

    def __dir__(self) -> list[str]:
        return list(self._names)

    def __repr__(self) -> str:
        return f"<{self._kind}: {', '.join(self._names)}>"


class Gates(Names):
    """Pre-activations by gate: `a.n`, its halves `a.input.n` and `a.state.n`, and `a.product.n(vector)`.

    `a.product.n(vector)` is the state half with another vector in place of h: w_hh vector + b_hh, for the rows of n.
    """

    __slots__ = ("input", "product", "state")

    def __init__(self, names: Iterable[str], get: Callable[[str, str], Any]) -> None:
        names = tuple(names)
        super().__init__("gate", names, lambda name: get("gate", name))
        object.__setattr__(self, "input", Names("gate", names, lambda name: get("gate_input", name)))
        object.__setattr__(self, "state", Names("gate", names, lambda name: get("gate_state", name)))
        object.__setattr__(self, "product", Names("gate", names, lambda name: get("product", name)))


class Vectors(Names):
    """Vectors of a cell. `v.p` has members by gate if there is a vector `p_i` for each gate i."""

    __slots__ = ("_gates",)

    def __init__(self, names: Iterable[str], gates: Iterable[str], get: Callable[[str], Any]) -> None:
        super().__init__("vector", names, get)
        object.__setattr__(self, "_gates", tuple(gates))

    def __getattr__(self, name: str) -> Any:
        if name not in self._names and all(f"{name}_{gate}" in self._names for gate in self._gates):
            return Names("gate", self._gates, lambda gate: self._get(f"{name}_{gate}"))
        return super().__getattr__(name)


def read_only(value: Any) -> Any:
    """A view of an array that cannot be written; other values unchanged."""
    if not isinstance(value, np.ndarray):
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _member(given: Any, name: str) -> Any:
    return given[name] if isinstance(given, Mapping) else getattr(given, name)


def _has(given: Any, name: str) -> bool:
    return name in given if isinstance(given, Mapping) else hasattr(given, name)


def getter(kind: str, names: tuple[str, ...], given: Any) -> Callable[[str], Any]:
    """Reads the arrays of a mapping, or of an object's attributes."""

    def get(name: str) -> Any:
        if not _has(given, name):
            raise TypeError(f"{kind} {name}: missing; expected a mapping or an object with {', '.join(names)}")
        return read_only(_member(given, name))

    return get


def gates_of_arrays(names: tuple[str, ...], given: Any) -> Gates:
    """Pre-activations of a mapping or object, whole by gate, or with `input`, `state` and `product` by gate."""

    def get(kind: str, name: str) -> Any:
        if kind != "gate":
            part = kind.removeprefix("gate_")
            if not _has(given, part) or not _has(_member(given, part), name):
                raise TypeError(f"gate {name}: the step reads a.{part}.{name}, which is missing in a [{user_line()}]")
            return read_only(_member(_member(given, part), name))
        if _has(given, name):
            return read_only(_member(given, name))
        return get("gate_input", name) + get("gate_state", name)

    return Gates(names, get)

"""Attributes that are set once, at the construction of an object, and attributes that may change at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class Attributes:
    """An object that declares which of its attributes may change. Attributes that it does not name belong to the user.

    Names in `_fixed` are set once; `_instead` is the advice for another value. `_changeable` maps names to checks,
    which return the value to store. Then `_on_change` updates objects that were made from the old value.
    """

    _fixed: ClassVar[frozenset[str]] = frozenset()
    _instead: ClassVar[str]
    _changeable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._fixed and name in self.__dict__:
            self._refuse_another(name, value)
            return
        check = self._changeable.get(name)
        super().__setattr__(name, value if check is None else check(name, value))
        if check is not None:
            self._on_change()

    def __delattr__(self, name: str) -> None:
        if name in self._fixed or name in self._changeable:
            raise AttributeError(f"{name}: expected to stay; it cannot be deleted")
        super().__delattr__(name)

    def _refuse_another(self, name: str, value: Any) -> None:
        present = self.__dict__[name]
        if not isinstance(value, type(present)) or value != present:
            raise AttributeError(f"{name}: expected to stay {present!r}, got {value!r}; {self._instead}")

    def _on_change(self) -> None:
        """Update after a change; also called during construction."""

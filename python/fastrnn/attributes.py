"""Attributes that are set once, when an object is made, and attributes that may change at any time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar


class Attributes:
    """An object that says which of its attributes may change. Attributes that it does not name are the user's own.

    Names in `_fixed` are set once; `_instead` says what to do for another value. `_changeable` maps names to checks,
    which return what is stored; then `_on_change` updates whatever was made from the old value.
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
        """Called while the object is made as well."""

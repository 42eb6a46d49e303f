"""Which class of ours stands for which class of torch's: modules register here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Kind = TypeVar("_Kind", bound=type)

# torch's class -> ours, derived from it.
OURS: dict[type, type] = {}
# Mixed in before a user's class of this base of torch's; it has our forward.
MIXINS: dict[type, Any] = {}


def stands_for(base: type) -> Callable[[_Kind], _Kind]:
    """Class decorator: the class does what `base` of torch's does."""

    def register(kind: _Kind) -> _Kind:
        OURS[base] = kind
        kind.__module__ = __package__  # what a pickle names
        return kind

    return register


def mixin_for(base: type) -> Callable[[_Kind], _Kind]:
    """Class decorator: the class has the forward of all our classes that derive from `base`."""

    def register(kind: _Kind) -> _Kind:
        MIXINS[base] = kind
        return kind

    return register


def is_ours(module: torch.nn.Module) -> bool:
    """Whether a module has our forward."""
    return isinstance(module, tuple(MIXINS.values()))

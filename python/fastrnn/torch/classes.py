"""The map from torch's classes to ours; modules register their classes here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

_Kind = TypeVar("_Kind", bound=type)

# torch's class -> ours, derived from it.
OURS: dict[type, type] = {}
# base class of torch -> the mixin with our forward for user classes of this base.
MIXINS: dict[type, Any] = {}


def stands_for(base: type) -> Callable[[_Kind], _Kind]:
    """Class decorator: the class replaces torch's class `base`."""

    def register(kind: _Kind) -> _Kind:
        OURS[base] = kind
        kind.__module__ = __package__  # the module name in pickles
        return kind

    return register


def mixin_for(base: type) -> Callable[[_Kind], _Kind]:
    """Class decorator: the class has the forward of all our classes derived from `base`."""

    def register(kind: _Kind) -> _Kind:
        MIXINS[base] = kind
        return kind

    return register


def is_ours(module: torch.nn.Module) -> bool:
    """Whether a module has our forward."""
    return isinstance(module, tuple(MIXINS.values()))

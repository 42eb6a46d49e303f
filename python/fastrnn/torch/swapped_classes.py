"""The classes of modules after `accelerate` and `restore`: a subclass for each class of a user, and back.

A user's class may define ``__init_subclass__``, which may need arguments, refuse or register a class, or it may have a
metaclass. The classes made here must not trigger either. So a class is first made without the user's bases and gets
them afterwards, which calls neither.
"""

from __future__ import annotations

from abc import ABCMeta
from functools import cache
from typing import Any

from torch.nn import Module
from torch.nn.utils import parametrize

from .classes import MIXINS, OURS, is_ours


@cache
def class_of_ours(kind: type, is_parametrized: bool) -> type:
    """The class for modules of this class of torch or of a user; TypeError with the reason if there is none."""
    if kind in OURS:
        return OURS[kind]
    if is_parametrized:
        return _on_another_base(kind, class_of_ours(kind.__bases__[0], False))
    mixin = next(mixin for base, mixin in MIXINS.items() if issubclass(kind, base))
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return _made_of(kind, (mixin, kind), {**names, "__reduce_ex__": _reduce, "_fastrnn_original": kind})


def class_of_torch(kind: type, is_parametrized: bool) -> type:
    """The class that a module of our class had before, or would have without fastrnn."""
    for base, ours in OURS.items():
        if kind is ours:
            return base
    if is_parametrized:
        return _on_another_base(kind, class_of_torch(kind.__bases__[0], False))
    original: type | None = vars(kind).get("_fastrnn_original")
    if original is None:
        raise TypeError(f"model: expected subclasses made by accelerate, got {kind.__qualname__}, which is fastrnn's")
    return original


def as_torch(module: Module) -> Module:
    """A module of torch's class that shares parameters and all other state with this module."""
    kind = type(module)
    is_parametrized = parametrize.is_parametrized(module)
    if is_parametrized or kind in OURS.values() or "_fastrnn_original" in vars(kind):
        kind = class_of_torch(kind, is_parametrized)
    else:  # derived from our class, with our forward
        kind = next(base for base, ours in OURS.items() if issubclass(kind, ours))
    other: Module = object.__new__(kind)
    other.__dict__ = {
        name: value.copy() if isinstance(value, dict | list) else value
        for name, value in module.__dict__.items()
        if name != "_fastrnn_memory"
    }
    return other


def _on_another_base(kind: type, base: type) -> type:
    """Rebuild a class on another base. Torch's parametrizations make a class per module, on the original class."""
    members = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return _made_of(kind, (base,), members)


def _made_of(kind: type, bases: tuple[type, ...], members: dict[str, Any]) -> type:
    """A class of this name that can replace the class of instances of `kind`."""
    meta: Any = type(kind)
    if meta not in (type, ABCMeta):
        raise TypeError(f"its class {kind.__qualname__} has the metaclass {meta.__qualname__}, which sees subclasses")
    made: type = meta(kind.__name__, (Module,), members)
    try:
        made.__bases__ = bases
    except TypeError as error:  # for example with __slots__
        raise TypeError(f"its class {kind.__qualname__} takes no other base: {error}") from None
    return made


def _reduce(self: Any, protocol: Any) -> Any:
    """Pickles name the user's class, since the class made here cannot be imported."""
    made = type(self)
    original = made._fastrnn_original
    make, arguments, *rest = original.__reduce_ex__(self, max(int(protocol), 2))
    make, *arguments = (original if one is made else one for one in (make, *arguments))
    return _rebuild, (make, *arguments), *rest


def _rebuild(make: Any, *arguments: Any) -> Any:
    module = make(*arguments)
    kind: type = type(module)
    if not is_ours(module):
        object.__setattr__(module, "__class__", class_of_ours(kind, False))
    return module

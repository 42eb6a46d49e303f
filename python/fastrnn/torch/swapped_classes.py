"""The classes that `accelerate` and `restore` give to modules: a subclass for each class of a user's, and back.

A user's class may watch over its subclasses: by ``__init_subclass__``, which may want arguments, refuse or register, or
by a metaclass. It shall not hear of a class that is made here. So the class is made without bases of the user's, and is
given them afterwards, which Python announces to nobody.
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
    """The class for modules of this class of torch's or a user's; TypeError says why there is none."""
    if kind in OURS:
        return OURS[kind]
    if is_parametrized:
        return _on_another_base(kind, class_of_ours(kind.__bases__[0], False))
    mixin = next(mixin for base, mixin in MIXINS.items() if issubclass(kind, base))
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return _made_of(kind, (mixin, kind), {**names, "__reduce_ex__": _reduce, "_fastrnn_original": kind})


def class_of_torch(kind: type, is_parametrized: bool) -> type:
    """The class that a module of this class of ours had, or would have without us."""
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
    """A module of torch's class that shares parameters and all else with this one."""
    kind = type(module)
    is_parametrized = parametrize.is_parametrized(module)
    if is_parametrized or kind in OURS.values() or "_fastrnn_original" in vars(kind):
        kind = class_of_torch(kind, is_parametrized)
    else:  # derived from ours, with our forward
        kind = next(base for base, ours in OURS.items() if issubclass(kind, ours))
    other: Module = object.__new__(kind)
    other.__dict__ = {
        name: value.copy() if isinstance(value, dict | list) else value
        for name, value in module.__dict__.items()
        if name != "_fastrnn_memory"
    }
    return other


def _on_another_base(kind: type, base: type) -> type:
    """Torch's parametrizations make a class for one module; its first base is the original class."""
    members = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return _made_of(kind, (base,), members)


def _made_of(kind: type, bases: tuple[type, ...], members: dict[str, Any]) -> type:
    """A class of this name that instances of `kind` can be given."""
    meta: Any = type(kind)
    if meta not in (type, ABCMeta):
        raise TypeError(f"its class {kind.__qualname__} has the metaclass {meta.__qualname__}, which sees subclasses")
    made: type = meta(kind.__name__, (Module,), members)
    try:
        made.__bases__ = bases
    except TypeError as error:  # with __slots__, for instance
        raise TypeError(f"its class {kind.__qualname__} takes no other base: {error}") from None
    return made


def _reduce(self: Any, protocol: Any) -> Any:
    """Pickles name the user's class, since the one made here has no name to import."""
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

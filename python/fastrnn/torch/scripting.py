"""Lets TorchScript see torch's modules instead of ours.

Its compiler reads the source of ``forward`` and the attributes of an object, and supports only torch's operations. So
it gets an object of torch's class with the same parameters for each of our modules: inside a model, in a
``ScriptModule``, or alone. The model itself does not change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from .classes import MIXINS
from .routes import Fallback, Path, say_once
from .swapped_classes import as_torch

_TORCHSCRIPT = Fallback(Path.TORCH, "TorchScript holds torch's operations alone")


def admit() -> None:
    """Let the compiler accept our modules. The compiler is deprecated, and a later torch may not have it."""
    compiler = getattr(torch.jit, "_recursive", None)
    for name in ("get_module_concrete_type", "create_script_module_impl"):
        function = getattr(compiler, name, None)
        if function is not None:
            setattr(compiler, name, _given_torchs(function))


def _given_torchs(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(nn_module: Any, *arguments: Any, **more: Any) -> Any:
        return function(_scriptable(nn_module), *arguments, **more)

    return call


def _scriptable(module: Any) -> Any:
    """The module itself, unless its forward is ours."""
    if getattr(type(module), "forward", None) not in [mixin.forward for mixin in MIXINS.values()]:
        return module
    say_once(module, _TORCHSCRIPT)
    return as_torch(module)

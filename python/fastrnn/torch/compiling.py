"""Lets torch.compile trace our modules.

Its tracer breaks the graph at every instance of torch.nn's LSTM, GRU and RNN, subclasses included, unless
``torch._dynamo.config.allow_rnn`` is set. Setting that for the process would unroll plain modules of torch elsewhere.
So it is set only while the tracer reads one of our modules. The tracer takes seconds to import, so it is not imported
here: a finder waits for its import.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_TRACER = "torch._dynamo.variables.builder"


def admit(kind: type) -> None:
    """Let the tracer trace instances of this class."""
    module = sys.modules.get(_TRACER)
    if module is not None:
        _patch(module, kind)
    else:
        sys.meta_path.insert(0, _Finder(kind))


def _patch(module: Any, kind: type) -> None:
    wrap: Callable[..., Any] = module.VariableBuilder.wrap_module

    @functools.wraps(wrap)
    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, kind):
            return wrap(self, value)
        with module.config.patch(allow_rnn=True):
            return wrap(self, value)

    module.VariableBuilder.wrap_module = wrap_module


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing by itself; patches the tracer once it has been imported."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        if fullname != _TRACER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute, kind = spec.loader.exec_module, self.kind

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _patch(module, kind)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

"""`accelerate` and `restore`: recurrent modules inside a model change their class, and nothing else.

Parameters, buffers, hooks, parametrizations and the training flag are those of the same object, so that optimizers and
whatever else refers to them go on working.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.nn import Module
from torch.nn.utils import parametrize

from .cell_modules import CellForward, GRUCell, LSTMCell, RNNCell
from .modules import GRU, LSTM, RNN, RecurrentForward

OURS: dict[type, type] = {
    torch.nn.LSTM: LSTM,
    torch.nn.GRU: GRU,
    torch.nn.RNN: RNN,
    torch.nn.LSTMCell: LSTMCell,
    torch.nn.GRUCell: GRUCell,
    torch.nn.RNNCell: RNNCell,
}


@dataclass(frozen=True)
class Report:
    """What `accelerate` or `restore` did.

    Attributes
    ----------
    model : torch.nn.Module
        The model: the given one, or the copy with ``inplace=False``.
    swapped : dict of str to str
        Name of each module whose class was changed -> its new class. The model itself has the name "".
    left : dict of str to str
        Name of each recurrent module that was left as it is -> why.
    """

    model: Module
    swapped: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: {to}" for name, to in self.swapped.items()]
        lines += [f"{name or '(the model)'}: left as it is, since {why}" for name, why in self.left.items()]
        return "\n".join(lines) or "no recurrent modules"


def accelerate(model: Module, inplace: bool = True) -> Report:
    """Run the recurrent modules of a model on fastrnn's kernels.

    Every ``torch.nn`` LSTM, GRU, RNN and their cells, at any depth, changes its class; its parameters stay the same
    objects. Subclasses come along, unless they have a forward of their own.

    Parameters
    ----------
    model : torch.nn.Module
        May be a recurrent module itself.
    inplace : bool
        Change the model itself; otherwise a deep copy, which is in ``report.model``.

    Returns
    -------
    Report
        What was swapped, and what was left and why. What happens at run time (a fall-back for tensors on other devices,
        for instance) is logged at level INFO on the logger "fastrnn.torch".

    Raises
    ------
    TypeError
        If `model` is not a module.
    """
    report = Report(_model(model, inplace))
    for name, module in report.model.named_modules():
        if not isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
            continue
        reason = _reason_to_leave(module)
        if reason is not None:
            report.left[name] = reason
            continue
        kind: type = type(module)
        module.__class__ = _ours(kind, parametrize.is_parametrized(module))
        report.swapped[name] = f"fastrnn.torch.{type(module).__name__}"
    return report


def restore(model: Module, inplace: bool = True) -> Report:
    """Undo `accelerate`: every recurrent module of fastrnn becomes torch's, with the same parameters.

    That includes modules that were made as fastrnn's.

    Parameters
    ----------
    model : torch.nn.Module
        May be a recurrent module itself.
    inplace : bool
        Change the model itself; otherwise a deep copy, which is in ``report.model``.

    Returns
    -------
    Report
        What was swapped, and what was left and why.

    Raises
    ------
    TypeError
        If `model` is not a module, or has a class derived from fastrnn's, which has no counterpart in torch.
    """
    report = Report(_model(model, inplace))
    for name, module in report.model.named_modules():
        if isinstance(module, RecurrentForward | CellForward):
            _make_torch(module)
            report.swapped[name] = f"{type(module).__module__}.{type(module).__name__}"
        elif isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
            report.left[name] = "it is not fastrnn's"
    return report


def as_torch(module: Module) -> Module:
    """A module of torch's class that shares parameters and all else with this one."""
    other: Module = object.__new__(type(module))
    other.__dict__ = {
        name: value.copy() if isinstance(value, dict | list) else value for name, value in module.__dict__.items()
    }
    _make_torch(other)
    return other


def _model(model: Any, inplace: Any) -> Module:
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(inplace, bool):
        raise TypeError(f"inplace: expected True or False, got {inplace!r}")
    return model if inplace else copy.deepcopy(model)


def _reason_to_leave(module: Module) -> str | None:
    kind = type(module)
    if isinstance(module, RecurrentForward | CellForward):
        return "it is fastrnn's already"
    base = _torch_class(kind)
    if base is None:
        return "it is none of LSTM, GRU, RNN and their cells"
    if "forward" in module.__dict__:
        return "its forward was replaced"
    if kind.forward is not base.forward:  # type: ignore[attr-defined]
        return f"its class {kind.__qualname__} has a forward of its own"
    if getattr(module, "proj_size", 0):
        return "projections (proj_size) are not among the kernels"
    return None


def _torch_class(kind: type) -> type | None:
    return next((base for base in OURS if issubclass(kind, base)), None)


@cache
def _ours(kind: type, is_parametrized: bool) -> type:
    if kind in OURS:
        return OURS[kind]
    if is_parametrized:
        return _on_another_base(kind, _ours(kind.__bases__[0], False))
    mixin = RecurrentForward if issubclass(kind, torch.nn.RNNBase) else CellForward
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (mixin, kind), {**names, "__reduce_ex__": _reduce, "_fastrnn_original": kind})


def _on_another_base(kind: type, base: type) -> type:
    """Torch's parametrizations make a class for one module, whose first base is the one to go back to."""
    members = {name: value for name, value in vars(kind).items() if name not in ("__dict__", "__weakref__")}
    return type(kind.__name__, (base,), members)


def _torchs(kind: type, is_parametrized: bool) -> type:
    for base, ours in OURS.items():
        if kind is ours:
            return base
    if is_parametrized:
        return _on_another_base(kind, _torchs(kind.__bases__[0], False))
    original: type | None = vars(kind).get("_fastrnn_original")
    if original is None:
        raise TypeError(f"model: expected subclasses made by accelerate, got {kind.__qualname__}, which is fastrnn's")
    return original


def _make_torch(module: Module) -> None:
    kind = _torchs(type(module), parametrize.is_parametrized(module))
    module.__dict__.pop("_fastrnn_memory", None)
    module.__class__ = kind


def _reduce(self: Any, protocol: Any) -> Any:
    """Pickles name the user's class, since the one made here has no name to import."""
    reduced: Any = object.__reduce_ex__(self, max(int(protocol), 2))
    make, (kind, *arguments), *rest = reduced
    return _rebuild, (make, kind._fastrnn_original, *arguments), *rest


def _rebuild(make: Any, original: type, *arguments: Any) -> Any:
    return make(_ours(original, False), *arguments)

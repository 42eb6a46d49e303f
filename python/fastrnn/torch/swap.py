"""`accelerate` and `restore`: recurrent modules inside a model change their class, and nothing else.

Parameters, buffers, hooks, parametrizations and the training flag belong to the same object, so optimizers and all
other references to them keep working.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn import Module
from torch.nn.utils import parametrize

from . import cell_modules, modules  # noqa: F401  (they register their classes)
from .classes import OURS, is_ours
from .swapped_classes import class_of_ours, class_of_torch

EXACT_TYPES = (
    "tools that look for modules of exactly torch's classes, such as torch.ao.quantization.quantize_dynamic, pass"
    " fastrnn's by; use them before accelerate, or after restore"
)
_NAMES = frozenset(base.__name__ for base in OURS)
_OPERATIONS = [f"aten::{name}{end}" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu") for end in ("", "_cell")]


@dataclass(frozen=True)
class Report:
    """The result of `accelerate` or `restore`.

    Attributes
    ----------
    model : torch.nn.Module
        The given model, or its copy with ``inplace=False``.
    swapped : dict of str to str
        For each swapped module, its name -> its new class. The model itself has the name "".
    left : dict of str to str
        For each recurrent module that was left unchanged, its name -> the reason.
    note : str
        A note about models with swapped modules.
    """

    model: Module
    swapped: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: {to}" for name, to in self.swapped.items()]
        lines += [f"{name or '(the model)'}: left as it is, since {why}" for name, why in self.left.items()]
        lines += [f"note: {self.note}"] if self.note and self.swapped else []
        return "\n".join(lines) or "no recurrent modules"


def accelerate(model: Module, inplace: bool = True) -> Report:
    """Run the recurrent modules of a model on fastrnn's kernels.

    Every ``torch.nn`` LSTM, GRU, RNN and their cells, at any depth, changes its class; its parameters stay the same
    objects. Subclasses are swapped too, unless they define their own forward: each gets a subclass, without a call of
    ``__init_subclass__`` or a metaclass. After an error, no module has changed.

    Parameters
    ----------
    model : torch.nn.Module
        The model, which may itself be a recurrent module.
    inplace : bool
        Whether to change the model itself instead of a deep copy, which is then ``report.model``.

    Returns
    -------
    Report
        The swapped modules, and the modules left unchanged with reasons. Fallbacks at run time, for example for tensors
        on other devices, are logged at level INFO on the logger "fastrnn.torch".

    Raises
    ------
    TypeError
        If `model` is not a module.
    """
    report = Report(_model(model, inplace), note=EXACT_TYPES)
    classes: list[tuple[Module, type]] = []
    for name, module in report.model.named_modules():
        kind: type = type(module)
        reason = _reason_to_leave(module)
        if reason is None:
            try:
                classes.append((module, class_of_ours(kind, parametrize.is_parametrized(module))))
                report.swapped[name] = f"fastrnn.torch.{kind.__name__}"
            except TypeError as error:
                reason = str(error)
        if reason:
            report.left[name] = reason
    _assign(classes)
    return report


def restore(model: Module, inplace: bool = True) -> Report:
    """Undo `accelerate`: every recurrent module of fastrnn becomes torch's, with the same parameters.

    This includes modules that were made as fastrnn's modules.

    Parameters
    ----------
    model : torch.nn.Module
        The model, which may itself be a recurrent module.
    inplace : bool
        Whether to change the model itself instead of a deep copy, which is then ``report.model``.

    Returns
    -------
    Report
        The swapped modules, and the modules left unchanged with reasons.

    Raises
    ------
    TypeError
        If `model` is not a module, or has a class derived from fastrnn's, which has no counterpart in torch.
    """
    report = Report(_model(model, inplace))
    classes: list[tuple[Module, type]] = []
    for name, module in report.model.named_modules():
        kind: type = type(module)
        if is_ours(module):
            kind = class_of_torch(kind, parametrize.is_parametrized(module))
            classes.append((module, kind))
            report.swapped[name] = f"{kind.__module__}.{kind.__name__}"
        elif isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
            report.left[name] = "it is not fastrnn's"
    _assign(classes)
    return report


def _model(model: Any, inplace: Any) -> Module:
    if not isinstance(model, Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(inplace, bool):
        raise TypeError(f"inplace: expected True or False, got {inplace!r}")
    return model if inplace else copy.deepcopy(model)


def _assign(classes: list[tuple[Module, type]]) -> None:
    """Change all classes or none, bypassing the modules' own ``__setattr__``."""
    before = [(module, type(module)) for module, _ in classes]
    try:
        for module, kind in classes:
            object.__setattr__(module, "__class__", kind)
            module.__dict__.pop("_fastrnn_memory", None)
    except BaseException:
        for module, kind in before:
            object.__setattr__(module, "__class__", kind)
        raise


def _reason_to_leave(module: Module) -> str | None:
    """The reason to leave a module; empty for a module that is not recurrent, None to swap it."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "TorchScript compiled it, and holds torch's operations alone" if _is_compiled(module) else ""
    if not isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase):
        is_quantized = kind.__module__.startswith("torch.ao.nn.quantiz") and kind.__name__ in _NAMES
        return "it is quantized" if is_quantized else ""
    if is_ours(module):
        return "it is fastrnn's already"
    base = next((base for base in OURS if issubclass(kind, base)), None)
    if base is None:
        return "it is none of LSTM, GRU, RNN and their cells"
    if "forward" in module.__dict__:
        return "its forward was replaced"
    if kind.forward is not base.forward:  # type: ignore[attr-defined]
        return f"its class {kind.__qualname__} has a forward of its own"
    if getattr(module, "proj_size", 0):
        return "projections (proj_size) are not among the kernels"
    return None


def _is_compiled(module: torch.jit.ScriptModule) -> bool:
    """Whether the module itself was a recurrent module, or has the code of one after freezing."""
    if getattr(module, "original_name", None) in _NAMES:
        return True
    compiled = getattr(module, "_actual_script_module", module)._c
    graphs = [compiled._get_method(name).graph for name in compiled._method_names()]
    return any(graph.findAllNodes(name) for graph in graphs for name in _OPERATIONS)

"""The choice of path for a call: kernels, our operator, our formulation in torch's operations, or torch's own.

The kernels run on plain CPU tensors of float32 or float64. All other calls use a fallback, and a message on the logger
"fastrnn.torch" reports it, once for each reason.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

logger = logging.getLogger("fastrnn.torch")
_said: set[str] = set()

PLAIN = (torch.Tensor, torch.nn.Parameter)
REALS = (torch.float32, torch.float64)

_functorch_active = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
tracing_state = torch._C._get_tracing_state
_autocast = torch.is_autocast_enabled


# What `_repeat.Repeat` asks. Where gradients are off and nothing else is special about the thread, all these functions
# return something false, the last one for the device "cpu", and the module's `_current_level` is negative.
IS_NOT_PLAIN = (torch.is_grad_enabled, _dispatch_modes, _functorch_active, tracing_state), _autocast, forward_ad
IS_NOT_PLAIN_IN_TRAINING = (_dispatch_modes, _functorch_active, tracing_state), _autocast, forward_ad


class Path(enum.Enum):
    """The path of a call that cannot call the kernels directly."""

    TORCH = "torch's own implementation"
    FORMULATION = "the differentiable formulation in torch's operations"
    OPERATOR = "the operator fastrnn::recurrence"


class Fallback(NamedTuple):
    """A fallback, and the reason for it."""

    path: Path
    reason: str


ONNX = Fallback(Path.TORCH, "torch.onnx.export knows torch's operations alone")
PROJECTIONS = Fallback(Path.TORCH, "projections (proj_size) are not among the kernels")


def fallback_of_mode() -> Fallback | None:
    """The fallback that the state of the thread requires."""
    if not (
        _dispatch_modes()
        or forward_ad._current_level >= 0
        or _functorch_active()
        or _autocast("cpu")
        or tracing_state() is not None
    ):
        return None
    if tracing_state() is not None:
        return Fallback(Path.TORCH, "torch.jit.trace records torch's operations alone")
    if _autocast("cpu"):
        return Fallback(Path.TORCH, "autocast is on")
    if _functorch_active():
        return Fallback(Path.FORMULATION, "a transform of torch.func is active")
    if forward_ad._current_level >= 0:
        return Fallback(Path.FORMULATION, "forward-mode differentiation is on")
    return Fallback(Path.OPERATOR, "a mode that intercepts operators is active")


def fallback_of_tensors(x: Any, tensors: Sequence[Any]) -> Fallback | None:
    """The fallback that the kind of the tensors requires; `tensors` are the weights and any states."""
    dtype = getattr(x, "dtype", None)
    for tensor in (x, *tensors):
        if type(tensor) not in PLAIN:
            return _fallback_of_kind(tensor)
        if not tensor.is_cpu:
            return Fallback(Path.TORCH, f"the kernels run on the CPU alone, and a tensor is on {tensor.device.type!r}")
        if tensor.dtype not in REALS:
            return Fallback(Path.TORCH, f"the kernels run in float32 and float64, and a tensor is {tensor.dtype}")
        if tensor.dtype != dtype:
            return Fallback(Path.TORCH, "tensors are of different dtypes")
        if tensor.layout is not torch.strided:
            return Fallback(Path.TORCH, f"the kernels read dense tensors, and one is {tensor.layout}")
    return None


def fallback_when_compiling(tensors: Sequence[Any]) -> Fallback:
    """The same while torch.compile or torch.export traces the call."""
    if torch.onnx.is_in_onnx_export():
        return ONNX
    if torch.is_autocast_enabled("cpu"):
        return Fallback(Path.TORCH, "autocast is on")
    dtype = tensors[0].dtype
    for tensor in tensors:
        if tensor.device.type != "cpu" or tensor.dtype not in REALS or tensor.dtype != dtype:
            return Fallback(Path.TORCH, "the kernels run on the CPU alone, in float32 and float64, which are not mixed")
    return Fallback(Path.OPERATOR, "the call is compiled or exported")


def _fallback_of_kind(tensor: Any) -> Fallback:
    if isinstance(tensor, torch._subclasses.FakeTensor):
        return Fallback(Path.OPERATOR, "tensors have no data")
    return Fallback(Path.TORCH, f"the kernels run on plain tensors, and one is a {type(tensor).__name__}")


def say_once(who: Any, fallback: Fallback) -> None:
    """Log the reason at level INFO, the first time that it occurs in the process."""
    if torch.compiler.is_compiling() or fallback.reason in _said:
        return
    _said.add(fallback.reason)
    logger.info("%s uses %s: %s", type(who).__name__, fallback.path.value, fallback.reason)


def call_as_leaf(module: Any, input: Any, hx: Any, **more: Any) -> Any:  # noqa: A002  (torch's name)
    """The call of a module of ours in a graph of torch.fx, which sees torch's modules as one call too."""
    tracer = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input, hx), more)

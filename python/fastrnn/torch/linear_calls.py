"""The linear recurrence on tensors, `linear_recurrence`: kernels, an operator for compilers, and torch's operations.

Eager calls on plain CPU tensors are one node of the autograd graph. The gradients of the recurrence are the recurrence
in the other direction and two products, so gradients of gradients call it again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _check, linear, linear_passes
from .._check import Array
from ..linear_passes import LinearTape, Order
from .autograd import is_beyond_kernels
from .extras import as_tensor, on_host
from .linear_formulation import Marks, Maybe, gradients, loop
from .routes import REALS, Fallback, Path, fallback_of_mode, fallback_of_tensors, say_once
from .tensors import array_on


def linear_recurrence(
    a: Any,
    b: Any,
    h0: Any = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
) -> Tensor:
    """Linear recurrence: ``h[t] = a[t] * h[t-1] + b[t]`` for every sequence and unit.

    The same as `fastrnn.linear_recurrence`, with autograd of any order. Kernels run on CPU tensors of float32 and
    float64, in eager mode and under ``torch.compile``. Other dtypes and devices, forward-mode differentiation and the
    transforms of ``torch.func`` use a loop over the steps in torch's operations.

    Parameters
    ----------
    a, b : Tensor (T, B, H), (T, B) or (T,)
        Factors and addends, which broadcast against each other. Any strides. One of them may be a number of Python's.
    h0 : Tensor (B, H), (B,) or (), optional
        Before the first step; broadcast likewise. Without it, ``h`` of the first step is ``b`` itself.
    lengths : Tensor or array of int (B,), optional
        The steps that each sequence has, 0 … T in any order. What lies beyond does not count.
    resets : Tensor or array of bool (T, B) or (T,), optional
        Where True, no state passes between step t - 1 and step t, in either direction, and no gradient.
    reverse : bool
        Run from the last step to the first: ``h[t] = a[t] * h[t+1] + b[t]``.

    Returns
    -------
    Tensor
        Of the shape to which a and b broadcast. Zero beyond a sequence's end.

    Raises
    ------
    TypeError
        For another kind or dtype; dtypes are never mixed.
    ValueError
        For shapes that do not fit.
    """
    a, b, h0 = _tensors(a, b, h0)
    if torch.compiler.is_compiling():
        return _without_data(a, b, h0, lengths, resets, reverse)
    shape = linear_passes.shape(tuple(a.shape), tuple(b.shape))
    if h0 is not None:
        linear_passes.check_initial(tuple(h0.shape), shape)
    reverse = _check.boolean("reverse", reverse)
    fallback = _fallback(a, b, h0)
    if fallback is not None and fallback.path is Path.OPERATOR:
        return _without_data(a, b, h0, lengths, resets, reverse)
    order = linear_passes.checked_order(on_host("lengths", lengths), on_host("resets", resets), reverse, shape)
    if fallback is None:
        if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (a, b, h0)):
            found: Tensor = _Recurrence.apply(a, b, h0, order)
            return found
        return _run(a, b, h0, order)
    say_once(linear.linear_recurrence, fallback)
    return loop(a, b, h0, *_marks(order, len(shape)), reverse)


def _tensors(a: Any, b: Any, h0: Any) -> tuple[Tensor, Tensor, Maybe]:
    """The arguments as tensors of one dtype."""
    like = b if isinstance(b, Tensor) else a
    if not isinstance(like, Tensor):
        raise TypeError(f"b: expected a tensor, or a to be one, got {type(b).__name__} and {type(a).__name__}")
    found: list[Any] = []
    for name, value in (("a", a), ("b", b), ("h0", h0)):
        if linear_passes.is_number(value):
            value = torch.full((), value, dtype=like.dtype, device=like.device)
        elif value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        if value is None and name != "h0":
            raise TypeError(f"{name}: expected a tensor, got NoneType")
        if value is not None and value.dtype != like.dtype:
            raise TypeError(f"{name}: expected dtype {like.dtype}, got {value.dtype}")
        found.append(value)
    return found[0], found[1], found[2]


def _fallback(a: Tensor, b: Tensor, h0: Maybe) -> Fallback | None:
    """What runs instead of the kernels; a path of torch means our loop in torch's operations."""
    if any(one is not None and torch._C._functorch.is_legacy_batchedtensor(one) for one in (a, b, h0)):
        return Fallback(Path.FORMULATION, "several gradients are computed at once (is_grads_batched)")
    return fallback_of_mode() or fallback_of_tensors(b, [a] if h0 is None else [a, h0])


# ---- kernels ----


def _run(a: Tensor, b: Tensor, h0: Maybe, order: Order) -> Tensor:
    shape = linear_passes.shape(tuple(a.shape), tuple(b.shape))
    new = torch.empty if order.lengths is None else torch.zeros
    h = new(shape, dtype=b.dtype, device="cpu")
    linear_passes.recur(_array(a), _array(b), None if h0 is None else _array(h0), array_on(h), order)
    return h


def _array(tensor: Tensor) -> Array:
    return _check.whole(array_on(tensor))


class _Recurrence(torch.autograd.Function):
    """h, from a, b, h0 and the order."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, h0: Maybe, order: Order) -> Tensor:  # type: ignore[override]
        h = _run(a, b, h0, order)
        ctx.order, ctx.b_shape = order, b.shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a, h0, h if ctx.needs_input_grad[0] else None)
        return h

    @staticmethod
    def backward(ctx: Any, dh: Maybe) -> tuple[Maybe, ...]:  # type: ignore[override]
        wanted = list(ctx.needs_input_grad[:3])
        if dh is None:
            return None, None, None, None
        a, h0, h = ctx.saved_tensors
        if is_beyond_kernels([dh]) or _fallback(a, dh, h0) is not None:
            marks = _marks(ctx.order, dh.dim())
            return *gradients(linear_recurrence, a, ctx.b_shape, h0, h, dh, marks, ctx.order.reverse, wanted), None
        arrays = _array(a), tuple(ctx.b_shape), None if h0 is None else _array(h0), _array(dh if h is None else h)
        found = linear_passes.gradients(LinearTape(*arrays, ctx.order), _array(dh), wanted)
        return *(None if one is None else torch.from_numpy(one) for one in found), None


def _marks(order: Order, rank: int) -> Marks:
    """Lengths and resets as tensors."""
    lengths, resets = order.lengths, order.resets
    if resets is not None and rank == 1:
        resets = resets[:, 0]
    return (
        None if lengths is None else torch.from_numpy(lengths),
        None if resets is None else torch.from_numpy(resets),
    )


# ---- the operator ----


@torch.library.custom_op(
    "fastrnn::linear_recurrence",
    mutates_args=(),
    schema="(Tensor a, Tensor b, Tensor? h0, Tensor? lengths, Tensor? resets, bool reverse) -> Tensor",
)
def operator(a: Tensor, b: Tensor, h0: Maybe, lengths: Maybe, resets: Maybe, reverse: bool) -> Tensor:
    """The recurrence as one operator, for torch.compile, torch.export and modes that see operators."""
    shape = linear_passes.shape(tuple(a.shape), tuple(b.shape))
    order = linear_passes.checked_order(on_host("lengths", lengths), on_host("resets", resets), reverse, shape)
    return _run(a, b, h0, order)


@operator.register_fake
def _(a: Tensor, b: Tensor, h0: Maybe, lengths: Maybe, resets: Maybe, reverse: bool) -> Tensor:
    return b.new_empty(torch.broadcast_shapes(a.shape, b.shape))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, h0, lengths, resets, reverse = inputs
    ctx.b_shape, ctx.reverse = b.shape, reverse
    ctx.save_for_backward(a, h0, output, lengths, resets)


def _backward(ctx: Any, dh: Tensor) -> tuple[Maybe, ...]:
    a, h0, h, *marks = ctx.saved_tensors
    wanted = list(ctx.needs_input_grad[:3])

    def recurrence(a: Tensor, b: Tensor, *, lengths: Maybe, resets: Maybe, reverse: bool) -> Tensor:
        return operator(a, b, None, lengths, resets, reverse)

    found = gradients(recurrence, a, ctx.b_shape, h0, h, dh, (marks[0], marks[1]), ctx.reverse, wanted)
    return *found, None, None, None


operator.register_autograd(_backward, setup_context=_setup_context)


def _without_data(a: Tensor, b: Tensor, h0: Maybe, lengths: Any, resets: Any, reverse: bool) -> Tensor:
    """The call while a compiler or a mode traces it: lengths and resets cannot be read."""
    lengths = None if lengths is None else as_tensor("lengths", lengths)
    resets = None if resets is None else as_tensor("resets", resets)
    is_readable = all(one is None or (one.device.type == "cpu" and one.dtype in REALS) for one in (a, b, h0))
    return (operator if is_readable else loop)(a, b, h0, lengths, resets, reverse)

"""The linear recurrence, h[t] = a[t] h[t-1] + b[t], on plain arrays: `linear_recurrence`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _check, _core, linear_passes, memory
from ._check import Array
from .attributes import Attributes
from .linear_passes import LinearTape, Order, is_number

NAMES = ["a", "b", "h0"]


@dataclass(frozen=True, eq=False)
class LinearGradients:
    """Gradients of the arguments, in their shapes; None where not wanted or where there is no such argument."""

    a: Array | None
    b: Array | None
    h0: Array | None


class LinearRecurrence(Attributes):
    """The function `linear_recurrence`, with its ``forward`` and ``backward`` for training."""

    _fixed = frozenset({"__name__", "__doc__"})
    _instead = "all callers share the function"

    def __init__(self) -> None:
        self.__name__ = "linear_recurrence"
        self.__doc__ = type(self).__call__.__doc__

    def __repr__(self) -> str:
        return f"<fastrnn.{self.__name__}>"

    def __reduce__(self) -> str:
        return self.__name__

    def __call__(
        self,
        a: Any,
        b: Any,
        h0: Any = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        reverse: bool = False,
    ) -> Array:
        """Linear recurrence: ``h[t] = a[t] * h[t-1] + b[t]`` for every sequence and unit.

        Discounted returns, generalised advantages, exponential moving averages, and layers such as minGRU are such
        recurrences. Each step is one fused multiply-add on backends that have it.

        Call it for inference; call ``forward`` and then ``backward`` for training.

        Parameters
        ----------
        a, b : ndarray (T, B, H), (T, B) or (T,), float32 or float64
            Factors and addends: T time steps of B sequences with H units. They broadcast against each other as in
            NumPy, without copies: a discount may be a number, and ``a`` may be (T, B, 1) or (H,). Any strides. Python's
            own numbers take the dtype of the other argument.
        h0 : ndarray (B, H), (B,) or (), optional
            Before the first step; broadcast likewise. Without it, ``h`` of the first step is ``b`` itself.
        lengths : array of int (B,), optional
            The steps that each sequence has, 0 … T in any order. What lies beyond is neither read nor computed.
        resets : array of bool (T, B) or (T,), optional
            Where True, no state passes between step t - 1 and step t, in either direction, and no gradient. Going
            forward, ``h[t]`` is ``b[t]`` itself, even if ``a[t]`` or ``h[t-1]`` is infinite or NaN.
        reverse : bool
            Run from the last step to the first: ``h[t] = a[t] * h[t+1] + b[t]``.

        Returns
        -------
        h : ndarray
            Of the shape to which a and b broadcast. Zero beyond a sequence's end. The state to carry on is ``h[-1]``,
            or ``h[0]`` in reverse; with lengths it is ``h[lengths - 1, np.arange(B)]``.

        Raises
        ------
        TypeError
            For another kind or dtype; dtypes are never mixed or cast.
        ValueError
            For shapes that do not fit.
        OverflowError
            If the arrays would exceed the address space.
        """
        return self._run(a, b, h0, lengths, resets, reverse)[3]

    def forward(
        self,
        a: Any,
        b: Any,
        h0: Any = None,
        *,
        lengths: Any = None,
        resets: Any = None,
        reverse: bool = False,
    ) -> tuple[Array, LinearTape]:
        """Training: like the call, but with a tape for ``backward``.

        Parameters
        ----------
        a, b, h0, lengths, resets, reverse : as for the call
            The call itself is for inference.

        Returns
        -------
        h : ndarray
            As from the call.
        tape : LinearTape
            Refers to a, h0 and h, which must not change before ``backward``; h is read-only for that reason. A write to
            a or h0 is not detected and gives wrong gradients.

        Raises
        ------
        TypeError, ValueError, OverflowError
            As the call does.
        """
        tape = LinearTape(*self._run(a, b, h0, lengths, resets, reverse))
        tape.h.flags.writeable = False
        return tape.h, tape

    def backward(self, tape: LinearTape, dh: Any, *, wanted: Collection[str] = ("a", "b", "h0")) -> LinearGradients:
        """Gradients of ``sum(dh * h)``.

        With ``g[t] = dh[t] + a[t+1] * g[t+1]``, they are ``db = g``, ``da[t] = g[t] * h[t-1]`` and
        ``dh0 = a[0] * g[0]``.

        Parameters
        ----------
        tape : LinearTape
            From ``forward``; may be used any number of times.
        dh : ndarray
            Of the shape of h. Gradients of the carried state belong to the steps of h that it comes from.
        wanted : collection of str
            The gradients to compute, out of a, b and h0.

        Returns
        -------
        LinearGradients
            In the shapes of the arguments, zero beyond a sequence's end. The gradient of a broadcast argument is added
            up over its axes one by one, over steps, then sequences, then units, each in ascending order.

        Raises
        ------
        TypeError, ValueError
            For arguments of another kind, dtype or shape.
        """
        if not isinstance(tape, LinearTape):
            raise TypeError(f"tape: expected a LinearTape, got {type(tape).__name__}")
        wanted = _check.names("wanted", wanted, NAMES)
        dh = _check.whole(_check.typed("dh", dh, tape.h.dtype))
        _check.shape("dh", dh, linear_passes.letters(dh.ndim), tape.h.shape)
        return LinearGradients(*linear_passes.gradients(tape, dh, [name in wanted for name in NAMES]))

    def _run(
        self, a: Any, b: Any, h0: Any, lengths: Any, resets: Any, reverse: Any
    ) -> tuple[Array, tuple[int, ...], Array | None, Array, Order]:
        """The members of a tape."""
        dtype = _dtype_of(a, b)
        a, b = _operand("a", a, dtype, "b"), _operand("b", b, dtype, "a")
        h_shape = linear_passes.shape(a.shape, b.shape)
        if h0 is not None:
            h0 = _operand("h0", h0, dtype, "b")
            linear_passes.check_initial(h0.shape, h_shape)
        reverse = _check.boolean("reverse", reverse)
        order = linear_passes.checked_order(lengths, resets, reverse, h_shape)
        h = (memory.empty if order.lengths is None else memory.zeros)(h_shape, dtype)
        linear_passes.recur(a, b, h0, h, order)
        return a, b.shape, h0, h, order


def _dtype_of(a: Any, b: Any) -> np.dtype[Any]:
    """The dtype of b, or of a if b is a number of Python's."""
    name, value = ("a", a) if is_number(b) else ("b", b)
    if is_number(value):
        raise TypeError(f"b: expected an array, or a to be one, got {type(b).__name__} and {type(a).__name__}")
    if value is None:
        raise TypeError(f"{name}: expected an array, got NoneType")
    return _check.real_dtype(name, getattr(value, "dtype", None) or _check.unmasked(name, value).dtype)


def _operand(name: str, value: Any, dtype: np.dtype[Any], dtype_of: str) -> Array:
    if _core.is_readable(value, dtype.num):
        return value  # type: ignore[no-any-return]
    return np.array(value, dtype) if is_number(value) else _check.whole(_check.typed(name, value, dtype, dtype_of))


linear_recurrence = LinearRecurrence()

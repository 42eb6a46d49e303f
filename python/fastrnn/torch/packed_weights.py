"""Packed weights for forward, kept from call to call as long as the parameters provably have not changed.

A write through ``.data``, a NumPy view or shared memory leaves no trace on a tensor: no version, no address changes.
So the parameters themselves are compared, byte by byte, with a copy of what was packed. That is read once at the speed
of memory, which is less than packing (measured in docs/pytorch.md). Versions only decide whether keeping pays: weights
are kept from the second call with the same ones on, so that training, which changes them at each, copies nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _core
from .._check import Array
from .._kernel import Weights, pack_forward
from ..config import backend_index, get_num_threads
from . import _tensors, calls
from .plan import Network, Plan
from .routes import IS_NOT_PLAIN
from .tensors import Packed, arrays_of

CALLS_MAX = 16  # dense calls that a module keeps


class Kept(NamedTuple):
    """What was packed: the marks of the tensors, and copies of their contents."""

    marks: tuple[Any, ...]
    backend: int
    copies: tuple[Array, ...]
    packed: Packed


def _marks(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """What tells memory apart: addresses, shapes and whether it is contiguous."""
    return tuple([(t.data_ptr(), t.is_contiguous(), t.shape) for t in tensors])


def _versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple([0 if t.is_inference() else t._version for t in tensors])


def pack(network: Network, arrays: Sequence[Array]) -> Packed:
    each = network.tensors_each
    if len(arrays) != each * network.layers * network.directions:
        raise ValueError(f"weights: expected {each} for each layer and direction, got {len(arrays)}")
    return [pack_forward(network.cell, Weights(*arrays[j : j + each])) for j in range(0, len(arrays), each)]


class PackedWeights:
    """The memory of one module: packed weights, `calls`, and in `again` those that can be repeated.

    Copies and pickles of it are empty.
    """

    __slots__ = ("_kept", "_seen", "again", "calls")

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._seen: tuple[Any, ...] | None = None
        self.again: _tensors.Repeats | None = None
        self.calls = calls.Calls(CALLS_MAX)

    def __reduce__(self) -> Any:
        return PackedWeights, ()

    def get(self, network: Network, tensors: Sequence[Tensor], pace: _core.Pace | None = None) -> Packed:
        """Packed weights of the current tensors. pace: that of the call."""
        kept, marks = self._kept, _marks(tensors)
        if kept is not None:
            if (
                kept.marks == marks
                and kept.backend == backend_index()
                and _tensors.same_bytes(tensors, kept.copies, get_num_threads(), pace)
            ):
                return kept.packed
            self._kept = self.again = None
        seen, self._seen = self._seen, (marks, _versions(tensors))
        arrays = arrays_of(tensors)
        if seen != self._seen or not all(is_contiguous for _, is_contiguous, _ in marks):
            return pack(network, arrays)
        copies = tuple([array.copy() for array in arrays])
        packed = pack(network, copies)
        self._kept = Kept(marks, backend_index(), copies, packed)
        return packed

    def remember(
        self, plan: Plan, x: Tensor, parameters: Mapping[str, Tensor | None], configuration: Mapping[str, Any]
    ) -> None:
        """Make a dense call for inference ready for the next one like it, of a module with these attributes.

        The plan is dense, and not of a PackedSequence.
        """
        kept, call, tensors = self._kept, self.calls.get(plan, x), tuple(parameters.values())
        packs = call.plan.packs
        if x.numel() == 0 or (kept is None if packs else not all(_is_plain(one) for one in tensors)):
            return
        packed, copies = (kept.packed, kept.copies) if packs and kept is not None else (None, None)
        repeat = _tensors.Repeat(
            configuration,
            call.plan,
            calls.arrays_of_call(plan, x.dtype, returns_y=not plan.returns_state_alone),
            packed,
            (tuple(parameters), tensors, tuple([None if t is None else t.detach() for t in tensors]), copies),
            (x.shape, torch.Size(plan.states_shape())),
            x.dtype,
            not plan.returns_state_alone,
            IS_NOT_PLAIN,
            calls.settings,
        )
        if self.again is None:
            self.again = _tensors.Repeats()
        self.again.add(repeat)


def _is_plain(tensor: Tensor | None) -> bool:
    """Whether the core can read a parameter without conversion."""
    return tensor is None or (
        tensor.is_contiguous() and not tensor.is_neg() and tensor.data_ptr() % tensor.element_size() == 0
    )

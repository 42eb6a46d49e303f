"""Packed weights for forward, kept between calls as long as a comparison proves that no parameter has changed.

A write through ``.data``, a NumPy view or shared memory leaves no trace on a tensor: no version, no address changes. So
the parameters are compared, byte by byte, with a copy of the parameters that were packed. This reads both once at the
speed of memory, which takes less time than packing (measured in docs/pytorch.md). Versions only decide when to keep
packed weights: from the second call with the same versions on. So training, which changes the weights at every call,
copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _core
from .._check import Array
from .._kernel import pack_forward
from ..config import backend_index, get_num_threads
from . import _tensor_memory, calls
from ._repeat import Repeat, Repeats
from ._tensor_passes import Job
from .plan import Network, Plan, core_cell
from .routes import IS_NOT_PLAIN, IS_NOT_PLAIN_IN_TRAINING
from .tensors import Packed, arrays_of

CALLS_MAX = 16  # dense calls that a module keeps


class Kept(NamedTuple):
    """The parameters that were packed: the marks of the tensors, and copies of their contents."""

    marks: tuple[Any, ...]
    backend: int
    copies: tuple[Array, ...]
    packed: Packed


def _marks(tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """Marks that identify memory: addresses, shapes and contiguity."""
    return tuple([(t.data_ptr(), t.is_contiguous(), t.shape) for t in tensors])


def _versions(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple([0 if t.is_inference() else t._version for t in tensors])


def pack(network: Network, arrays: Sequence[Array]) -> Packed:
    each = len(network.parameters)
    if len(arrays) != each * network.layers * network.directions:
        raise ValueError(f"weights: expected {each} for each layer and direction, got {len(arrays)}")
    found: Packed = []
    for j in range(0, len(arrays), each):
        present = iter(arrays[j : j + each])
        parameters = tuple(
            next(present) if one.required or network.has_bias else None for one in network.row.parameters
        )
        found.append(pack_forward(core_cell(network.cell), parameters))
    return found


class PackedWeights:
    """The memory of one module: packed weights, `calls`, and in `again` those that can be repeated.

    Copies and pickles of it are empty.
    """

    __slots__ = ("_kept", "_seen", "again", "calls")

    def __init__(self) -> None:
        self._kept: Kept | None = None
        self._seen: tuple[Any, ...] | None = None
        self.again: Repeats | None = None
        self.calls = calls.Calls(CALLS_MAX)

    def __reduce__(self) -> Any:
        return PackedWeights, ()

    def get(self, network: Network, tensors: Sequence[Tensor], pace: _core.Pace | None = None) -> Packed | None:
        """Packed weights of the current tensors; None if the call packs them, since they were others before.

        pace: that of the call.
        """
        kept, marks = self._kept, _marks(tensors)
        if kept is not None:
            if (
                kept.marks == marks
                and kept.backend == backend_index()
                and _tensor_memory.same_bytes(tensors, kept.copies, get_num_threads(), pace)
            ):
                return kept.packed
            self._kept = self.again = None
        seen, self._seen = self._seen, (marks, _versions(tensors))
        if seen != self._seen or not all(is_contiguous for _, is_contiguous, _ in marks):
            return None
        copies = tuple([array.copy() for array in arrays_of(tensors)])
        packed = pack(network, copies)
        self._kept = Kept(marks, backend_index(), copies, packed)
        return packed

    def remember(
        self, plan: Plan, x: Tensor, parameters: Mapping[str, Tensor | None], configuration: Mapping[str, Any]
    ) -> None:
        """Prepare a dense inference call of a module with these attributes for repetition.

        The plan must be dense and not for a PackedSequence.
        """
        call, tensors = self.calls.get(plan, x), tuple(parameters.values())
        if x.numel() == 0 or plan.network.row.inputs or not all(_is_plain(one) for one in tensors):
            return
        packed, copies = self._packed_and_copies(call)
        returns_y = not plan.returns_state_alone
        arrays = calls.arrays_of_call(plan, x.dtype, returns_y=returns_y)
        repeat = Repeat(
            configuration,
            call.plan,
            arrays,
            packed,
            (tuple(parameters), tensors, _aliases(tensors), copies),
            (x.shape, torch.Size(plan.states_shape())),
            x.dtype,
            returns_y,
            IS_NOT_PLAIN,
            calls.settings,
            plan.options,
        )
        self._add(repeat)

    def remember_training(
        self,
        plan: Plan,
        x: Tensor,
        parameters: Mapping[str, Tensor | None],
        configuration: Mapping[str, Any],
        apply: Callable[..., Any],
    ) -> None:
        """The same for training. `apply` makes a node of the graph."""
        call, tensors = self.calls.get(plan, x), tuple(parameters.values())
        packed, copies = self._packed_and_copies(call)
        if x.numel() == 0 or (self.again is not None and self.again.holds(x.shape, tensors, True, packed)):
            return
        if plan.network.row.inputs:
            return
        if not all(_is_plain(one) for one in tensors):
            return
        repeat = Repeat(
            configuration,
            call.plan,
            call.arrays,
            packed,
            (tuple(parameters), tensors, _aliases(tensors), copies),
            (x.shape, torch.Size(plan.states_shape())),
            x.dtype,
            not plan.returns_state_alone,
            IS_NOT_PLAIN_IN_TRAINING,
            calls.settings,
            plan.options,
            (Job(plan, *call, None, None, None), apply),
        )
        self._add(repeat)

    def _packed_and_copies(self, call: calls.Call) -> tuple[Packed | None, tuple[Array, ...] | None]:
        """The kept weights of a call that packs its weights, and copies of the parameters."""
        kept = self._kept
        return (None, None) if kept is None or not call.plan.packs else (kept.packed, kept.copies)

    def _add(self, repeat: Repeat) -> None:
        if self.again is None:
            self.again = Repeats()
        self.again.add(repeat)


def _aliases(tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    return tuple([None if one is None else one.detach() for one in tensors])


def _is_plain(tensor: Tensor | None) -> bool:
    """Whether the core can read a parameter without conversion."""
    return tensor is None or (
        tensor.is_contiguous() and not tensor.is_neg() and tensor.data_ptr() % tensor.element_size() == 0
    )

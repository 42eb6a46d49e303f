"""The arguments of `Recurrent`, checked: each error names the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from .. import _check
from ..given import checked_names
from .module_calls import ModuleCalls
from .plan import Network, weight_shapes
from .routes import (
    Fallback,
    Path,
    fallback_of_mode,
    fallback_of_tensors,
    fallback_when_compiling,
)


class RecurrentArguments(ModuleCalls):
    """A mixin before torch.nn.Module. The facts about the cell are plain values, which compilers read."""

    _text: str  # of the program
    _starts: tuple[float, ...]
    _inputs: tuple[tuple[str, int, bool], ...]  # of each step: name, number of columns, whether there is a gradient

    @property
    def _count(self) -> int:
        """The number of layers and directions."""
        return int(self.num_layers) * (2 if self.bidirectional else 1)

    def _network(self) -> Network:
        directions = 2 if self.bidirectional else 1
        return Network(self._text, self.num_layers, directions, self.hidden_size, self.bias)

    def _state_count(self) -> int:
        return len(self._starts)

    def _weights_now(self) -> list[Tensor]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def _checked_weights(self, network: Network) -> list[Tensor]:
        weights = self._weights_now()
        if not is_compiling():
            expected = weight_shapes(network, self.input_size)
            if len(expected) != len(weights):
                raise ValueError(
                    f"num_layers, bias, bidirectional: expected those of {len(weights)} parameters, got those of"
                    f" {len(expected)}; make a new module"
                )
            for name, weight, shape in zip(self._flat_weights_names, weights, expected, strict=True):
                if weight.shape != shape:
                    raise ValueError(f"{name}: expected shape {shape}, got {tuple(weight.shape)}")
        return weights

    def _checked_sequence(self, name: str, value: Any, letter: str, width: int, like: Tensor) -> str:
        """The layout of a sequence of `width` numbers in a step, as `Plan.kind`; `like` has its dtype."""
        self._check_tensor(name, value, like)
        letters = f"(B, T, {letter})" if self.batch_first else f"(T, B, {letter})"
        if value.dim() not in (2, 3):
            raise ValueError(f"{name}: expected shape {letters} or (T, {letter}), got {tuple(value.shape)}")
        if value.size(-1) != width:
            _require_shape(name, value, letters if value.dim() == 3 else f"(T, {letter})", _any_but(value, width))
        return "unbatched" if value.dim() == 2 else "batch_first" if self.batch_first else "dense"

    def _check_tensor(self, name: str, value: Any, like: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
        if value.layout is not torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got {value.layout}; call to_dense()")
        if value.dtype != like.dtype and not torch.is_autocast_enabled(like.device.type):
            raise TypeError(f"{name}: expected dtype {like.dtype}, got {value.dtype}")

    def _checked_states(self, state: Any, B: int | None, like: Tensor) -> tuple[Tensor | None, ...]:
        """A tensor or None for each state; B None: of an input without a batch axis."""
        count = len(self._starts)
        if state is None:
            return (None,) * count
        if count > 1 and (not isinstance(state, list | tuple) or len(state) != count):
            raise TypeError(f"state: expected a tuple of {count} tensors, got {_described(state)}")
        shape = (self._count, self.hidden_size) if B is None else (self._count, B, self.hidden_size)
        letters = "(num_layers*D, H)" if B is None else "(num_layers*D, B, H)"
        members = tuple(state) if count > 1 else (state,)
        for number, one in enumerate(members):
            label = f"state[{number}]" if count > 1 else "state"
            if one is not None:
                self._check_tensor(label, one, like)
                if one.shape != shape:
                    _require_shape(label, one, letters, shape)
        return members

    def _checked_inputs(self, inputs: Any, x: Any, like: Tensor) -> list[Tensor]:
        """The inputs of each step, for each layer and direction, as tensors laid out as x."""
        count = self._count
        found: list[list[Tensor]] = []
        for (name, width, has_gradient), value in zip(
            self._inputs, checked_names("inputs", inputs, [one[0] for one in self._inputs]).values(), strict=True
        ):
            label = f"inputs[{name!r}]"
            if count > 1 and (not isinstance(value, list | tuple) or len(value) != count):
                raise ValueError(
                    f"{label}: expected a list of num_layers*D = {count} tensors, one for each layer and direction"
                )
            members = value if count > 1 else [value]
            labels = [f"{label}[{j}]" for j in range(count)] if count > 1 else [label]
            found.append([self._checked_input(*one, width, x, like) for one in zip(labels, members, strict=True)])
            for one_label, one in zip(labels, found[-1], strict=True):
                if one.requires_grad and not has_gradient:
                    raise ValueError(
                        f"{one_label}: expected a tensor that needs no gradient, since the cell does not name"
                        f" {name!r} in input_gradients; pass {name}.detach()"
                    )
        return [one[j] for j in range(count) for one in found]

    def _checked_input(self, label: str, value: Any, width: int, x: Any, like: Tensor) -> Tensor:
        letter = "1" if width == 1 else "H"
        if isinstance(x, PackedSequence):
            if not isinstance(value, PackedSequence):
                raise TypeError(f"{label}: expected a PackedSequence, as x is, got {type(value).__name__}")
            if not (torch.equal(value.batch_sizes, x.batch_sizes) and _is_same(value.sorted_indices, x.sorted_indices)):
                raise ValueError(f"{label}: expected a PackedSequence with the lengths and the order of x")
            self._check_tensor(label, value.data, like)
            _require_shape(label, value.data, f"(rows, {letter})", (x.data.shape[0], width))
            return value.data
        self._checked_sequence(label, value, letter, width, like)
        if value.shape[:-1] != x.shape[:-1]:
            letters = "T" if x.dim() == 2 else "B, T" if self.batch_first else "T, B"
            _require_shape(label, value, f"({letters}, {letter})", (*x.shape[:-1], width))
        return value

    def _fallback(self, data: Tensor, tensors: list[Tensor]) -> Fallback | None:
        """The kernels run, or the operator, or else the program in torch's operations."""
        if is_compiling():
            found: Fallback | None = fallback_when_compiling((data, *tensors))
        else:
            found = fallback_of_mode() or fallback_of_tensors(data, tensors)
        if found is not None and found.path is Path.TORCH:
            return Fallback(Path.FORMULATION, found.reason)
        return found

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states in the order of a PackedSequence."""
        if permutation is None or hx is None:
            return hx
        if isinstance(hx, list | tuple):
            return tuple([self.permute_hidden(one, permutation) for one in hx])
        return hx.index_select(1, permutation)


def _require_shape(name: str, value: Tensor, letters: str, expected: tuple[int | None, ...]) -> None:
    """ValueError for another shape."""
    if tuple(value.shape) != expected:
        _check.shape(name, np.broadcast_to(0, tuple(value.shape)), letters, expected)


def _any_but(value: Tensor, width: int) -> tuple[int | None, ...]:
    return (*(None for _ in value.shape[:-1]), width)


def _is_same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and torch.equal(one, other))


def _described(value: Any) -> str:
    return f"{len(value)}" if isinstance(value, list | tuple) else type(value).__name__

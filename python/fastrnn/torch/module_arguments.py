"""Arguments and attributes of a recurrent module: shapes, states, weights, dropout masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from .plan import STATES, Network, weight_shapes

# The cell of each mode of torch's modules.
CELLS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}

_Base: Any = torch.nn.RNNBase if TYPE_CHECKING else object


class ModuleArguments(_Base):
    """A mixin before torch's class; it reads the attributes of torch's class."""

    # Of written cells; see `Recurrent`.
    _options: tuple[float, ...] = ()
    _options_text = ""
    _starts: tuple[float, ...] = (0.0, 0.0)

    def _get_name(self) -> str:
        """The name in the output of ``print(model)``."""
        return f"fastrnn.torch.{type(self).__name__}"

    def _network(self) -> Network:
        """The module's current network: torch's attributes may change between calls."""
        directions = 2 if self.bidirectional else 1
        return Network(CELLS.get(self.mode, ""), self.num_layers, directions, self.hidden_size, self.bias)

    def _weights_now(self) -> list[Tensor]:
        """The current weights in torch's order; parameters may have been replaced since the last call."""
        parameters, weights = self._parameters, self._flat_weights
        for name, weight in zip(self._flat_weights_names, weights, strict=True):
            if parameters.get(name) is not weight:
                self._update_flat_weights()
                return list(self._flat_weights)
        return weights

    def _state_count(self) -> int:
        """1 for an unknown mode, which torch refuses."""
        return STATES.get(CELLS.get(self.mode, ""), 1)

    def _states(self, hx: Any) -> tuple[Tensor | None, ...]:
        """One for each state of the cell."""
        count = self._state_count()
        if hx is None:
            return (None,) * count
        return tuple(hx) if count > 1 else (hx,)

    def _present_states(self, x: Tensor, states: tuple[Tensor | None, ...], B: int | None) -> tuple[Tensor | None, ...]:
        """Tensors for all states, with start values in the place of None. B None: of an input without a batch axis."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        shape = (count, self.hidden_size) if B is None else (count, B, self.hidden_size)
        starts = self._starts[: len(states)]
        return tuple([x.new_full(shape, s) if one is None else one for one, s in zip(states, starts, strict=True)])

    def _masks(self, steps: tuple[int, int], like: Tensor) -> list[Tensor] | None:
        """Dropout masks for the output of each layer except the last, from torch's generator."""
        if not (self.training and self.dropout and self.num_layers > 1):
            return None
        width = self.hidden_size * (2 if self.bidirectional else 1)
        ones = torch.ones((*steps, width), dtype=like.dtype, device=like.device)
        return [torch.dropout(ones, self.dropout, True) for _ in range(self.num_layers - 1)]

    def _fits(self, network: Network, input: Any, hx: Any, weights: list[Tensor]) -> bool:  # noqa: A002
        """Whether torch would accept these shapes."""
        if not is_compiling() and [w.shape for w in weights] != weight_shapes(network, self.input_size):
            return False
        count = network.layers * network.directions
        if isinstance(input, PackedSequence):
            data, sizes, *_ = input
            if data.dim() != 2 or data.size(-1) != self.input_size:
                return False
            if hx is None or is_compiling():
                return True
            return self._states_fit(hx, (count, int(sizes[0]), self.hidden_size))
        shape = input.shape
        if len(shape) not in (2, 3) or shape[-1] != self.input_size or shape[0] == 0:
            return False
        if len(shape) == 2:
            return self._states_fit(hx, (count, self.hidden_size))
        T, B = (shape[1], shape[0]) if self.batch_first else (shape[0], shape[1])
        return T > 0 and self._states_fit(hx, (count, B, self.hidden_size))

    def _check_packed(self, packed: PackedSequence, hx: Any) -> None:
        """Raise the errors of torch's GRU and RNN; torch's LSTM does not check a PackedSequence."""
        self.check_input(packed.data, packed.batch_sizes)
        if hx is not None:
            self.check_forward_args(packed.data, hx, packed.batch_sizes)

    def _states_fit(self, hx: Any, shape: tuple[int, ...]) -> bool:
        if hx is None:
            return True
        count = self._state_count()
        if count == 1:
            return bool(hx.shape == shape)
        return len(hx) == count and all(one.shape == shape for one in hx)

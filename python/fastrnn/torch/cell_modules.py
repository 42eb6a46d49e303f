"""`LSTMCell`, `GRUCell` and `RNNCell`: a cell is a stack of one layer that runs one step."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from . import _tensors, calls, formulation
from .autograd import Outputs, Recurrence
from .classes import mixin_for, stands_for
from .modules import _call_as_leaf
from .operator import recurrence
from .packed_weights import PackedWeights
from .plan import Network, dense_plan, weight_shapes
from .routes import Detour, Way, detour_of_mode, detour_of_tensors, detour_when_compiling, say_once

# All attributes on which a call depends.
CONFIGURATION = ("input_size", "hidden_size", "nonlinearity")

_Base: Any = torch.nn.RNNCellBase if TYPE_CHECKING else object


@mixin_for(torch.nn.RNNCellBase)
class CellForward(_Base):
    """The common base of the three cells, a mixin before torch's class."""

    _fastrnn_memory: PackedWeights | None = None

    def forward(self, input: Any, hx: Any = None) -> Any:  # noqa: A002  (torch's name)
        """One time step, like torch's cell.

        Parameters
        ----------
        input : Tensor (B, I) or (I,)
            The step of x.
        hx : Tensor (B, H) or (H,), for the LSTM a pair of them, optional
            The state before the step. The default is zero.

        Returns
        -------
        hx : Tensor, for the LSTM a pair of them
            The state after the step.
        """
        if not is_compiling():
            memory = self._fastrnn_memory
            if memory is not None and memory.again is not None:
                repeated = memory.again(self.__dict__, input, hx)
                if repeated is not None:
                    return repeated
            if isinstance(input, torch.fx.Proxy):
                return _call_as_leaf(self, input, hx)
        has_c = isinstance(self, torch.nn.LSTMCell)
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        if weights[2] is None and weights[3] is None:  # self.bias has no effect: torch does not read it
            weights = weights[:2]
        states = () if hx is None else tuple(hx) if has_c else (hx,)
        if is_compiling():
            detour: Detour | None = detour_when_compiling((input, *states, *weights))
        else:
            detour = detour_of_mode() or detour_of_tensors(input, (*weights, *states))
        if detour is not None:
            say_once(self, detour)
        network = self._network(has_bias=len(weights) == 4)
        if (detour is not None and detour.way is Way.TORCH) or not self._fits(network, input, states, weights):
            return super().forward(input, hx)
        h0, c0 = (*states, None, None)[:2]
        found = self._run(network, input, h0, c0, weights, detour)
        return found if has_c else found[0]

    def _get_name(self) -> str:
        """The name in the output of ``print(model)``."""
        return f"fastrnn.torch.{type(self).__name__}"

    def _fits(self, network: Network, x: Tensor, states: tuple[Tensor, ...], weights: list[Tensor]) -> bool:
        """Whether torch would accept these shapes."""
        if not is_compiling() and [w.shape for w in weights] != weight_shapes(network, self.input_size):
            return False
        if x.dim() not in (1, 2) or x.size(-1) != self.input_size:
            return False
        shape = (*x.shape[:-1], self.hidden_size)
        return len(states) in (0, 1 + (network.cell == "lstm")) and all(state.shape == shape for state in states)

    def _network(self, has_bias: bool) -> Network:
        if isinstance(self, torch.nn.RNNCell):
            cell = f"rnn_{self.nonlinearity}"
        else:
            cell = "lstm" if isinstance(self, torch.nn.LSTMCell) else "gru"
        return Network(cell, 1, 1, self.hidden_size, has_bias)

    def _run(
        self,
        network: Network,
        x: Tensor,
        h0: Tensor | None,
        c0: Tensor | None,
        weights: list[Tensor],
        detour: Detour | None,
    ) -> Outputs:
        """The next states, in the shape of the given states."""
        needs_graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, h0, c0, *weights))
        if detour is not None and detour.way is Way.OPERATOR:
            batched = x.dim() == 2
            step = x.unsqueeze(0), *(None if s is None else s.unsqueeze(0) for s in (h0, c0))
            stack = network.cell, 1, 1, self.hidden_size, "dense" if batched else "unbatched", 0, 0
            found = recurrence(*step, weights, None, None, None, None, *stack, needs_graph)
            return tuple(member.squeeze(0) for member in found[1 : 3 if network.cell == "lstm" else 2])
        plan = dense_plan(network, "step" if x.dim() == 2 else "unbatched_step", 1, x.shape[0] if x.dim() == 2 else 1)
        if detour is not None:
            return formulation.run(plan, x, h0, c0, weights, None)[1:]
        memory = self._fastrnn_memory
        if memory is None:
            memory = self.__dict__["_fastrnn_memory"] = PackedWeights()
        call = calls.call_of(plan, x)
        packed = memory.get(network, weights) if call.plan.packs else None
        if needs_graph:
            outputs: Outputs = Recurrence.apply(plan, call, packed, None, x, h0, c0, *weights)
            return outputs[1:]
        names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
        parameters = dict(zip_longest(names, weights))
        memory.remember(plan, x, parameters, {name: self.__dict__.get(name) for name in CONFIGURATION})
        return _tensors.infer(*call, x, (h0, c0), weights, packed, None, None)[1:]


@stands_for(torch.nn.LSTMCell)
class LSTMCell(CellForward, torch.nn.LSTMCell):
    """``torch.nn.LSTMCell`` on fastrnn's kernels: same constructor, parameters, arguments and results."""


@stands_for(torch.nn.GRUCell)
class GRUCell(CellForward, torch.nn.GRUCell):
    """``torch.nn.GRUCell`` on fastrnn's kernels: same constructor, parameters, arguments and results."""


@stands_for(torch.nn.RNNCell)
class RNNCell(CellForward, torch.nn.RNNCell):
    """``torch.nn.RNNCell`` on fastrnn's kernels: same constructor, parameters, arguments and results."""

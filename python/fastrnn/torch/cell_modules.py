"""`LSTMCell`, `GRUCell` and `RNNCell`: a cell is a stack of one layer that runs one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from . import _tensor_passes, formulation
from ._tensor_passes import Job
from .autograd import Outputs, Recurrence
from .classes import mixin_for, stands_for
from .keys import key_of
from .operator import recurrence
from .packed_weights import PackedWeights
from .plan import OPTIONAL, REQUIRED, STATES, Network, dense_plan, weight_shapes
from .routes import (
    Fallback,
    Path,
    call_as_leaf,
    fallback_of_mode,
    fallback_of_tensors,
    fallback_when_compiling,
    say_once,
)

# All attributes on which a call depends.
CONFIGURATION = ("input_size", "hidden_size", "nonlinearity")
# The cell of each class; that of an RNNCell is its nonlinearity's.
CELLS = {torch.nn.LSTMCell: "lstm", torch.nn.GRUCell: "gru"}

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
                return call_as_leaf(self, input, hx)
        cell = self._cell()
        if cell not in STATES:
            return super().forward(input, hx)  # which refuses the nonlinearity
        optional = [getattr(self, name) for name in OPTIONAL[cell]]
        has_bias = any(one is not None for one in optional)  # self.bias says nothing: torch does not look at it
        weights = [getattr(self, name) for name in REQUIRED[cell]] + (optional if has_bias else [])
        count = STATES[cell]
        states = () if hx is None else tuple(hx) if count > 1 else (hx,)
        if is_compiling():
            fallback: Fallback | None = fallback_when_compiling((input, *states, *weights))
        else:
            fallback = fallback_of_mode() or fallback_of_tensors(input, (*weights, *states))
        if fallback is not None:
            say_once(self, fallback)
        network = Network(cell, 1, 1, self.hidden_size, has_bias)
        if (fallback is not None and fallback.path is Path.TORCH) or not self._fits(network, input, states, weights):
            return super().forward(input, hx)
        found = self._run(network, input, states or (None,) * count, weights, fallback)
        return found if count > 1 else found[0]

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
        return len(states) in (0, STATES[network.cell]) and all(state.shape == shape for state in states)

    def _cell(self) -> str:
        """The cell's name in the registry."""
        for kind, cell in CELLS.items():
            if isinstance(self, kind):
                return cell
        return f"rnn_{self.nonlinearity}"

    def _run(
        self,
        network: Network,
        x: Tensor,
        states: tuple[Tensor | None, ...],
        weights: list[Tensor],
        fallback: Fallback | None,
    ) -> Outputs:
        """The next states, in the shape of the given ones."""
        tensors = (x, *states, *weights)
        needs_graph = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        batched = x.dim() == 2
        if fallback is not None and fallback.path is Path.OPERATOR:
            key = key_of(network, "dense" if batched else "unbatched", None, needs_graph)
            step = [None if one is None else one.unsqueeze(0) for one in states]
            found = recurrence(x.unsqueeze(0), step, weights, None, [None, None, None], key)
            return tuple([member.squeeze(0) for member in found[1 : 1 + len(states)]])
        plan = dense_plan(network, "step" if batched else "unbatched_step", 1, x.shape[0] if batched else 1)
        if fallback is not None:
            return formulation.run(plan, x, states, weights, None)[1:]
        memory = self._fastrnn_memory
        if memory is None:
            memory = self.__dict__["_fastrnn_memory"] = PackedWeights()
        call = memory.calls.get(plan, x)
        packed = memory.get(network, weights, call.plan.pace) if call.plan.packs else None
        names = (*REQUIRED[network.cell], *OPTIONAL[network.cell])
        parameters = {name: getattr(self, name) for name in names}
        configuration = {name: self.__dict__.get(name) for name in CONFIGURATION}
        if needs_graph:
            job = Job(plan, *call, None, packed, None)
            memory.remember_training(plan, x, parameters, configuration, Recurrence.apply)
            outputs: Outputs = Recurrence.apply(job, *tensors)
            return outputs[1:]
        memory.remember(plan, x, parameters, configuration)
        return _tensor_passes.infer(*call, x, states, weights, packed, None, None)[1:]


@stands_for(torch.nn.LSTMCell)
class LSTMCell(CellForward, torch.nn.LSTMCell):
    """``torch.nn.LSTMCell`` on fastrnn's kernels: same constructor, parameters, arguments and results."""


@stands_for(torch.nn.GRUCell)
class GRUCell(CellForward, torch.nn.GRUCell):
    """``torch.nn.GRUCell`` on fastrnn's kernels: same constructor, parameters, arguments and results."""


@stands_for(torch.nn.RNNCell)
class RNNCell(CellForward, torch.nn.RNNCell):
    """``torch.nn.RNNCell`` on fastrnn's kernels: same constructor, parameters, arguments and results."""

"""`LSTM`, `GRU` and `RNN`: torch's modules with the same parameters but another forward."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from .. import _check
from . import _tensors, calls, formulation
from .autograd import Outputs, Recurrence
from .classes import mixin_for, stands_for
from .compiling import admit
from .module_arguments import ModuleArguments
from .operator import recurrence
from .packed_weights import PackedWeights
from .plan import Network, Plan, make_packed_plan, make_plan
from .routes import ONNX, Detour, Way, detour_of_mode, detour_of_tensors, detour_when_compiling, say_once, tracing_state
from .tensors import array_on, arrays_or_none

# All attributes on which a call without dropout depends.
CONFIGURATION = (
    "mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size",
)  # fmt: skip
PROJECTIONS = Detour(Way.TORCH, "projections (proj_size) are not among the kernels")


@mixin_for(torch.nn.RNNBase)
class RecurrentForward(ModuleArguments):
    """The common base of the three modules, a mixin before torch's class."""

    _fastrnn_memory: PackedWeights | None = None

    def forward(
        self,
        input: Any,  # noqa: A002  (torch's name)
        hx: Any = None,
        lengths: Any = None,
        resets: Any = None,
        truncation: Any = None,
    ) -> Any:
        """Like torch's module, with three more arguments.

        Parameters
        ----------
        input : Tensor (T, B, I), or (B, T, I) with batch_first, or (T, I), or PackedSequence
            float32 or float64 on the CPU runs on the kernels; anything else falls back to torch and is logged.
        hx : Tensor (num_layers*D, B, H), for the LSTM a pair of them, optional
            The state before the first step. The default is zero.
        lengths : Tensor or array of int (B,), optional
            The number of steps of each sequence, 0 … T in any order. Outputs beyond are zero and cost nothing; the
            final states are the states after each sequence's own last step.
        resets : Tensor or array of bool (T, B), laid out as input, optional
            Where True, every layer's state is zeroed before this step, and no gradient passes. With a PackedSequence,
            in the layout and order of its padded form.
        truncation : int or pair of int (k1, k2), optional
            Truncated backpropagation through time, as in ``fastrnn.lstm.backward``.

        Returns
        -------
        y : Tensor (T, B, D*H), laid out as input, or PackedSequence
            The last layer's output at every step.
        state : as hx
            The state after each sequence's own last step.

        Raises
        ------
        RuntimeError, ValueError
            The errors of torch's module, for torch's arguments.
        TypeError, ValueError
            For lengths, resets and truncation of another kind, shape or value.
        NotImplementedError
            For these three arguments if neither the kernels nor a fallback can run them.
        """
        if not is_compiling():
            memory = self._fastrnn_memory
            if memory is not None and memory.again is not None and not (self.training and self.dropout):
                is_plain = lengths is None and resets is None and truncation is None
                found = memory.again(self.__dict__, input, hx) if is_plain else None
                if found is not None:
                    return found
            if isinstance(input, torch.fx.Proxy):
                given = {"lengths": lengths, "resets": resets, "truncation": truncation}
                return _call_as_leaf(self, input, hx, **{n: value for n, value in given.items() if value is not None})
        extras = {"lengths": lengths, "resets": resets, "truncation": truncation}
        weights, detour = self._weights_and_detour(input[0] if isinstance(input, PackedSequence) else input, hx)
        if detour is not None:
            detour = _for_extras(detour, extras)
            say_once(self, detour)
        if detour is not None and detour.way is Way.TORCH:
            return super().forward(input, hx)
        network = self._network()
        if not self._fits(network, input, hx, weights):
            if isinstance(input, PackedSequence):
                self._check_packed(input, hx)
            return _refused(super().forward(input, hx), extras)
        if isinstance(input, PackedSequence):
            found = self._run_packed(network, input, hx, weights, extras, detour)
        else:
            kind = "unbatched" if input.dim() == 2 else "batch_first" if self.batch_first else "dense"
            found = self._run_padded(network, kind, input, self._pair(hx), weights, extras, detour)
        y, *states = found
        return y, (tuple(states) if self.mode == "LSTM" else states[0])

    # ---- choosing the path of a call ----

    def _weights_and_detour(self, data: Any, hx: Any) -> tuple[list[Tensor], Detour | None]:
        if is_compiling():
            weights = [getattr(self, name) for name in self._flat_weights_names]
            detour: Detour | None = detour_when_compiling((data, *weights))
        else:
            weights = self._weights_now()
            states = () if hx is None else hx if self.mode == "LSTM" else (hx,)
            detour = detour_of_mode() or detour_of_tensors(data, (*weights, *states))
        return weights, PROJECTIONS if self.proj_size else detour

    # ---- running the call ----

    def _run_padded(
        self,
        network: Network,
        kind: str,
        x: Tensor,
        states: tuple[Tensor | None, Tensor | None],
        weights: list[Tensor],
        extras: dict[str, Any],
        detour: Detour | None,
    ) -> Outputs:
        T, B = x.shape[1 if kind == "batch_first" else 0], x.shape[0 if kind == "batch_first" else 1]
        if kind == "unbatched":
            B = 1
        masks = self._masks((T, B), x)
        if detour is not None and detour.way is Way.OPERATOR:
            return self._as_operator(network, kind, x, states, weights, masks, extras, None)
        given = {name: _on_host(name, value) for name, value in extras.items() if value is not None}
        plan = make_plan(network, kind, T, B, **given)
        return self._carry_out(plan, x, states, weights, masks, detour)

    def _run_packed(
        self,
        network: Network,
        packed: PackedSequence,
        hx: Any,
        weights: list[Tensor],
        extras: dict[str, Any],
        detour: Detour | None,
    ) -> tuple[Any, ...]:
        x, sizes, to_sorted, to_original = packed
        if extras["lengths"] is not None:
            raise ValueError("lengths: expected None with a PackedSequence, which has its own")
        resets = extras["resets"]
        if resets is not None:
            resets = _as_tensor("resets", resets)
            resets = resets.T if self.batch_first else resets
            resets = resets if to_sorted is None or resets.dim() != 2 else resets[:, to_sorted]
        sorted_hx = None if hx is None else self.permute_hidden(hx, to_sorted)
        states = self._pair(sorted_hx)
        if detour is not None and detour.way is Way.OPERATOR:
            if hx is None:
                count = network.layers * network.directions
                zeros = x.new_zeros((count, int(sizes[0].item()), network.hidden_size))
                states = zeros, (zeros.clone() if network.has_c else None)
            masks = self._masks((x.shape[0], 1), x)
            y, *final = self._as_operator(
                network, "packed", x, states, weights, masks, extras | {"resets": resets}, sizes
            )
        else:
            plan = make_packed_plan(network, array_on(sizes), _on_host("resets", resets), extras["truncation"])
            batch = plan.batches[0]
            masks = self._masks((batch.T, batch.B) if batch.dense else (x.shape[0], 1), x)
            y, *final = self._carry_out(plan, x, states, weights, masks, detour)
        members = [m if to_original is None else m.index_select(1, to_original) for m in final]
        return PackedSequence(y, sizes, to_sorted, to_original), *members

    def _carry_out(
        self,
        plan: Plan,
        x: Tensor,
        states: tuple[Tensor | None, Tensor | None],
        weights: list[Tensor],
        masks: list[Tensor] | None,
        detour: Detour | None,
    ) -> Outputs:
        if detour is not None:
            return formulation.run(plan, x, *states, weights, masks)
        memory = self._fastrnn_memory
        if memory is None:
            memory = self.__dict__["_fastrnn_memory"] = PackedWeights()
        call = calls.call_of(plan, x)
        packed = memory.get(plan.network, weights) if call.plan.packs else None
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *states, *weights)):
            outputs: Outputs = Recurrence.apply(plan, call, packed, masks, x, *states, *weights)
            return outputs
        if masks is None and plan.batches[0].dense and not plan.is_packed:
            parameters = dict(zip(self._flat_weights_names, weights, strict=True))
            memory.remember(plan, x, parameters, {name: self.__dict__.get(name) for name in CONFIGURATION})
        applied = None if masks is None else arrays_or_none(masks)
        return _tensors.infer(*call, x, states, weights, packed, applied, calls.starting_of(plan))

    def _as_operator(
        self,
        network: Network,
        kind: str,
        x: Tensor,
        states: tuple[Tensor | None, Tensor | None],
        weights: list[Tensor],
        masks: list[Tensor] | None,
        extras: dict[str, Any],
        batch_sizes: Tensor | None,
    ) -> Outputs:
        window = extras["truncation"]
        k1, k2 = (0, 0) if window is None else (window, window) if isinstance(window, int) else window
        order = [None if extras[name] is None else _as_tensor(name, extras[name]) for name in ("lengths", "resets")]
        training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *states, *weights))
        stack = network.cell, network.layers, network.directions, network.hidden_size, kind, k1, k2
        ordered = order[0], batch_sizes, order[1]
        stacked = None if masks is None else torch.stack(masks)
        found = recurrence(x, *states, weights, stacked, *ordered, *stack, training)
        return tuple(found[: 3 if network.cell == "lstm" else 2])  # torch 2.5 cannot compile has_c


def _on_host(name: str, value: Any) -> Any:
    """The value in a form that NumPy can read."""
    if not isinstance(value, Tensor):
        return value
    if torch._C._are_functorch_transforms_active():
        for read in (Tensor.tolist, _one_by_one):  # torch 2.5 has no tolist here
            with suppress(RuntimeError):
                return read(value)
        raise NotImplementedError(f"{name}: expected the same for all calls of a torch.func.vmap")
    if tracing_state() is not None:  # the tracer warns that the values become constants
        return value.detach().cpu().clone().numpy()
    return array_on(value.cpu())


def _one_by_one(value: Tensor) -> Any:
    return np.array([number.item() for number in value.reshape(-1)]).reshape(value.shape)


def _as_tensor(name: str, value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(_check.unmasked(name, value))


def _for_extras(detour: Detour, extras: dict[str, Any]) -> Detour:
    """The fallback for arguments that torch's own implementation does not have."""
    given = [name for name, value in extras.items() if value is not None]
    if detour.way is not Way.TORCH or not given:
        return detour
    if detour is PROJECTIONS:
        raise NotImplementedError(f"{given[0]}: expected None with proj_size")
    if detour is ONNX:
        raise NotImplementedError(f"{given[0]}: expected None in torch.onnx.export")
    return Detour(Way.FORMULATION, detour.reason)


def _refused(result: Any, extras: dict[str, Any]) -> Any:
    """The result of torch for arguments of other shapes, if torch did not raise."""
    given: Sequence[str] = [name for name, value in extras.items() if value is not None]
    if given:
        raise ValueError(f"{given[0]}: expected None for arguments of these shapes")
    return result


def _call_as_leaf(module: Any, input: Any, hx: Any, **more: Any) -> Any:  # noqa: A002
    """Make torch.fx see our modules as one call, as it does torch's modules."""
    tracer = input.tracer
    return tracer.create_proxy("call_module", tracer.path_of_module(module), (input, hx), more)


@stands_for(torch.nn.LSTM)
class LSTM(RecurrentForward, torch.nn.LSTM):
    """``torch.nn.LSTM`` on fastrnn's kernels: same constructor, parameters, arguments and results.

    In addition, ``forward`` takes lengths, resets and truncation; see its documentation.
    """


@stands_for(torch.nn.GRU)
class GRU(RecurrentForward, torch.nn.GRU):
    """``torch.nn.GRU`` on fastrnn's kernels: same constructor, parameters, arguments and results.

    In addition, ``forward`` takes lengths, resets and truncation; see its documentation.
    """


@stands_for(torch.nn.RNN)
class RNN(RecurrentForward, torch.nn.RNN):
    """``torch.nn.RNN`` on fastrnn's kernels: same constructor, parameters, arguments and results.

    In addition, ``forward`` takes lengths, resets and truncation; see its documentation.
    """


admit(RecurrentForward)

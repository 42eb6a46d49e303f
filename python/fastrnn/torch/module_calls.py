"""The call of a recurrent module: a plan, and what carries it out."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from . import _tensor_passes, calls, formulation
from ._tensor_passes import Job
from .autograd import Outputs, Recurrence
from .extras import as_tensor, on_host
from .keys import key_of
from .module_arguments import ModuleArguments
from .operator import recurrence
from .packed_weights import PackedWeights
from .plan import Network, Plan, make_packed_plan, make_plan
from .routes import Fallback, Path
from .tensors import array_on, arrays_or_none


class ModuleCalls(ModuleArguments):
    """A mixin before torch's class. In its methods, weights are as the operator has them: with inputs of each step."""

    _fastrnn_memory: PackedWeights | None = None
    # Every attribute that a call without dropout depends on.
    _configuration: ClassVar[tuple[str, ...]] = (
        "mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "proj_size",
    )  # fmt: skip

    def _run_padded(
        self,
        network: Network,
        kind: str,
        x: Tensor,
        states: tuple[Tensor | None, ...],
        weights: list[Tensor],
        extras: dict[str, Any],
        fallback: Fallback | None,
    ) -> Outputs:
        T, B = x.shape[1 if kind == "batch_first" else 0], x.shape[0 if kind == "batch_first" else 1]
        if kind == "unbatched":
            B = 1
        masks = self._masks((T, B), x)
        if fallback is not None and fallback.path is Path.OPERATOR:
            return self._as_operator(network, kind, x, states, weights, masks, extras, None)
        given = {name: on_host(name, value) for name, value in extras.items() if value is not None}
        plan = make_plan(network, kind, T, B, **given, options=self._options)
        return self._carry_out(plan, x, states, weights, masks, fallback)

    def _run_packed(
        self,
        network: Network,
        packed: PackedSequence,
        hx: Any,
        weights: list[Tensor],
        extras: dict[str, Any],
        fallback: Fallback | None,
    ) -> tuple[Any, ...]:
        x, sizes, to_sorted, to_original = packed
        if extras["lengths"] is not None:
            raise ValueError("lengths: expected None with a PackedSequence, which has its own")
        resets = extras["resets"]
        if resets is not None:
            resets = as_tensor("resets", resets)
            resets = resets.T if self.batch_first else resets
            resets = resets if to_sorted is None or resets.dim() != 2 else resets[:, to_sorted]
        sorted_hx = None if hx is None else self.permute_hidden(hx, to_sorted)
        states = self._states(sorted_hx)
        if fallback is not None and fallback.path is Path.OPERATOR:
            states = self._present_states(x, states, int(sizes[0].item()))
            masks = self._masks((x.shape[0], 1), x)
            y, *final = self._as_operator(
                network, "packed", x, states, weights, masks, extras | {"resets": resets}, sizes
            )
        else:
            window = extras["truncation"]
            plan = make_packed_plan(network, array_on(sizes), on_host("resets", resets), window, self._options)
            batch = plan.batches[0]
            masks = self._masks((batch.T, batch.B) if batch.dense else (x.shape[0], 1), x)
            y, *final = self._carry_out(plan, x, states, weights, masks, fallback)
        members = [m if to_original is None else m.index_select(1, to_original) for m in final]
        return PackedSequence(y, sizes, to_sorted, to_original), *members

    def _carry_out(
        self,
        plan: Plan,
        x: Tensor,
        states: tuple[Tensor | None, ...],
        weights: list[Tensor],
        masks: list[Tensor] | None,
        fallback: Fallback | None,
    ) -> Outputs:
        if fallback is not None:
            return formulation.run(plan, x, states, weights, masks)
        memory = self._fastrnn_memory
        if memory is None:
            memory = self.__dict__["_fastrnn_memory"] = PackedWeights()
        call = memory.calls.get(plan, x)
        parameters = weights[: len(self._flat_weights_names)]
        packed = memory.get(plan.network, parameters, call.plan.pace) if call.plan.packs else None
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *states, *weights)):
            job = Job(plan, *call, calls.starting_of(plan), packed, masks)
            if masks is None and plan.batches[0].dense and not plan.is_packed and plan.truncation is None:
                memory.remember_training(plan, x, *self._facts(parameters), Recurrence.apply)
            outputs: Outputs = Recurrence.apply(job, x, *states, *weights)
            return outputs
        if masks is None and plan.batches[0].dense and not plan.is_packed:
            memory.remember(plan, x, *self._facts(parameters))
        applied = None if masks is None else arrays_or_none(masks)
        starting = calls.starting_of(plan)
        return _tensor_passes.infer(*call, x, states, weights, packed, applied, starting, plan.options)

    def _facts(self, weights: list[Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The parameters and the attributes, by name, that a repeated call must find again."""
        parameters = dict(zip(self._flat_weights_names, weights, strict=True))
        return parameters, {name: self.__dict__.get(name) for name in self._configuration}

    def _as_operator(
        self,
        network: Network,
        kind: str,
        x: Tensor,
        states: tuple[Tensor | None, ...],
        weights: list[Tensor],
        masks: list[Tensor] | None,
        extras: dict[str, Any],
        batch_sizes: Tensor | None,
    ) -> Outputs:
        window = extras["truncation"]
        order = [None if extras[name] is None else as_tensor(name, extras[name]) for name in ("lengths", "resets")]
        training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *states, *weights))
        pair = (window, window) if isinstance(window, int) else window
        key = key_of(network, kind, pair, training, self._options_text)
        stacked = None if masks is None else torch.stack(masks)
        found = recurrence(x, list(states), weights, stacked, [order[0], batch_sizes, order[1]], key)
        return tuple(found[: 1 + len(states)])

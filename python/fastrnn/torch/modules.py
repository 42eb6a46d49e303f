"""`LSTM`, `GRU` and `RNN`: torch's modules with the same parameters but another forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from .classes import mixin_for, stands_for
from .compiling import admit
from .extras import for_extras, refused
from .module_calls import ModuleCalls
from .routes import (
    PROJECTIONS,
    Fallback,
    Path,
    call_as_leaf,
    fallback_of_mode,
    fallback_of_tensors,
    fallback_when_compiling,
    say_once,
)


@mixin_for(torch.nn.RNNBase)
class RecurrentForward(ModuleCalls):
    """What the three kinds of module share; mixed in before torch's class."""

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
                return call_as_leaf(self, input, hx, **{n: value for n, value in given.items() if value is not None})
        extras = {"lengths": lengths, "resets": resets, "truncation": truncation}
        weights, fallback = self._weights_and_fallback(input[0] if isinstance(input, PackedSequence) else input, hx)
        if fallback is not None:
            fallback = for_extras(fallback, extras)
            say_once(self, fallback)
        if fallback is not None and fallback.path is Path.TORCH:
            return super().forward(input, hx)
        network = self._network()
        if not self._fits(network, input, hx, weights):
            if isinstance(input, PackedSequence):
                self._check_packed(input, hx)
            return refused(super().forward(input, hx), extras)
        if isinstance(input, PackedSequence):
            found = self._run_packed(network, input, hx, weights, extras, fallback)
        else:
            kind = "unbatched" if input.dim() == 2 else "batch_first" if self.batch_first else "dense"
            found = self._run_padded(network, kind, input, self._states(hx), weights, extras, fallback)
        y, *states = found
        return y, (tuple(states) if len(states) > 1 else states[0])

    def _weights_and_fallback(self, data: Any, hx: Any) -> tuple[list[Tensor], Fallback | None]:
        if is_compiling():
            weights = [getattr(self, name) for name in self._flat_weights_names]
            fallback: Fallback | None = fallback_when_compiling((data, *weights))
        else:
            weights = self._weights_now()
            states = () if hx is None else self._states(hx)
            fallback = fallback_of_mode() or fallback_of_tensors(data, (*weights, *states))
        return weights, PROJECTIONS if self.proj_size else fallback


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

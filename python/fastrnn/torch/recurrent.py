"""`Recurrent`: a stack of layers of a written cell, as a module of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.compiler import is_compiling
from torch.nn.utils.rnn import PackedSequence

from .. import _check
from ..cell.written_cell import WrittenCell
from ..given import checked_options, input_columns
from ..weights import shapes_of, torch_name
from ..written_function import checked_cell
from .keys import text_of_options
from .plan import row, text_of_cell
from .recurrent_arguments import RecurrentArguments
from .routes import Path, call_as_leaf, say_once

MATRICES = ("w_ih", "w_hh", "b_ih", "b_hh")


class Recurrent(RecurrentArguments, torch.nn.Module):
    """A stack of layers of a written cell, as `fastrnn.Recurrent`, with autograd.

    Parameters
    ----------
    cell : WrittenCell
        From `fastrnn.cell`.
    input_size : int
        I, the number of values in each time step of x.
    hidden_size : int
        H, the number of units of each layer and direction.
    num_layers : int
        The number of layers on top of each other; each layer reads the output of the layer below.
    bias : bool
        Whether the layers have the biases ``bias_ih_*`` and ``bias_hh_*``.
    batch_first : bool
        Whether x and y are (B, T, …) instead of (T, B, …). States are always (num_layers*D, B, H).
    dropout : float
        The probability in [0, 1) that training zeroes an output of any layer except the last.
    bidirectional : bool
        Whether each layer also runs backwards over the sequence; then D is 2, otherwise 1.
    heads : int
        With several heads, w_hh is block-diagonal; see `fastrnn.Recurrent`.
    options : mapping of str to float, optional
        The cell's options; options that are left out have their defaults.
    device, dtype : optional
        Of the parameters, as for torch's modules.

    Attributes
    ----------
    cell, heads
        Fixed.
    options : dict of str to float
        A new value applies to every later call.
    weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0 : Parameter (G*H, I), (G*H, H/heads), (G*H,), (G*H,)
        With the gates in the order of the cell, and ``_reverse`` for the second direction, as in torch's modules. Each
        vector of the cell is a parameter (H,) of its name, such as ``p_i_l0``.

    Raises
    ------
    TypeError
        For arguments of another kind.
    ValueError
        For other values, and for a cell that exceeds a limit.

    See Also
    --------
    fastrnn.Recurrent : the same on NumPy arrays.

    Examples
    --------
    >>> import fastrnn.torch, numpy as np, torch
    >>> @fastrnn.cell(gates="zn")
    ... def minimal(a, s):
    ...     h = s.h + fastrnn.sigmoid(a.z) * (np.tanh(a.n) - s.h)
    ...     return h, (h,)
    >>> layer = fastrnn.torch.Recurrent(minimal, 3, 4)
    >>> y, h = layer(torch.ones(5, 2, 3))
    >>> y.square().sum().backward()
    >>> layer.weight_hh_l0.grad.shape
    torch.Size([8, 4])
    """

    __module__ = __package__  # the module name in pickles

    _configuration: ClassVar[tuple[str, ...]] = (
        "_text", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "bidirectional", "_options",
    )  # fmt: skip

    def __init__(
        self,
        cell: WrittenCell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        heads: int = 1,
        options: Mapping[str, float] | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        torch.nn.Module.__init__(self)
        self._cell = checked_cell("cell", cell)
        self._heads = _check.integer("heads", heads, 1)
        self._text = text_of_cell(cell.text, self._heads)
        self.input_size = _check.integer("input_size", input_size, 0)
        self.hidden_size = _check.integer("hidden_size", hidden_size, 1)
        if self.hidden_size % self._heads:
            raise ValueError(f"heads: expected a divisor of hidden_size = {self.hidden_size}, got {self._heads}")
        self.num_layers = _check.integer("num_layers", num_layers, 1)
        self.bias = _check.boolean("bias", bias)
        self.batch_first = _check.boolean("batch_first", batch_first)
        self.dropout = _check.probability("dropout", dropout)
        self.bidirectional = _check.boolean("bidirectional", bidirectional)
        self.options = {} if options is None else options
        of_cell = row(self._text)
        self._starts = of_cell.starts
        self._inputs = tuple(
            (name, input_columns(of_cell, name, self.hidden_size)[1], has_gradient)
            for name, has_gradient in zip(of_cell.inputs, of_cell.input_gradients, strict=True)
        )
        sizes = self.input_size, self.hidden_size, self.num_layers, self.bias, self.bidirectional
        shapes = shapes_of(of_cell, *sizes, name_of=_parameter_name)
        if len(shapes) != self._count * len([one for one in of_cell.parameters if self.bias or one.required]):
            raise ValueError(f"cell: expected vectors with other names than the matrices, got {cell.program.vectors}")
        self._flat_weights_names = list(shapes)
        for name, (_, shape) in shapes.items():
            self.register_parameter(name, torch.nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @property
    def cell(self) -> WrittenCell:
        """The cell of all layers."""
        return self._cell

    @property
    def heads(self) -> int:
        """The number of heads of each layer."""
        return self._heads

    @property
    def options(self) -> dict[str, float]:
        """The options of the cell, as a new dict."""
        return dict(zip(row(self._text).options, self._options, strict=True))

    @options.setter
    def options(self, options: Mapping[str, float]) -> None:
        self._options = checked_options("options", options, row(self._text))
        self._options_text = text_of_options(self._options)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in ±1/sqrt(H), from torch's generator."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        """The arguments of the module, for ``print(model)``."""
        usual: dict[str, Any] = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        usual |= {"bidirectional": False, "heads": 1}
        given = {name: getattr(self, name) for name in usual if getattr(self, name) != usual[name]}
        given |= {"options": self.options} if self._options else {}
        sizes = f"{self._cell.program.name}, {self.input_size}, {self.hidden_size}"
        return ", ".join([sizes, *(f"{name}={value}" for name, value in given.items())])

    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        inputs: Any = None,
        lengths: Any = None,
        resets: Any = None,
        truncation: Any = None,
    ) -> Any:
        """Run the stack.

        Parameters
        ----------
        x : Tensor (T, B, I), or (B, T, I) with batch_first, or (T, I), or PackedSequence
            float32 or float64 on the CPU runs on the kernels. Other tensors run as the program in torch's operations;
            the logger ``fastrnn.torch`` says so.
        state : Tensor (num_layers*D, B, H), or for several states a tuple of them, optional
            The state before the first step. The members of the tuple may be None. The default is the start value of
            each state.
        inputs : mapping of str to Tensor, optional
            The cell's inputs of each step by name, (T, B, H), or (T, B, 1) for inputs of one number, laid out as x; for
            a PackedSequence, also PackedSequences. For a stack, the value of each name is a sequence of num_layers*D
            such tensors, in the order of the states.
        lengths : Tensor or array of int (B,), optional
            The number of steps of each sequence, 0 … T in any order. Outputs beyond are zero and cost nothing; the
            final states are the states after each sequence's own last step.
        resets : Tensor or array of bool (T, B), laid out as x, optional
            Where True, each state is set to its start value before this step, and no gradient passes. With a
            PackedSequence, in the layout and order of its padded form.
        truncation : int or pair of int (k1, k2), optional
            Truncated backpropagation through time, as in ``fastrnn.lstm.backward``.

        Returns
        -------
        y : Tensor (T, B, D*H), laid out as x, or PackedSequence
            The last layer's output at every step.
        state : as the argument
            The state after each sequence's own last step.

        Raises
        ------
        TypeError, ValueError
            For an argument of another kind, dtype, shape or value.
        NotImplementedError
            For truncation where the kernels do not run, and for truncated gradients of gradients.
        """
        extras = {"lengths": lengths, "resets": resets, "truncation": truncation}
        if not is_compiling():
            memory = self._fastrnn_memory
            is_plain = inputs is None and lengths is None and resets is None and truncation is None
            if is_plain and memory is not None and memory.again is not None and not (self.training and self.dropout):
                found = memory.again(self.__dict__, x, state)
                if found is not None:
                    return found
            if isinstance(x, torch.fx.Proxy):
                given = {"inputs": inputs} | extras
                return call_as_leaf(self, x, state, **{n: value for n, value in given.items() if value is not None})
        y, *states = self._run(x, state, inputs, extras)
        return y, (tuple(states) if len(states) > 1 else states[0])

    def _run(self, x: Any, state: Any, inputs: Any, extras: dict[str, Any]) -> tuple[Any, ...]:
        network = self._network()
        weights = self._checked_weights(network)
        is_packed = isinstance(x, PackedSequence)
        data = x[0] if is_packed else x
        if is_packed and data.dim() != 2:
            raise ValueError(f"x: expected a PackedSequence of rows (rows, I), got {tuple(data.shape)}")
        kind = self._checked_sequence("x", data, "I", self.input_size, weights[0])
        B = None if kind == "unbatched" else x.shape[0 if kind == "batch_first" else 1]
        if is_packed:
            B = None if is_compiling() else int(x[1][0])
        states = () if is_packed and is_compiling() else self._checked_states(state, B, weights[0])
        given = self._checked_inputs(inputs, x, weights[0])
        fallback = self._fallback(data, [*weights, *given, *(one for one in states if one is not None)])
        if fallback is not None:
            say_once(self, fallback)
        weights = [*weights, *given]
        if is_packed:
            return self._run_packed(network, x, state, weights, extras, fallback)
        if fallback is not None and fallback.path is Path.OPERATOR and any(one is not None for one in states):
            states = self._present_states(x, states, B)
        return self._run_padded(network, kind, x, states, weights, extras, fallback)


def _parameter_name(name: str) -> str:
    """Matrices have torch's names, and vectors their own."""
    return torch_name(name) if name in MATRICES else name

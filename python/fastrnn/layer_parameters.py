"""The parameters of a layer: sizes, initial values, frozen copies, packed weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import _check, _core
from ._accept import Network
from ._check import Array
from ._kernel import pack_backward, pack_forward
from .arguments import LayerArguments
from .attributes import Attributes
from .config import backend_index
from .weights import (
    CoreCell,
    Frozen,
    Parameters,
    checked_parameters,
    initial_parameters,
    row_of,
    shapes_of,
    suffixes,
    torch_name,
    weights_of,
)

# A larger number is a mistake, and a dictionary of the names would exhaust memory.
LAYERS_MAX = 1 << 16
UNDRAWN = object()  # a seed: no parameters are drawn, since the caller sets them next


class FrozenLayer(NamedTuple):
    """What `freeze` made for one backend."""

    parameters: Frozen
    weights: list[Parameters]  # of each layer and direction
    forward: list[Array]  # packed
    backward: list[Array]
    backend: int


class LayerParameters(Attributes, LayerArguments):
    """A stack of layers of one cell: what it is made of."""

    batch_first: bool
    dropout: float
    _network: Network | None = None
    _fixed = frozenset({"input_size", "hidden_size", "num_layers", "bias", "bidirectional", "dtype"})
    _instead = "make a new layer"
    _changeable: ClassVar[Mapping[str, Callable[[str, Any], Any]]] = {
        "batch_first": _check.boolean,
        "dropout": _check.probability,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: DTypeLike = np.float32,
        seed: Any = None,
    ) -> None:
        self.input_size = _check.integer("input_size", input_size, 0)
        self.hidden_size = _check.integer("hidden_size", hidden_size, 1)
        self.num_layers = _check.integer("num_layers", num_layers, 1)
        if self.num_layers > LAYERS_MAX:
            raise ValueError(f"num_layers: expected at most {LAYERS_MAX}, got {self.num_layers}")
        self.bias = _check.boolean("bias", bias)
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = _check.boolean("bidirectional", bidirectional)
        self.dtype = _check.real_dtype("dtype", dtype)
        self._shapes = shapes_of(
            self._row,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.bias,
            self.bidirectional,
            self._parameter_name,
        )
        size = sum(float(np.prod([float(n) for n in shape])) for _, shape in self._shapes.values())
        if size * self.dtype.itemsize > np.iinfo(np.intp).max:
            raise ValueError("input_size, hidden_size: the parameters would exceed the address space")
        try:
            self._rng = np.random.default_rng(None if seed is UNDRAWN else seed)
        except (TypeError, ValueError) as error:
            raise type(error)(f"seed: {error}") from None
        self._frozen: FrozenLayer | None = None
        self._parameters: dict[str, Array] = {}
        if seed is not UNDRAWN:
            self._parameters = initial_parameters(self._shapes, self.hidden_size, self.dtype, self._rng)

    @property
    def _cell(self) -> CoreCell:
        """The cell's name in the registry, or its program."""
        raise NotImplementedError

    @property
    def _row(self) -> _core.Cell:
        return row_of(self._cell)

    def _parameter_name(self, name: str) -> str:
        """Without its layer, of its name in the cell's row."""
        return torch_name(name)

    def _option_numbers(self) -> tuple[float, ...]:
        """The options, in the order of the row."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self._configuration().items())})"

    def _configuration(self) -> dict[str, Any]:
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        return {name: getattr(self, name) for name in names} | {"dtype": self.dtype.name}

    def freeze(self) -> None:
        """Pack the weights once, for all calls until ``thaw``; until then the parameters are read-only.

        Saves each call the time of checking and packing, which is most of a short one. Streams of a frozen layer share
        its packed weights. The frozen parameters are copies: what is written to the arrays elsewhere is not seen until
        ``thaw``. Freezing a frozen layer does nothing.

        Raises
        ------
        TypeError, ValueError
            For replaced parameters of another dtype or shape.
        """
        if self._frozen is None:
            frozen = Frozen(checked_parameters(self._parameters, self._shapes, self.dtype))
            weights = self._weights_of(frozen.parameters)
            forward = [pack_forward(self._cell, one) for one in weights]
            backward = [pack_backward(self._cell, one) for one in weights]
            self._frozen = FrozenLayer(frozen, weights, forward, backward, backend_index())

    def thaw(self) -> None:
        """Stop using the frozen weights: calls read the parameters again. Does nothing if the layer is not frozen."""
        self._frozen = None

    @property
    def frozen(self) -> bool:
        """Whether the layer is frozen."""
        return self._frozen is not None

    @frozen.setter
    def frozen(self, _: Any) -> None:
        raise AttributeError("frozen: expected to be changed by freeze() and thaw()")

    @property
    def parameters(self) -> dict[str, Array]:
        """Map torch's names to arrays; read-only ones for a frozen layer."""
        frozen = self._frozen
        return self._parameters if frozen is None else frozen.parameters.parameters

    @parameters.setter
    def parameters(self, parameters: dict[str, Array]) -> None:
        if self._frozen is not None:
            raise ValueError("parameters: expected a layer that is not frozen; call thaw() first")
        self._parameters = parameters

    def _checked_parameters(self) -> dict[str, Array]:
        return checked_parameters(self.parameters, self._shapes, self.dtype)

    def _on_change(self) -> None:
        """Packed weights depend on none of the attributes that may change."""
        self.__dict__.pop("_network", None)

    def _frozen_now(self) -> FrozenLayer | None:
        """The packed weights of a frozen layer, if they are for the backend in use."""
        frozen = self._frozen
        return frozen if frozen is not None and frozen.backend == backend_index() else None

    def _frozen_parameters(self) -> list[Array | None]:
        frozen = self._frozen
        assert frozen is not None
        return [array for weights in frozen.weights for array in weights]

    def _weights_of(self, parameters: dict[str, Array]) -> list[Parameters]:
        row, names = self._row, suffixes(self.num_layers, self.bidirectional)
        return [weights_of(row, parameters, name, self._parameter_name) for name in names]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles of a frozen layer are thawed."""
        state = self.__dict__.copy()
        state["_frozen"] = None
        state.pop("_network", None)
        return state

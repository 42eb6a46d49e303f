"""Runs one layer and its input with every variation that must not change a bit of the results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _check, _core, config
from ..layers import GRU, LSTM, RNN

_Array = NDArray[Any]


@dataclass(frozen=True)
class _Call:
    """A call of forward and backward with arrays (T, B, …); `state`, `dstate` have one or two members."""

    layer: LSTM | GRU | RNN
    x: _Array
    state: tuple[_Array, ...]
    dy: _Array
    dstate: tuple[_Array, ...]
    lengths: _Array | None
    resets: _Array | None
    truncation: Any

    def _as_user(self, array: _Array) -> _Array:
        return array.swapaxes(0, 1) if self.layer.batch_first else array

    def run(self) -> dict[str, _Array]:
        """Return all results by name, time first."""

        def as_state(members: tuple[_Array, ...]) -> Any:
            return members if len(members) == 2 else members[0]

        resets = None if self.resets is None else self._as_user(self.resets)
        y, final, tape = self.layer.forward(
            self._as_user(self.x), as_state(self.state), lengths=self.lengths, resets=resets
        )
        g = self.layer.backward(tape, self._as_user(self.dy), as_state(self.dstate), truncation=self.truncation)
        found = {"y": self._as_user(y), "dx": self._as_user(g.x)}
        found |= dict(zip(("h_n", "c_n"), final if isinstance(final, tuple) else (final,), strict=False))
        found |= dict(zip(("dh0", "dc0"), g.state if isinstance(g.state, tuple) else (g.state,), strict=False))
        return found | {f"d{name}": array for name, array in g.parameters.items()}

    def steps(self, begin: int, end: int, state: tuple[_Array, ...], dstate: tuple[_Array, ...]) -> _Call:
        """The same sequences from step `begin` to `end`."""
        lengths = None if self.lengths is None else np.clip(self.lengths - begin, 0, end - begin)
        resets = None if self.resets is None else self.resets[begin:end]
        x, dy = self.x[begin:end], self.dy[begin:end]
        return replace(self, x=x, dy=dy, state=state, dstate=dstate, lengths=lengths, resets=resets)

    def sequence(self, b: int) -> _Call:
        """Sequence b alone."""
        one = slice(b, b + 1)
        return replace(
            self,
            x=self.x[:, one],
            dy=self.dy[:, one],
            state=tuple(s[:, one] for s in self.state),
            dstate=tuple(s[:, one] for s in self.dstate),
            lengths=None if self.lengths is None else self.lengths[one],
            resets=None if self.resets is None else self.resets[:, one],
        )


def _require_same_bits(found: _Array, expected: _Array, name: str, how: str) -> None:
    unsigned = f"u{expected.dtype.itemsize}"
    a, b = (np.ascontiguousarray(array).view(unsigned) for array in (found, expected))
    if a.shape != b.shape:
        raise AssertionError(f"{name} {how}: expected shape {b.shape}, got {a.shape}")
    different = np.argwhere(a != b)
    if len(different):
        at = tuple(int(j) for j in different[0])
        values = f"expected {float(expected[at]).hex()}, got {float(found[at]).hex()}"
        raise AssertionError(
            f"{name} {how}: {len(different)} of {a.size} elements differ, first at {list(at)}: {values}"
        )


def _require_all(found: dict[str, _Array], expected: dict[str, _Array], how: str) -> None:
    for name in expected:
        _require_same_bits(found[name], expected[name], name, how)


@contextmanager
def _on_threads(threads: int) -> Iterator[None]:
    """Use exactly `threads` threads, however small the work."""
    before = config._threads
    config.set_num_threads(threads)
    try:
        with config.use_cut("all"):
            yield
    finally:
        config._threads = before


def _vary_threads(call: _Call, expected: dict[str, _Array]) -> None:
    for threads in sorted({2, 3, config.get_num_threads()} - {1}):
        with _on_threads(threads):
            _require_all(call.run(), expected, f"on {threads} threads")


def _vary_neighbours(call: _Call, expected: dict[str, _Array]) -> None:
    """Run each sequence alone. Parameter gradients sum over the batch, so they are not compared."""
    for b in range(call.x.shape[1]):
        for name, alone in call.sequence(b).run().items():
            if name in ("y", "dx", "h_n", "c_n", "dh0", "dc0"):
                _require_same_bits(alone, expected[name][:, b : b + 1], name, f"of sequence {b} alone")


def _vary_pieces(call: _Call, expected: dict[str, _Array]) -> None:
    """Run two pieces with state and gradient carried on. A reverse direction and windows have no such pieces."""
    if call.layer.bidirectional:
        return
    T = len(call.x)
    for cut in sorted({1, T // 2, T - 1} - {0, T} if T > 1 else ()):
        how = f"in pieces of {cut} and {T - cut} steps"
        first = call.steps(0, cut, call.state, call.dstate).run()
        middle = tuple(first[name] for name in ("h_n", "c_n") if name in first)
        second = call.steps(cut, T, middle, call.dstate).run()
        _require_same_bits(np.concatenate([first["y"], second["y"]]), expected["y"], "y", how)
        for name in (n for n in ("h_n", "c_n") if n in second):
            _require_same_bits(second[name], expected[name], name, how)
        if call.truncation is None:
            carried = tuple(second[name] for name in ("dh0", "dc0") if name in second)
            first = call.steps(0, cut, call.state, carried).run()
            _require_same_bits(np.concatenate([first["dx"], second["dx"]]), expected["dx"], "dx", how)


def _vary_memory(call: _Call, expected: dict[str, _Array]) -> None:
    """Run with arrays with gaps, with the batch first, and misaligned to a vector by one element."""

    def gaps(array: _Array) -> _Array:
        spaced = np.zeros((*array.shape[:-1], array.shape[-1] + 3), array.dtype)
        spaced[..., : array.shape[-1]] = array
        return spaced[..., : array.shape[-1]]

    def batch_first(array: _Array) -> _Array:
        turned: _Array = np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)
        return turned

    def shifted(array: _Array) -> _Array:
        view: _Array = np.empty(array.size + 1, array.dtype)[1:].reshape(array.shape)
        view[...] = array
        return view

    for layout in (gaps, batch_first, shifted):
        elsewhere = replace(call, x=layout(call.x), dy=layout(call.dy), state=tuple(map(layout, call.state)))
        _require_all(elsewhere.run(), expected, f"with arrays in other memory ({layout.__name__})")


def _vary_backend(call: _Call, expected: dict[str, _Array]) -> None:
    """Run all backends with a fused multiply-add. A backend without it rounds products before it adds them."""
    backends = _core.backends()
    if not backends[config.backend_index()].has_fma:
        return
    for backend in backends:
        if backend.has_fma and backend.runs_here:
            with config.use_backend(backend.name):
                _require_all(call.run(), expected, f"with {backend.name}")


def assert_reproducible(
    layer: LSTM | GRU | RNN,
    x: _Array,
    state: Any = None,
    *,
    lengths: Any = None,
    resets: Any = None,
    truncation: Any = None,
    seed: int = 0,
) -> None:
    """Check that no bit of a layer's results depends on anything except its inputs and weights.

    The check computes outputs, final states and all gradients on one thread, and then repeats the computation: on
    several threads, however small the work; with each sequence of the batch alone; in two pieces with the state carried
    on (layers of one direction) and, without truncation, its gradient carried back; from arrays with other strides and
    another alignment; and, if the backend in use has a fused multiply-add, with every instruction set of this machine
    that has one.

    Parameters
    ----------
    layer : LSTM, GRU or RNN
        A layer without dropout.
    x, state, lengths, resets : as for a call of the layer
        The layer runs forward and backward on them.
    truncation : as for backward of the layer, optional
        None means all steps.
    seed : int
        The seed of the gradients from which backward starts.

    Raises
    ------
    AssertionError
        If a bit differs; the message has the array, the position, and the variation that changed it.
    ValueError
        If the layer has dropout.
    """
    if layer.dropout:
        raise ValueError(f"layer: expected dropout 0, got {layer.dropout}")
    rng = np.random.default_rng(seed)
    time_first = x[:, None] if x.ndim == 2 else x.swapaxes(0, 1) if layer.batch_first else x
    B, D = time_first.shape[1], 1 + layer.bidirectional
    shape = (layer.num_layers * D, B, layer.hidden_size)
    members = len(layer._row.states)
    given = state if isinstance(state, tuple) else (state,) * members
    marks = None if resets is None else _check.unmasked("resets", resets, "booleans")
    if marks is not None:
        marks = marks[:, None] if x.ndim == 2 else marks.swapaxes(0, 1) if layer.batch_first else marks
    call = _Call(
        layer=layer,
        x=time_first,
        state=tuple(np.zeros(shape, layer.dtype) if s is None else s.reshape(shape) for s in given),
        dy=rng.standard_normal((len(time_first), B, D * layer.hidden_size)).astype(layer.dtype),
        dstate=tuple(rng.standard_normal(shape).astype(layer.dtype) for _ in range(members)),
        lengths=None if lengths is None else np.atleast_1d(_check.unmasked("lengths", lengths, "integers")),
        resets=marks,
        truncation=truncation,
    )
    with _on_threads(1):
        expected = call.run()
        for vary in (_vary_neighbours, _vary_pieces, _vary_memory, _vary_backend):
            vary(call, expected)
    _vary_threads(call, expected)

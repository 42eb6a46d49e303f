"""Wrong calls are refused before any work: the tests check the type of error, its text, and that nothing changed."""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import fastrnn
import numpy as np
import pytest
from fastrnn import _core, config
from strategies import make

T, B, I, H = 3, 2, 4, 5
HUGE = 2**62


def f32(*shape):
    return np.ones(shape, np.float32)


def f64(*shape):
    return np.ones(shape, np.float64)


@dataclass
class World:
    """One object of each kind that a wrong call may use."""

    layer: Any = field(default_factory=lambda: fastrnn.LSTM(I, H, num_layers=2, seed=0))
    gru: Any = field(default_factory=lambda: fastrnn.GRU(I, H, batch_first=True, bidirectional=True, seed=0))
    p: Any = field(default_factory=lambda: make("lstm", T, B, I, H, "float32", 0))

    def __post_init__(self):
        p = self.p
        self.x, self.state = p.x, (f32(2, B, H), f32(2, B, H))
        self.weights, self.w = p.weights, dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), p.weights, strict=True))
        self.y, _, self.tape = self.layer.forward(self.x)
        _, _, self.cell_tape = fastrnn.lstm.forward(p.x, *p.weights, p.state)
        _, _, self.gru_tape = fastrnn.gru.forward(f32(T, B, I), f32(3 * H, I), f32(3 * H, H))
        _, _, self.gru_layer_tape = self.gru.forward(f32(B, T, I))
        self.into = fastrnn.WeightGradients(*(np.ones_like(w) for w in p.weights))

    def lstm(self, **other):
        return fastrnn.lstm(**({"x": self.x, **self.w, "state": self.p.state} | other))

    def into_with(self, **other):
        return fastrnn.lstm.backward(self.cell_tape, self.p.dy, into=self.into._replace(**other))

    def with_parameter(self, name, value):
        self.layer.parameters = self.layer.parameters | {name: value}
        return self.layer(self.x)

    def with_parameters(self, value):
        self.layer.parameters = value
        return self.layer(self.x)

    def without_parameter(self, name):
        self.layer.parameters = {k: v for k, v in self.layer.parameters.items() if k != name}
        return self.layer(self.x)

    def arrays(self):
        inputs = [*self.p.arrays.values(), *self.state, *self.into, *self.layer.parameters.values(), self.y]
        return [a for a in inputs if isinstance(a, np.ndarray)]


def problem(**other):
    sizes = {"cell": "lstm", "dtype": "float32", "threads": 1, "T": T, "B": B, "I": I, "H": H}
    return _core.Problem(**({"backend": config.backend_index()} | sizes | other))


# fmt: off
# Each row: the call, the error, and its text.
WRONG = {
    # layers: construction
    "input size a string": (lambda w: fastrnn.LSTM("4", 5), TypeError, "input_size: expected an integer, got str"),
    "input size a float": (lambda w: fastrnn.GRU(4.0, 5), TypeError, "input_size: expected an integer, got float"),
    "input size a bool": (lambda w: fastrnn.GRU(True, 5), TypeError, "input_size: expected an integer, got True"),
    "input size negative": (lambda w: fastrnn.RNN(-1, 5), ValueError, "input_size: expected an integer of at least 0"),
    "hidden size zero": (lambda w: fastrnn.LSTM(4, 0), ValueError, "hidden_size: expected an integer of at least 1"),
    "hidden size None": (lambda w: fastrnn.LSTM(4, None), TypeError, "hidden_size: expected an integer"),
    "parameters too large": (lambda w: fastrnn.LSTM(1, 2**40), ValueError, "exceed the address space"),
    "size beyond 64 bits": (lambda w: fastrnn.LSTM(2**70, 1), ValueError, "input_size: .* fits 64 bits"),
    "no layers": (lambda w: fastrnn.LSTM(4, 5, num_layers=0), ValueError, "num_layers: expected an integer of at"),
    "layers a float": (lambda w: fastrnn.LSTM(4, 5, num_layers=1.5), TypeError, "num_layers: expected an integer"),
    "bias an integer": (lambda w: fastrnn.LSTM(4, 5, bias=1), TypeError, "bias: expected True or False, got 1"),
    "batch_first a string": (lambda w: fastrnn.GRU(4, 5, batch_first="no"), TypeError, "batch_first: expected True or"),
    "bidirectional None": (lambda w: fastrnn.GRU(4, 5, bidirectional=None), TypeError, "bidirectional: expected True"),
    "dropout of one": (lambda w: fastrnn.LSTM(4, 5, dropout=1.0), ValueError, "dropout: expected a probability in"),
    "dropout negative": (lambda w: fastrnn.LSTM(4, 5, dropout=-0.1), ValueError, "dropout: expected a probability"),
    "dropout NaN": (lambda w: fastrnn.LSTM(4, 5, dropout=np.nan), ValueError, "dropout: expected a probability"),
    "dropout a string": (lambda w: fastrnn.LSTM(4, 5, dropout="half"), TypeError, "dropout: expected a number"),
    "dropout a bool": (lambda w: fastrnn.LSTM(4, 5, dropout=True), TypeError, "dropout: expected a number, got bool"),
    "half precision": (lambda w: fastrnn.LSTM(4, 5, dtype=np.float16), TypeError, "dtype: expected float32 or float64"),
    "dtype integer": (lambda w: fastrnn.LSTM(4, 5, dtype=int), TypeError,
     "dtype: expected float32 or float64, got int"),
    "dtype unknown": (lambda w: fastrnn.LSTM(4, 5, dtype="real"), TypeError, "dtype: expected float32 or float64"),
    "dtype None": (lambda w: fastrnn.LSTM(4, 5, dtype=None), TypeError, "dtype: expected float32 or float64, got None"),
    "nonlinearity": (lambda w: fastrnn.RNN(4, 5, nonlinearity="gelu"), ValueError, "nonlinearity: expected 'tanh' or"),
    "unknown option": (lambda w: fastrnn.LSTM(4, 5, droput=0.1), TypeError, "droput"),
    # layers: input
    "x None": (lambda w: w.layer(None), TypeError, "x: expected an array, got NoneType"),
    "x a string": (lambda w: w.layer("abc"), TypeError, "x: expected an array, got str"),
    "x of another dtype": (lambda w: w.layer(f64(T, B, I)), TypeError, "x: expected dtype float32, got float64"),
    "x of integers": (lambda w: w.layer(np.ones((T, B, I), int)), TypeError, "x: expected dtype float32, got int64"),
    "x big-endian": (lambda w: w.layer(w.x.astype(">f4")), TypeError, "x: expected dtype float32, got >f4"),
    "x masked": (lambda w: w.layer(np.ma.masked_array(w.x)), TypeError, "x: expected an array, got a masked array"),
    "x too narrow": (lambda w: w.layer(f32(T, B, 3)), ValueError,
     "x: expected shape (T, B, input_size) = (T, B, 4), got (3, 2, 3)"),
    "x of four axes": (lambda w: w.layer(f32(1, T, B, I)), ValueError, "x: expected shape (T, B, input_size)"),
    "x of one axis": (lambda w: w.layer(f32(I)), ValueError, "x: expected shape (T, B, input_size)"),
    "unbatched x too narrow": (lambda w: w.layer(f32(T, 3)), ValueError, "x: expected shape (T, input_size) = (T, 4)"),
    "batch-first x": (lambda w: w.gru(f32(B, T, 3)), ValueError, "x: expected shape (B, T, input_size) = (B, T, 4)"),
    # layers: state
    "LSTM state not a pair": (lambda w: w.layer(w.x, w.state[0]), TypeError,
     "state: expected a pair (h, c), got ndarray"),
    "LSTM state of three": (lambda w: w.layer(w.x, (*w.state, w.state[0])), ValueError,
     "state: expected a pair (h, c), got 3"),
    "LSTM h of another batch": (lambda w: w.layer(w.x, (f32(2, 3, H), w.state[1])), ValueError,
     "state[0]: expected shape (num_layers*D, B, H) = (2, 2, 5), got (2, 3, 5)"),
    "LSTM c of another size": (lambda w: w.layer(w.x, (w.state[0], f32(2, B, 4))), ValueError,
     "state[1]: expected shape"),
    "LSTM c of another dtype": (lambda w: w.layer(w.x, (w.state[0], f64(2, B, H))), TypeError,
     "state[1]: expected dtype float32, got float64"),
    "GRU state a pair": (lambda w: w.gru(f32(B, T, I), (f32(2, B, H), f32(2, B, H))), ValueError,
     "state: expected shape"),
    "GRU state of one direction": (lambda w: w.gru(f32(B, T, I), f32(1, B, H)), ValueError,
     "state: expected shape (num_layers*D, B, H) = (2, 2, 5), got (1, 2, 5)"),
    "GRU state batch first": (lambda w: w.gru(f32(B, T, I), f32(3, 2, H)), ValueError, "state: expected shape"),
    "batched state for unbatched x": (lambda w: w.layer(f32(T, I), w.state), ValueError,
     "state[0]: expected shape (num_layers*D, H) = (2, 5), got (2, 2, 5)"),
    # layers: lengths, resets, truncation
    "lengths of another batch": (lambda w: w.layer(w.x, lengths=[3]), ValueError,
     "lengths: expected shape (B,) = (2,), got (1,)"),
    "lengths a number": (lambda w: w.layer(w.x, lengths=3), ValueError, "lengths: expected shape (B,) = (2,), got ()"),
    "lengths floats": (lambda w: w.layer(w.x, lengths=[1.0, 2.0]), TypeError,
     "lengths: expected integers, got list of"),
    "lengths booleans": (lambda w: w.layer(w.x, lengths=[True, False]), TypeError, "lengths: expected integers"),
    "lengths NaN": (lambda w: w.layer(w.x, lengths=np.array([np.nan, 1])), TypeError, "lengths: expected integers"),
    "lengths masked": (lambda w: w.layer(w.x, lengths=np.ma.masked_array([1, 2])), TypeError,
     "lengths: expected integers"),
    "lengths objects": (lambda w: w.layer(w.x, lengths=np.array([1, None])), TypeError, "lengths: expected integers"),
    "lengths negative": (lambda w: w.layer(w.x, lengths=[-1, 2]), ValueError,
     "lengths: expected lengths from 0 to T = 3, got -1 to 2"),
    "lengths beyond T": (lambda w: w.layer(w.x, lengths=[1, 4]), ValueError,
     "lengths: expected lengths from 0 to T = 3"),
    "lengths huge": (lambda w: w.layer(w.x, lengths=np.array([2**64 - 1, 1], np.uint64)), ValueError,
     "lengths: expected lengths from 0 to T = 3"),
    "lengths without a batch": (lambda w: w.layer(f32(T, I), lengths=[2]), ValueError, "lengths: expected None for x"),
    "resets of another shape": (lambda w: w.layer(w.x, resets=np.zeros((B, T), bool)), ValueError,
     "resets: expected shape (T, B) = (3, 2), got (2, 3)"),
    "resets batch first": (lambda w: w.gru(f32(B, T, I), resets=np.zeros((T, B), bool)), ValueError,
     "resets: expected shape (B, T) = (2, 3), got (3, 2)"),
    "resets without a batch": (lambda w: w.layer(f32(T, I), resets=np.zeros((T, 1), bool)), ValueError,
     "resets: expected shape (T,) = (3,), got (3, 1)"),
    "resets integers": (lambda w: w.layer(w.x, resets=np.zeros((T, B), int)), TypeError, "resets: expected booleans"),
    "resets masked": (lambda w: w.layer(w.x, resets=np.ma.zeros((T, B), bool)), TypeError, "resets: expected booleans"),
    "truncation of zero": (lambda w: w.layer.backward(w.tape, truncation=0), ValueError,
     "truncation: expected an integer of at least 1, got 0"),
    "truncation a float": (lambda w: w.layer.backward(w.tape, truncation=2.0), TypeError,
     "truncation: expected an integer"),
    "truncation a bool": (lambda w: w.layer.backward(w.tape, truncation=True), TypeError,
     "truncation: expected an integer"),
    "truncation of three": (lambda w: w.layer.backward(w.tape, truncation=(1, 2, 3)), ValueError,
     "truncation: expected k or a pair (k1, k2), got 3"),
    "truncation k2 < k1": (lambda w: w.layer.backward(w.tape, truncation=(3, 2)), ValueError,
     "truncation: expected k2 >= k1, since losses would be dropped otherwise, got (3, 2)"),
    "truncation with None": (lambda w: w.layer.backward(w.tape, truncation=(None, 2)), TypeError,
     "truncation[0]: expected an integer"),
    "truncation with k2 None": (lambda w: w.layer.backward(w.tape, truncation=(2, None)), TypeError,
     "truncation[1]: expected an integer"),
    "truncation by position": (lambda w: w.layer.backward(w.tape, None, None, 2), TypeError, "positional"),
    "seed negative": (lambda w: fastrnn.LSTM(4, 5, seed=-1), ValueError, "seed: expected non-negative"),
    "seed a string": (lambda w: fastrnn.LSTM(4, 5, seed="one"), TypeError, "seed: "),
    # layers: parameters
    "parameters None": (lambda w: w.with_parameters(None), TypeError, "parameters: expected a dict, got NoneType"),
    "parameter missing": (lambda w: w.without_parameter("bias_hh_l1"), ValueError,
     "parameters: expected exactly .*missing ['bias_hh_l1']"),
    "parameter unknown": (lambda w: w.with_parameter("weight_hh_l2", f32(1)), ValueError,
     "parameters: .*unknown ['weight_hh_l2']"),
    "parameter of another shape": (lambda w: w.with_parameter("weight_hh_l0", f32(20, 4)), ValueError,
     "weight_hh_l0: expected shape (4*H, H) = (20, 5), got (20, 4)"),
    "input weight of another shape": (lambda w: w.with_parameter("weight_ih_l0", f32(20, 5)), ValueError,
     "weight_ih_l0: expected shape (4*H, input_size) = (20, 4), got (20, 5)"),
    "bias of two axes": (lambda w: w.with_parameter("bias_ih_l0", f32(20, 1)), ValueError,
     "bias_ih_l0: expected shape"),
    "parameter of another dtype": (lambda w: w.with_parameter("bias_ih_l1", f64(20)), TypeError,
     "bias_ih_l1: expected dtype float32, got float64"),
    "parameter None": (lambda w: w.with_parameter("bias_ih_l1", None), TypeError,
     "bias_ih_l1: expected an array, got NoneType"),
    # layers: backward
    "tape None": (lambda w: w.layer.backward(None), TypeError,
     "tape: expected the tape of a forward call, got NoneType"),
    "tape of a cell": (lambda w: w.layer.backward(w.cell_tape), ValueError, "tape: expected a tape of this layer"),
    "tape of another layer": (lambda w: w.layer.backward(w.gru_layer_tape), ValueError,
     "tape: expected a tape of this layer"),
    "dy of another shape": (lambda w: w.layer.backward(w.tape, f32(T, B, 4)), ValueError,
     "dy: expected shape (T, B, D*H) = (3, 2, 5), got (3, 2, 4)"),
    "dy of fewer steps": (lambda w: w.layer.backward(w.tape, f32(2, B, H)), ValueError, "dy: expected shape"),
    "dy of another dtype": (lambda w: w.layer.backward(w.tape, f64(T, B, H)), TypeError,
     "dy: expected dtype float32, got float64"),
    "dy batch first": (lambda w: w.gru.backward(w.gru_layer_tape, f32(T, B, 2 * H)), ValueError,
     "dy: expected shape (B, T, D*H) = (2, 3, 10)"),
    "dstate of another shape": (lambda w: w.layer.backward(w.tape, None, (f32(2, B, 4), None)), ValueError,
     "dstate[0]: expected shape"),
    "dstate not a pair": (lambda w: w.layer.backward(w.tape, None, w.state[0]), TypeError, "dstate: expected a pair"),
    # one layer on plain arrays
    "cell: x of integers": (lambda w: w.lstm(x=np.ones((T, B, I), int)), TypeError,
     "x: expected float32 or float64, got int64"),
    "cell: x of two axes": (lambda w: w.lstm(x=f32(T, I)), ValueError,
     "x: expected shape (T, B, I) = (T, B, I), got (3, 4)"),
    "cell: x of another input size": (lambda w: w.lstm(x=f32(T, B, 3)), ValueError,
     "w_ih: expected shape (4*H, I) = (20, 3), got (20, 4)"),
    "cell: w_hh not square": (lambda w: w.lstm(w_hh=f32(20, 4)), ValueError,
     "w_hh: expected shape (4*H, H) = (16, 4), got (20, 4)"),
    "cell: w_hh of another cell": (lambda w: fastrnn.gru(w.x, w.w["w_ih"], w.w["w_hh"]), ValueError,
     "w_hh: expected shape (3*H, H) = (15, 5), got (20, 5)"),
    "cell: w_ih of other rows": (lambda w: w.lstm(w_ih=f32(19, I)), ValueError,
     "w_ih: expected shape (4*H, I) = (20, 4), got (19, 4)"),
    "cell: w_ih of another dtype": (lambda w: w.lstm(w_ih=f64(20, I)), TypeError,
     "w_ih: expected dtype float32, got float64"),
    "cell: float64 weights": (lambda w: fastrnn.gru(w.x, f64(15, 4), f64(15, 5)), TypeError,
     "w_hh: expected dtype float32, got float64; pass w_hh.astype(np.float32) or x.astype(np.float64)"),
    "cell: float64 x": (lambda w: w.lstm(x=f64(T, B, I)), TypeError,
     "w_hh: expected dtype float64, got float32; pass w_hh.astype(np.float64) or x.astype(np.float32)"),
    "cell: integer weights": (lambda w: w.lstm(w_ih=np.ones((20, I), int)), TypeError,
     "w_ih: expected dtype float32, got int64; pass w_ih.astype(np.float32)"),
    "cell: float64 bias": (lambda w: w.lstm(b_ih=f64(20)), TypeError,
     "b_ih: expected dtype float32, got float64; pass b_ih.astype(np.float32) or x.astype(np.float64)"),
    "cell: float64 state": (lambda w: w.lstm(state=(f32(B, H), f64(B, H))), TypeError,
     "state[1]: expected dtype float32, got float64; pass state[1].astype(np.float32) or x.astype(np.float64)"),
    "cell: w_hh None": (lambda w: w.lstm(w_hh=None), TypeError, "w_hh: expected an array, got NoneType"),
    "cell: b_ih too short": (lambda w: w.lstm(b_ih=f32(19)), ValueError,
     "b_ih: expected shape (4*H,) = (20,), got (19,)"),
    "cell: b_hh of another dtype": (lambda w: w.lstm(b_hh=f64(20)), TypeError,
     "b_hh: expected dtype float32, got float64"),
    "cell: h0 of another batch": (lambda w: w.lstm(state=(f32(3, H), f32(B, H))), ValueError,
     "state[0]: expected shape (B, H) = (2, 5), got (3, 5)"),
    "cell: c0 of another dtype": (lambda w: w.lstm(state=(f32(B, H), f64(B, H))), TypeError,
     "state[1]: expected dtype float32"),
    "cell: state a dict": (lambda w: w.lstm(state={"h": 1, "c": 2}), TypeError,
     "state: expected a pair (h, c), got dict"),
    "cell: reverse a string": (lambda w: w.lstm(reverse="yes"), TypeError,
     "reverse: expected True or False, got 'yes'"),
    "cell: reverse by position": (lambda w: fastrnn.lstm(w.x, *w.weights, w.p.state, True), TypeError, "positional"),
    "cell: tape None": (lambda w: fastrnn.lstm.backward(None), TypeError, "tape: expected a Tape, got NoneType"),
    "cell: tape of another cell": (lambda w: fastrnn.lstm.backward(w.gru_tape), ValueError,
     "tape: expected one of lstm, got one of gru"),
    "cell: dy of another shape": (lambda w: fastrnn.lstm.backward(w.cell_tape, f32(T, B, 4)), ValueError,
     "dy: expected shape (T, B, H) = (3, 2, 5), got (3, 2, 4)"),
    "cell: dy of another dtype": (lambda w: fastrnn.lstm.backward(w.cell_tape, f64(T, B, H)), TypeError,
     "dy: expected dtype float32"),
    "cell: dstate not a pair": (lambda w: fastrnn.lstm.backward(w.cell_tape, None, f32(B, H)), TypeError,
     "dstate: expected a pair"),
    "cell: unknown gradient wanted": (lambda w: fastrnn.lstm.backward(w.cell_tape, wanted=("dx",)), ValueError,
     "wanted: expected names out of"),
    "cell: into of another shape": (lambda w: w.into_with(w_ih=f32(20, 3)), ValueError, "into.w_ih: expected shape"),
    "cell: into of another dtype": (lambda w: w.into_with(b_hh=f64(20)), TypeError,
     "into.b_hh: expected dtype float32"),
    "cell: into a list": (lambda w: w.into_with(b_hh=[0.0] * 20), TypeError, "into.b_hh: expected an array, got list"),
    "cell: into strided": (lambda w: w.into_with(w_hh=f32(20, 10)[:, ::2]), ValueError,
     "into.w_hh: expected a writeable C-"),
    "cell: into read-only": (lambda w: w.into_with(w_hh=np.broadcast_to(f32(1, 1), (20, 5))), ValueError,
     "into.w_hh: expected a writeable C-"),
    "cell: lengths beyond T": (lambda w: w.lstm(lengths=[1, 4]), ValueError, "lengths: expected lengths from 0 to T"),
    "cell: resets of another shape": (lambda w: w.lstm(resets=[[True]]), ValueError, "resets: expected shape (T, B)"),
    "cell: truncation k2 < k1": (lambda w: fastrnn.lstm.backward(w.cell_tape, truncation=(3, 2)), ValueError,
     "truncation: expected k2 >= k1"),
    "cell: wanted a number": (lambda w: fastrnn.lstm.backward(w.cell_tape, wanted=3), TypeError,
     "wanted: expected a collection of names, got int"),
    "cell: wanted unhashable": (lambda w: fastrnn.lstm.backward(w.cell_tape, wanted=[[]]), TypeError,
     "wanted: expected names out of"),
    # configuration
    "no threads": (lambda w: fastrnn.set_num_threads(0), ValueError, "n: expected an integer of at least 1, got 0"),
    "threads negative": (lambda w: fastrnn.set_num_threads(-2), ValueError, "n: expected an integer of at least 1"),
    "threads a float": (lambda w: fastrnn.set_num_threads(2.0), TypeError, "n: expected an integer, got float"),
    "configuration elsewhere": (lambda w: fastrnn.show_config(mode="file"), ValueError, "mode: expected 'stdout' or"),
    "unknown backend": (lambda w: config.use_backend("mmx").__enter__(), ValueError,
     "FASTRNN_BACKEND: expected one of .*'mmx'"),
    # the core
    "core: unknown cell": (lambda w: problem(cell="sru"), ValueError, "cell: expected one of"),
    "core: unknown dtype": (lambda w: problem(dtype="float16"), TypeError, "dtype: expected float32 or float64"),
    "core: no such backend": (lambda w: problem(backend=99), ValueError, "backend: no such backend"),
    "core: backend negative": (lambda w: problem(backend=-1), ValueError, "backend: no such backend"),
    "core: no threads": (lambda w: problem(threads=0), ValueError, "at least 1 thread"),
    "core: T negative": (lambda w: problem(T=-1), ValueError, "T, B, I, H: expected sizes of at least 0"),
    "core: H negative": (lambda w: problem(H=-1), ValueError, "T, B, I, H: expected sizes of at least 0"),
    "core: rows overflow": (lambda w: problem(T=HUGE, B=8), OverflowError, "T, B, I, H: .*address space"),
    "core: inputs overflow": (lambda w: problem(I=HUGE), OverflowError, "T, B, I, H: .*address space"),
    "core: units overflow": (lambda w: problem(H=HUGE), OverflowError, "T, B, I, H: .*address space"),
    "core: reserve overflows": (lambda w: problem(T=2**40, H=2**25), OverflowError, "T, B, I, H: .*address space"),
}
# fmt: on


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused_with_type_and_text_and_change_nothing(name):
    call, kind, text = WRONG[name]
    world = World()
    before = [array.copy() for array in world.arrays()]
    kept, threads = world.arrays(), fastrnn.get_num_threads()
    pattern = ".*".join(re.escape(part) for part in text.split(".*"))
    with pytest.raises(kind, match=pattern):
        call(world)
    assert fastrnn.get_num_threads() == threads
    for array, copy in zip(kept, before, strict=True):
        assert array.tobytes() == copy.tobytes()


def core_arguments():
    """The arguments of forward and backward, by name, all right; the members of a tuple have names with a dot."""
    p = make("lstm", T, B, I, H, "float32", 0)
    c = problem()
    forward = {
        "packed": np.zeros(c.packed_forward, np.uint8), "x": p.x, "initial.h": p.h0, "initial.c": p.c0,
        "y": f32(T, B, H), "final.h": f32(B, H), "final.c": f32(B, H), "reserve": np.zeros(c.reserve, np.uint8),
        "scratch": np.zeros(c.scratch_forward, np.uint8),
    }  # fmt: skip
    backward = {
        "packed": np.zeros(c.packed_backward, np.uint8), "x": p.x, "initial.h": p.h0, "initial.c": p.c0,
        "y": f32(T, B, H), "reserve": forward["reserve"], "dy": p.dy, "d_final.h": p.dh_n, "d_final.c": p.dc_n,
        "dx": f32(T, B, I), "d_initial.h": f32(B, H), "d_initial.c": f32(B, H), "gradients.w_ih": f32(20, I),
        "gradients.w_hh": f32(20, H), "gradients.b_ih": f32(20), "gradients.b_hh": f32(20),
        "scratch": np.zeros(c.scratch_backward, np.uint8),
    }  # fmt: skip
    return {"forward": (_core.forward, c, forward), "backward": (_core.backward, c, backward)}


FORWARD_OUTPUTS = ("y", "final", "reserve", "scratch")
BACKWARD_OUTPUTS = ("dx", "d_initial", "gradients", "scratch")


def in_order(arguments):
    """The arguments of a call, with tuples of the members."""
    found = []
    for name, members in itertools.groupby(arguments, lambda name: name.split(".")[0]):
        values = [arguments[member] for member in members]
        found.append(values[0] if name in arguments else tuple(values))
    return found


@pytest.mark.parametrize(("way", "name"), [(way, name) for way, (_, _, a) in core_arguments().items() for name in a])
def test_the_core_refuses_every_array_of_another_kind_size_or_memory(way, name):
    """No call from Python can make the kernels read or write out of bounds."""
    call, c, right = core_arguments()[way]
    call(c, *in_order(right))
    value = right[name]
    not_contiguous = np.repeat(value, 2, axis=-1)[..., ::2]
    wrong = [([1.0], TypeError), (value.astype(np.float64), TypeError)]
    wrong += [(other, ValueError) for other in (value[..., :-1], value[None], not_contiguous)]
    if name.split(".")[0] in (FORWARD_OUTPUTS if way == "forward" else BACKWARD_OUTPUTS):
        locked = value.copy()
        locked.flags.writeable = False
        wrong += [(locked, ValueError)]
    if value.dtype == np.float32:
        shifted = np.zeros(value.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(value.shape)
        wrong += [(shifted, ValueError), (value.astype(">f4"), TypeError)]
    for other, kind in wrong:
        with pytest.raises(kind, match=name):
            call(c, *in_order(right | {name: other}))


@pytest.mark.parametrize(
    ("way", "name"),
    [("forward", name) for name in ("packed", "x", "y", "scratch")]
    + [("backward", name) for name in ("packed", "x", "y", "reserve", "scratch")],
)
def test_the_core_refuses_what_it_cannot_do_without(way, name):
    call, c, right = core_arguments()[way]
    with pytest.raises(ValueError, match="a required array is missing"):
        call(c, *in_order(right | {name: None}))


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh", "rnn_relu"])
def test_the_core_refuses_a_c_for_cells_without(cell):
    c = problem(cell=cell)
    for call, _, right in core_arguments().values():
        without = {name: array for name, array in right.items() if not name.endswith(".c")}
        for name in right.keys() - without.keys():
            with pytest.raises(ValueError, match=f"{name[:-2]}: expected a tuple of 1, got 2 members"):
                call(c, *in_order({k: array for k, array in right.items() if k in without or k == name}))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "expected a file written by save"),
        (b"not a zip", "expected a file written by save"),
        (b"PK\x03\x04" + bytes(100), "expected a file written by save"),
    ],
)
def test_foreign_files_are_refused(tmp_path, content, text):
    path = tmp_path / "layer.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        fastrnn.LSTM.load(path)


def test_files_of_another_class_or_without_configuration_are_refused(tmp_path):
    path = tmp_path / "layer.npz"
    fastrnn.GRU(3, 4).save(path)
    with pytest.raises(ValueError, match="path: expected a file of LSTM, got one of GRU"):
        fastrnn.LSTM.load(path)
    np.savez(path, weight_hh_l0=np.ones(3))
    with pytest.raises(ValueError, match="no configuration in it"):
        fastrnn.LSTM.load(path)
    with pytest.raises(FileNotFoundError):
        fastrnn.LSTM.load(tmp_path / "absent.npz")


def test_a_damaged_file_is_refused_wherever_it_is_cut(tmp_path):
    path = tmp_path / "layer.npz"
    fastrnn.LSTM(3, 4, seed=0).save(path)
    content = path.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="expected a file written by save"):
            fastrnn.LSTM.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "layer.npz"
    layer = fastrnn.LSTM(3, 4, seed=0)
    layer.save(path)
    before = path.read_bytes()
    layer.parameters["weight_hh_l0"] = f32(1)
    with pytest.raises(ValueError, match="weight_hh_l0: expected shape"):
        layer.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["layer.npz"]


@pytest.mark.parametrize("given", [{"inputs": (np.ones((2, 3, 5), np.float32),)}, {"options": (1.0,)}], ids=list)
@pytest.mark.parametrize("cell", list(_core.cells()))
def test_a_cell_without_inputs_of_steps_and_options_refuses_them(cell, given):
    p = _core.Problem(cell, np.float32, config.backend_index(), 1, 2, 3, 4, 5)
    packed, scratch = np.zeros(p.packed_forward, np.uint8), np.zeros(p.scratch_forward, np.uint8)
    x, y = np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 5), np.float32)
    with pytest.raises(ValueError, match="inputs, options: the cell has no such input of a step, or no options"):
        _core.forward(p, packed, x, None, y, None, None, scratch, **given)

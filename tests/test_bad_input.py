"""Wrong calls of objects with state: windows, streams, frozen layers, checkpoints, files, settings.

`test_errors.py` has wrong calls of layers, cells and the core. The tests compare all arrays and plain values of every
reachable object before and after a call.
"""

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass

import fastrnn
import numpy as np
import pytest
from fastrnn import _plan

T, B, I, H = 3, 2, 4, 5


def f32(*shape):
    return np.ones(shape, np.float32)


class World:
    """One object of each kind, with short names."""

    def __init__(self, folder):
        self.lstm, self.gru = fastrnn.LSTM(I, H, 2, seed=0), fastrnn.GRU(I, H, seed=0)
        self.both = fastrnn.RNN(I, H, bidirectional=True, seed=0)
        self.frozen = fastrnn.GRU(I, H, seed=0)
        self.frozen.freeze()
        self.stream, self.lstm_stream = self.gru.stream(B), self.lstm.stream(B)
        self.stream(f32(B, I))
        self.x, self.ids = f32(T, B, I), np.arange(60)
        self.windows = fastrnn.Windows(self.ids, B, 5)
        _, _, self.tape = self.gru.forward(self.x)
        _, _, self.checked = self.gru.forward(self.x, checkpoint=2)
        self.path = folder / "gru.npz"
        self.gru.save(self.path)

    def changed_file(self, **changes):
        """The file of the layer with these arrays replaced; None removes an array."""
        with np.load(self.path) as file:
            arrays = {name: file[name] for name in file.files} | changes
        other = self.path.with_name("other.npz")
        np.savez(other, **{name: array for name, array in arrays.items() if array is not None})
        return other

    def cell_tape(self, **options):
        return fastrnn.gru.forward(self.x, *self.gru.parameters.values(), **options)[2]

    def load(self, **changes):
        return fastrnn.GRU.load(self.changed_file(**changes))

    def set_parameters(self, layer, value):
        layer.parameters = value

    def set_state(self, stream, value):
        stream.state = value


def snapshot(value, seen=None):
    """The bytes of every reachable array and every reachable plain value, in the order of visit."""
    seen = set() if seen is None else seen
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [(value.tobytes(), value.shape, value.dtype, value.flags.writeable)]
    if value is None or isinstance(value, str | bytes | int | float):
        return [value]
    if isinstance(value, np.random.Generator):
        return [repr(value.bit_generator.state)]
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, fastrnn.Stream):
        return snapshot(value.state, seen)
    if isinstance(value, _plan.Tape):
        return [one for part in (value.x, value.initial, value.outputs, value.kept) for one in snapshot(part, seen)]
    if isinstance(value, dict):
        members = list(value.values())
    elif isinstance(value, list | tuple):
        members = list(value)
    elif is_dataclass(value):
        members = [getattr(value, field.name) for field in fields(value)]
    else:
        members = list(getattr(value, "__dict__", {}).values())
    return [one for member in members for one in snapshot(member, seen)]


def header(**configuration):
    return np.array(json.dumps({"format": "fastrnn-1", **configuration}))


FOREIGN = "path: expected a file written by save"
ROWS = "rows: expected rows of a batch of 2"
TAPE = "tape: it belongs to its process and cannot be pickled"
FROZEN = "parameters: expected a layer that is not frozen; call thaw() first"
# ruff: noqa: E501  one wrong call per line
# fmt: off
WRONG = {
    # windows
    "windows: no batch": (lambda w: fastrnn.Windows(w.ids, 0, 5), ValueError, "batch_size: expected an integer of at least 1, got 0"),
    "windows: batch a float": (lambda w: fastrnn.Windows(w.ids, 2.0, 5), TypeError, "batch_size: expected an integer, got float"),
    "windows: batch None": (lambda w: fastrnn.Windows(w.ids, None, 5), TypeError, "batch_size: expected an integer, got NoneType"),
    "windows: batch huge": (lambda w: fastrnn.Windows(w.ids, 2**62, 5), ValueError, "data: expected at least"),
    "windows: no steps": (lambda w: fastrnn.Windows(w.ids, 2, 0), ValueError, "num_steps: expected an integer of at least 1, got 0"),
    "windows: steps negative": (lambda w: fastrnn.Windows(w.ids, 2, -5), ValueError, "num_steps: expected an integer of at least 1, got -5"),
    "windows: steps a bool": (lambda w: fastrnn.Windows(w.ids, 2, True), TypeError, "num_steps: expected an integer, got True"),
    "windows: steps too long": (lambda w: fastrnn.Windows(w.ids, 2, 60), ValueError, "data: expected at least 122 elements, got 60"),
    "windows: batch_first a string": (lambda w: fastrnn.Windows(w.ids, 2, 5, batch_first="yes"), TypeError, "batch_first: expected True or False, got 'yes'"),
    "windows: drop_last a number": (lambda w: fastrnn.Windows(w.ids, 2, 5, drop_last=0), TypeError, "drop_last: expected True or False, got 0"),
    "windows: data a number": (lambda w: fastrnn.Windows(3, 2, 5), ValueError, "data: expected an array of at least one axis, got ()"),
    "windows: data empty": (lambda w: fastrnn.Windows([], 2, 5), ValueError, "data: expected at least"),
    "windows: targets of another length": (lambda w: fastrnn.Windows(w.ids, 2, 5, targets=w.ids[1:]), ValueError, "targets: expected as many as data, got (59,) for (60,)"),
    "windows: targets a number": (lambda w: fastrnn.Windows(w.ids, 2, 5, targets=1), ValueError, "targets: expected as many as data, got ()"),
    "windows: documents of one element": (lambda w: fastrnn.Windows([[1], [2]], 1, 1), ValueError, "data: expected a document of at least two elements"),
    "windows: documents of other shapes": (lambda w: fastrnn.Windows([f32(9, 2), f32(9, 3)], 1, 1), ValueError, "data[1]: expected shape (N, 2), got (9, 3)"),
    "windows: documents of other kinds": (lambda w: fastrnn.Windows([f32(9), np.arange(9)], 1, 1), TypeError, "data[1]: expected dtype float32, got int64"),
    "windows: index beyond": (lambda w: w.windows[5], IndexError, "index: expected one of 5 windows, got 5"),
    "windows: index far below": (lambda w: w.windows[-6], IndexError, "index: expected one of 5 windows, got -6"),
    "windows: index a float": (lambda w: w.windows[1.0], TypeError, "'float' object cannot be interpreted as an integer"),
    # streams
    "stream: made by hand": (lambda w: fastrnn.Stream(), TypeError, "Stream: expected to be made by layer.stream(batch_size)"),
    "stream: no batch": (lambda w: w.gru.stream(0), ValueError, "batch_size: expected an integer of at least 1, got 0"),
    "stream: batch a string": (lambda w: w.gru.stream("1"), TypeError, "batch_size: expected an integer, got str"),
    "stream: batch beyond 64 bits": (lambda w: w.gru.stream(2**64), ValueError, "batch_size: expected a size that fits 64 bits"),
    "stream: batch huge": (lambda w: w.gru.stream(2**62), OverflowError, "T, B, I, H: the arrays would exceed the address space"),
    "stream: bidirectional": (lambda w: w.both.stream(), ValueError, "stream: expected a layer of one direction, got a bidirectional one"),
    "stream: x None": (lambda w: w.stream(None), TypeError, "x: expected a NumPy array, got NoneType"),
    "stream: x a list": (lambda w: w.stream([[1.0] * I] * B), TypeError, "x: expected a NumPy array, got list"),
    "stream: x of three axes": (lambda w: w.stream(f32(1, B, I)), ValueError, "x: expected shape (2, 4), got (1, 2, 4)"),
    "stream: x of another batch": (lambda w: w.stream(f32(3, I)), ValueError, "x: expected shape (2, 4), got (3, 4)"),
    "stream: x of another dtype": (lambda w: w.stream(np.ones((B, I))), TypeError, "x: unexpected dtype float64"),
    "stream: x big-endian": (lambda w: w.stream(f32(B, I).astype(">f4")), TypeError, "x: unexpected dtype >f4"),
    "stream: x in columns": (lambda w: w.stream(np.asfortranarray(f32(B, I))), ValueError, "x: the last axis must be contiguous"),
    "stream: x misaligned": (lambda w: w.stream(np.zeros(33, np.uint8)[1:].view("f4").reshape(2, 4)), ValueError, "x: the array must be aligned"),
    "stream: state of another shape": (lambda w: w.set_state(w.stream, f32(1, 3, H)), ValueError, "state: expected shape (num_layers, B, H) = (1, 2, 5), got (1, 3, 5)"),
    "stream: state of another dtype": (lambda w: w.set_state(w.stream, np.ones((1, B, H))), TypeError, "state: expected dtype float32, got float64"),
    "stream: state None": (lambda w: w.set_state(w.stream, None), TypeError, "state: expected an array, got NoneType"),
    "stream: state of another layer": (lambda w: w.set_state(w.stream, w.lstm_stream.state), ValueError, "state: expected shape"),
    "stream: state not a pair": (lambda w: w.set_state(w.lstm_stream, f32(2, B, H)), TypeError, "state: expected a pair (h, c), got ndarray"),
    "stream: state with c None": (lambda w: w.set_state(w.lstm_stream, (f32(2, B, H), None)), TypeError, "state[1]: expected an array, got NoneType"),
    "stream: reset of a row beyond": (lambda w: w.stream.reset(2), IndexError, ROWS),
    "stream: reset of a row far below": (lambda w: w.stream.reset([-3]), IndexError, ROWS),
    "stream: reset of half a row": (lambda w: w.stream.reset(0.5), TypeError, "rows: expected integers or booleans, got float64"),
    "stream: reset of too many": (lambda w: w.stream.reset([True] * 3), ValueError, "rows: expected shape (B,) = (2,), got (3,)"),
    "stream: pickled": (lambda w: pickle.dumps(w.stream), TypeError, "Stream: it belongs to its process and cannot be pickled"),
    # frozen layers
    "frozen: parameters replaced": (lambda w: w.set_parameters(w.frozen, {}), ValueError, "parameters: expected a layer that is not frozen"),
    "frozen: parameter replaced": (lambda w: w.frozen.parameters.__setitem__("weight_hh_l0", f32(15, 5)), TypeError, FROZEN),
    "frozen: parameter taken out": (lambda w: w.frozen.parameters.pop("weight_hh_l0"), TypeError, FROZEN),
    "frozen: parameters cleared": (lambda w: w.frozen.parameters.clear(), TypeError, FROZEN),
    "frozen: parameters updated": (lambda w: w.frozen.parameters.update(w.gru.parameters), TypeError, FROZEN),
    "frozen: parameter written": (lambda w: w.frozen.parameters["weight_hh_l0"].fill(0), ValueError, "assignment destination is read-only"),
    "frozen: x of another size": (lambda w: w.frozen(f32(T, B, 3)), ValueError, "x: expected shape (T, B, input_size) = (T, B, 4), got (3, 2, 3)"),
    "frozen: x of another dtype": (lambda w: w.frozen(np.ones((T, B, I))), TypeError, "x: expected dtype float32, got float64"),
    "frozen: state of another batch": (lambda w: w.frozen(w.x, f32(1, 3, H)), ValueError, "state: expected shape (num_layers*D, B, H) = (1, 2, 5), got (1, 3, 5)"),
    "frozen: state a pair": (lambda w: w.frozen(w.x, (f32(1, B, H), f32(1, B, H))), ValueError, "state: expected shape"),
    # checkpoints
    "checkpoint of zero": (lambda w: w.gru.forward(w.x, checkpoint=0), ValueError, "checkpoint: expected an integer of at least 1, got 0"),
    "checkpoint a float": (lambda w: w.gru.forward(w.x, checkpoint=1.5), TypeError, "checkpoint: expected an integer, got float"),
    "checkpoint unknown": (lambda w: w.gru.forward(w.x, checkpoint="some"), ValueError, "checkpoint: expected None, an integer or 'auto', got 'some'"),
    "automatic without a budget": (lambda w: w.gru.forward(w.x, checkpoint="auto"), TypeError, "budget: expected the bytes that checkpoint='auto' may take, got None"),
    "budget negative": (lambda w: w.gru.forward(w.x, checkpoint="auto", budget=-1), ValueError, "budget: expected an integer of at least 0, got -1"),
    "budget alone": (lambda w: w.gru.forward(w.x, budget=100), ValueError, "budget: expected None without checkpoint='auto'"),
    # layers
    "too many layers": (lambda w: fastrnn.GRU(1, 1, 2**31), ValueError, "num_layers: expected at most 65536, got 2147483648"),
    "tape of the same weights": (lambda w: w.frozen.backward(w.tape), ValueError, "tape: expected a tape of this layer, got one of another"),
    "tape pickled": (lambda w: pickle.dumps(w.tape), TypeError, TAPE),
    "tape with checkpoints pickled": (lambda w: pickle.dumps(w.checked), TypeError, TAPE),
    "tape of lengths pickled": (lambda w: pickle.dumps(w.gru.forward(w.x, lengths=[3, 1])[2]), TypeError, TAPE),
    "tape of a cell pickled": (lambda w: pickle.dumps(w.cell_tape()), TypeError, TAPE),
    "tape of a cell with checkpoints pickled": (lambda w: pickle.dumps(w.cell_tape(checkpoint=2)), TypeError, TAPE),
    # files
    "file: not there": (lambda w: fastrnn.GRU.load(w.path.with_name("none.npz")), FileNotFoundError, "none.npz"),
    "file: a folder": (lambda w: fastrnn.GRU.load(w.path.parent), OSError, "directory"),
    "file: a number": (lambda w: fastrnn.GRU.load(3), TypeError, "expected str, bytes or os.PathLike object, not int"),
    "file: save into no folder": (lambda w: w.gru.save(w.path.parent / "no" / "gru"), FileNotFoundError, "no"),
    "file: of another class": (lambda w: fastrnn.LSTM.load(w.path), ValueError, "path: expected a file of LSTM, got one of GRU"),
    "file: of another format": (lambda w: w.load(fastrnn=np.array('{"format": "fastrnn-9"}')), ValueError, "path: expected format 'fastrnn-1', got 'fastrnn-9'"),
    "file: no configuration": (lambda w: w.load(fastrnn=None), ValueError, FOREIGN),
    "file: configuration not JSON": (lambda w: w.load(fastrnn=np.array("{")), ValueError, FOREIGN),
    "file: configuration a list": (lambda w: w.load(fastrnn=np.array("[1]")), ValueError, FOREIGN),
    "file: unknown option": (lambda w: w.load(fastrnn=header(layer="GRU", input_size=I, hidden_size=H, colour=1)), ValueError, FOREIGN),
    "file: other sizes": (lambda w: w.load(fastrnn=header(layer="GRU", input_size=I, hidden_size=6)), ValueError, FOREIGN),
    "file: sizes of another kind": (lambda w: w.load(fastrnn=header(layer="GRU", input_size="4", hidden_size=H)), ValueError, FOREIGN),
    "file: parameter missing": (lambda w: w.load(bias_hh_l0=None), ValueError, FOREIGN),
    "file: parameter of another shape": (lambda w: w.load(bias_hh_l0=f32(4)), ValueError, FOREIGN),
    "file: parameter of another dtype": (lambda w: w.load(bias_hh_l0=np.ones(15)), ValueError, FOREIGN),
    "file: parameter unknown": (lambda w: w.load(bias_hh_l7=f32(15)), ValueError, FOREIGN),
    "file: pickled objects": (lambda w: w.load(bias_hh_l0=np.array([{}])), ValueError, FOREIGN),
    "file: generator of junk": (lambda w: w.load(fastrnn=header(layer="GRU", input_size=I, hidden_size=H, generator={"state": 1})), ValueError, FOREIGN),
    # settings
    "threads None": (lambda w: fastrnn.set_num_threads(None), TypeError, "n: expected an integer, got NoneType"),
    "threads a string": (lambda w: fastrnn.set_num_threads("2"), TypeError, "n: expected an integer, got str"),
    "threads beyond 64 bits": (lambda w: fastrnn.set_num_threads(2**64), ValueError, "n: expected a size that fits 64 bits"),
    "configuration as None": (lambda w: fastrnn.show_config(None), ValueError, "mode: expected 'stdout' or 'dicts', got None"),
}
# fmt: on


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_refused_with_type_and_text_and_changes_nothing(name, tmp_path):
    call, kind, text = WRONG[name]
    world = World(tmp_path)
    before, threads = snapshot(world), fastrnn.get_num_threads()
    file = world.path.read_bytes()
    with pytest.raises(kind, match=re.escape(text)):
        call(world)
    assert snapshot(world) == before
    assert fastrnn.get_num_threads() == threads
    assert world.path.read_bytes() == file
    assert not list(tmp_path.glob("*.tmp"))


def test_the_snapshot_sees_what_a_call_could_change(tmp_path):
    world = World(tmp_path)
    changes = [
        lambda: world.stream(f32(B, I)),
        lambda: world.gru.parameters["weight_hh_l0"].fill(0),
        lambda: setattr(world.gru, "batch_first", True),
        lambda: world.tape.kept[0].fill(1),
        lambda: setattr(world.windows, "state", 6),
        lambda: world.gru._rng.random(),
        lambda: world.frozen.thaw(),
        lambda: world.x.fill(3),
    ]
    for number, change in enumerate(changes):
        before = snapshot(world)
        change()
        assert snapshot(world) != before, number


def test_there_are_a_hundred_and_fifty_wrong_calls():
    from test_errors import WRONG as OTHERS

    assert len({*WRONG, *OTHERS}) == len(WRONG) + len(OTHERS) >= 150


@pytest.mark.parametrize("name", ["mmx", "AVX2", "avx2,sse2", " "])
def test_an_unknown_backend_in_the_environment_is_refused_at_import(name):
    environment = os.environ | {"FASTRNN_BACKEND": name}
    result = subprocess.run(
        [sys.executable, "-c", "import fastrnn"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert f"ValueError: FASTRNN_BACKEND: expected one of {', '.join(fastrnn.show_config('dicts')['backends'])}, " in (
        result.stderr
    )

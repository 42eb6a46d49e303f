"""A fuzz target for the argument checks of the Python interface.

    python tests/fuzz/fuzz_arguments.py CORPUS [options of libFuzzer]        (needs atheris)

An input is a public call with arguments drawn from correct and wrong ones. The call may raise only documented errors
and must not change any argument. `tests/test_fuzz_corpus.py` replays the corpus without atheris.
"""

import contextlib
import sys

import numpy as np

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["fastrnn"]):
        import fastrnn
else:
    import fastrnn

T, B, I, H = 3, 2, 4, 5
REFUSALS = (TypeError, ValueError, OverflowError, IndexError)


class Bytes:
    """A stream of choices; zero after its end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def one_of(self, choices):
        return choices[self.byte() % len(choices)]


def array(b, *shape):
    """Usually a float32 array of this shape; otherwise an array that is wrong or unusual in some way."""
    right = np.full(shape, 0.5, np.float32)
    kind = b.byte()
    if kind < 128:
        return right
    if kind < 150:
        shape = tuple(max(0, n + b.one_of((0, 1, -1, 2))) for n in shape)
        return np.ones(shape, b.one_of((np.float32, np.float64)))
    changes = (
        lambda: None, lambda: right.tolist(), lambda: right.astype(np.float64), lambda: right.astype(">f4"),
        lambda: right.astype(object), lambda: np.ma.masked_array(right), lambda: right[..., ::-1],
        lambda: np.asfortranarray(right), lambda: right.astype(np.int64), lambda: right.astype(np.complex64),
        lambda: np.broadcast_to(np.float32(1), shape), lambda: right[None], lambda: right[..., 0], lambda: "x",
        lambda: np.float32(2), lambda: right.astype(np.float16), lambda: right.view("S4"), lambda: right * np.nan,
        lambda: np.zeros(right.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(shape), lambda: right.view(Subclass),
        lambda: right[:0], lambda: {"a": right}, lambda: memoryview(right), lambda: [right.tolist(), [1]], object,
    )  # fmt: skip
    return b.one_of(changes)()


class Subclass(np.ndarray):
    """An array of another class."""


def number(b, right):
    wrong = (0, -1, 2**31, 2**63, -(2**70), 1.5, float("nan"), None, True, "2", np.int8(3), np.float32(2), [1], 1j)
    return right if b.byte() < 128 else b.one_of(wrong)


def flag(b, right):
    return right if b.byte() < 160 else b.one_of((True, False, None, 1, "yes", np.bool_(True), []))


def lengths(b):
    if b.byte() < 128:
        return None
    lists = [3, 1], [0, 0], [4, 1], [-1, 2], [3], [1.0, 2.0], [[1, 2]], [], [True, False]
    arrays = np.array([2**63], np.uint64), np.array([1, None]), np.ma.masked_array([1, 2]), np.array(["1", "2"])
    return b.one_of((*lists, *arrays, 3, "ab", {1, 2}))


def resets(b, *shape):
    if b.byte() < 128:
        return None
    right = np.zeros(shape, bool)
    right[b.byte() % T] = True
    return b.one_of((right, right.T, right.astype(int), right.tolist(), True, "no", right[:1], right.astype(object)))


def state(b, layers, has_c):
    kind = b.byte()
    if kind < 96:
        return None
    shape = (layers, B, H) if layers else (B, H)
    members = tuple(array(b, *shape) for _ in range(b.one_of((2, 2, 2, 1, 3))))
    return members if kind % 2 == has_c else b.one_of((members[0], list(members), iter(members), "hc", {}))


def truncation(b):
    if b.byte() < 128:
        return None
    return b.one_of((1, 2, (1, 2), (2, 1), [2, 2], (1,), (1, 2, 3), 0, -1, 2**80, "2", 1.0, (None, 1), True))


def of_layer(b):
    kind = b.one_of((fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN))
    flags = {name: flag(b, name == "bias") for name in ("bidirectional", "batch_first", "bias")}
    dtype = b.one_of((np.float32,) * 7 + ("f8", ">f4", int, None))
    layer = kind(I, H, number(b, 2), dropout=number(b, 0.0), seed=number(b, 0), dtype=dtype, **flags)
    layers = layer.num_layers * (1 + layer.bidirectional)
    if layers > 8:
        return
    if b.byte() > 200:
        names = list(layer.parameters)
        layer.parameters[b.one_of((*names, "other"))] = array(b, *layer.parameters[b.one_of(names)].shape)
    if b.byte() > 200:
        layer.freeze()
    x, has_c = array(b, *((B, T) if layer.batch_first else (T, B)), I), kind is fastrnn.LSTM
    arguments = (x, state(b, layers, has_c)), {"lengths": lengths(b), "resets": resets(b, T, B)}
    if b.byte() < 80:
        call_unchanged(layer, *arguments[0], **arguments[1])
        return
    checkpoint = {"checkpoint": b.one_of((None, None, 1, 2, 0, -1, "auto", "x", 1.5)), "budget": number(b, None)}
    y, _, tape = call_unchanged(layer.forward, *arguments[0], **arguments[1], **checkpoint)
    tape = b.one_of((tape,) * 7 + (None,))
    call_unchanged(layer.backward, tape, array(b, *y.shape), state(b, layers, has_c), truncation=truncation(b))


def of_cell(b):
    name, gates = b.one_of((("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)))
    cell, rows = getattr(fastrnn, name), gates * H
    weights = array(b, rows, I), array(b, rows, H), array(b, rows), array(b, rows)
    arguments = (array(b, T, B, I), *weights, state(b, 0, name == "lstm"))
    order = {"lengths": lengths(b), "resets": resets(b, T, B), "reverse": flag(b, False)}
    if b.byte() < 80:
        call_unchanged(cell, *arguments, **order)
        return
    _, _, tape = call_unchanged(cell.forward, *arguments, **order, checkpoint=b.one_of((None, None, 1, 2, 0, "1")))
    wanted = b.one_of((("x", "state", "w_ih", "w_hh", "b_ih", "b_hh"), (), ("x",), ("y",), "x", None, 3, [["x"]]))
    dstate = state(b, 0, name == "lstm")
    call_unchanged(cell.backward, tape, array(b, T, B, H), dstate, truncation=truncation(b), wanted=wanted)


def of_stream(b):
    layer = b.one_of((fastrnn.LSTM, fastrnn.GRU))(I, H, seed=0)
    batch_size = number(b, B)
    stream = layer.stream(b.one_of((1, 2)) if batch_size == 2**31 else batch_size)
    call_unchanged(stream, array(b, B, I))
    stream.reset(
        b.one_of((None, 0, 1, -3, 2**70, [0, 1], [True, False], "a", 1.0, [[0]], [], np.array([0], np.uint64)))
    )
    stream.state = state(b, 1, isinstance(layer, fastrnn.LSTM))


def of_windows(b):
    data = b.one_of((np.arange(40), list(range(40)), [np.arange(9), np.arange(5)], array(b, 30, 2), 3, "abc", [], None))
    more = {"targets": array(b, 30, 2) if b.byte() > 200 else None, "drop_last": flag(b, True)}
    windows = fastrnn.Windows(data, number(b, 2), number(b, 3), batch_first=flag(b, False), **more)
    windows[b.one_of((0, -1, 1, 2**40, -(2**40)))]
    if len(windows) < 100:
        list(windows)


def of_settings(b):
    before = fastrnn.get_num_threads()
    try:
        fastrnn.set_num_threads(number(b, 1))
        fastrnn.show_config(b.one_of(("dicts", "dict", None, 1)))
    finally:
        fastrnn.set_num_threads(before)


def arrays_in(value):
    if isinstance(value, np.ndarray) and value.dtype != object:
        yield value
    elif isinstance(value, list | tuple):
        for member in value:
            yield from arrays_in(member)


def call_unchanged(function, *arguments, **options):
    """Make the call and require that its arrays are unchanged, whatever it does."""
    found = [*arrays_in(arguments), *arrays_in(list(options.values()))]
    before = [(array.tobytes(), array.shape, array.strides, array.flags.writeable) for array in found]
    try:
        return function(*arguments, **options)
    finally:
        assert before == [(array.tobytes(), array.shape, array.strides, array.flags.writeable) for array in found]


def one_input(data):
    b = Bytes(data)
    with contextlib.suppress(*REFUSALS):
        b.one_of((of_layer, of_layer, of_cell, of_cell, of_stream, of_windows, of_settings))(b)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()

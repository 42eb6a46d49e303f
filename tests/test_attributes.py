"""Public attributes have the same value on every path of a call, or are fixed."""

import copy

import fastrnn
import numpy as np
import pytest

T, B, I, H = 5, 2, 3, 4
LENGTHS, RESETS = np.arange(1, T + 1), np.tri(T, k=-3, dtype=bool)

CHANGES = {
    "batch_first": lambda kind: {"batch_first": True},
    "dropout": lambda kind: {"dropout": 0.5},
    "no dropout": lambda kind: {"dropout": 0.0},
    "nonlinearity": lambda kind: {"nonlinearity": "relu"} if kind is fastrnn.RNN else {"batch_first": True},
}
MOMENTS = {
    "at once": lambda layer, x: None,
    "after a call": lambda layer, x: layer(x),
    "after forward": lambda layer, x: layer.forward(x),
    "while frozen": lambda layer, x: layer.freeze(),
    "after a frozen call": lambda layer, x: (layer.freeze(), layer(x)),
    "after thawing": lambda layer, x: (layer.forward(x), layer.freeze(), layer(x), layer.thaw()),
}


def flat(*results):
    return [array for one in results for array in (flat(*one) if isinstance(one, tuple) else [one])]


def trained(layer, x, **more):
    y, state, tape = layer.forward(x, **more)
    found = layer.backward(tape, np.cos(y), None)
    return flat(y, state, found.x, found.state, *found.parameters.values())


PATHS = {
    "call": lambda layer, x: flat(*layer(x)),
    "unbatched": lambda layer, x: flat(*layer(x[0])),
    "lengths": lambda layer, x: flat(*layer(x, lengths=LENGTHS)),
    "resets": lambda layer, x: flat(*layer(x, resets=RESETS)),
    "training": trained,
    "training with lengths": lambda layer, x: trained(layer, x, lengths=LENGTHS),
    "training with resets": lambda layer, x: trained(layer, x, resets=RESETS),
    "training with checkpoints": lambda layer, x: trained(layer, x, checkpoint=2),
    "stream": lambda layer, x: [layer.stream(T)(x[0]).copy()] if not layer.bidirectional else [],
}


def made(kind, **options):
    layer = kind(I, H, **({"num_layers": 2, "dropout": 0.25, "seed": 0} | options))
    return layer, np.random.default_rng(1).standard_normal((T, T, I)).astype(np.float32)  # in either layout


def like(layer, **options):
    """A layer made with these options, with the same parameters and generator."""
    other = type(layer)(**(layer._configuration() | options))
    other.parameters = {name: array.copy() for name, array in layer.parameters.items()}
    other._rng = copy.deepcopy(layer._rng)
    return other


def assert_same(found, expected):
    assert len(found) == len(expected)
    assert all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN])
def test_a_changed_attribute_holds_on_every_path(kind, change, moment, bidirectional):
    layer, x = made(kind, bidirectional=bidirectional)
    MOMENTS[moment](layer, x)
    options = CHANGES[change](kind)
    expected = like(layer, **options)
    for name, value in options.items():
        setattr(layer, name, value)
        assert getattr(layer, name) == value
    for path in PATHS.values():
        expected._rng = copy.deepcopy(layer._rng)
        assert_same(path(layer, x), path(expected, x))


@pytest.mark.parametrize("more", [{}, {"lengths": LENGTHS[-B:]}, {"resets": RESETS[:, :B]}, {"checkpoint": 2}], ids=str)
@pytest.mark.parametrize("between", ["nothing", "forward", "call", "freeze"])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"dropout": 0.5}], ids=str)
@pytest.mark.parametrize("kind", [fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN])
def test_a_tape_keeps_the_attributes_that_it_was_made_with(kind, options, between, more):
    layer, _ = made(kind, **options)
    x = np.random.default_rng(1).standard_normal((T, B, I)).astype(np.float32)
    y, _, tape = layer.forward(x, **more)
    window = None if "checkpoint" in more else 2
    before = [layer.backward(tape, np.cos(y)), layer.backward(tape, np.cos(y), truncation=window)]
    layer.batch_first, layer.dropout = True, 0.75
    if kind is fastrnn.RNN:
        layer.nonlinearity = "relu"
    other = np.ascontiguousarray(x.swapaxes(0, 1))
    {"nothing": lambda: None, "forward": lambda: layer.forward(other), "call": lambda: layer(other),
     "freeze": layer.freeze}[between]()  # fmt: skip
    after = [layer.backward(tape, np.cos(y)), layer.backward(tape, np.cos(y), truncation=window)]
    for a, b in zip(after, before, strict=True):
        assert a.x.shape == x.shape
        assert_same(flat(a.x, a.state, *a.parameters.values()), flat(b.x, b.state, *b.parameters.values()))


FIXED = {
    **{f"{kind.__name__}.{name}": (lambda kind=kind: made(kind)[0], name, value)
       for kind in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN)
       for name, value in {"input_size": 7, "hidden_size": 7, "num_layers": 3, "bias": False, "bidirectional": True,
                           "dtype": np.dtype(np.float64), "frozen": True}.items()},
    **{f"{cell}.{name}": (lambda cell=cell: getattr(fastrnn, cell), name, value)
       for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu")
       for name, value in {"name": "elman", "gates": 7, "states": None, "__name__": "elman"}.items()},
    **{f"Windows.{name}": (lambda: fastrnn.Windows(np.arange(50), 2, 5), name, value)
       for name, value in {"batch_size": 3, "num_steps": 4, "batch_first": True, "drop_last": False,
                           "steps": 3}.items()},
}  # fmt: skip


@pytest.mark.parametrize("which", FIXED)
def test_other_attributes_are_fixed(which):
    make, name, value = FIXED[which]
    one = make()
    before = getattr(one, name)
    with pytest.raises(AttributeError, match=name):
        setattr(one, name, value)
    with pytest.raises(AttributeError, match=name):
        delattr(one, name)
    assert getattr(one, name) == before


def test_a_fixed_attribute_may_be_set_to_the_value_that_it_has():
    class Named(fastrnn.LSTM):
        def __init__(self, input_size, hidden_size):
            super().__init__(input_size, hidden_size, seed=0)
            self.hidden_size, self.name = hidden_size, "encoder"

    layer = Named(I, H)
    assert (layer.hidden_size, layer.name) == (H, "encoder")
    for value in (5, True, 4.0, "4", np.arange(3)):
        with pytest.raises(AttributeError, match=r"hidden_size: expected to stay 4, got .*; make a new layer"):
            layer.hidden_size = value


REFUSED = {"batch_first": ["yes", 1, None], "dropout": [1.0, -0.1, True, "0.5"], "nonlinearity": ["gelu", None, 1]}


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_that_the_constructor_refuses_is_refused_later_and_changes_nothing(name):
    layer, x = made(fastrnn.RNN)
    layer.freeze()
    before = flat(*layer(x))
    for value in REFUSED[name]:
        with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
            fastrnn.RNN(I, H, **{name: value})
        with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
            setattr(layer, name, value)
    with pytest.raises(AttributeError, match=name):
        delattr(layer, name)
    assert_same(flat(*layer(x)), before)


def test_every_public_attribute_is_among_those_tested():
    layer = made(fastrnn.RNN)[0]
    objects = {"RNN": layer, "lstm": fastrnn.lstm, "Windows": fastrnn.Windows(np.arange(50), 2, 5)}
    free = {"parameters", "state", "resets"}  # the user may set these
    for kind, one in objects.items():
        for name in vars(one):
            if not name.startswith("_") and name not in free:
                assert f"{kind}.{name}" in FIXED or name in REFUSED, name

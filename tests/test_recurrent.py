"""`fastrnn.Recurrent`: a stack of a written cell has all that `fastrnn.LSTM` has."""

import copy
import itertools
import json
import pickle

import fastrnn
import numpy as np
import pytest
from core_call import assert_same_bits
from fastrnn.testing import assert_gradients, assert_reproducible, assert_values
from hypothesis import given
from hypothesis import strategies as st
from program_cases import WRITTEN
from strategies import dtypes, seeds
from written_cases import SHIPPED, lstm, masked, own_output, peephole, states_by_name, written_cells

named = pytest.mark.parametrize
T, B, I, H = 5, 3, 4, 6
TORCH = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}


def sequence(*shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def flat(*results):
    """All arrays of nested results."""
    for one in results:
        if isinstance(one, tuple | list):
            yield from flat(*one)
        elif isinstance(one, dict):
            yield from flat(*one.values())
        else:
            yield one


def assert_same(found, expected):
    found, expected = list(flat(*found)), list(flat(*expected))
    assert len(found) == len(expected)
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert_same_bits({number: a}, {number: b})


def trained(layer, x, truncation=None, **more):
    y, state, tape = layer.forward(x, **more)
    dy, dstate = np.cos(y), tuple(map(np.tanh, state)) if isinstance(state, tuple) else np.tanh(state)
    found = layer.backward(tape, dy, dstate, truncation=truncation)
    return [y, state, found.x, found.state, found.parameters, found.inputs]


def as_lstm(layer):
    """The compiled LSTM with the parameters and the generator of a written one."""
    configuration = layer._configuration()
    del configuration["cell"]
    other = fastrnn.LSTM(**configuration)
    other.parameters = {TORCH[name[:4]] + name[4:]: array.copy() for name, array in layer.parameters.items()}
    other._rng = copy.deepcopy(layer._rng)
    return other


LENGTHS, RESETS = np.array([5, 0, 3]), np.eye(T, B, -2, dtype=bool)
CALLS = {
    "plain": {}, "lengths": {"lengths": LENGTHS}, "resets": {"resets": RESETS}, "starts": {"resets": RESETS[2:, :1]},
    "truncation": {"truncation": 2}, "windows": {"truncation": (2, 4), "lengths": LENGTHS},
    "checkpoint": {"checkpoint": 2}, "auto": {"checkpoint": "auto", "budget": 0},
}  # fmt: skip
OPTIONS = [
    {}, {"num_layers": 2, "dropout": 0.5}, {"bidirectional": True, "num_layers": 2}, {"bias": False},
    {"batch_first": True, "num_layers": 3, "dtype": "float64"},
]  # fmt: skip


@named("options", OPTIONS, ids=str)
@named("call", CALLS)
def test_the_written_lstm_does_what_the_compiled_one_does(options, call):
    layer, more = fastrnn.Recurrent(lstm, I, H, **options, seed=1), dict(CALLS[call])
    if call == "starts":
        more["resets"] = np.zeros((T, B), bool)
        more["resets"][0, 1] = True
    other, x = as_lstm(layer), sequence(T, B, I, dtype=layer.dtype)
    if layer.batch_first:
        x = np.ascontiguousarray(x.swapaxes(0, 1))
        more |= {"resets": more["resets"].T} if "resets" in more else {}
    for frozen in (False, True):
        if frozen:
            layer.freeze(), other.freeze()
        assert_same(trained(layer, x, **more), trained(other, x, **more))
        calls = {name: one for name, one in more.items() if name in ("lengths", "resets")}
        assert_same(layer(x, **calls), other(x, **calls))
    if not layer.bidirectional:
        assert_same([layer.stream(2)(x[0, :2])], [other.stream(2)(x[0, :2])])
    if not calls and "checkpoint" not in more:
        assert_same(trained(layer, x[0], **more), trained(other, x[0], **more))


WITH_EVERYTHING = [masked, own_output, *(WRITTEN[name] for name in ("normed", "two_products", "layer_norm_lstm"))]


def drawn_inputs(layer, T, B):
    """Inputs as the layer takes them."""
    count, sizes = layer.num_layers * (1 + layer.bidirectional), {"units": layer.hidden_size, "one": 1}
    found = {
        one.name: [sequence(T, B, sizes[one.columns], dtype=layer.dtype) for _ in range(count)]
        for one in layer.cell.program.inputs
    }
    return {name: one if count > 1 else one[0] for name, one in found.items()}


@named("cell", WITH_EVERYTHING, ids=lambda cell: cell.program.name)
@named("options", [{}, {"num_layers": 2, "dtype": "float64"}, {"bidirectional": True}], ids=str)
@named("call", ["plain", "lengths", "resets", "truncation", "windows"])
@named("n", [1, 2])
def test_checkpoints_give_the_bits_of_a_tape_that_keeps_everything(cell, options, call, n):
    layer, more = fastrnn.Recurrent(cell, I, H, **options, seed=1), dict(CALLS[call])
    x = sequence(T, B, I, dtype=layer.dtype)
    if layer.cell.program.inputs:
        more["inputs"] = drawn_inputs(layer, T, B)
    assert_same(trained(layer, x, checkpoint=n, **more), trained(layer, x, **more))


@named("cell", WITH_EVERYTHING, ids=lambda cell: cell.program.name)
@named("num_layers", [1, 2])
def test_a_stream_gives_the_bits_of_one_call(cell, num_layers):
    layer = fastrnn.Recurrent(cell, I, H, num_layers, seed=1)
    x, inputs = sequence(T, B, I), drawn_inputs(layer, T, B)
    y, state = layer(x, **({"inputs": inputs} if inputs else {}))
    stream = layer.stream(B)
    for t in range(T):
        now = {name: one[t] if num_layers == 1 else [each[t] for each in one] for name, one in inputs.items()}
        assert_same([stream(x[t], now) if inputs else stream(x[t])], [y[t]])
    assert_same([stream.state], [state])


def by_hand(layer, x, inputs):
    """The stack's output, final states and gradients for dy = cos(y), out of functions."""
    run, D = fastrnn.recurrent(layer.cell), 1 + layer.bidirectional
    names = [one.name for one in layer._row.parameters]
    tapes, finals, gradients, dx = [], [], {}, None
    for number in range(layer.num_layers):
        halves = []
        for direction in range(D):
            suffix = f"l{number}" + "_reverse" * direction
            matrices = [layer.parameters[f"{name}_{suffix}"] for name in names]
            given = {name: one[number * D + direction] for name, one in inputs.items()}
            half, final, tape = run.forward(x, *matrices[:4], vectors=dict(zip(names[4:], matrices[4:], strict=True)),
                                            inputs=given, reverse=bool(direction))  # fmt: skip
            halves.append(half)
            tapes.append((suffix, tape))
            finals.append(states_by_name(layer.cell, final))
        x = np.concatenate(halves, axis=2)
    y, d, of_inputs = x, np.cos(x), []
    for number in reversed(range(layer.num_layers)):
        dx = None
        for direction in reversed(range(D)):
            suffix, tape = tapes[number * D + direction]
            half = np.ascontiguousarray(d[:, :, direction * layer.hidden_size : (direction + 1) * layer.hidden_size])
            g = run.backward(tape, half)
            dx = g.x if dx is None else g.x + dx
            arrays = {name: getattr(g, name, None) for name in names[:4]} | g.vectors
            gradients |= {f"{name}_{suffix}": one for name, one in arrays.items()}
            of_inputs.append(g.inputs)
        d = dx
    return y, finals, dx, gradients, of_inputs[::-1]


@given(cell=written_cells(), layers=st.integers(1, 2), both=st.booleans(), dtype=dtypes, seed=seeds)
def test_a_stack_has_the_bits_of_its_functions(backend, cell, layers, both, dtype, seed):
    layer = fastrnn.Recurrent(cell, I, H, layers, bidirectional=both, dtype=dtype, seed=seed)
    count = layers * (1 + both)
    inputs = {
        one.name: [sequence(T, B, 1 if one.columns == "one" else H, dtype=dtype, seed=j) for j in range(count)]
        for one in cell.program.inputs
    }
    x = sequence(T, B, I, dtype=dtype, seed=seed)
    given_inputs = {name: one if count > 1 else one[0] for name, one in inputs.items()}
    y, state, tape = layer.forward(x, inputs=given_inputs)
    g = layer.backward(tape, np.cos(y))
    expected, finals, dx, gradients, of_inputs = by_hand(layer, x, inputs)
    assert_same_bits({"y": y, "dx": g.x}, {"y": expected, "dx": dx})
    for name, member in states_by_name(cell, state).items():
        assert_same_bits({name: member}, {name: np.stack([one[name] for one in finals])})
    assert g.parameters.keys() == gradients.keys()
    assert_same_bits(g.parameters, gradients)
    for one in cell.program.inputs:
        found = g.inputs[one.name] if count > 1 else [g.inputs[one.name]]
        for a, b in zip(found, of_inputs, strict=True):
            assert_same_bits({one.name: a}, b, [one.name])
    assert_same(layer(x, inputs=given_inputs), (y, state))


def test_results_do_not_depend_on_threads_neighbours_and_chunks():
    assert_reproducible(fastrnn.Recurrent(peephole, I, H, 2, seed=0), sequence(T, B, I))


@named("batch_first", [False, True])
@named("cell", SHIPPED, ids=lambda cell: cell.program.name)
def test_a_file_holds_the_program_and_everything_else(tmp_path, cell, batch_first):
    options = {"options": {"leak": 0.5}} if cell is masked else {}
    layer = fastrnn.Recurrent(cell, I, H, 2, batch_first=batch_first, dropout=0.25, seed=3, **options)
    layer.save(tmp_path / "layer")
    loaded = fastrnn.Recurrent.load(tmp_path / "layer.npz")
    assert loaded.cell == cell
    assert loaded.cell.step is None
    assert repr(loaded) == repr(layer)
    x = sequence(T, B, I) if not batch_first else sequence(B, T, I)
    shape = x.shape[:2]
    inputs = {"mask": [sequence(*shape, H)] * 2, "gain": [sequence(*shape, 1)] * 2} if cell is masked else None
    assert_same(trained(loaded, x, inputs=inputs), trained(layer, x, inputs=inputs))


def rewritten(path, change):
    """A copy of a file with another header."""
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays.pop("fastrnn")))
    change(header)
    other = path.with_name("other.npz")
    np.savez(other, fastrnn=np.array(json.dumps(header)), **arrays)
    return other


BROKEN = {
    "no cell": lambda header: header.pop("cell"),
    "no text": lambda header: header.update(cell=None),
    "no program": lambda header: header.update(cell="{}"),
    "a later program": lambda header: header.update(cell=header["cell"].replace('"format":1', '"format":2')),
    "an unknown operation": lambda header: header.update(cell=header["cell"].replace('"tanh"', '"tank"')),
    "another cell": lambda header: header.update(cell=own_output.text),
    "an unknown option": lambda header: header.update(options={"leak": 1.0}),
}


@named("which", BROKEN)
def test_a_program_is_checked_when_a_file_is_loaded(tmp_path, which):
    path = tmp_path / "layer.npz"
    fastrnn.Recurrent(peephole, I, H, seed=0).save(path)
    with pytest.raises(ValueError, match=r"^path: expected a file written by save, got .*other\.npz"):
        fastrnn.Recurrent.load(rewritten(path, BROKEN[which]))


def test_files_of_other_classes_are_refused(tmp_path):
    fastrnn.Recurrent(lstm, I, H).save(tmp_path / "written")
    fastrnn.LSTM(I, H).save(tmp_path / "compiled")
    with pytest.raises(ValueError, match=r"^path: expected a file of LSTM, got one of Recurrent"):
        fastrnn.LSTM.load(tmp_path / "written")
    with pytest.raises(ValueError, match=r"^path: expected a file of Recurrent, got one of LSTM"):
        fastrnn.Recurrent.load(tmp_path / "compiled")


@named("duplicate", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_have_the_bits_of_the_original(duplicate):
    layer = fastrnn.Recurrent(peephole, I, H, 2, seed=0)
    layer(sequence(T, B, I))
    layer.freeze()
    assert_same(trained(duplicate(layer), sequence(T, B, I)), trained(layer, sequence(T, B, I)))


def test_a_stream_runs_the_steps_of_a_call_with_start_values_and_options():
    @fastrnn.cell(gates="a", states={"h": 0.5, "c": -1.0}, options={"leak": 0.75})
    def leaky(a, s, o):
        c = o.leak * s.c + np.tanh(a.a)
        h = np.tanh(c) + s.h / 2
        return h, (h, c)

    layer, x = fastrnn.Recurrent(leaky, I, H, 2, seed=0), sequence(T, B, I)
    stream = layer.stream(B)
    assert [member[0, 0, 0] for member in stream.state] == [0.5, -1.0]
    expected, _ = layer(x)
    assert_same([np.stack([stream(one).copy() for one in x])], [expected])
    stream.reset()
    layer.options = {"leak": 0.25}
    assert_same([stream(x[0])], [expected[0]])
    stream.refresh()
    stream.reset()
    changed, _ = layer(x)
    assert not np.array_equal(changed, expected)
    assert_same([np.stack([stream(one).copy() for one in x])], [changed])


@named("moment", ["at once", "after a call", "while frozen"])
def test_options_hold_on_every_path(moment):
    x, mask, gain = sequence(T, B, I), sequence(T, B, H, seed=1), sequence(T, B, 1, seed=2)
    layer = fastrnn.Recurrent(masked, I, H, seed=0)
    other = fastrnn.Recurrent(masked, I, H, seed=0, options={"leak": 0.125})
    inputs = {"mask": mask, "gain": gain}
    if moment == "after a call":
        layer(x, inputs=inputs)
    if moment == "while frozen":
        layer.freeze()
    assert layer.options == {"leak": 0.75}
    layer.options = {"leak": 0.125}
    assert layer.options == {"leak": 0.125}
    assert_same(layer(x, inputs=inputs), other(x, inputs=inputs))
    assert_same(trained(layer, x, inputs=inputs), trained(other, x, inputs=inputs))
    for value, error in (({"leak": "1"}, TypeError), ({"lack": 1}, ValueError), ([1], TypeError)):
        with pytest.raises(error, match=r"^options"):
            layer.options = value
        with pytest.raises(error, match=r"^options"):
            fastrnn.Recurrent(masked, I, H, options=value)
    with pytest.raises(AttributeError):
        del layer.options


def test_a_tape_keeps_the_options_of_its_call():
    layer, inputs = fastrnn.Recurrent(masked, I, H, seed=0), {"mask": sequence(T, B, H), "gain": sequence(T, B, 1)}
    y, _, tape = layer.forward(sequence(T, B, I), inputs=inputs)
    before = layer.backward(tape, y)
    layer.options = {"leak": 0.0}
    after = layer.backward(tape, y)
    assert_same([after.x, after.parameters, after.inputs], [before.x, before.parameters, before.inputs])


@named("batch_first", [False, True])
def test_inputs_are_laid_out_as_x(batch_first):
    layer = fastrnn.Recurrent(masked, I, H, batch_first=batch_first, seed=0)
    other = fastrnn.Recurrent(masked, I, H, batch_first=False, seed=0)
    x, mask, gain = sequence(T, B, I), sequence(T, B, H, seed=1), sequence(T, B, 1, seed=2)

    def laid_out(a):
        return a.swapaxes(0, 1) if batch_first else a

    y, state, dx, dstate, parameters, inputs = trained(
        layer, laid_out(x), inputs={"mask": laid_out(mask), "gain": laid_out(gain)}, lengths=LENGTHS
    )
    found = [laid_out(y), state, laid_out(dx), dstate, parameters, {n: laid_out(one) for n, one in inputs.items()}]
    assert_same(found, trained(other, x, inputs={"mask": mask, "gain": gain}, lengths=LENGTHS))
    for a in itertools.chain(inputs.values(), [y, dx]):
        assert a.shape[:2] == ((B, T) if batch_first else (T, B))
    alone = trained(layer, x[:, 0], inputs={"mask": mask[:, 0], "gain": gain[:, 0]})
    assert_same([alone[0], alone[5]], [y[0] if batch_first else y[:, 0], {"mask": laid_out(inputs["mask"])[:, 0],
                                       "gain": laid_out(inputs["gain"])[:, 0]}])  # fmt: skip


def test_parameters_have_the_names_of_the_function():
    layer = fastrnn.Recurrent(peephole, I, H, 2, bidirectional=True)
    assert layer.parameters.keys() == {
        f"{name}_l{number}{end}"
        for name in ("w_ih", "w_hh", "b_ih", "b_hh", "p_i", "p_f", "p_o")
        for number in range(2)
        for end in ("", "_reverse")
    }
    assert layer.parameters["w_ih_l1"].shape == (4 * H, 2 * H)
    assert layer.parameters["p_i_l0"].shape == (H,)
    assert "b_hh_l0" not in fastrnn.Recurrent(peephole, I, H, bias=False).parameters
    layer.parameters["p_i_l0"] = np.zeros(H + 1, np.float32)
    with pytest.raises(ValueError, match=r"^p_i_l0: expected shape \(H,\) = \(6,\), got \(7,\)"):
        layer(sequence(T, B, I))


def test_the_cell_is_fixed():
    layer = fastrnn.Recurrent(peephole, I, H)
    layer.cell = peephole
    with pytest.raises(AttributeError, match="cell: expected to stay"):
        layer.cell = lstm
    with pytest.raises(AttributeError, match="cell"):
        del layer.cell


def masked_call(**change):
    inputs = {"mask": sequence(T, B, H), "gain": sequence(T, B, 1)} | change
    return lambda: fastrnn.Recurrent(masked, I, H)(sequence(T, B, I), inputs=inputs)


BAD = {
    "a function": (lambda: fastrnn.Recurrent(np.tanh, I, H), TypeError, "^cell: expected a cell"),
    "no inputs": (lambda: fastrnn.Recurrent(masked, I, H)(sequence(T, B, I)), ValueError, "^inputs: expected exactly"),
    "inputs that the cell lacks": (lambda: fastrnn.Recurrent(lstm, I, H)(sequence(T, B, I), inputs={"mask": 0}),
                                   ValueError, r"^inputs: expected exactly \[\]; missing \[\], unknown \['mask'\]"),
    "an input of a shape": (masked_call(mask=sequence(T, B, H - 1)), ValueError, r"^inputs\['mask'\]: expected shape"),
    "an input of a dtype": (masked_call(gain=np.zeros((T, B, 1))), TypeError, r"^inputs\['gain'\]: expected dtype"),
    "values of a written cell": (lambda: assert_values(fastrnn.Recurrent(lstm, I, H), sequence(T, B, I)), TypeError,
                                 "^layer: expected a fastrnn.LSTM, GRU or RNN, got Recurrent"),
    "gradients of a written cell": (lambda: assert_gradients(fastrnn.Recurrent(lstm, I, H), sequence(T, B, I)),
                                    TypeError, "^layer: expected a fastrnn.LSTM, GRU or RNN, got Recurrent"),
    "one input for two layers": (
        lambda: fastrnn.Recurrent(masked, I, H, 2)(sequence(T, B, I), inputs={"mask": sequence(T, B, H), "gain": []}),
        ValueError, r"^inputs\['mask'\]: expected a list of num_layers\*D = 2 arrays"),
    "a stream without its inputs": (lambda: fastrnn.Recurrent(masked, I, H).stream()(sequence(1, I)), ValueError,
                                    "^inputs: expected exactly"),
    "a stream's inputs of a shape": (
        lambda: fastrnn.Recurrent(masked, I, H).stream()(sequence(1, I), {"mask": sequence(2, H), "gain": 0}),
        ValueError, r"^inputs\['mask'\]: expected shape \(B, H\)"),
    "a stream's inputs for two layers": (
        lambda: fastrnn.Recurrent(masked, I, H, 2).stream()(sequence(1, I), {"mask": sequence(1, H), "gain": [1, 2]}),
        ValueError, r"^inputs\['mask'\]: expected a list of num_layers = 2 arrays"),
    "inputs that a stream's cell lacks": (
        lambda: fastrnn.Recurrent(lstm, I, H).stream()(sequence(1, I), {"mask": 0}),
        ValueError, "^inputs: expected exactly"),
    "options that the cell lacks": (lambda: fastrnn.Recurrent(lstm, I, H, options={"leak": 1}), ValueError,
                                    "^options: expected exactly"),
}  # fmt: skip


@named("which", BAD)
def test_bad_input_names_the_argument(which):
    call, error, message = BAD[which]
    with pytest.raises(error, match=message):
        call()

"""`fastrnn.torch.Recurrent`: a module of a written cell, on the kernels, and as an operator of compilers."""

import copy
import io
import pickle

import fastrnn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import fastrnn.torch
from fastrnn.cell.library.lstm import lstm
from fastrnn.torch.keys import key_of
from torch_cases import assert_close, flat, loss_of
from written_cases import make, masked, members, own_output, peephole, states_by_name, written_cells

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
named = pytest.mark.parametrize
cells = named("cell", [lstm, peephole, masked, own_output], ids=lambda one: one.program.name)
T, B, I, H = 5, 3, 2, 4
STACKS = [
    {}, {"num_layers": 2, "bidirectional": True}, {"bias": False}, {"batch_first": True, "num_layers": 2},
    {"heads": 2, "num_layers": 2},
]  # fmt: skip
stacks = named("options", STACKS, ids=str)
LENGTHS, RESETS = np.array([5, 0, 3]), np.eye(T, B, -2, dtype=bool)


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def parameter_name(name):
    """torch's name of a parameter of `fastrnn.Recurrent`."""
    kinds = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    return next((kinds[one] + name[len(one) :] for one in kinds if name.startswith(f"{one}_l")), name)


def module_like(layer):
    """A module with the parameters of a layer."""
    names = "num_layers", "bias", "batch_first", "dropout", "bidirectional"
    module = fastrnn.torch.Recurrent(
        layer.cell, layer.input_size, layer.hidden_size, **{name: getattr(layer, name) for name in names},
        heads=layer.heads, options=layer.options, dtype=getattr(torch, layer.dtype.name),
    )  # fmt: skip
    parameters = {parameter_name(name): torch.from_numpy(one.copy()) for name, one in layer.parameters.items()}
    module.load_state_dict(parameters)
    return module


def made(cell, dtype="float64", **options):
    torch.manual_seed(0)
    return fastrnn.torch.Recurrent(cell, I, H, dtype=getattr(torch, dtype), **options)


def arguments(module, T=T, B=B, requires_grad=True, with_state=True):
    """x, a state or None, and the inputs of each step or None."""

    def draw(*shape, grad=requires_grad):
        return torch.randn(shape, dtype=module.weight_ih_l0.dtype).requires_grad_(grad)

    torch.manual_seed(1)
    count = module.num_layers * (2 if module.bidirectional else 1)
    batch = (B, T) if module.batch_first else (T, B)
    states = tuple(draw(count, B, H) for _ in module.cell.program.states)
    inputs = {
        one.name: [draw(*batch, 1 if one.columns == "one" else H, grad=one.gradient and requires_grad)
                   for _ in range(count)]
        for one in module.cell.program.inputs
    }  # fmt: skip
    inputs = {name: one if count > 1 else one[0] for name, one in inputs.items()} or None
    state = states if len(states) > 1 else states[0]
    return draw(*batch, module.input_size), state if with_state else None, inputs


def leaves_of(module, x, state, inputs):
    """All tensors that have gradients."""
    return [one for one in flat_arguments(x, state, inputs) if one.requires_grad] + list(module.parameters())


def flat_arguments(*given):
    for one in given:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, tuple | list):
            yield from flat_arguments(*one)
        elif isinstance(one, dict):
            yield from flat_arguments(*one.values())


def gradients(module, call, result):
    return torch.autograd.grad(loss_of(result), leaves_of(module, *call), allow_unused=True)


def assert_same(found, expected):
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (a.shape == b.shape and a.dtype == b.dtype)
        assert a is None or torch.equal(a.detach().nan_to_num(), b.detach().nan_to_num())


# ---- on the kernels ----


@given(cell=written_cells(), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 99))
def test_results_and_gradients_have_the_bits_of_the_function(cell, dtype, seed):
    case = make(cell, T, B, I, H, dtype, seed)
    module = fastrnn.torch.Recurrent(cell, I, H, dtype=getattr(torch, dtype))
    named_weights = case.weights | case.vectors
    with torch.no_grad():
        for name, one in named_weights.items():
            getattr(module, parameter_name(f"{name}_l0")).copy_(torch.from_numpy(one.copy()))
    tensor = lambda one: torch.from_numpy(one.copy())  # noqa: E731
    x, states = tensor(case.x).requires_grad_(), [tensor(one[None]).requires_grad_() for one in case.state.values()]
    wanted = {one.name for one in cell.program.inputs if one.gradient}
    inputs = {name: tensor(one).requires_grad_(name in wanted) for name, one in case.inputs.items()}
    y, final = module(x, tuple(states) if len(states) > 1 else states[0], inputs=inputs or None)
    finals = final if isinstance(final, tuple) else (final,)
    d = [tensor(case.dy), *(tensor(one[None]) for one in case.dstate.values())]
    torch.autograd.backward([y, *finals], d)
    expected = case.train()
    found = {"y": y, "dx": x.grad}
    found |= states_by_name(cell, finals if len(finals) > 1 else finals[0])
    found |= {f"d{name}0": one.grad for name, one in zip(case.state, states, strict=True)}
    found |= {f"d{name}": getattr(module, parameter_name(f"{name}_l0")).grad for name in named_weights}
    found |= {f"d{name}": inputs[name].grad for name in wanted}
    assert found.keys() == expected.keys()
    for name, one in found.items():
        np.testing.assert_array_equal(one.detach().numpy().reshape(expected[name].shape), expected[name], name)


@named("call", [{}, {"lengths": LENGTHS}, {"resets": RESETS}, {"truncation": 2},
                {"lengths": LENGTHS, "resets": RESETS, "truncation": (2, 3)}], ids=str)  # fmt: skip
@stacks
@cells
def test_a_stack_has_the_bits_of_the_layer(cell, options, call):
    layer = fastrnn.Recurrent(cell, I, H, **options, dtype="float64", seed=1)
    module, call = module_like(layer), dict(call)
    x, state, inputs = arguments(module)
    arrays = [one.detach().numpy() for one in flat_arguments(state)]
    given = None
    if inputs is not None:
        given = {n: [m.detach().numpy() for m in one] if isinstance(one, list) else one.detach().numpy()
                 for n, one in inputs.items()}  # fmt: skip
    if module.batch_first and "resets" in call:
        call["resets"] = np.ascontiguousarray(call["resets"].T)
    y, final = module(x, state, inputs=inputs, **call)
    loss_of((y, final)).backward()
    truncation = call.pop("truncation", None)
    y_layer, final_layer, tape = layer.forward(
        x.detach().numpy(), members(dict(enumerate(arrays))), inputs=given, **call
    )
    weight = lambda t: np.sin(np.arange(t.size, dtype=t.dtype)).reshape(t.shape)  # noqa: E731
    d_final = tuple(map(weight, final_layer)) if isinstance(final_layer, tuple) else weight(final_layer)
    g = layer.backward(tape, weight(y_layer), d_final, truncation=truncation)
    np.testing.assert_array_equal(y.detach().numpy(), y_layer)
    np.testing.assert_allclose(x.grad.numpy(), g.x, rtol=1e-12, atol=1e-13)
    for name, one in g.parameters.items():
        found = getattr(module, parameter_name(name)).grad
        np.testing.assert_allclose(found.numpy(), one, rtol=1e-12, atol=1e-13, err_msg=name)
    for found, one in zip(flat_arguments(state), g.state if isinstance(g.state, tuple) else (g.state,), strict=True):
        np.testing.assert_allclose(found.grad.numpy(), one, rtol=1e-12, atol=1e-13)


@stacks
@cells
def test_a_packed_sequence_has_the_bits_of_the_padded_batch(cell, options):
    module = made(cell, **options)
    x, state, inputs = arguments(module)
    lengths = torch.tensor([3, 5, 2])

    def pack(value):
        if isinstance(value, list):
            return [pack(one) for one in value]
        return torch.nn.utils.rnn.pack_padded_sequence(value, lengths, module.batch_first, enforce_sorted=False)

    packed_inputs = None if inputs is None else {name: pack(one) for name, one in inputs.items()}
    padded = module(x, state, inputs=inputs, lengths=lengths)
    y, final = module(pack(x), state, inputs=packed_inputs)
    unpacked, _ = torch.nn.utils.rnn.pad_packed_sequence(y, module.batch_first, total_length=T)
    assert_same(flat((unpacked, final)), flat(padded))
    assert_close(
        gradients(module, (x, state, inputs), (unpacked, final)), gradients(module, (x, state, inputs), padded)
    )


@cells
def test_repeated_calls_see_changes_of_parameters_and_options(cell):
    module, other = made(cell, "float32"), made(cell, "float32")
    x, state, inputs = arguments(module, requires_grad=False)
    for factor in (1, 1, 1, 0.5, 0.5, 0.25):
        for one in (module, other):
            one.weight_hh_l0.data.mul_(factor)
            if one.options:
                one.options = {"leak": factor}
        fresh = copy.deepcopy(other)
        for training in (False, True):
            with torch.set_grad_enabled(training):
                found, expected = module(x, state, inputs=inputs), fresh(x, state, inputs=inputs)
            assert_same(flat(found), flat(expected))
            if training:
                call = x, state, inputs
                assert_same(gradients(module, call, found), gradients(fresh, call, expected))


@cells
def test_absent_states_are_the_start_values(cell):
    module = made(cell, num_layers=2)
    x, _, inputs = arguments(module)
    starts = tuple(torch.full((2, B, H), one.start, dtype=x.dtype) for one in cell.program.states)
    whole = starts if len(starts) > 1 else starts[0]
    expected = flat(module(x, whole, inputs=inputs))
    assert_same(flat(module(x, inputs=inputs)), expected)
    if len(starts) > 1:
        assert_same(flat(module(x, (starts[0], *[None] * (len(starts) - 1)), inputs=inputs)), expected)


@stacks
def test_dropout_is_that_of_torchs_generator(options):
    module = made(peephole, dropout=0.5, **{**options, "num_layers": 2})
    x, _, _ = arguments(module)
    torch.manual_seed(3)
    first = module(x)[0]
    torch.manual_seed(3)
    assert torch.equal(module(x)[0], first)
    assert not torch.equal(module(x)[0], first)
    assert torch.equal(module.eval()(x)[0], module(x)[0])


def test_unbatched_input_is_a_batch_of_one():
    module = made(masked, num_layers=2)
    x, (h, c), inputs = arguments(module, B=1)
    y, final = module(x, (h, c), inputs=inputs)
    inputs = {name: [member[:, 0] for member in one] for name, one in inputs.items()}
    found = module(x[:, 0], (h[:, 0], c[:, 0]), inputs=inputs)
    assert_same(flat(found), [y[:, 0], *(one[:, 0] for one in final)])


@named("sizes", [(0, 2), (3, 0), (0, 0)])
@cells
def test_empty_sizes(cell, sizes):
    module = made(cell, bidirectional=True)
    x, state, inputs = arguments(module, *sizes)
    y, final = module(x, state, inputs=inputs)
    assert y.shape == (*sizes, 2 * H)
    if sizes[0] == 0:
        assert_same(flat(final), flat(state))
    assert all(one.shape == leaf.shape for one, leaf in zip(
        gradients(module, (x, state, inputs), (y, final)), leaves_of(module, x, state, inputs), strict=True
    ))  # fmt: skip


# ---- as a module of torch ----


def test_parameters_have_the_names_of_torch_and_of_the_cell():
    module = made(peephole, num_layers=2, bidirectional=True)
    expected = {}
    for layer in range(2):
        for ending in ("", "_reverse"):
            width = I if layer == 0 else 2 * H
            expected |= {f"weight_ih_l{layer}{ending}": (4 * H, width), f"weight_hh_l{layer}{ending}": (4 * H, H)}
            expected |= {f"bias_{kind}_l{layer}{ending}": (4 * H,) for kind in ("ih", "hh")}
            expected |= {f"p_{gate}_l{layer}{ending}": (H,) for gate in "ifo"}
    assert {name: tuple(one.shape) for name, one in module.state_dict().items()} == expected
    assert module.state_dict().keys() == dict(module.named_parameters()).keys()
    bound = 1 / H**0.5
    assert all(one.abs().max() <= bound for one in module.parameters())


@cells
def test_state_dicts_copies_and_pickles_have_the_same_results(cell):
    module = made(cell, num_layers=2, options={"leak": 0.3} if cell is masked else None)
    x, state, inputs = arguments(module)
    expected = flat(module(x, state, inputs=inputs))
    other = fastrnn.torch.Recurrent(cell, I, H, 2, options=module.options, dtype=torch.float64)
    other.load_state_dict(module.state_dict())
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    for one in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), saved):
        assert one.cell == cell
        assert one.options == module.options
        assert_same(flat(one(x, state, inputs=inputs)), expected)


def test_text_of_a_module():
    module = fastrnn.torch.Recurrent(masked, 3, 4, num_layers=2, options={"leak": 0.25})
    assert repr(module) == "fastrnn.torch.Recurrent(masked, 3, 4, num_layers=2, options={'leak': 0.25})"


def test_optimizers_train_it():
    module, x = made(peephole, "float32"), arguments(made(peephole, "float32"), requires_grad=False)[0]
    optimizer, losses = torch.optim.Adam(module.parameters(), lr=0.05), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (module(x)[0] - x.mean(-1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_only_gradients_that_are_asked_for():
    module = made(masked)
    x, state, inputs = arguments(module, requires_grad=False)
    inputs["gain"].requires_grad_()
    module.requires_grad_(False)
    y, _ = module(x, state, inputs=inputs)
    y.sum().backward()
    assert inputs["gain"].grad.shape == (T, B, 1)
    assert inputs["mask"].grad is None


@named(("change", "error", "message"), [
    ({"x": [1.0]}, TypeError, "x: expected a tensor, got list"),
    ({"x": torch.zeros(T, B, I + 1)}, ValueError, r"x: expected shape \(T, B, I\) = \(T, B, 2\), got \(5, 3, 3\)"),
    ({"x": torch.zeros(I)}, ValueError, r"x: expected shape \(T, B, I\) or \(T, I\), got \(2,\)"),
    ({"x": torch.zeros(T, B, I).double()}, TypeError, "x: expected dtype torch.float32, got torch.float64"),
    ({"state": torch.zeros(1, B, H)}, TypeError, "state: expected a tuple of 2 tensors, got Tensor"),
    ({"state": (torch.zeros(1, B, H), torch.zeros(B, H))}, ValueError,
     r"state\[1\]: expected shape \(num_layers\*D, B, H\) = \(1, 3, 4\), got \(3, 4\)"),
    ({"inputs": None}, ValueError, r"inputs: expected exactly \['mask', 'gain'\]; missing \['mask', 'gain'\]"),
    ({"inputs": {"mask": torch.zeros(T, B, 1), "gain": torch.zeros(T, B, 1)}}, ValueError,
     r"inputs\['mask'\]: expected shape \(T, B, H\) = \(T, B, 4\), got \(5, 3, 1\)"),
    ({"inputs": {"mask": torch.zeros(T, 1, H), "gain": torch.zeros(T, B, 1)}}, ValueError,
     r"inputs\['mask'\]: expected shape \(T, B, H\) = \(5, 3, 4\), got \(5, 1, 4\)"),
    ({"lengths": [1, 2]}, ValueError, r"lengths: expected shape \(B,\) = \(3,\), got \(2,\)"),
    ({"truncation": 0}, ValueError, "truncation"),
])  # fmt: skip
def test_errors_name_the_argument(change, error, message):
    module = made(masked, "float32")
    x, state, inputs = arguments(module, requires_grad=False)
    call = {"x": x, "state": state, "inputs": inputs} | change
    with pytest.raises(error, match=message):
        module(**call)


def test_errors_of_the_constructor_and_of_replaced_parameters():
    with pytest.raises(TypeError, match="cell: expected a cell"):
        fastrnn.torch.Recurrent("lstm", 2, 3)
    with pytest.raises(ValueError, match="hidden_size: expected an integer of at least 1"):
        fastrnn.torch.Recurrent(lstm, 2, 0)
    with pytest.raises(ValueError, match="options: expected exactly"):
        fastrnn.torch.Recurrent(lstm, 2, 3, options={"leak": 1.0})
    with pytest.raises(ValueError, match="heads: expected a divisor of hidden_size = 3, got 2"):
        fastrnn.torch.Recurrent(lstm, 2, 3, heads=2)
    module = made(lstm)
    module.weight_hh_l0 = torch.nn.Parameter(torch.zeros(4 * H, H + 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"weight_hh_l0: expected shape \(16, 4\), got \(16, 5\)"):
        module(torch.zeros(T, B, I, dtype=torch.float64))
    module = made(lstm)
    module.num_layers = 2
    with pytest.raises(ValueError, match="num_layers, bias, bidirectional: expected those of 4 parameters"):
        module(torch.zeros(T, B, I, dtype=torch.float64))


def test_a_packed_sequence_of_matrices_is_refused():
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(T, B, I, dtype=torch.float64)])
    with pytest.raises(ValueError, match=r"x: expected a PackedSequence of rows \(rows, I\), got \(5, 3, 2\)"):
        made(lstm)(packed)


def test_an_input_without_a_declared_gradient_is_refused_if_it_needs_one():
    @fastrnn.cell(gates="a", inputs=["mask"])
    def plain(a, s, x):
        h = np.tanh(a.a) * x.mask
        return h, (h,)

    module, x = made(plain), torch.zeros(T, B, I, dtype=torch.float64)
    mask = torch.ones(T, B, H, dtype=torch.float64, requires_grad=True)
    with pytest.raises(ValueError, match=r"inputs\['mask'\]: expected a tensor that needs no gradient"):
        module(x, inputs={"mask": mask})
    module(x, inputs={"mask": mask.detach()})[0].sum().backward()


# ---- compilers ----


@named("with_state", [False, True])
@named("options", STACKS[:2], ids=str)
@cells
def test_compile_keeps_one_operator_and_the_bits(cell, options, with_state):
    module = made(cell, "float32", **options)
    call = arguments(module, with_state=with_state)
    fast = torch.compile(lambda x, state, inputs: module(x, state, inputs=inputs), fullgraph=True, backend="aot_eager")
    found, expected = fast(*call), module(call[0], call[1], inputs=call[2])
    assert_same(flat(found), flat(expected))
    assert_same(gradients(module, call, found), gradients(module, call, expected))


def test_compile_with_options_lengths_and_sizes_that_change():
    module = made(masked, "float32")
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    for T, B, leak in ((5, 2, 0.5), (6, 3, 0.5), (7, 4, 0.25)):
        module.options = {"leak": leak}
        x, state, inputs = arguments(module, T, B)
        lengths = torch.randint(0, T + 1, (B,))
        found, expected = (one(x, state, inputs=inputs, lengths=lengths, truncation=2) for one in (fast, module))
        assert_same(flat(found), flat(expected))
        call = x, state, inputs
        assert_same(gradients(module, call, found), gradients(module, call, expected))


def test_compile_fills_a_part_of_the_states_with_start_values():
    module = made(own_output, "float32")
    x, (h, _, c), _ = arguments(module)
    fast = torch.compile(module, fullgraph=True, backend="aot_eager")
    found, expected = fast(x, (h, None, c)), module(x, (h, None, c))
    assert_same(flat(found), flat(expected))
    leaves = [h, c, *module.parameters()]
    assert_same(*(torch.autograd.grad(loss_of(one), leaves) for one in (found, expected)))


@cells
def test_exported_programs_contain_the_program_of_the_cell(cell, tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = made(cell, "float32", num_layers=2)

        def forward(self, x, inputs):
            return tuple(flat(self.inner(x, inputs=inputs)))

    model = Model().eval()
    x, _, inputs = arguments(model.inner, requires_grad=False)
    program = torch.export.export(model, (x, inputs), strict=False)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("fastrnn.recurrence.default") == 1
    torch.export.save(program, tmp_path / "model.pt2")
    again = torch.export.load(tmp_path / "model.pt2").module()
    with torch.no_grad():
        assert_same(again(x, inputs), model(x, inputs))


@cells
def test_opcheck(cell):
    module = made(cell, "float32")
    x, state, inputs = arguments(module)
    states, given = list(flat_arguments(state)), list(flat_arguments(inputs))
    key = key_of(module._network(), "dense", None, True, module._options_text)
    call = x, states, [*module.parameters(), *given], None, [None] * 3, key
    torch.library.opcheck(torch.ops.fastrnn.recurrence.default, call)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_trace_records_torchs_operations():
    module = made(peephole).eval()
    x = arguments(module, requires_grad=False)[0]
    traced = torch.jit.trace(module, (x,))
    assert_close(flat(traced(2 * x)), flat(module(2 * x)))
    assert "fastrnn::" not in str(traced.inlined_graph)


def test_the_compiler_of_other_dtypes_runs_torchs_operations():
    module = made(peephole, "float32").bfloat16()
    x = arguments(module, requires_grad=False)[0]
    found, expected = torch.compile(module, backend="aot_eager")(x), module(x)
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a, b, atol=0.05, rtol=0.05)


def test_the_operator_refuses_keys_and_weights_of_another_cell():
    module, x = made(peephole, "float32"), torch.zeros(T, B, I)
    weights, network = list(module.parameters()), module._network()
    run = torch.ops.fastrnn.recurrence.default
    with pytest.raises(ValueError, match="weights: expected tensors of shapes"):
        run(x, [None] * 2, weights[:-1], None, [None] * 3, key_of(network, "dense", None, False))
    with pytest.raises(ValueError, match="options: expected 0, got 1"):
        run(x, [None] * 2, weights, None, [None] * 3, key_of(network, "dense", None, True, "0.5"))
    other = network._replace(cell=network.cell.replace("sigmoid", "sigmoidal"))
    with pytest.raises(ValueError, match="program"):
        run(x, [None] * 2, weights, None, [None] * 3, key_of(other, "dense", None, False))

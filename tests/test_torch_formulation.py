"""Programs in torch's operations: values, derivatives of any order, derivatives at edges, transforms, other dtypes."""

import logging

import fastrnn
import numpy as np
import pytest
from hypothesis import given

torch = pytest.importorskip("torch")

import fastrnn.torch
from cell_cases import OTHERS, PROOF, SHIPPED, layer_arrays, named_gradients, run_layer
from cell_strategies import small_cells
from fastrnn.cell import loop
from fastrnn.schedule import Batch
from fastrnn.torch.one_direction import OneDirection
from fastrnn.torch.operations import OPERATIONS
from fastrnn.torch.rows import Rows
from fastrnn.torch.steps import Step
from program_cases import WRITTEN
from test_torch_recurrent import LENGTHS, RESETS, STACKS, B, H, T, arguments, flat_arguments, made
from torch.autograd import gradcheck, gradgradcheck
from torch_cases import assert_close, flat, loss_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
named = pytest.mark.parametrize
masked, own_output, normed, peephole = (WRITTEN[one] for one in ("masked", "own_output", "normed", "peephole_lstm"))
MATRICES = ("w_ih", "w_hh", "b_ih", "b_hh")
by_name = {"ids": lambda one: one.program.name}


# ---- against the NumPy interpreter: all programs, also such as the core does not run ----


def in_torch(program, arrays):
    """(tensors by the names of `layer_arrays`, y, final states) of a layer in torch's operations."""
    tensors = {name: torch.from_numpy(one).requires_grad_() for name, one in arrays.items()}
    T, B, H = *arrays["x"].shape[:2], arrays["w_hh"].shape[1]
    parameters = {name: tensors[name] for name in MATRICES}
    parameters |= {name: tensors[f"vector.{name}"] for name in program.vectors}
    inputs = {one.name: tensors[f"input.{one.name}"].flatten(0, 1) for one in program.inputs}
    batch = Batch(T, B)
    options = [one.default for one in program.options]
    one = OneDirection(Step(program), parameters, options, inputs, tensors["x"].flatten(0, 1))
    y, final = one.run([tensors[f"initial.{one.name}"] for one in program.states], batch, Rows(batch))
    return tensors, y.reshape(T, B, H), final


def assert_equals_the_interpreter(written, T=3, B=2, I=2, H=5, tolerance=1e-9, **replaced):
    """Values, and gradients of sum(dy*y) + sum(d_final*final)."""
    program, rng = written.program, np.random.default_rng(1)
    arrays = layer_arrays(program, T, B, I, H) | replaced
    record = run_layer(program, arrays)
    tensors, y, final = in_torch(program, arrays)
    d = [rng.standard_normal(one.shape) for one in (record.y, *record.final.values())]
    results = [y, *final]
    for a, b in zip(results, (record.y, *record.final.values()), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b, rtol=tolerance, atol=tolerance)
    torch.autograd.backward(*zip(*[
        (one, torch.from_numpy(one_d)) for one, one_d in zip(results, d, strict=True) if one.requires_grad
    ], strict=True))  # fmt: skip
    expected = loop.backward(record, d[0], dict(zip(record.final, d[1:], strict=True)))
    for name, one in named_gradients(expected).items():
        found = tensors[name].grad
        found = np.zeros(tensors[name].shape) if found is None else found.numpy()
        if found.shape != one.shape:
            one = one.sum(-1, keepdims=True)  # of an input with one column
        size = max(1, np.abs(one).max(initial=0))
        np.testing.assert_allclose(found, one, rtol=tolerance, atol=tolerance * size, err_msg=name)


@named("written", [*SHIPPED, *PROOF, *OTHERS, *WRITTEN.values()], **by_name)
def test_cells_equal_the_interpreter_in_numpy(written):
    assert_equals_the_interpreter(written)


@given(drawn=small_cells())
def test_random_cells_equal_the_interpreter_in_numpy(drawn):
    assert_equals_the_interpreter(drawn.cell)


EDGES = {
    "maximum": lambda x, y: np.maximum(x, y),
    "minimum": lambda x, y: np.minimum(x, y),
    "clip": lambda x, y: np.clip(x, 0.0, 1.0) * y,
    "clip between": lambda x, y: np.clip(x, y, 1.0),
    "clip to one point": lambda x, y: np.clip(x, y, y),
    "clip of crossed bounds": lambda x, y: np.clip(x, y + 1, y),
    "abs": lambda x, y: np.abs(x) + y,
    "sign": lambda x, y: np.sign(x) * y,
    "relu": lambda x, y: fastrnn.relu(x) + y,
    "where": lambda x, y: np.where(x > y, 2 * x, 3 * y),
    "where equal": lambda x, y: np.where((x == y) | ~(x <= 1), x * y, y - x),
    "softplus": lambda x, y: fastrnn.softplus(x) * y,
    "log_sigmoid": lambda x, y: fastrnn.log_sigmoid(x) * y,
    "sqrt": lambda x, y: np.sqrt(np.abs(x) + 1) * y,
    "expm1": lambda x, y: np.expm1(x * 0.1) * y,
}
POINTS = np.array([-60.0, -1.0, -0.0, 0.0, 1.0, 1.0 + 2**-52, 2.0, 25.0, 60.0])


@named("name", EDGES)
def test_derivatives_at_edges_are_those_of_the_interpreter(name):
    """One unit for each pair of points; the bias is x, and the vector is y."""

    @fastrnn.cell(gates="a", vectors=("v",))
    def edge(a, s, v):
        h = EDGES[name](a.input.a, v.v) + 0 * s.h
        return h, (h,)

    x, y = (one.ravel() for one in np.meshgrid(POINTS, POINTS))
    H = len(x)
    replaced = {"w_ih": np.zeros((H, 2)), "w_hh": np.zeros((H, H)), "b_ih": x, "vector.v": y}
    assert_equals_the_interpreter(edge, T=1, B=1, H=H, tolerance=1e-15, **replaced)


@named("function", [fastrnn.softplus, fastrnn.log_sigmoid, np.expm1, np.log1p, fastrnn.sigmoid, np.tanh])
def test_functions_are_accurate_where_their_compositions_are_not(function):
    @fastrnn.cell(gates="a")
    def one(a, s):
        h = function(a.a)
        return h, (h,)

    points = np.array([1e-18, 1e-9, 19.0, 21.0, 40.0, 700.0, -1e-18, -0.5])
    program = one.program
    step = Step(program)
    found = step(step.constants_like(torch.zeros((), dtype=torch.float64)), {"gate.a": torch.from_numpy(points)}, (8,))
    np.testing.assert_allclose(found[0].numpy(), function(points), rtol=4e-16)


def test_nan_passes_as_in_numpy():
    nan, one = torch.tensor(np.nan), torch.tensor(1.0)
    for name in ("min", "max"):
        assert OPERATIONS[name](nan, one).isnan()
        assert OPERATIONS[name](one, nan).isnan()
    for args in ((nan, one, one), (one, nan, one), (one, one, nan)):
        assert OPERATIONS["clip"](*args).isnan()
    for name in ("sign", "relu", "abs", "softplus", "log_sigmoid"):
        assert OPERATIONS[name](nan).isnan()


# ---- derivatives of modules ----


def as_function(module, inputs, **more):
    """The module as a function of x, the states, the inputs with gradients and the parameters."""
    names = [name for name, _ in module.named_parameters()]
    states = len(module.cell.program.states)

    def function(x, *rest):
        state, rest = rest[:states], rest[states:]
        given = None if inputs is None else dict(zip(inputs, rest[: len(inputs)], strict=True))
        weights = dict(zip(names, rest[0 if inputs is None else len(inputs) :], strict=False))
        call = (x, state if states > 1 else state[0])
        return tuple(flat(torch.func.functional_call(module, weights, call, {"inputs": given} | more)))

    return function


def problem(cell, **options):
    module = made(cell, **options)
    x, state, inputs = arguments(module, T=3, B=2)
    weights = [one.detach().clone().requires_grad_() for one in module.parameters()]
    return module, inputs, (x, *flat_arguments(state), *flat_arguments(inputs), *weights)


@named("name", ["peephole_lstm", "normed", "normed_by_head", "head_alone", "two_products"])
def test_a_module_with_heads_equals_its_formulation(name, monkeypatch):
    module = made(WRITTEN[name], heads=2, num_layers=2)
    x, state, inputs = arguments(module)
    leaves, found = [x, *flat_arguments(state), *module.parameters()], []
    for reason in (None, fastrnn.torch.routes.Fallback(fastrnn.torch.routes.Path.FORMULATION, "a test")):
        monkeypatch.setattr(type(module), "_fallback", lambda *_, reason=reason: reason)
        result = module(x, state, inputs=inputs, lengths=LENGTHS)
        first = torch.autograd.grad(loss_of(result), leaves, create_graph=True)
        found.append([*flat(result), *first, *torch.autograd.grad(loss_of(first), leaves)])
    assert_close(found[1], found[0], 20)


DIFFERENTIABLE = [peephole, masked, WRITTEN["min_gru"], WRITTEN["sru"], normed]


@named("cell", DIFFERENTIABLE, **by_name)
def test_gradcheck_of_first_and_second_order_and_forward_mode(cell):
    module, inputs, leaves = problem(cell)
    function = as_function(module, inputs)
    assert gradcheck(function, leaves, fast_mode=True, check_forward_ad=True)
    assert gradcheck(function, leaves[:2], check_batched_grad=True) if len(module.cell.program.states) == 1 else True
    assert gradgradcheck(function, leaves, fast_mode=True)


@named("options", STACKS[:2], ids=str)
@named("cell", [peephole, own_output], **by_name)
def test_gradcheck_of_stacks_with_lengths_and_resets(cell, options):
    module, inputs, leaves = problem(cell, **options)
    function = as_function(module, inputs, lengths=[3, 2], resets=np.array([[0, 1], [1, 0], [0, 1]], bool))
    assert gradcheck(function, leaves, fast_mode=True, check_forward_ad=cell is peephole)
    assert gradgradcheck(function, leaves, fast_mode=True)


@named("transform", ["grad", "vmap", "jacrev", "jvp", "ensemble"])
@named("cell", [peephole, normed], **by_name)
def test_transforms_of_torch_func(cell, transform):
    module = made(cell)
    x, _, inputs = arguments(module, requires_grad=False)
    plain = lambda x: module(x, inputs=inputs)[0]  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(plain, x)
    if transform == "grad":
        found = torch.func.grad(lambda x: plain(x).sin().sum())(x)
        expected = torch.einsum("abc,abcdef->def", plain(x).cos(), jacobian)
    elif transform == "vmap":
        many = torch.stack([x, 2 * x])
        found, expected = torch.func.vmap(plain)(many), torch.stack([plain(one) for one in many])
    elif transform == "jacrev":
        found, expected = torch.func.jacrev(plain)(x), jacobian
    elif transform == "jvp":
        found, expected = torch.func.jvp(plain, (x,), (x,))[1], torch.einsum("abcdef,def->abc", jacobian, x)
    else:
        parameters, _ = torch.func.stack_module_state([module, module])
        call = lambda p, x: torch.func.functional_call(module, p, (x,), {"inputs": inputs})[0]  # noqa: E731
        found, expected = torch.func.vmap(call, (0, None))(parameters, x), torch.stack([plain(x)] * 2)
    assert_close([found.detach()], [expected.detach()])


@named("call", [{}, {"lengths": LENGTHS}, {"resets": RESETS}, {"lengths": LENGTHS, "resets": RESETS}], ids=str)
@named("options", STACKS, ids=str)
@named("cell", [peephole, masked, own_output], **by_name)
def test_kernels_equal_the_formulation(cell, options, call, monkeypatch):
    module, call = made(cell, **options), dict(call)
    x, state, inputs = arguments(module)
    if module.batch_first and "resets" in call:
        call["resets"] = call["resets"].T
    if "lengths" in call:  # padding is never read
        with torch.no_grad():
            (x[1] if module.batch_first else x[:, 1])[:] = torch.nan
    leaves = [one for one in flat_arguments(x, state, inputs) if one.requires_grad] + list(module.parameters())
    found = []
    for reason in (None, fastrnn.torch.routes.Fallback(fastrnn.torch.routes.Path.FORMULATION, "a test")):
        monkeypatch.setattr(type(module), "_fallback", lambda *_, reason=reason: reason)
        result = module(x, state, inputs=inputs, **call)
        gradients = torch.autograd.grad(loss_of(result), leaves, allow_unused=True)
        gradients = [
            torch.zeros_like(leaf) if one is None else one for one, leaf in zip(gradients, leaves, strict=True)
        ]
        found.append([*flat(result), *gradients])
    assert_close(found[1], found[0], 20)


def test_other_dtypes_run_in_torchs_operations_and_say_so(caplog):
    fastrnn.torch.routes._said.clear()
    module = made(masked, "float32")
    x, state, inputs = arguments(module, requires_grad=False)
    expected = flat(module(x, state, inputs=inputs))
    half = lambda one: {n: m.bfloat16() for n, m in one.items()}  # noqa: E731
    with caplog.at_level(logging.INFO, "fastrnn.torch"):
        found = module.bfloat16()(x.bfloat16(), tuple(one.bfloat16() for one in state), inputs=half(inputs))
    assert "Recurrent uses the differentiable formulation in torch's operations: the kernels run" in caplog.text
    for a, b in zip(flat(found), expected, strict=True):
        assert a.dtype == torch.bfloat16
        torch.testing.assert_close(a.float(), b, atol=0.1, rtol=0.1)
    found[0].float().sum().backward()
    with pytest.raises(NotImplementedError, match="truncation"):
        module(x.bfloat16(), inputs=half(inputs), truncation=2)


def test_a_device_without_data_gives_shapes():
    module = made(peephole, "float32", num_layers=2, bidirectional=True).to("meta")
    y, (h, c) = module(torch.zeros(T, B, 2, device="meta"))
    assert y.shape == (T, B, 2 * H)
    assert h.shape == c.shape == (4, B, H)


def test_autocast_runs_in_torchs_operations():
    module = made(peephole, "float32")
    x = torch.randn(T, B, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = module(x)
    torch.testing.assert_close(y.float(), module(x)[0], atol=0.1, rtol=0.1)

"""Derivatives of whole programs up to the third, compared with torch.nn: the inputs of a call come from other calls.

A program calls a few modules in turn. The sequence, state and weights of a call are computed from results of earlier
calls, so the inputs of one call depend on each other in every way that autograd allows.
"""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from strategies import seeds
from torch_cases import CELLS, KINDS, assert_close, loss_of, make_pair, members

# torch.func.jvp uses deprecated features of torch.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

N, B, T = 2, 2, 3  # every sequence is (T, B, N) and every layer has N units, so that anything fits anywhere


class Step(NamedTuple):
    """One of:

    - `call`: the module reads a sequence, which is appended to the sequences;
    - `hyper`: the module's weights are scaled by numbers computed from a sequence, from here on;
    - `adapt`: the module's weights take a gradient step down the loss so far, from here on.
    """

    action: str = "call"
    module: int = 0
    source: int = -1  # index of an earlier sequence; 0 is the program's input
    state: str = "carried"
    way: str = "whole"


class Program(NamedTuple):
    modules: tuple[tuple[str, tuple], ...]  # kind and options
    steps: tuple[Step, ...]
    ties: tuple[tuple[int, int], ...] = ()  # shared tensors: pairs of parameter numbers, counted over all modules


LAYERS = [(kind, options) for kind in KINDS for options in ((), ("num_layers",), ("bidirectional",))]
STATES = ["zero", "carried", "computed", "same"]
WAYS = ["whole", "pieces", "packed", "resets"]

steps = st.builds(
    Step,
    action=st.sampled_from(["call"] * 4 + ["hyper", "adapt"]),
    module=st.integers(0, 1),
    source=st.integers(-2, 0),
    state=st.sampled_from(STATES),
    way=st.sampled_from(WAYS),
)
programs = st.builds(
    Program,
    modules=st.tuples(*[st.sampled_from([*LAYERS, *((cell, ()) for cell in CELLS)])] * 2),
    steps=st.lists(steps, min_size=1, max_size=3).map(lambda drawn: (*drawn, Step(module=drawn[-1].module))),
    ties=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=3).map(tuple),
)


def built(program):
    """torch's modules and our modules, with the same parameters tied."""
    torch.manual_seed(0)
    pairs = [
        make_pair(kind, N, N, **{name: 2 if name == "num_layers" else True for name in options})
        for kind, options in program.modules
    ]
    for modules in zip(*pairs, strict=True):
        places = [(module, name) for module in modules for name, _ in module.named_parameters()]
        for j, k in program.ties:
            (module, name), (source, other) = places[j % len(places)], places[k % len(places)]
            if getattr(module, name).shape == getattr(source, other).shape:
                setattr(module, name, getattr(source, other))
    return list(zip(*pairs, strict=True))


def outputs_of(program, modules, x):
    """Every sequence that a run of the program makes."""
    sequences, states, weights = [x], [None] * len(modules), [None] * len(modules)
    for step in program.steps:
        j, source = step.module, sequences[max(step.source, -len(sequences))]
        parameters = weights[j] or dict(modules[j].named_parameters())
        if step.action == "hyper":
            scale = source.mean((0, 1)).tanh().sum()
            weights[j] = {name: p * (1 + scale * p.sin()) for name, p in parameters.items()}
        elif step.action == "adapt":
            loss = sum(loss_of(y * y) for y in sequences)
            found = torch.autograd.grad(
                loss, parameters.values(), create_graph=True, allow_unused=True, materialize_grads=True
            ) if loss.requires_grad else [0] * len(parameters)  # fmt: skip
            weights[j] = {name: p - 0.1 * g for (name, p), g in zip(parameters.items(), found, strict=True)}
        else:
            y, states[j] = _call(modules[j], weights[j], step, source, states[j])
            sequences.append(y[..., :N] + y[..., N:] if y.shape[-1] > N else y)
    return sequences[1:]


def _call(module, weights, step, x, carried):
    def run(*arguments, **more):
        if weights is None:
            return module(*arguments, **more)
        return torch.func.functional_call(module, weights, arguments, more)

    hx = _state(module, step.state, x, carried)
    if isinstance(module, torch.nn.RNNCellBase):
        ys = []
        for x_t in x:
            hx = run(x_t, hx)
            ys.append(members(hx)[0])
        return torch.stack(ys), hx
    if step.way == "pieces":
        first, hx = run(x[:1], hx)
        rest, hx = run(x[1:], hx)
        return torch.cat([first, rest]), hx
    if step.way == "packed":
        lengths = torch.arange(T, T - B, -1).flip(0)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        y, hx = run(packed, hx)
        return torch.nn.utils.rnn.pad_packed_sequence(y, total_length=T)[0], hx
    if step.way == "resets" and not module.bidirectional:
        return _with_a_reset(module, run, x, hx)
    return run(x, hx)


def _with_a_reset(module, run, x, hx):
    """Reset the first sequence at step 1; torch has no argument for this."""
    if not type(module).__module__.startswith("torch."):
        resets = torch.zeros(T, B, dtype=torch.bool)
        resets[1, 0] = True
        return run(x, hx, resets=resets)
    first, hx = run(x[:1], hx)
    kept = torch.ones(B, 1, dtype=x.dtype)
    kept[0] = 0
    hx = tuple(member * kept for member in hx) if isinstance(hx, tuple) else hx * kept
    rest, hx = run(x[1:], hx)
    return torch.cat([first, rest]), hx


def _state(module, which, x, carried):
    has_c = isinstance(module, torch.nn.LSTM | torch.nn.LSTMCell)
    if which == "zero" or (which == "carried" and carried is None):
        return None
    if which == "carried":
        return carried
    is_cell = isinstance(module, torch.nn.RNNCellBase)
    h = x.mean(0).sin()
    h = h if is_cell else h.expand(module.num_layers * (1 + module.bidirectional), B, N)
    return h if not has_c else (h, h) if which == "same" else (h, 2 * h)


def derivatives(program, modules, orders):
    """Derivatives of the loss by the input and all parameters, then of a number computed from them, and so on."""
    torch.manual_seed(1)
    x = torch.randn(T, B, N, dtype=torch.float64, requires_grad=True)
    unique = {id(p): p for module in modules for p in module.parameters()}
    leaves, found = [x, *unique.values()], []
    number = sum(loss_of(y) for y in outputs_of(program, modules, x))
    for order in range(1, orders + 1):
        gradients = torch.autograd.grad(
            number, leaves, create_graph=True, allow_unused=True, materialize_grads=True, retain_graph=True
        )
        found += [g.detach() for g in gradients]
        # first a Hessian-vector product, then a penalty on it
        number = loss_of(gradients) if order == 1 else loss_of([g * g for g in gradients])
        if not number.requires_grad:
            break
    return found


def assert_derivatives_of_torch(program, orders=2):
    theirs, ours = (derivatives(program, modules, orders) for modules in built(program))
    assert_close(ours, theirs, 100)


@given(program=programs)
def test_second_derivatives_of_programs_are_those_of_torch(program):
    assert_derivatives_of_torch(program)


@given(program=programs, seed=seeds)
def test_gradients_of_programs_do_not_depend_on_whether_they_are_differentiated_again_or_batched(program, seed):
    _, modules = built(program)
    torch.manual_seed(seed % 2**31)
    x = torch.randn(T, B, N, dtype=torch.float64, requires_grad=True)
    leaves = [x, *{id(p): p for module in modules for p in module.parameters()}.values()]
    y = torch.stack(outputs_of(program, modules, x))
    many = torch.randn(2, *y.shape, dtype=torch.float64)
    options = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
    plain = [torch.autograd.grad(y, leaves, d, **options) for d in many]
    again = [torch.autograd.grad(y, leaves, d, **options, create_graph=True) for d in many]
    options.pop("materialize_grads")
    batched = torch.autograd.grad(y, leaves, many, **options, is_grads_batched=True)
    assert not any(g is not None and g.requires_grad for g in batched)
    for j, leaf in enumerate(leaves):
        expected = [g[j] for g in plain]
        assert_close([g[j].detach() for g in again], expected, 20)
        assert_close([torch.zeros(2, *leaf.shape).to(leaf) if batched[j] is None else batched[j]],
                     [torch.stack(expected)], 20)  # fmt: skip


def is_known_forward(program):
    """Whether torch supports the program in forward mode: it supports neither packing nor autograd.grad there."""
    return not any(step.action == "adapt" or step.way == "packed" for step in program.steps)


@given(program=programs.filter(is_known_forward))
def test_products_of_the_hessian_and_a_vector_are_the_same_forward_over_reverse(program):
    _, modules = built(program)
    torch.manual_seed(1)
    x, v = torch.randn(2, T, B, N, dtype=torch.float64)

    def loss(x):
        return sum(loss_of(y) for y in outputs_of(program, modules, x))

    _, found = torch.func.jvp(torch.func.grad(loss), (x,), (v,))
    expected = torch.autograd.functional.hvp(loss, x, v)[1]
    assert_close([found.detach()], [expected], 20)


CLASSIC = {
    "a state carried on": [Step(source=0), Step(source=0), Step(source=0)],
    "a state carried on through pieces": [Step(way="pieces"), Step(source=0, way="pieces")],
    "a state computed from the input": [Step(state="computed")],
    "one tensor as both states": [Step(state="same")],
    "a stack of modules": [Step(), Step(module=1), Step()],
    "packed sequences": [Step(source=0, way="packed"), Step(source=0, way="packed")],
    "resets": [Step(source=0, way="resets"), Step(source=0, way="resets")],
    "a hypernetwork": [Step("hyper", source=0), Step()],
    "a hypernetwork that is recurrent itself": [Step(), Step("hyper", module=1), Step(module=1)],
    "an inner gradient step": [Step(), Step("adapt"), Step(source=0)],
    "two inner gradient steps": [Step(), Step("adapt"), Step(source=0), Step("adapt"), Step(source=0)],
}


@pytest.mark.parametrize("name", CLASSIC)
@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
def test_third_derivatives_of_classic_programs_are_those_of_torch(name, kind):
    program = Program(((kind, ()), (kind, ())), tuple(CLASSIC[name]))
    assert_derivatives_of_torch(program, orders=3)


@pytest.mark.parametrize("kind", [*KINDS, *CELLS])
@pytest.mark.parametrize("places", [[0, 1], [0, 4], [0, 5], [0, 1, 4, 5]], ids=str)
def test_third_derivatives_of_tied_weights_are_those_of_torch(kind, places):
    """Tied weights: w_ih and w_hh, or the second layer or module and the first; also biases."""
    options = () if kind in CELLS else ("num_layers",)
    ties = [(place + shift, places[0] + shift) for place in places for shift in (0, 2)]
    program = Program(((kind, options), (kind, ())), (Step(), Step(module=1), Step()), tuple(ties))
    assert_derivatives_of_torch(program, orders=3)

"""The derivative of a trace: programs of the cells that ship, saved vectors, gradients of random cells."""

import numpy as np
import pytest
from cell_cases import (
    OTHERS,
    PROOF,
    SHIPPED,
    STEP,
    assert_layer_gradients,
    ind_rnn,
    layer_arrays,
    min_gru,
    named_gradients,
    peephole_lstm,
    reset_before_gru,
    run_layer,
    s_lstm,
    sru,
)
from cell_strategies import small_cells
from fastrnn.cell import interpret, loop
from fastrnn.cell.define import cell
from fastrnn.cell.elementwise import relu, sigmoid
from fastrnn.cell.library.elman import rnn_relu, rnn_tanh
from fastrnn.cell.library.gru import gru
from fastrnn.cell.library.lstm import lstm
from hypothesis import given
from hypothesis import strategies as st

named = pytest.mark.parametrize


def formulas(direction):
    """Each output as nested operations on reads, without regard to their order in the list."""
    terms = []
    for value in direction.values:
        if value.op == "read":
            terms.append(value.name)
        elif value.op == "constant":
            terms.append(f"{value.number:g}")
        else:
            terms.append(f"{value.op}({', '.join(terms[arg] for arg in value.args)})")
    return {name: terms[index] for name, index in direction.outputs.items()}


def operations(direction):
    return sorted(v.op for v in direction.values if v.op not in ("read", "constant"))


# ---- the compiled cells: csrc/kernels/cells/*.h ----


def test_lstm_has_the_operations_of_the_compiled_cell():
    c = "fma(sigmoid(gate.f), before.c, mul(sigmoid(gate.i), tanh(gate.g)))"
    assert formulas(lstm.program.forward) == {
        "after.h": f"mul(sigmoid(gate.o), tanh({c}))",
        "after.c": c,
        "saved.0": "sigmoid(gate.i)",
        "saved.1": "sigmoid(gate.f)",
        "saved.2": "tanh(gate.g)",
        "saved.3": "sigmoid(gate.o)",
        "saved.4": c,
    }
    assert [one.name for one in lstm.program.saved] == ["i", "f", "g", "o", "c"]
    assert [one.state for one in lstm.program.saved] == [None] * 4 + ["c"]
    dc = "fma_dtanh(mul(d_after.h, saved.3), tanh(saved.4), d_after.c)"
    assert formulas(lstm.program.backward) == {
        "slot.0": f"dsigmoid(mul({dc}, saved.2), saved.0)",
        "slot.1": f"dsigmoid(mul({dc}, before.c), saved.1)",
        "slot.2": f"dtanh(mul({dc}, saved.0), saved.2)",
        "slot.3": "dsigmoid(mul(d_after.h, tanh(saved.4)), saved.3)",
        "before.c": f"mul({dc}, saved.1)",
    }
    assert len(operations(lstm.program.forward)) == 8
    assert len(operations(lstm.program.backward)) == 12


def test_gru_has_the_operations_of_the_compiled_cell():
    n = "tanh(fma(sigmoid(gate.r), gate_state.n, gate_input.n))"
    assert formulas(gru.program.forward) == {
        "after.h": f"fma(sigmoid(gate.z), sub(before.h, {n}), {n})",
        "saved.0": "sigmoid(gate.r)",
        "saved.1": "sigmoid(gate.z)",
        "saved.2": n,
        "saved.3": "gate_state.n",
    }
    dx_n = "dtanh(mul(d_after.h, one_minus(saved.1)), saved.2)"
    assert formulas(gru.program.backward) == {
        "slot.0": dx_n,
        "slot.1": f"dsigmoid(mul({dx_n}, saved.3), saved.0)",
        "slot.2": "dsigmoid(mul(d_after.h, sub(before.h, saved.2)), saved.1)",
        "slot.3": f"mul({dx_n}, saved.0)",
        "before.h": "mul(d_after.h, saved.1)",
    }
    slots = [(one.gate, one.to_input, one.operand) for one in gru.program.slots]
    assert slots == [("n", True, None), ("r", True, "h"), ("z", True, "h"), ("n", False, "h")]
    assert len(operations(gru.program.forward)) == 6
    assert len(operations(gru.program.backward)) == 10


def test_elman_cells_have_the_operations_of_the_compiled_cells():
    assert formulas(rnn_tanh.program.forward) == {"after.h": "tanh(gate.a)"}
    assert formulas(rnn_tanh.program.backward) == {"slot.0": "dtanh(d_after.h, y)"}
    assert formulas(rnn_relu.program.forward) == {"after.h": "relu(gate.a)"}
    assert formulas(rnn_relu.program.backward) == {"slot.0": "select(le(y, 0), 0, d_after.h)"}


# ---- the proof cells ----


def test_peephole_lstm_saves_what_an_lstm_saves():
    assert sorted(one.name for one in peephole_lstm.program.saved) == ["c", "f", "g", "i", "o"]
    assert len(peephole_lstm.program.backward.phases) == 1


def test_reset_before_gru_has_two_phases_each_way_and_gathers_its_operand():
    program = reset_before_gru.program
    assert [phase.product for phase in program.forward.phases] == [None, 0]
    assert [phase.product for phase in program.backward.phases] == [None, 0]
    assert [one.name for one in program.saved] == ["r", "z", "n"]
    assert program.products[0].operand == ("saved.0", "before.h")
    slots = [(one.gate, one.to_input, one.operand) for one in program.slots]
    assert slots == [("n", True, 0), ("r", True, "h"), ("z", True, "h")]


@named("written", SHIPPED + PROOF + OTHERS, ids=lambda one: one.program.name)
def test_gradients_over_several_steps_are_the_complex_step_derivative(written):
    assert_layer_gradients(written)


def test_gradients_from_a_start_of_minus_infinity_are_finite():
    start = {f"initial.{name}": np.zeros((3, 5)) for name in "hcn"} | {"initial.m": np.full((3, 5), -np.inf)}
    found = gradients_of_layer(s_lstm, start)
    assert all(np.all(np.isfinite(one)) for one in found.values())
    start["initial.m"] = np.full((3, 5), -1e6)
    for name, one in gradients_of_layer(s_lstm, start).items():
        np.testing.assert_array_equal(found[name], one, err_msg=name)


def gradients_of_layer(written, replaced):
    arrays = layer_arrays(written.program, 4, 3, 2, 5) | replaced
    record = run_layer(written.program, arrays)
    return named_gradients(loop.backward(record, np.ones_like(record.y)))


def test_cells_without_a_recurrent_product_have_no_slot_towards_h():
    for written in (min_gru, ind_rnn, sru):
        assert {one.operand for one in written.program.slots} == {None}
        assert len(written.program.backward.phases) == 1


# ---- choices of saved vectors ----


def saved_names(written):
    return [one.name for one in written.program.saved]


def test_a_state_that_backward_reads_before_the_step_is_saved():
    @cell(gates="ab", states="hc")
    def step(a, s):
        return a.a * s.c, (a.a * s.c, np.tanh(a.b))

    assert {one.state for one in step.program.saved} >= {"c"}
    assert_layer_gradients(step)


def test_h_is_saved_where_it_is_not_the_output():
    @cell(gates="a")
    def step(a):
        h = np.tanh(a.a)
        return h * 2, (h,)

    assert [one.state for one in step.program.saved] == ["h"]
    assert step.program.output is None
    assert_layer_gradients(step)


def test_a_cheap_value_is_computed_again_and_a_dear_one_is_saved():
    @cell(gates="ab")
    def step(a):
        r = sigmoid(a.a)
        h = np.tanh((r + 1) * (r * r) * a.b)
        return h, (h,)

    assert saved_names(step) == ["a", "gate_b"]
    assert_layer_gradients(step)


def test_a_product_of_a_vector_that_backward_cannot_multiply_again_saves_it():
    @cell(gates="an")
    def step(a, s):
        q = np.tanh(s.h - a.a)
        h = np.tanh(a.input.n + a.product.n(q + s.h))
        return h, (h,)

    (product,) = step.program.products
    assert len(product.operand) == 1
    assert_layer_gradients(step)


def test_several_products_have_a_phase_each():
    @cell(gates="anm", states="hc")
    def step(a, s):
        q = a.product.n(sigmoid(a.a) * s.h)
        p = a.product.m(sigmoid(a.a) * s.c)
        h = np.tanh(q + a.input.m * p + a.product.n(sigmoid(a.a) * s.h))
        return h, (h, p - s.h)

    assert [phase.product for phase in step.program.forward.phases] == [None, 0, 1]
    assert sorted(str(phase.product) for phase in step.program.backward.phases) == ["0", "1", "None"]
    assert_layer_gradients(step)


def test_a_product_of_a_product():
    @cell(gates="anm")
    def step(a, s):
        h = np.tanh(a.product.m(np.tanh(a.product.n(a.a * s.h))))
        return h, (h,)

    assert [phase.product for phase in step.program.backward.phases] == [None, 1, 0]
    assert_layer_gradients(step)


def test_input_gradients_exist_only_if_asked():
    def step(a, s, x):
        h = x.mask * s.h + (1 - x.mask) * np.tanh(a.a)
        return h, (h,)

    plain = cell(gates="a", inputs=("mask",))(step)
    asked = cell(gates="a", inputs={"mask": "one"}, input_gradients=("mask",))(step)
    assert "input.mask" not in plain.program.backward.outputs
    assert "input.mask" in asked.program.backward.outputs
    assert_layer_gradients(plain)
    wide = cell(gates="a", inputs=("mask",), input_gradients=("mask",))(step)
    assert_layer_gradients(wide)


def test_a_gate_without_gradient_has_a_slot_of_zeros():
    @cell(gates="ab")
    def step(a):
        h = np.tanh(a.a) * np.sign(a.b)
        return h, (h,)

    assert formulas(step.program.backward)["slot.1"] == "0"
    assert_layer_gradients(step)


# ---- edges ----


def slope(function, at, dtype=np.float64):
    """The derivative of an elementwise function of gate a (and of b, if it has two), from the program."""
    gates = "ab"[: function.__code__.co_argcount]

    @cell(gates=gates)
    def step(a, s):
        y = function(*(getattr(a, gate) for gate in gates))
        return y, (y + 0 * s.h,)

    reads = {f"gate.{gate}": np.array([value], dtype) for gate, value in zip(gates, at, strict=True)}
    reads |= {"before.h": np.zeros(1, dtype)}
    outputs = interpret.forward(step.program, reads, None)
    saved = {name: one for name, one in outputs.items() if name.startswith("saved.")}
    ones = {"dy": np.ones(1, dtype), "d_after.h": np.zeros(1, dtype)}
    after = interpret.backward(step.program, reads | saved | ones | {"y": outputs["y"]}, None)
    return [float(np.ravel(after[f"slot.{n}"])[0]) for n in range(len(gates))]


@named(
    ("function", "at", "expected"),
    [
        (lambda a, b: np.maximum(a, b), (1.0, 1.0), [0.5, 0.5]),
        (lambda a, b: np.minimum(a, b), (-2.0, -2.0), [0.5, 0.5]),
        (lambda a, b: np.maximum(a, b), (1.0, 2.0), [0, 1]),
        (lambda a, b: np.minimum(a, b), (1.0, 2.0), [1, 0]),
        (lambda a: np.maximum(a, 0), (0.0,), [0.5]),
        (lambda a: np.clip(a, -1, 1), (1.0,), [1]),
        (lambda a: np.clip(a, -1, 1), (-1.0,), [1]),
        (lambda a: np.clip(a, -1, 1), (1.5,), [0]),
        (lambda a, b: np.clip(a, b, 2), (1.0, 1.5), [0, 1]),
        (lambda a, b: np.clip(a, b, 2), (1.0, 1.0), [1, 0]),
        (lambda a, b: np.clip(a, -2, b), (1.0, 0.5), [0, 1]),
        (lambda a, b: np.clip(a, 1, b), (2.0, 0.5), [0, 1]),
        (lambda a: np.abs(a), (0.0,), [0]),
        (lambda a: np.abs(a), (-3.0,), [-1]),
        (lambda a: np.sign(a), (0.0,), [0]),
        (lambda a: relu(a), (0.0,), [0]),
        (lambda a: relu(a), (-0.0,), [0]),
        (lambda a: relu(a), (2.0,), [1]),
        (lambda a, b: np.where(a > 0, a, b), (0.0, 3.0), [0, 1]),
        (lambda a: a**4, (2.0,), [32]),
        (lambda a: a**-2, (2.0,), [-0.25]),
        (lambda a, b: a / b, (1.0, 2.0), [0.5, -0.25]),
    ],
)
def test_slopes_at_the_edges(function, at, expected):
    assert slope(function, at) == expected


# ---- random cells ----


def step_arrays(program, seed, dtype):
    """The reads of a step forward by name, and a function for its products."""
    rng, shape = np.random.default_rng(seed), (3, 4)
    names = {value.name for value in program.forward.values if value.op == "read"}
    names |= {f"before.{one.name}" for one in program.states}
    reads = {
        name: rng.standard_normal(shape).astype(dtype) for name in sorted(names) if not name.startswith("product.")
    }
    reads |= {f"vector.{one}": rng.standard_normal(4).astype(dtype) for one in program.vectors}
    reads |= {f"option.{one.name}": one.default for one in program.options}
    matrices = (rng.standard_normal((len(program.products), 4, 4)) / 2).astype(dtype)
    return reads, matrices


def gradients_of(program, reads, matrices, d_after, dy):
    outputs = interpret.forward(program, reads, lambda k, v: v @ matrices[k])
    output = outputs["y" if program.output is None else f"after.{program.output}"]
    kept = {name: one for name, one in outputs.items() if name.startswith("saved.")} | {"y": output, "dy": dy}
    d_after = dict(d_after)
    if program.output is not None:
        d_after[program.output] = d_after[program.output] + dy
    seeds = {f"d_after.{name}": one for name, one in d_after.items()}
    found = interpret.backward(program, reads | kept | seeds, lambda k, d: d @ matrices[k].T)
    gradients = {name: one for name, one in found.items() if not name.startswith("slot.")}
    for number, slot in enumerate(program.slots):
        whole = slot.gate not in program.apart
        if whole or slot.to_input:
            gradients[f"gate.{slot.gate}" if whole else f"gate_input.{slot.gate}"] = found[f"slot.{number}"]
        if not whole and slot.operand == "h":
            gradients[f"gate_state.{slot.gate}"] = found[f"slot.{number}"]
    return gradients


@given(small_cells(), st.integers(0, 2**32 - 1))
def test_gradients_of_random_cells_are_the_complex_step_derivative(drawn, seed):
    program, rng = drawn.cell.program, np.random.default_rng(seed)
    reads, matrices = step_arrays(program, seed, np.longdouble)
    dy = rng.standard_normal((3, 4)).astype(np.longdouble)
    d_after = {one.name: rng.standard_normal((3, 4)).astype(np.longdouble) for one in program.states}
    found = gradients_of(program, reads, matrices, d_after, dy)
    for name in sorted(found.keys() & reads.keys()):
        direction = rng.standard_normal(np.shape(reads[name]))
        moved = reads | {name: reads[name] + 1j * STEP * direction.astype(np.longdouble)}
        outputs = interpret.forward(program, moved, lambda k, v: v @ matrices[k])
        y = outputs["y" if program.output is None else f"after.{program.output}"]
        loss = (dy * y).sum() + sum((d_after[n] * outputs[f"after.{n}"]).sum() for n in d_after)
        terms = np.broadcast_to(found[name], (3, 4)) * direction
        # Roundings are far below a wrong term, which is as large as the terms.
        allowed = np.sqrt(np.finfo(np.longdouble).eps) * (1 + np.abs(terms).sum())
        np.testing.assert_allclose(float(terms.sum()), float(loss.imag / STEP), rtol=0, atol=allowed, err_msg=name)

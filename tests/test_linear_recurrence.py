"""`fastrnn.linear_recurrence` against a loop in NumPy: values, gradients, bits, special values, and bad input."""

import pickle
import signal
import time
from dataclasses import dataclass

import fastrnn
import numpy as np
import pytest
from core_call import same_bits
from fastrnn import _core, _linear, config
from fastrnn.linear_passes import LinearTape
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, seeds

recurrence = fastrnn.linear_recurrence
# Vectors have 2 to 16 lanes, and a strip at most 64 vectors. Spans end within 300 steps if a strip is long.
sizes = st.sampled_from([1, 2, 3, 7, 8, 9, 16, 17, 31, 70])
steps = st.sampled_from([1, 2, 3, 7, 40])
broadcasts = st.sampled_from(["all", "scalar", "t", "b", "h", "tb", "bh", "th"])  # axes of size 1


# ---- the reference ----


def reset_before(t, lengths, resets, reverse):
    """Booleans (B,): a reset stands between step t and the step that runs before it."""
    at = t + 1 if reverse else t
    T, B = resets.shape
    return resets[at] & (at < lengths) if at < T else np.zeros(B, bool)


def loop(a, b, h0, lengths, resets, reverse):
    """h of full arrays (T, B, H), and the sums of absolute terms of each h; the textbook's loop."""
    h, size = np.zeros_like(b), np.zeros(b.shape)
    for i, length in enumerate(lengths):
        state, state_size = (None, None) if h0 is None else (h0[i], abs(h0[i]))
        for t in reversed(range(length)) if reverse else range(length):
            if reset_before(t, lengths, resets, reverse)[i]:
                state = None
            h[t, i] = b[t, i] if state is None else a[t, i] * state + b[t, i]
            size[t, i] = abs(b[t, i]) if state is None else abs(a[t, i]) * state_size + abs(b[t, i])
            state, state_size = h[t, i], size[t, i]
    return h, size


def bound(size, T, dtype):
    """Each h is a sum of at most T + 1 products of at most T + 1 factors, each step rounded twice at most."""
    return 2 * (T + 2) * np.finfo(dtype).eps * size


# ---- drawn calls ----


@dataclass
class Drawn:
    """A call, and the same arguments as full arrays (T, B, H)."""

    a: np.ndarray
    b: np.ndarray
    h0: np.ndarray | None
    dh: np.ndarray
    more: dict

    @property
    def shape(self):
        return self.dh.shape

    @property
    def arguments(self):
        return self.a, self.b, self.h0

    @property
    def lengths(self):
        given = self.more["lengths"]
        return np.full(self.shape[1], self.shape[0]) if given is None else given

    @property
    def resets(self):
        given = self.more["resets"]
        return np.zeros(self.shape[:2], bool) if given is None else given

    def full(self, dtype=np.float64):
        h0 = None if self.h0 is None else np.broadcast_to(self.h0, self.shape[1:]).astype(dtype)
        return np.broadcast_to(self.a, self.shape).astype(dtype), np.broadcast_to(self.b, self.shape).astype(dtype), h0

    def loop(self, *full):
        return loop(*(full or self.full()), self.lengths, self.resets, self.more["reverse"])

    def train(self, **more):
        h, tape = recurrence.forward(*self.arguments, **self.more)
        found = recurrence.backward(tape, self.dh, **more)
        return {"h": h, "a": found.a, "b": found.b, "h0": found.h0}

    def sequence(self, b):
        """Sequence b alone, without its padding."""
        T = self.lengths[b]

        def of(array, shape):
            return np.ascontiguousarray(np.broadcast_to(array, shape)[:T, b : b + 1])

        h0 = None if self.h0 is None else np.broadcast_to(self.h0, self.shape[1:])[b : b + 1]
        more = {**self.more, "lengths": None, "resets": self.resets[:T, b : b + 1]}
        return Drawn(of(self.a, self.shape), of(self.b, self.shape), h0, self.dh[:T, b : b + 1], more)


def shape_of(shape, kind):
    """`shape` with axes of size 1 instead of those in `kind`."""
    if kind == "scalar":
        return ()
    return shape if kind == "all" else tuple(1 if name in kind else n for name, n in zip("tbh", shape, strict=True))


def make(T, B, H, dtype, seed, a_kind="all", b_kind="all", h0_kind="all", ragged=False, resets=False, reverse=False):
    rng = np.random.default_rng(seed)
    shape = T, B, H

    def array(shape, scale=1.0):
        return np.asarray(scale * rng.standard_normal(shape), dtype)

    h0 = None if h0_kind is None else array(shape_of(shape, h0_kind)[1:])
    more = {
        "lengths": rng.integers(0, T + 1, B) if ragged else None,
        "resets": rng.random((T, B)) < 0.3 if resets else None,
        "reverse": reverse,
    }
    a, b = array(shape_of(shape, a_kind), 0.8), array(shape_of(shape, b_kind if a_kind == "all" else "all"))
    return Drawn(a, b, h0, array(shape), more)


@st.composite
def calls(draw, kinds=broadcasts, **fixed):
    options = {
        "dtype": dtypes, "seed": seeds, "a_kind": kinds, "b_kind": kinds, "ragged": st.booleans(),
        "resets": st.booleans(), "reverse": st.booleans(),
        "h0_kind": st.sampled_from([None, "all", "b", "h", "scalar"]),
    }  # fmt: skip
    drawn = {name: draw(one) for name, one in options.items()} | fixed
    return make(draw(steps), draw(sizes), draw(st.one_of(st.just(1), sizes)), **drawn)


dense = calls(st.just("all"))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, one in found.items():
        assert (one is None) == (expected[name] is None), name
        assert one is None or same_bits(np.asarray(one), np.asarray(expected[name])), name


# ---- values and gradients ----


@given(p=calls())
def test_values_equal_the_loop(backend, p):
    expected, size = p.loop()
    h = recurrence(*p.arguments, **p.more)
    assert h.shape == p.shape
    assert h.dtype == p.dh.dtype
    assert np.all(np.abs(h - expected) <= bound(size, len(h), h.dtype))
    assert not h[np.arange(len(h))[:, np.newaxis] >= p.lengths].any()


@given(p=calls(dtype="float64"), seed=seeds)
def test_gradients_equal_the_complex_step(backend, p, seed):
    rng, found = np.random.default_rng(seed), p.train()
    directions = [None if one is None else rng.standard_normal(one.shape) for one in p.arguments]
    slope = (p.dh * slope_of_loop(p, p.arguments, directions)).sum()
    terms = 0
    for one, direction, name in zip(p.arguments, directions, ("a", "b", "h0"), strict=True):
        assert (found[name] is None) == (one is None)
        if one is not None:
            assert found[name].shape == one.shape
            terms += (found[name] * direction).sum()
    absolute = [[None if one is None else np.abs(one) for one in many] for many in (p.arguments, directions)]
    size = (np.abs(p.dh) * slope_of_loop(p, *absolute)).sum()  # at least the sum of the absolute terms
    T, B, H = p.shape
    assert abs(slope - terms) <= 4 * (2 * T + B + H) * np.finfo(float).eps * size


def slope_of_loop(p, arguments, directions):
    """The derivative of h in these directions, by a complex step."""
    step = 1e-30
    moved = [None if one is None else one + 1j * step * d for one, d in zip(arguments, directions, strict=True)]
    q = Drawn(*moved, p.dh, p.more)
    return q.loop(*q.full(complex))[0].imag / step


@given(p=dense)
def test_each_step_is_one_fused_multiply_add(backend, p):
    """Steps with exactly representable products and sums, so one rounding and two give the same."""
    a, b, h0 = (None if one is None else np.sign(one) for one in p.arguments)
    q = Drawn(a, b, h0, np.sign(p.dh), p.more)
    assert same_bits(np.abs(recurrence(a, b, h0, **p.more)), np.abs(q.loop()[0]).astype(p.dh.dtype))


def test_a_backend_with_fma_rounds_once(backend):
    one_and_a_bit = np.float64(1 + 2.0**-40)
    h = recurrence(np.array([0, one_and_a_bit]), np.array([one_and_a_bit, -1 - 2.0**-39]))
    has_fma = next(b.has_fma for b in _core.backends() if b.name == backend)
    assert h[1] == (2.0**-80 if has_fma else 0)


@given(p=calls())
def test_wanted_selects_gradients(backend, p):
    everything = p.train()
    for name in ("a", "b", "h0"):
        found = p.train(wanted=[name])
        assert {other for other in ("a", "b", "h0") if found[other] is not None} <= {name}
        assert (found[name] is None) == (everything[name] is None)
        assert found[name] is None or same_bits(found[name], everything[name])
    assert recurrence.backward(recurrence.forward(*p.arguments)[1], p.dh, wanted=[]).b is None


@given(p=calls(dtype="float32"))
def test_a_gradient_of_a_broadcast_argument_is_added_up_in_the_documented_order(backend, p):
    shapes = p.shape, p.shape, p.shape[1:]
    full = [
        None if one is None else np.broadcast_to(one, shape) for one, shape in zip(p.arguments, shapes, strict=True)
    ]
    found, of_full = p.train(), Drawn(*full, p.dh, p.more).train()
    for name, one in zip(("a", "b", "h0"), p.arguments, strict=True):
        if one is not None:
            assert same_bits(found[name], added_up(of_full[name], one.shape, p.lengths if name != "h0" else None))


def added_up(full, shape, lengths):
    target = (1,) * (full.ndim - len(shape)) + shape
    for axis in range(full.ndim):
        if target[axis] == 1 and full.shape[axis] != 1:
            total = np.zeros_like(np.take(full, [0], axis))
            for n in range(full.shape[axis]):
                part = np.take(full, [n], axis)
                exists = np.ones(total.shape, bool)
                if axis == 0 and lengths is not None:
                    exists &= (n < lengths)[:, np.newaxis]
                total = np.where(exists, part if n == 0 else total + part, total)
            full = total
    return full.reshape(shape)


# ---- bits ----


@given(p=calls(), threads=st.sampled_from([2, 3, 5]))
def test_bits_do_not_depend_on_threads(backend, p, threads):
    with config.use_cut("one"):
        expected = p.train()
    fastrnn.set_num_threads(threads)
    with config.use_cut("all"):
        assert_same(p.train(), expected)


@given(p=calls())
def test_bits_do_not_depend_on_the_backend(fma_backends, p):
    found = []
    for name in fma_backends:
        with config.use_backend(name):
            found.append(p.train())
    for other in found[1:]:
        assert_same(other, found[0])


@given(p=dense, data=st.data())
def test_bits_do_not_depend_on_neighbours_and_padding(backend, p, data):
    b = data.draw(st.integers(0, p.shape[1] - 1))
    alone, together, T = p.sequence(b).train(), p.train(), p.lengths[b]
    for name in ("h", "a", "b"):
        assert same_bits(np.ascontiguousarray(together[name][:T, b : b + 1]), alone[name])
        assert not together[name][T:, b].any()
    if p.h0 is not None and p.h0.shape == p.shape[1:]:
        assert same_bits(together["h0"][b : b + 1], alone["h0"])


def strided(array, kind):
    """An equal array with other strides, between NaN."""
    if array is None or array.ndim == 0:
        return array
    order = tuple(reversed(range(array.ndim)))
    if kind == "turned":
        return np.ascontiguousarray(array.transpose(order)).transpose(order)
    if kind == "backwards":
        return np.ascontiguousarray(array[..., ::-1])[..., ::-1]
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1] + 1), np.nan, array.dtype)
    wide[..., 1::2] = array
    return wide[..., 1::2]


@given(p=calls(), kind=st.sampled_from(["turned", "backwards", "spread"]))
def test_bits_do_not_depend_on_strides(backend, p, kind):
    more = {**p.more, "resets": strided(p.more["resets"], "turned")}
    assert_same(Drawn(*(strided(one, kind) for one in p.arguments), strided(p.dh, kind), more).train(), p.train())


@given(p=calls(st.just("all")), offset=st.integers(1, 3))
def test_bits_do_not_depend_on_alignment(backend, p, offset):
    def moved(array, by):
        if array is None:
            return None
        there = np.ndarray(array.shape, array.dtype, np.empty(array.nbytes + 16, np.uint8), by)
        there[...] = array
        return there

    for by in (offset, 4 * offset):
        q = Drawn(*(moved(one, by) for one in p.arguments), moved(p.dh, by), p.more)
        assert_same(q.train(), p.train())


@given(p=calls(st.just("all"), reverse=False, ragged=False), data=st.data())
def test_bits_do_not_depend_on_a_cut_into_pieces(backend, p, data):
    T = p.shape[0]
    cut = data.draw(st.integers(0, T))
    resets = p.more["resets"]

    def piece(part, h0):
        return recurrence(p.a[part], p.b[part], h0, resets=None if resets is None else resets[part])

    first = piece(slice(0, cut), p.h0)
    second = piece(slice(cut, T), first[-1] if cut else p.h0)
    assert same_bits(np.concatenate([first, second]), recurrence(*p.arguments, **p.more))


@given(p=calls())
def test_reverse_is_the_same_over_turned_sequences(backend, p):
    lengths, resets, T = p.lengths, p.resets, p.shape[0]

    def turned(array):
        found = np.array(np.broadcast_to(array, p.shape))
        for b, n in enumerate(lengths):
            found[:n, b] = found[:n, b][::-1]
        return found

    there = np.zeros_like(resets)
    for b, n in enumerate(lengths):
        there[1:n, b] = resets[1:n, b][::-1]
    if not p.more["reverse"]:
        there[0] = False
        resets = resets & (np.arange(T) > 0)[:, np.newaxis]
    more = {"lengths": lengths, "reverse": p.more["reverse"]}
    found = recurrence(turned(p.a), turned(p.b), p.h0, resets=there, **{**more, "reverse": not more["reverse"]})
    assert same_bits(turned(found), recurrence(*p.arguments, resets=resets, **more))


@given(p=calls(h0_kind="all"), T=st.sampled_from([700, 3000]))
def test_long_sequences_cross_spans(backend, p, T):
    q = make(T, min(p.shape[1], 9), 1, "float64", 0, ragged=True, resets=True, reverse=p.more["reverse"])
    expected, size = q.loop()
    assert np.all(np.abs(recurrence(*q.arguments, **q.more) - expected) <= bound(size, T, "float64"))
    with config.use_cut("one"):
        assert_same(q.train(), q.train())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("B", "H"), [(1, 1200), (1200, 1), (2, 600)])
def test_wide_rows_have_several_strips(backend, dtype, B, H):
    p = make(40, B, H, dtype, 1, reverse=H == 1)
    expected, size = p.loop()
    assert np.all(np.abs(recurrence(*p.arguments, **p.more) - expected) <= bound(size, 40, dtype))


# ---- resets, first steps and special values ----

SPECIAL = [np.nan, np.inf, -np.inf, -0.0]


@given(p=dense, value=st.sampled_from(SPECIAL), reverse=st.booleans())
def test_nothing_passes_a_reset(backend, p, value, reverse):
    """Neither the factor there nor the state before it counts, whatever they are."""
    p.more = {**p.more, "reverse": reverse, "lengths": None}
    T, B, H = p.shape
    resets = np.zeros((T, B), bool)
    at = T // 2
    resets[at] = True
    p.more["resets"] = resets
    expected = p.train()
    poisoned = p.a.copy(), p.b.copy(), None if p.h0 is None else np.full_like(p.h0, value)
    poisoned[0][at - 1 if reverse else at] = value
    earlier = slice(at, T) if reverse else slice(0, at)
    poisoned[1][earlier] = value
    q = Drawn(*poisoned, p.dh, p.more)
    if reverse and at == 0:
        return
    found, later = q.train(), slice(0, at) if reverse else slice(at, T)
    assert same_bits(found["h"][later], expected["h"][later])
    for name in ("a", "b"):
        assert same_bits(found[name][later], expected[name][later])
    start = at - 1 if reverse else at
    assert same_bits(found["h"][start], p.b[start])
    assert same_bits(found["a"][start], np.zeros((B, H), p.dh.dtype))


@given(p=calls(st.just("all"), h0_kind=None), value=st.sampled_from(SPECIAL))
def test_the_factor_of_a_first_step_without_a_state_does_not_count(backend, p, value):
    poisoned = p.a.copy()
    for b, n in enumerate(p.lengths):
        if n:
            poisoned[n - 1 if p.more["reverse"] else 0, b] = value
    assert_same(Drawn(poisoned, p.b, None, p.dh, p.more).train(), p.train())


@given(p=calls(st.just("all"), ragged=True), value=st.sampled_from(SPECIAL))
def test_padding_is_not_read(backend, p, value):
    beyond = (np.arange(p.shape[0])[:, np.newaxis] >= p.lengths)[:, :, np.newaxis]
    a, b, dh = (np.where(beyond, np.asarray(value, one.dtype), one) for one in (p.a, p.b, p.dh))
    assert_same(Drawn(a, b, p.h0, dh, p.more).train(), p.train())


@given(p=calls(st.just("all"), h0_kind="all"), data=st.data())
def test_not_a_number_stays_in_its_unit(backend, p, data):
    t, b, u = (data.draw(st.integers(0, n - 1)) for n in p.shape)
    expected, before = p.train(), p.b[t, b, u]
    p.b[t, b, u] = np.nan
    found = p.train()
    p.b[t, b, u] = before
    for name in ("h", "a", "b", "h0"):
        others = np.ones(expected[name].shape, bool)
        others[..., b, u] = False
        assert same_bits(found[name][others], expected[name][others])
    exists = t < p.lengths[b]
    assert np.isnan(found["h"][t, b, u]) == exists
    assert not np.isnan(found["b"]).any()  # h does not enter the gradient of b


# ---- arguments ----


@given(p=calls())
def test_inputs_stay_and_a_tape_can_be_used_twice(backend, p):
    arrays = [*p.arguments, p.dh, p.more["lengths"], p.more["resets"]]
    before = [None if one is None else one.copy() for one in arrays]
    for one in arrays:
        if one is not None:
            one.flags.writeable = False
    h, tape = recurrence.forward(*p.arguments, **p.more)
    assert not h.flags.writeable
    first, second = recurrence.backward(tape, p.dh), recurrence.backward(tape, p.dh)
    assert_same(vars(first), vars(second))
    assert all(one is None or same_bits(one, old) for one, old in zip(arrays, before, strict=True))
    assert recurrence(*p.arguments, **p.more).flags.writeable


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 2), (4, 3, 0), (0, 3), (0,), (0, 0, 0)])
def test_empty_sizes(backend, shape, reverse):
    resets = np.zeros(shape[:2], bool)
    h0 = np.ones(shape[1:])
    h, tape = recurrence.forward(0.5, np.ones(shape), h0, resets=resets, reverse=reverse)
    assert h.shape == shape
    found = recurrence.backward(tape, np.ones(shape))
    assert (found.a.shape, found.b.shape, found.h0.shape) == ((), shape, shape[1:])
    assert found.a == 0
    assert not found.h0.any()


def test_sequences_without_steps(backend):
    h, tape = recurrence.forward(np.ones((3, 4)), np.ones((3, 4)), np.ones(4), lengths=[0, 3, 0, 1])
    assert h.T.tolist() == [[0, 0, 0], [2, 3, 4], [0, 0, 0], [2, 0, 0]]
    assert recurrence.backward(tape, np.ones((3, 4))).h0.tolist() == [0, 3, 0, 1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_and_numbers_of_python(backend, dtype):
    p = make(7, 5, 1, dtype, 3)
    expected = recurrence(np.asarray(0.5, dtype), p.b)
    assert expected.dtype == dtype
    assert same_bits(recurrence(0.5, p.b), expected)
    assert same_bits(recurrence(0.5, p.b[:, :, 0]), expected[:, :, 0])
    assert same_bits(recurrence(0.5, p.b[:, 2, 0]), np.ascontiguousarray(expected[:, 2, 0]))
    assert same_bits(recurrence(p.a, 1), recurrence(p.a, np.ones_like(p.b)))
    assert same_bits(recurrence(0.5, p.b, 2.0), recurrence(0.5, p.b, np.full((5, 1), 2, dtype)))
    one_reset = np.arange(7) == 3
    one, all_of_them = (recurrence(0.5, p.b[:, 2, 0], resets=one_reset),
                        recurrence(0.5, p.b, resets=np.repeat(one_reset[:, np.newaxis], 5, 1)))  # fmt: skip
    assert same_bits(one, np.ascontiguousarray(all_of_them[:, 2, 0]))


def test_lists_are_arrays():
    assert recurrence(0.5, [1.0, 1.0, 1.0]).tolist() == [1, 1.5, 1.75]
    assert recurrence(0.5, [1.0, 1.0, 1.0], reverse=True).tolist() == [1.75, 1.5, 1]


F, D = np.ones((3, 2), "f"), np.ones((3, 2))
REFUSED = [
    ((D, None), {}, TypeError, "b: expected an array, got NoneType"),
    ((None, D), {}, TypeError, "a: expected an array, got NoneType"),
    ((0.5, 0.5), {}, TypeError, "b: expected an array, or a to be one, got float and float"),
    (("half", D), {}, TypeError, "a: expected an array, got str"),
    ((True, D), {}, TypeError, "a: expected dtype float64, got bool"),
    ((F, D), {}, TypeError, r"a: expected dtype float64, got float32; pass a.astype\(np.float64\) or b.astype"),
    ((np.float64(0.5), F), {}, TypeError, "a: expected dtype float32, got float64"),
    ((0.5, np.ones(3, int)), {}, TypeError, "b: expected float32 or float64, got int64"),
    ((0.5, np.ones(3, ">f8")), {}, TypeError, "b: expected float32 or float64, got >f8"),
    ((0.5, np.ma.ones(3)), {}, TypeError, "b: expected an array, got a masked array"),
    ((np.ma.ones(3), np.ones(3)), {}, TypeError, "a: expected an array, got a masked array"),
    ((0.5, D, np.ones(2, "f")), {}, TypeError, "h0: expected dtype float64, got float32"),
    ((0.5, np.ones(())), {}, ValueError, r"b: expected shape \(T, B, H\), \(T, B\) or \(T,\) after .* a, got \(\)"),
    ((0.5, np.ones((1, 1, 1, 1))), {}, ValueError, "b: expected shape"),
    ((np.ones((3, 3)), D), {}, ValueError, r"a: expected a shape that broadcasts .* b, \(3, 2\), got \(3, 3\)"),
    ((0.5, D, np.ones(3)), {}, ValueError, r"h0: expected a shape that broadcasts to \(B\) = \(2,\), got \(3,\)"),
    ((0.5, D, np.ones((1, 2))), {}, ValueError, "h0: expected a shape"),
    ((0.5, D), {"lengths": [1, 4]}, ValueError, "lengths: expected lengths from 0 to T = 3, got 1 to 4"),
    ((0.5, D), {"lengths": [1]}, ValueError, r"lengths: expected shape \(B,\) = \(2,\), got \(1,\)"),
    ((0.5, D), {"lengths": [1.0, 2.0]}, TypeError, "lengths: expected integers"),
    ((0.5, np.ones(3)), {"lengths": [3]}, ValueError, "lengths: expected None for a and b without a batch axis"),
    ((0.5, D), {"resets": np.zeros((2, 3), bool)}, ValueError, r"resets: expected shape \(T, B\) = \(3, 2\), got"),
    ((0.5, np.ones(3)), {"resets": np.zeros((3, 1), bool)}, ValueError, r"resets: expected shape \(T,\) = \(3,\)"),
    ((0.5, D), {"resets": np.zeros((3, 2))}, TypeError, "resets: expected booleans"),
    ((0.5, D), {"reverse": 1}, TypeError, "reverse: expected True or False, got 1"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "more", "error", "message"), REFUSED, ids=[row[3][:50] for row in REFUSED])
def test_bad_input_is_refused_by_name(arguments, more, error, message):
    for call in (recurrence, recurrence.forward):
        with pytest.raises(error, match=f"^{message}"):
            call(*arguments, **more)


def test_bad_input_of_backward_is_refused_by_name():
    _, tape = recurrence.forward(0.5, D)
    with pytest.raises(TypeError, match=r"^tape: expected a LinearTape, got str"):
        recurrence.backward("tape", D)
    with pytest.raises(TypeError, match=r"^dh: expected dtype float64, got float32"):
        recurrence.backward(tape, F)
    with pytest.raises(ValueError, match=r"^dh: expected shape \(T, B\) = \(3, 2\), got \(3, 3\)"):
        recurrence.backward(tape, np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"^wanted: expected names out of"):
        recurrence.backward(tape, D, wanted=["c"])


def test_arrays_beyond_the_address_space_are_refused():
    with pytest.raises(OverflowError, match=r"^b: the arrays would exceed the address space"):
        recurrence(np.broadcast_to(np.ones(()), (2**40, 1)), np.broadcast_to(np.ones(()), (1, 2**40)))


def test_the_module_of_cython_checks_every_array():
    settings, h = (config.backend_index(), 1, 0), np.zeros((3, 2, 2))
    for name in ("a", "b", "h0"):
        arrays = {"a": np.ones((3, 2, 2)), "b": np.ones((3, 2, 2)), "h0": None, "h": h, name: np.ones((5, 2))}
        with pytest.raises(ValueError, match=f"^{name}: expected shape"):
            _linear.forward(settings, *arrays.values(), None, None, False)
    with pytest.raises(ValueError, match=r"^lengths: expected"):
        _linear.forward(settings, h, h, None, h, np.ones(3, np.int64), None, False)
    with pytest.raises(ValueError, match="batch: expected lengths"):
        _linear.forward(settings, h, h, None, np.zeros_like(h), np.full(2, 4), None, False)
    with pytest.raises(ValueError, match="backend: no such backend"):
        _linear.forward((99, 1, 0), h, h, None, np.zeros_like(h), None, None, False)
    with pytest.raises(ValueError, match="expected sizes of at least 0"):
        _linear.forward((settings[0], 0, 0), h, h, None, np.zeros_like(h), None, None, False)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.parametrize("cut", ["one", "all"])
def test_a_signal_handler_ends_a_long_call(cut):
    class StoppedError(Exception):
        pass

    def stop(*_):
        raise StoppedError

    h = np.lib.stride_tricks.as_strided(np.zeros(1), (2**33, 1, 1), (0, 0, 0))  # shares one number; takes 10 s
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        begin = time.perf_counter()
        with pytest.raises(StoppedError):
            _linear.forward((config.backend_index(), 2, _core.CUTS.index(cut)), 0.5 * np.ones(1), np.ones(1), None, h,
                            None, None, False)  # fmt: skip
        assert time.perf_counter() < begin + 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- the object ----


def test_the_function_is_public_and_has_the_docstring_of_its_call():
    assert "linear_recurrence" in fastrnn.__all__
    assert fastrnn.linear_recurrence.__name__ == "linear_recurrence"
    assert fastrnn.linear_recurrence.__doc__.startswith("Linear recurrence")
    assert repr(fastrnn.linear_recurrence) == "<fastrnn.linear_recurrence>"
    assert pickle.loads(pickle.dumps(fastrnn.linear_recurrence)) is fastrnn.linear_recurrence
    with pytest.raises(AttributeError, match="__name__"):
        fastrnn.linear_recurrence.__name__ = "other"


def test_a_tape_refers_to_the_arguments():
    h, tape = recurrence.forward(D, D)
    assert isinstance(tape, LinearTape)
    assert tape.h is h
    assert tape.a is D


# ---- what it is for ----


def discounted_returns(rewards, gamma, dones, last):
    """The textbook's loop; `last` is the value of the state after the last step."""
    returns, ahead = np.zeros_like(rewards), last
    for t in reversed(range(len(rewards))):
        ahead = rewards[t] + gamma * ahead * ~dones[t]
        returns[t] = ahead
    return returns


def generalised_advantages(rewards, values, last, dones, gamma, lam):
    """The loop of Schulman et al. (2016)."""
    advantages, ahead = np.zeros_like(rewards), 0
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(rewards) else last
        delta = rewards[t] + gamma * following * ~dones[t] - values[t]
        ahead = delta + gamma * lam * ~dones[t] * ahead
        advantages[t] = ahead
    return advantages


@given(T=steps, B=sizes, seed=seeds, dtype=dtypes)
def test_discounted_returns(backend, T, B, seed, dtype):
    rng = np.random.default_rng(seed)
    rewards, last = rng.standard_normal((T, B)).astype(dtype), rng.standard_normal(B).astype(dtype)
    dones = rng.random((T, B)) < 0.2
    gamma = 0.99
    continues = np.where(dones, 0, gamma).astype(dtype)
    limit = 4 * (T + 1) * np.finfo(dtype).eps * (np.abs(rewards).sum(0) + np.abs(last))
    expected = discounted_returns(rewards.astype(float), float(dtype_of(gamma, dtype)), dones, last.astype(float))
    assert np.all(np.abs(recurrence(continues, rewards, last, reverse=True) - expected) <= limit)
    starts = np.concatenate([np.zeros((1, B), bool), dones[:-1]])  # an episode starts after one that is done
    found = recurrence(gamma, rewards, last * ~dones[-1], resets=starts, reverse=True)
    assert np.all(np.abs(found - expected) <= limit)


def dtype_of(value, dtype):
    return np.asarray(value, dtype)


@given(T=steps, B=sizes, seed=seeds)
def test_generalised_advantages(backend, T, B, seed):
    rng = np.random.default_rng(seed)
    rewards, values = rng.standard_normal((2, T, B))
    last, dones, gamma, lam = rng.standard_normal(B), rng.random((T, B)) < 0.2, 0.99, 0.95
    following = np.concatenate([values[1:], last[np.newaxis]])
    deltas = rewards + gamma * ~dones * following - values
    found = recurrence(gamma * lam * ~dones, deltas, reverse=True)
    expected = generalised_advantages(rewards, values, last, dones, gamma, lam)
    assert np.all(np.abs(found - expected) <= 4 * (T + 1) * np.finfo(float).eps * (np.abs(deltas).sum(0) + 1))


def test_an_exponential_moving_average_equals_lfilter():
    signal = pytest.importorskip("scipy.signal")
    x = np.random.default_rng(0).standard_normal((500, 3))
    expected = signal.lfilter([0.1], [1, -0.9], x, axis=0)
    assert np.allclose(recurrence(0.9, 0.1 * x), expected, rtol=1e-13, atol=1e-13)

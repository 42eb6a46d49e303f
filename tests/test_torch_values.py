"""fastrnn.torch gives the results of torch.nn: values, shapes and gradients, for all options and forms of input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import fastrnn
import fastrnn.torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch_cases import (
    CELLS,
    KINDS,
    assert_close,
    flat,
    gradients_of,
    make_pair,
    members,
    pairs,
    random_input,
    random_state,
)

steps = st.sampled_from([1, 2, 5])
batches = st.sampled_from([1, 2, 3, 7])


def both(drawn, x, hx=None, **more):
    """Results and gradients of torch's module and of ours."""
    theirs, ours = drawn
    leaves = [t for t in (*flat(x), *(flat(hx) if hx is not None else ())) if t.requires_grad]
    expected, found = theirs(x, hx), ours(x, hx, **more)
    assert_close(flat(found), flat(expected))
    assert_close(gradients_of(ours, leaves, found), gradients_of(theirs, leaves, expected), 20)
    with torch.no_grad():
        for a, b in zip(flat(ours(x, hx, **more)), flat(found), strict=True):
            assert torch.equal(a, b)
            assert not a.requires_grad
    return found


@given(drawn=pairs(), T=steps, B=batches, with_state=st.booleans())
def test_padded_batches(drawn, T, B, with_state):
    x = random_input(drawn[0], T, B, requires_grad=True)
    both(drawn, x, random_state(drawn[0], B, requires_grad=True) if with_state else None)


@given(drawn=pairs(), T=steps, with_state=st.booleans())
def test_unbatched_input(drawn, T, with_state):
    x = random_input(drawn[0], T, 1, leading="none", requires_grad=True)
    both(drawn, x, random_state(drawn[0], requires_grad=True) if with_state else None)


@given(drawn=pairs(), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), data=st.data())
def test_packed_sequences(drawn, lengths, data):
    is_sorted = data.draw(st.booleans())
    lengths = sorted(lengths, reverse=True) if is_sorted else lengths
    batch_first = drawn[0].batch_first
    x = random_input(drawn[0], max(lengths), len(lengths))
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=batch_first, enforce_sorted=is_sorted)
    packed = PackedSequence(packed.data.requires_grad_(), *packed[1:])
    hx = random_state(drawn[0], len(lengths), requires_grad=True) if data.draw(st.booleans()) else None
    y, _ = both(drawn, packed, hx)
    assert isinstance(y, PackedSequence)
    assert y.batch_sizes is packed.batch_sizes
    assert y.unsorted_indices is packed.unsorted_indices


@given(drawn=pairs(), lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5), data=st.data())
def test_packed_sequences_have_the_bits_of_the_padded_form_with_lengths(drawn, lengths, data):
    _, ours = drawn
    lengths = [n + 1 for n in lengths]
    x = random_input(ours, max(lengths), len(lengths), requires_grad=True)
    resets = torch.rand(x.shape[:2]) < 0.3 if data.draw(st.booleans()) else None
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=ours.batch_first, enforce_sorted=False)
    hx = random_state(ours, len(lengths))
    truncation = data.draw(st.sampled_from([None, 2, (2, 3)]))
    y, state = ours(packed, hx, resets=resets, truncation=truncation)
    y, _ = pad_packed_sequence(y, batch_first=ours.batch_first)
    y_padded, state_padded = ours(x, hx, lengths=torch.tensor(lengths), resets=resets, truncation=truncation)
    for a, b in zip((y, *members(state)), (y_padded, *members(state_padded)), strict=True):
        assert torch.equal(a, b)
    found, expected = (gradients_of(ours, [x], result) for result in ((y, state), (y_padded, state_padded)))
    assert torch.equal(found[0], expected[0])
    assert_close(found, expected, 20)  # parameter gradients: sums over the batch in another order


@given(drawn=pairs(), T=steps, B=batches)
def test_input_of_any_strides(drawn, T, B):
    theirs, _ = drawn
    x = random_input(theirs, 2 * T, 3 * B)
    x = x[::3, ::2] if theirs.batch_first else x[::2, ::3]
    last = torch.randn(x.shape[2], *x.shape[:2], dtype=x.dtype).permute(1, 2, 0)
    wide = random_input(theirs, 1, 1).expand(x.shape)
    for one in (x, last, wide):
        both(drawn, one.detach().requires_grad_())
        state = random_state(theirs, B)
        turned = [m.transpose(0, 1).contiguous().transpose(0, 1) for m in members(state)]
        both(drawn, one, tuple(turned) if isinstance(state, tuple) else turned[0])


@given(drawn=pairs(), B=batches)
def test_lengths_resets_and_truncation_have_the_bits_of_fastrnns_own_layers(drawn, B):
    _, module = drawn
    T = 6
    layer_class = getattr(fastrnn, type(module).__name__)
    names = ("num_layers", "bias", "batch_first", "bidirectional")
    more = {"nonlinearity": module.nonlinearity} if isinstance(module, torch.nn.RNN) else {}
    layer = layer_class(
        module.input_size, module.hidden_size, **{n: getattr(module, n) for n in names}, **more,
        dtype=str(module.weight_ih_l0.dtype).removeprefix("torch."),
    )  # fmt: skip
    layer.parameters = {name: p.detach().numpy() for name, p in module.named_parameters()}
    x = random_input(module, T, B, requires_grad=True)
    lengths = torch.randint(0, T + 1, (B,))
    resets = torch.rand(x.shape[:2]) < 0.3
    hx = random_state(module, B)
    y, state = module(x, hx, lengths=lengths, resets=resets, truncation=(2, 3))
    arrays = tuple(m.numpy() for m in members(hx))
    expected_y, expected, tape = layer.forward(
        x.detach().numpy(), arrays if len(arrays) == 2 else arrays[0], lengths=lengths.numpy(), resets=resets.numpy()
    )
    for a, b in zip((y, *members(state)), (expected_y, *members(expected)), strict=True):
        assert np.array_equal(a.detach().numpy(), b)
    dy = torch.randn_like(y)
    found = torch.autograd.grad(y, [x, *module.parameters()], dy)
    gradients = layer.backward(tape, dy.numpy(), truncation=(2, 3))
    for a, b in zip(found, (gradients.x, *gradients.parameters.values()), strict=True):
        assert np.array_equal(a.numpy(), b)


@pytest.mark.parametrize("kind", CELLS)
@given(data=st.data())
def test_cells(kind, data):
    pair = make_pair(kind, data.draw(st.integers(1, 9)), data.draw(st.integers(1, 17)), bias=data.draw(st.booleans()))
    theirs, ours = pair
    leading = data.draw(st.sampled_from([(), (1,), (3,)]))
    x = torch.randn(*leading, theirs.input_size, dtype=torch.float64, requires_grad=True)
    h, c = (torch.randn(*leading, theirs.hidden_size, dtype=torch.float64, requires_grad=True) for _ in range(2))
    hx = data.draw(st.sampled_from([None, (h, c) if kind == "LSTMCell" else h]))
    expected, found = theirs(x, hx), ours(x, hx)
    assert_close(flat(found), flat(expected))
    leaves = [x, *(flat(hx) if hx is not None else ())]
    assert_close(gradients_of(ours, leaves, found), gradients_of(theirs, leaves, expected), 20)
    with torch.inference_mode():
        assert_close(flat(ours(x, hx)), flat(found))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_step_by_step_has_the_bits_of_the_layer(kind):
    name = kind.split()[0]
    layer = getattr(fastrnn.torch, name)(5, 9, **KINDS[kind])
    cell = getattr(fastrnn.torch, f"{name}Cell")(5, 9, **KINDS[kind])
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in layer.state_dict().items()})
    x, state = torch.randn(6, 2, 5), None
    y, _ = layer(x)
    for t in range(6):
        state = cell(x[t], state)
        assert torch.equal(members(state)[0], y[t])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_no_sequences(kind):
    theirs, ours = make_pair(kind, 3, 4, num_layers=2, bidirectional=True)
    x = torch.randn(5, 0, 3, dtype=torch.float64, requires_grad=True)
    expected, found = theirs(x), ours(x)
    assert [t.shape for t in flat(found)] == [t.shape for t in flat(expected)]
    flat(found)[0].sum().backward()
    assert x.grad.shape == x.shape
    assert all(not p.grad.any() for p in ours.parameters())


def test_results_do_not_share_memory_with_inputs_or_each_other():
    module = fastrnn.torch.LSTM(3, 4)
    x, hx = torch.randn(1, 2, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            y, (h, c) = module(x, hx)
            assert len({t.untyped_storage().data_ptr() for t in (x, *hx, y, h, c)}) == 6


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_of_any_kind(kind):
    _, ours = make_pair(kind, 3, 4)
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    expected = flat(ours(x, lengths=torch.tensor([5, 0, 2])))
    for lengths in ([5, 0, 2], np.array([5, 0, 2]), torch.tensor([5, 0, 2], dtype=torch.int32)):
        for a, b in zip(flat(ours(x, lengths=lengths)), expected, strict=True):
            assert torch.equal(a, b)
    assert not expected[0][2:, 2].any()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_packed_sequence_may_lie_apart_in_memory(kind):
    _, ours = make_pair(kind, 3, 4)
    for sizes in ([2] * 5, [3, 3, 2, 2]):
        rows = torch.randn(10, 7, dtype=torch.float64)[:, 2:5]
        found, expected = (ours(PackedSequence(one, torch.tensor(sizes))) for one in (rows, rows.contiguous()))
        assert all(torch.equal(a, b) for a, b in zip(flat(found), flat(expected), strict=True))

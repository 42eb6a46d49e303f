"""Pairs of torch's module and ours with the same parameters, their inputs and their results."""

import fastrnn.torch
import torch
from fastrnn.torch import calls
from hypothesis import strategies as st
from strategies import dtypes, seeds, widths

KINDS = {"LSTM": {}, "GRU": {}, "RNN": {}, "RNN relu": {"nonlinearity": "relu"}}
CELLS = {"LSTMCell": {}, "GRUCell": {}, "RNNCell": {}, "RNNCell relu": {"nonlinearity": "relu"}}

options = st.fixed_dictionaries(
    {
        "num_layers": st.sampled_from([1, 2, 3]),
        "bidirectional": st.booleans(),
        "bias": st.booleans(),
        "batch_first": st.booleans(),
    }
)


def make_pair(kind, *sizes, dtype="float64", **more):
    """(torch's, ours)"""
    name, more = kind.split()[0], (KINDS | CELLS)[kind] | more
    theirs = getattr(torch.nn, name)(*sizes, dtype=getattr(torch, dtype), **more)
    ours = getattr(fastrnn.torch, name)(*sizes, dtype=getattr(torch, dtype), **more)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@st.composite
def pairs(draw):
    torch.manual_seed(draw(seeds) % 2**31)
    kind = draw(st.sampled_from(sorted(KINDS)))
    return make_pair(kind, draw(widths), draw(widths), dtype=draw(dtypes), **draw(options))


class HeldMemory:
    """Makes byte tensors filled with this byte, as reused memory may be."""

    def __init__(self, byte):
        self.byte = byte

    def new_empty(self, size):
        return torch.full((size,), self.byte, dtype=torch.uint8)


def hold_in_new_memory(monkeypatch, byte):
    """From now on, memory for what forward saves holds this byte."""
    monkeypatch.setattr(calls, "_NO_BYTES", HeldMemory(byte))
    # No call is kept, since it would keep memory of before.
    monkeypatch.setattr(
        calls.Calls, "get", lambda self, plan, x: self._new_call(plan, x.shape[-1], x.dtype, calls.settings())
    )


def members(state):
    return tuple(state) if isinstance(state, tuple) else (state,)


def flat(result):
    """The tensors in the result of a module or a cell."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, torch.nn.utils.rnn.PackedSequence):
        return [result.data]
    return [tensor for member in result for tensor in flat(member)]


def random_input(module, T, B, leading="batch", requires_grad=False):
    shape = {"none": (T,), "batch": (B, T) if module.batch_first else (T, B)}[leading]
    x = torch.randn(*shape, module.input_size, dtype=module.weight_ih_l0.dtype)
    return x.requires_grad_(requires_grad)


def random_state(module, B=None, requires_grad=False):
    count = module.num_layers * (2 if module.bidirectional else 1)
    shape = (count, module.hidden_size) if B is None else (count, B, module.hidden_size)
    h, c = (torch.randn(shape, dtype=module.weight_ih_l0.dtype).requires_grad_(requires_grad) for _ in range(2))
    return (h, c) if isinstance(module, torch.nn.LSTM) else h


def loss_of(result):
    """A scalar that weighs every element differently."""
    return sum((t * torch.arange(t.numel(), dtype=t.dtype).reshape(t.shape).sin()).sum() for t in flat(result))


def gradients_of(module, inputs, result):
    """Gradients of the inputs and all parameters; None for a missing gradient."""
    wanted = [t for t in inputs if t.requires_grad] + [p for p in module.parameters() if p.requires_grad]
    return torch.autograd.grad(loss_of(result), wanted, allow_unused=True)


def assert_close(found, expected, factor=1.0):
    """Assert equality within rounding: eps times the sizes in these tests, with a margin."""
    found, expected = list(found), list(expected)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:
            assert a is None
            assert b is None
            continue
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        limit = 2000 * factor * torch.finfo(a.dtype).eps
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        error = (a - b).abs().max().item() if a.numel() else 0.0
        assert error <= limit * scale, (error, limit * scale)

"""CRCs of the results of layers and of functions of one number, over a fixed list of cases: crcs.txt has the CRCs for
all backends with FMA, and crcs-without-fma.txt the CRCs for all other backends.

    python tests/crc_cases.py                    check the backends that run here, each against its table
    python tests/crc_cases.py write              write the tables anew, each from the best backend of its kind

Inputs are integers times powers of two, computed only with integer arithmetic, so they do not depend on the versions of
NumPy and the C library.
"""

import sys
import zlib
from itertools import product
from pathlib import Path

import fastrnn
import numpy as np
from fastrnn import _core, config

# The key is whether a backend has a fused multiply-add, which rounds once instead of twice.
TABLES = {True: Path(__file__).with_name("crcs.txt"), False: Path(__file__).with_name("crcs-without-fma.txt")}
HEAD = {
    has_fma: f"""\
# zlib.crc32 of the bytes of what layers and functions compute, for the cases of crc_cases.py. Every backend {kind}
# FMA gives them, with any compiler and on any machine. Written anew (python tests/crc_cases.py write) only together
# with a change that means to change bits, such as another order of a sum or another polynomial, which CHANGELOG.md then
# tells: never to make a machine, a compiler or a change pass that was to keep them. Truncation with k2 > k1 has lines
# of its own, since the order of its sums depends on how windows are shared out.
"""
    for has_fma, kind in ((True, "with"), (False, "without"))
}
KINDS = {
    "lstm": fastrnn.LSTM,
    "gru": fastrnn.GRU,
    "rnn_tanh": fastrnn.RNN,
    "rnn_relu": lambda *sizes, **options: fastrnn.RNN(*sizes, nonlinearity="relu", **options),
}
# Sizes (T, B, I, H), the options of the layer, and the call's use of lengths, resets and truncation.
CASES = {
    "one-sequence": ((12, 1, 5, 70), {}, set(), None),
    "batch": ((7, 13, 17, 33), {}, set(), None),
    "stack": ((5, 6, 3, 19), {"num_layers": 2, "bidirectional": True}, set(), None),
    "ragged": ((9, 8, 4, 16), {"bidirectional": True}, {"lengths", "resets"}, None),
    "windows": ((11, 5, 2, 9), {"num_layers": 2}, {"lengths"}, 3),
    "overlapping-windows": ((13, 3, 7, 24), {"bidirectional": True}, {"resets"}, (2, 5)),
}

# Functions of one number; some of them only of numbers that are not negative.
FUNCTIONS = ("tanh", "sigmoid", "exp", "expm1", "log", "log1p", "softplus", "log_sigmoid")
NOT_NEGATIVE = ("log", "log1p")


class Numbers:
    """splitmix64 (Steele, Lea and Flood 2014)."""

    def __init__(self, seed):
        self.state = np.uint64(seed)

    def integers(self, n, below):
        """n integers from 0 to below - 1."""
        steps = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = self.state + steps
        self.state = z[-1] if n else self.state
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((z ^ (z >> np.uint64(31))) >> np.uint64(32)).astype(np.int64) % below

    def reals(self, shape, dtype, scale):
        """Multiples of 2^-23 * scale in [-scale, scale); `scale` is a power of two."""
        integers = self.integers(int(np.prod(shape)), 1 << 24) - (1 << 23)
        return (integers.astype(dtype) * dtype.type(scale * 2.0**-23)).reshape(shape)


def crc(arrays):
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return f"{total:08x}"


def members(state):
    return state if isinstance(state, tuple) else (state,)


def compute(kind, dtype, name, seed):
    """Run one case: CRCs by name of the result."""
    (T, B, I, H), options, order, truncation = CASES[name]
    numbers, dtype = Numbers(seed), np.dtype(dtype)
    layer = KINDS[kind](I, H, dtype=dtype, seed=0, **options)
    for array in layer.parameters.values():
        array[...] = numbers.reals(array.shape, dtype, 0.25)
    D = 1 + layer.bidirectional
    x, dy = numbers.reals((T, B, I), dtype, 4), numbers.reals((T, B, D * H), dtype, 1)
    states = [numbers.reals((layer.num_layers * D, B, H), dtype, 1) for _ in range(4)]
    h0, dh = (tuple(states[:2]), tuple(states[2:])) if kind == "lstm" else (states[0], states[2])
    lengths = numbers.integers(B, T + 1) if "lengths" in order else None
    resets = numbers.integers(T * B, 4).reshape(T, B) == 0 if "resets" in order else None
    y, final, tape = layer.forward(x, h0, lengths=lengths, resets=resets)
    g = layer.backward(tape, dy, dh, truncation=truncation)
    return {
        "y": crc([y]), "state": crc(members(final)), "dx": crc([g.x]), "dstate": crc(members(g.state)),
        "parameters": crc(g.parameters[name] for name in layer.parameters),
    }  # fmt: skip


def compute_function(name, dtype, seed):
    """A function of numbers of many sizes: CRCs by name of the result."""
    numbers, dtype = Numbers(seed), np.dtype(dtype)
    x = np.concatenate([numbers.reals(1000, dtype, scale) for scale in (2.0**-20, 1, 16, 1024)])
    if name in NOT_NEGATIVE:
        x = np.abs(x)
    return {"y": crc([_core.activate(config.backend_index(), name, x)])}


def lines():
    """The table of the backend in use, without its header."""
    for seed, (name, kind, dtype) in enumerate(product(CASES, KINDS, ("float32", "float64"))):
        crcs = compute(kind, dtype, name, seed)
        yield f"{name} {kind} {dtype} " + " ".join(f"{what}={value}" for what, value in crcs.items())
    for seed, (name, dtype) in enumerate(product(FUNCTIONS, ("float32", "float64"))):
        crcs = compute_function(name, dtype, seed)
        yield f"function {name} {dtype} " + " ".join(f"{what}={value}" for what, value in crcs.items())


def expected_lines(has_fma):
    """A committed table, without its header."""
    return [line for line in TABLES[has_fma].read_text().splitlines() if not line.startswith("#")]


def backends():
    """Backends that run here, best first: the name, and whether it has FMA."""
    return {b.name: b.has_fma for b in _core.backends() if b.runs_here}


def write():
    for has_fma, table in TABLES.items():
        able = [name for name, has in backends().items() if has == has_fma]
        if not able:
            print(f"{table.name}: not written, no backend for it runs here")
            continue
        with config.use_backend(able[0]):
            table.write_text(HEAD[has_fma] + "".join(f"{line}\n" for line in lines()))


def check():
    """Print differences; return whether a line differs."""
    different = False
    for backend, has_fma in backends().items():
        expected = expected_lines(has_fma)
        with config.use_backend(backend):
            wrong = [found for found, line in zip(lines(), expected, strict=True) if found != line]
        print(f"{backend}: {len(expected) - len(wrong)} of {len(expected)} lines", *wrong, sep="\n  ")
        different |= bool(wrong)
    return different


if __name__ == "__main__":
    sys.exit(write() if sys.argv[1:] == ["write"] else check())

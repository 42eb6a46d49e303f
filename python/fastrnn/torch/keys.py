"""The scalars of the operator as one string, such as ``cell=lstm layers=2 directions=1 …``.

A written cell stands in it as the text of its program, which has no spaces.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .plan import Network


class Described(NamedTuple):
    """What a key says."""

    network: Network
    kind: str  # of `Plan`
    truncation: tuple[int, int] | None
    training: bool
    options: tuple[float, ...]  # of the cell


def text_of_options(options: tuple[float, ...]) -> str:
    """The options as a key has them."""
    return ",".join(map(repr, options))


def key_of(network: Network, kind: str, window: tuple[int, int] | None, training: bool, options: str = "") -> str:
    """The key of a call. Compilers trace this function, so options are a text."""
    cell, layers, directions, hidden_size, has_bias = network
    # The stop of a range is a plain integer, also where the compiler has a symbol for the user's.
    k1, k2 = (0, 0) if window is None else (range(window[0]).stop, range(window[1]).stop)
    stack = f"cell={cell} layers={layers} directions={directions} hidden_size={hidden_size} has_bias={int(has_bias)}"
    return f"{stack} kind={kind} k1={k1} k2={k2} training={int(training)} options={options}"


@lru_cache(maxsize=256)
def described(key: str) -> Described:
    """The inverse. Keys of compiled graphs are few, and each comes with every call."""
    try:
        words = dict(word.split("=", 1) for word in key.split())
        kind, cell, options = words.pop("kind"), words.pop("cell"), words.pop("options").split(",")
        numbers = {name: int(number) for name, number in words.items()}
        k1, k2, training, has_bias = (numbers.pop(name) for name in ("k1", "k2", "training", "has_bias"))
        network = Network(cell, has_bias=bool(has_bias), **numbers)
        values = tuple(float(one) for one in options if one)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"key: expected one of fastrnn.torch.keys.key_of, got {key!r}") from None
    return Described(network, kind, (k1, k2) if k1 else None, bool(training), values)

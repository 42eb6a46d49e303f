"""Text as numbers, and a trigram model to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


def read_text(path: str | None) -> str:
    """Text of a file, or the language reference that every CPython includes for its own ``help()``."""
    if path is not None:
        return Path(path).read_text(encoding="utf-8")
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def encode(text: str, vocabulary: str) -> Ids:
    """The index of each character in the sorted vocabulary."""
    points = np.array(list(vocabulary), dtype="U1").view(np.uint32)
    return np.searchsorted(points, np.array(list(text), dtype="U1").view(np.uint32)).astype(np.int64)


def trigram_bits(train: Ids, validation: Ids, size: int) -> float:
    """Bits per character of an interpolated trigram model on `validation`.

    Each order is smoothed with the next lower order (Witten & Bell 1991): for a context that was seen N times, followed
    by D different characters, P(c | context) = (count + D * P_below(c)) / (N + D).
    """
    probability = (np.bincount(train, minlength=size)[validation[2:]] + 1) / (len(train) + size)
    for order in (1, 2):
        context, wanted = _contexts(train, order, size), _contexts(validation, order, size)[2 - order :]
        grams, counts = np.unique(context * size + train[order:], return_counts=True)
        seen, totals = np.unique(context, return_counts=True)
        followers = np.bincount(np.searchsorted(seen, grams // size), minlength=len(seen))
        count = _look_up(grams, counts, wanted * size + validation[2:])
        total, different = _look_up(seen, totals, wanted), _look_up(seen, followers, wanted)
        known = total > 0
        probability[known] = ((count + different * probability) / np.maximum(total + different, 1))[known]
    return float(-np.log2(probability).mean())


def _contexts(ids: Ids, order: int, size: int) -> Ids:
    """The `order` characters before each character from number `order` on, as one integer."""
    if order == 1:
        return ids[:-1]
    return ids[:-2] * size + ids[1:-1]


def _look_up(keys: Ids, values: Ids, wanted: Ids) -> Ids:
    """The value of each wanted key; 0 for a missing key."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)

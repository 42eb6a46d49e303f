"""Pairwise covering sets: few rows of factor values that contain every allowed pair of values of two factors.

Greedy, as AETG does it (Cohen et al. 1997): each row starts from a pair that no row has yet, and each further factor
takes the value that adds the most new pairs. Of several such rows, the best is kept. Same seed, same rows.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]
Factors = Mapping[str, Sequence[Any]]
Allowed = Callable[[Row], bool]  # also answers for a row that lacks some factors
Pair = tuple[str, Any, str, Any]

CANDIDATES = 30  # rows of which the best is kept


def pairs_of(row: Row, names: Sequence[str]) -> Iterator[Pair]:
    """The pairs of values in a row; the factors of a pair are in the order of the names."""
    for one, other in combinations([name for name in names if name in row], 2):
        yield one, row[one], other, row[other]


def allowed_pairs(factors: Factors, allowed: Allowed) -> list[Pair]:
    """All pairs that a covering set must contain."""
    return [
        (one, a, other, b)
        for one, other in combinations(factors, 2)
        for a, b in product(factors[one], factors[other])
        if allowed({one: a, other: b})
    ]


def _candidate(factors: Factors, allowed: Allowed, missing: Mapping[Pair, None], draw: random.Random) -> Row:
    one, a, other, b = draw.choice(list(missing))
    row = {one: a, other: b}
    rest = [name for name in factors if name not in row]
    draw.shuffle(rest)
    for name in rest:
        values = [value for value in factors[name] if allowed(row | {name: value})]
        draw.shuffle(values)
        row[name] = max(values, key=lambda value: _gain(row, name, value, factors, missing))
    return row


def _gain(row: Row, name: str, value: Any, factors: Factors, missing: Mapping[Pair, None]) -> int:
    """How many missing pairs the value makes with those of the row."""
    order = {factor: place for place, factor in enumerate(factors)}
    pairs = ((name, value, k, v) if order[name] < order[k] else (k, v, name, value) for k, v in row.items())
    return sum(pair in missing for pair in pairs)


def covering(factors: Factors, allowed: Allowed, seed: int) -> list[Row]:
    """A covering set of rows.

    `allowed` must forbid pairs of values alone, in such a way that each allowed pair is part of an allowed row.
    """
    draw, names = random.Random(seed), list(factors)
    missing = dict.fromkeys(allowed_pairs(factors, allowed))
    rows = []
    while missing:
        found = [_candidate(factors, allowed, missing, draw) for _ in range(CANDIDATES)]
        row = max(found, key=lambda one: sum(pair in missing for pair in pairs_of(one, names)))
        rows.append({name: row[name] for name in names})
        for pair in pairs_of(row, names):
            missing.pop(pair, None)
    return rows

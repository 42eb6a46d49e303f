"""The steps of one direction in the order in which they run, and a loop over them.

Sequences are in the order of `Rows`: the longest first. So the sequences of a step are the first n of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..schedule import Batch
from .rows import Rows


class Visit(NamedTuple):
    """One step: its number t, its n sequences, and booleans (n, 1) of those that start anew, None if none does."""

    t: int
    n: int
    restarts: Tensor | None


States = list[Tensor]  # each has a row for each sequence


def visits(batch: Batch, rows: Rows, device: torch.device) -> list[Visit]:
    """The steps in the order of the batch's direction."""
    found = [Visit(t, n, _restarts(batch, rows, t, n, device)) for t, n in enumerate(rows.sizes)]
    return found[::-1] if batch.reverse else found


def _restarts(batch: Batch, rows: Rows, t: int, n: int, device: torch.device) -> Tensor | None:
    """Where an episode starts; see `Batch.resets`. In the reverse direction it ends at the earlier step."""
    at = t + 1 if batch.reverse else t
    if batch.resets is None or at == batch.T:
        return None
    marks = rows.sorted(batch.resets[at] & (batch.all_lengths > at))[:n]
    return torch.from_numpy(np.ascontiguousarray(marks)).to(device)[:, None] if marks.any() else None


def sweep(steps: Sequence[Visit], initial: States, advance: Callable[[Visit, States], States]) -> States:
    """The final states of all sequences. `advance` returns the states of a step's sequences after the step.

    With the steps in reverse, and the gradients of the final states in the place of the initial states, it returns the
    gradients of the initial states.
    """
    states = [one[: steps[0].n] for one in initial] if steps else [one[:0] for one in initial]
    ended: list[States] = []
    for visit in steps:
        present = states[0].shape[0]
        if visit.n < present:
            ended.append([one[visit.n :] for one in states])
            states = [one[: visit.n] for one in states]
        elif visit.n > present:
            states = [torch.cat([one, more[present : visit.n]]) for one, more in zip(states, initial, strict=True)]
        states = advance(visit, states)
    running = states[0].shape[0] + sum(piece[0].shape[0] for piece in ended)
    if running < initial[0].shape[0]:  # sequences without a step
        ended.insert(0, [one[running:] for one in initial])
    if not ended:
        return states
    return [torch.cat(pieces) for pieces in zip(states, *reversed(ended), strict=True)]

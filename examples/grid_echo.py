"""The delayed echo: a stream of coin flips, to be repeated n steps later. This needs n steps of memory.

Forward always runs over the same long stretches, with one update for each stretch. The runs differ only in how far back
the gradient reaches, and in whether the state is carried over the windows' borders. So all runs see the same flips and
make the same number of updates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from character_model import CharacterModel
from character_text import Ids
from gradient_descent import Adam, clip_gradients
from grid_settings import Settings

WAYS = ("zeroed", "carried", "twice")
LEARNING_RATE = 3e-3
EMBEDDING_SIZE = 8


def measure_error(settings: Settings, way: str, k: int, delay: int) -> dict[str, float]:
    """The share of wrong flips after training with windows of k steps; 0.5 is guessing.

    "zeroed": the state starts from zero in each window. "carried": the state is carried on, the gradient is not.
    "twice": each window's gradient reaches back 2*k steps. "full": the gradient reaches back over the whole stretch.
    """
    model = trained(settings, way, k, delay, settings.echo_updates)
    T, B = 16 * settings.echo_steps, settings.echo_batch_size
    ids, targets = flips(T, B, delay, seed=1)
    logits, _ = model.logits(ids, resets=_resets(way, k, T, B))
    wrong = logits.argmax(axis=-1) != targets
    return {"error": round(float(wrong[delay:].mean()), 5)}


def gradient_case(settings: Settings) -> tuple[CharacterModel, Ids, Ids]:
    """A model early in training, when the gradient is not yet noise, and flips for its gradient."""
    delay = settings.echo_gradient_delay
    model = trained(settings, "full", settings.echo_steps, delay, settings.echo_updates // 8)
    return model, *flips(settings.gradient_steps, settings.gradient_streams, delay, seed=2)


def trained(settings: Settings, way: str, k: int, delay: int, updates: int) -> CharacterModel:
    T, B = settings.echo_steps, settings.echo_batch_size
    model = CharacterModel("rnn", 2, EMBEDDING_SIZE, settings.echo_hidden_size)
    adam, state = Adam(model.parameters), None
    ids, targets = flips(T * settings.echo_updates, B, delay, seed=0)
    options = {"resets": _resets(way, k, T, B), "truncation": {"carried": k, "twice": (k, 2 * k)}.get(way)}
    for start in range(0, updates * T, T):
        window = slice(start, start + T)
        _, gradients, state = model.gradients(ids[window], targets[window], state, **options)
        clip_gradients(gradients, 1.0)
        adam.update(gradients, LEARNING_RATE)
    return model


def flips(T: int, B: int, delay: int, seed: int) -> tuple[Ids, Ids]:
    """Inputs (T, B) and targets, which are the inputs of `delay` steps before."""
    drawn = np.random.default_rng(seed).integers(0, 2, (T + delay, B))
    return drawn[delay:], drawn[:T]


def _resets(way: str, k: int, T: int, B: int) -> Any:
    """The starts of windows as resets, if `way` zeroes the state there."""
    if way != "zeroed":
        return None
    resets = np.zeros((T, B), bool)
    resets[::k] = True
    return resets

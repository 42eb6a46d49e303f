"""The list of measurements of batch_vs_steps.py: each is an experiment at a point of its grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grid_echo
import grid_speed
from grid_gradients import gradient_errors
from grid_records import Task, Values
from grid_settings import Settings
from grid_text import TextExperiments

MANY_UPDATES = 4  # characters per update


def tasks_of(settings: Settings, text: TextExperiments) -> Iterator[Task]:
    """All measurements. Timings take turns, round by round, so a slow minute affects all of them equally."""
    yield from _memory(settings)
    yield from _gradients(settings, text)
    yield from _echo(settings)
    yield from _learning(settings, text)
    for number in range(settings.rounds):
        yield from _timings(settings, number)


def _timings(s: Settings, number: int) -> Iterator[Task]:
    """One round, in seconds per character."""

    def task(experiment: str, point: Values, measure: Callable[..., Values], *arguments: int) -> Task:
        return Task(experiment, {**point, "round": number}, partial(measure, *arguments, s.seconds))

    for H in s.layer_sizes:
        for B in s.layer_batch_sizes:
            yield task("layer", {"H": H, "B": B}, grid_speed.time_layer, H, B, s.layer_steps)
    for B in s.layer_batch_sizes:
        H = s.layer_sizes[0]
        yield task("loop", {"H": H, "B": B}, grid_speed.time_loop, H, B, s.layer_steps)
    for B in s.batch_sizes:
        for T in s.window_lengths:
            yield task("window", {"B": B, "T": T}, grid_speed.time_window, B, T, s.hidden_size, s.embedding_size)
    yield task("product", {"n": s.product_size}, grid_speed.time_product, s.product_size)


def _memory(s: Settings) -> Iterator[Task]:
    largest = s.memory_batch_sizes[-1]
    for B, checkpoint in [*((B, 0) for B in s.memory_batch_sizes), (largest, s.memory_checkpoint)]:
        for T in s.window_lengths:
            point = {"B": B, "T": T, "checkpoint": checkpoint}
            yield Task("memory", point, partial(grid_speed.measure_memory, B, T, s.hidden_size, checkpoint))


def _gradients(s: Settings, text: TextExperiments) -> Iterator[Task]:
    """Truncations k1 = k2, and some k2 beyond k1."""
    pairs = [(k, k) for k in s.reaches]
    pairs += [(k1, k2) for k1 in s.overlapping for k2 in s.reaches if k1 < k2 <= s.stages_most * k1]
    ids, targets = text.stretch()

    def errors_of(make_model: Callable[[], Any]) -> Values:
        return {"errors": gradient_errors(make_model(), ids, targets, pairs)}

    def errors_of_echo() -> Values:
        return {"errors": gradient_errors(*grid_echo.gradient_case(s), pairs)}

    yield Task("gradient", {"model": "untrained"}, partial(errors_of, text.new_model))
    yield Task("gradient", {"model": "trained"}, partial(errors_of, partial(text.trained, *s.gradient_training)))
    yield Task("gradient", {"model": "echo", "delay": s.echo_gradient_delay}, errors_of_echo)


def _echo(s: Settings) -> Iterator[Task]:
    for k in s.echo_windows:
        for way in grid_echo.WAYS:
            for delay in s.echo_delays:
                point = {"way": way, "k": k, "delay": delay}
                yield Task("echo", point, partial(grid_echo.measure_error, s, way, k, delay))
    for delay in s.echo_delays:
        point = {"way": "full", "k": s.echo_steps, "delay": delay}
        yield Task("echo", point, partial(grid_echo.measure_error, s, "full", s.echo_steps, delay))


def _learning(s: Settings, text: TextExperiments) -> Iterator[Task]:
    """Largest windows first, since they take the least time. For very many updates, only the smallest rate."""
    for B in reversed(s.batch_sizes):
        for T in reversed(s.window_lengths):
            for rate in s.learning_rates if B * T > MANY_UPDATES else s.learning_rates[:1]:
                yield Task("text", {"B": B, "T": T, "rate": rate}, partial(text.measure_loss, B, T, rate))

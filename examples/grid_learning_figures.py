"""The figures of batch_vs_steps.py about learning."""

from __future__ import annotations

from typing import Any

import numpy as np
from figure_style import COLORS, label_line, new_figure, plain_ticks
from grid_records import Records
from grid_settings import Settings

# The number of windows that the gradient spans, and the title of the panel.
REACHES = {
    "zeroed": (1, "state zeroed: a window's first steps fail"),
    "carried": (1, "state carried on"),
    "twice": (2, "carried, gradient over two windows"),
}

LEARNED_ERROR = 0.05


def draw_echo(records: Records, settings: Settings) -> Any:
    """The error for each delay and window, and the reach of the gradient; one panel for each method of training."""
    figure, panels = new_figure(
        "A delay within the gradient's reach is learned; beyond it, the state carries some by chance", len(REACHES)
    )
    delays, windows = settings.echo_delays, settings.echo_windows
    full = records.least("echo", "error", "delay", way="full", k=settings.echo_steps)
    longest = max((delay for delay in delays if full.get(delay, 1.0) < LEARNED_ERROR), default=0)
    for axes, (way, (count, title)) in zip(panels, REACHES.items(), strict=True):
        errors = [records.least("echo", "error", "delay", way=way, k=k) for k in windows]
        percents = [[100 * row.get(delay, np.nan) for delay in delays] for row in errors]
        image = axes.imshow(percents, cmap="cividis", vmin=0, vmax=50, aspect="auto", origin="lower")
        # The gradient reaches back at most count*k - 1 steps.
        edges = [np.searchsorted(delays, count * k - 1, side="right") - 0.5 for k in windows]
        axes.stairs(edges, np.arange(len(windows) + 1) - 0.5, orientation="horizontal", color="white", linewidth=2)
        axes.axvline(np.searchsorted(delays, longest, side="right") - 0.5, color="black", linestyle="--", linewidth=1)
        axes.set_xticks(range(0, len(delays), 2), delays[::2], fontsize=8)
        axes.set_yticks(range(len(windows)), windows)
        axes.grid(visible=False)
        axes.set(xlabel="delay to be echoed, steps", title=title)
    panels[0].set_ylabel("window k, steps")
    bar = figure.colorbar(image, ax=panels, location="bottom", shrink=0.4, aspect=40)
    bar.set_label(
        "wrong, % (50 is guessing); white: the gradient's reach; dashed: learned with the gradient over all steps"
    )
    return figure


def draw_text(records: Records, settings: Settings) -> Any:
    """The loss at equal numbers of characters as a map of B and T, and the loss by length of context."""
    figure, (map_axes, context_axes) = new_figure(
        "After equally many characters, the loss follows the number of updates more than B or T", widths=(1.2, 1)
    )
    B, T = settings.batch_sizes, settings.window_lengths
    # The best of several learning rates.
    best = {(r["B"], r["T"]): r for r in sorted(records.select("text"), key=lambda record: -record["bits"])}
    bits = np.array([[best[b, t]["bits"] if (b, t) in best else np.nan for t in T] for b in B])
    middle = (np.nanmin(bits) + np.nanmax(bits)) / 2
    map_axes.imshow(bits, cmap="cividis_r", aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(bits):
        if np.isfinite(value):
            updates = best[B[row], T[column]]["updates"]
            color = "white" if value > middle else "black"
            map_axes.text(column, row + 0.12, f"{value:.2f}", color=color, ha="center", va="center", weight="bold")
            map_axes.text(column, row - 0.22, f"{updates:,}", color=color, ha="center", va="center", fontsize=8)
    map_axes.set_xticks(range(len(T)), T)
    map_axes.set_yticks(range(len(B)), B)
    map_axes.grid(visible=False)
    map_axes.set(
        xlabel="window T, time steps",
        ylabel="batch size B",
        title=f"bits per character after {settings.characters:,} characters; below it, the updates",
    )
    for t, color in zip(T, COLORS, strict=False):
        record = best[settings.context_batch_size, t]
        context_axes.plot(settings.contexts, record["context_bits"], "o-", color=color, markersize=4)
        label_line(context_axes, settings.contexts[-1], record["context_bits"][-1], f"T={t}", color)
    context_axes.set_xscale("log", base=2)
    context_axes.set_xlim(right=2.2 * settings.contexts[-1])
    plain_ticks(context_axes.xaxis, settings.contexts)
    context_axes.set(
        xlabel="characters seen before the one to predict",
        ylabel="bits per character",
        title=f"models of B={settings.context_batch_size}: how much context helps them",
    )
    return figure

"""The figures of batch_vs_steps.py. Each figure makes one point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from figure_style import BLUE, COLORS, GREEN, GREY, RED, label_line, new_figure, plain_ticks, save_figure
from grid_learning_figures import draw_echo, draw_text
from grid_records import Records
from grid_settings import Settings

LSTM_OPERATIONS = 16  # per time step and sequence, times H*H: two matrices of 4 gates, a product and a sum per weight


def draw(records: Records, settings: Settings, folder: Path) -> list[Path]:
    """Draw all figures that have records; return their paths."""
    figures: dict[str, tuple[str, Callable[[Records, Settings], Any]]] = {
        "throughput": ("product", draw_throughput),
        "window-cost": ("memory", draw_window_cost),
        "truncation-error": ("gradient", draw_truncation_error),
        "echo": ("echo", draw_echo),
        "text": ("text", draw_text),
    }
    paths = []
    for name, (experiment, function) in figures.items():
        if any(records.select(experiment)):
            paths.append(folder / f"batch-and-steps-{name}.svg")
            save_figure(function(records, settings), paths[-1])
    return paths


def draw_throughput(records: Records, settings: Settings) -> Any:
    """Operations per second against the batch size, for layers of some sizes and a NumPy loop; and the gain of B=4."""
    figure, (axes, gain_axes) = new_figure(
        "A larger batch is faster until arithmetic is the limit, which here is soon", widths=(1.6, 1)
    )
    batch_sizes, smallest = settings.layer_batch_sizes, settings.layer_sizes[0]
    lines = [("layer", H, f"H={H}", color) for H, color in zip(settings.layer_sizes, COLORS, strict=False)]
    lines.append(("loop", smallest, f"NumPy loop,\nH={smallest}", GREY))
    gains = []
    for experiment, H, name, color in lines:
        seconds = records.least(experiment, "seconds", "B", H=H)
        rate = {B: LSTM_OPERATIONS * H**2 / seconds[B] / 1e9 for B in batch_sizes}
        axes.plot(batch_sizes, rate.values(), "o-", color=color, markersize=4)
        up = 5 * ((color == COLORS[0]) - (color == COLORS[1]))  # the two smallest layers begin close to each other
        label_line(axes, batch_sizes[0], rate[batch_sizes[0]], name, color, shift=(-8, up), align="right")
        gains.append((name, rate[4] / rate[1], color))
    peak = max(record["gflops"] for record in records.select("product"))
    axes.axhline(peak, color="black", linestyle="--", linewidth=1)
    label_line(
        axes, batch_sizes[-1], 1.3 * peak, "dashed: a product of large matrices in NumPy", "black", align="right"
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(left=batch_sizes[0] / 7)
    axes.set_ylim(top=1.6 * peak)
    plain_ticks(axes.xaxis, batch_sizes)
    plain_ticks(axes.yaxis, [8, 16, 32, 64, 128])
    axes.set(xlabel="batch size B", ylabel="GFLOP/s, one core", title="LSTM forward, fastrnn and a loop in NumPy")
    for y, (_, gain, color) in enumerate(reversed(gains)):
        gain_axes.barh(y, gain, color=color)
        label_line(gain_axes, gain, y, f"{gain:.1f}", "white", shift=(-6, 0), align="right")
    gain_axes.axvline(4, color="black", linestyle="--", linewidth=1)
    gain_axes.set_yticks(range(len(gains)), [name for name, *_ in reversed(gains)])
    gain_axes.set(
        xlim=(0, 4.4), xlabel="throughput of B=4 over that of B=1", title="4 would be: B=4 costs no more than B=1"
    )
    gain_axes.grid(axis="y", visible=False)
    return figure


def draw_window_cost(records: Records, settings: Settings) -> Any:
    """Time per character and memory against the window's length."""
    figure, (time_axes, memory_axes) = new_figure("Longer windows take memory, not time")
    T = settings.window_lengths
    for B, color in zip(settings.batch_sizes, COLORS, strict=False):
        seconds = records.least("window", "seconds", "T", B=B)
        time_axes.plot(T, [1e6 * seconds[t] for t in T], "o-", color=color, markersize=4)
        label_line(time_axes, T[0], 1e6 * seconds[T[0]], f"B={B}", color, shift=(-8, 0), align="right")
    time_axes.set(
        xlabel="window T, time steps",
        ylabel="µs per character",
        title="a whole update of the character model: its fixed\ncost fades once B·T is in the hundreds",
    )
    time_axes.set_xscale("log", base=4)
    time_axes.set_yscale("log", base=10)
    time_axes.set_xlim(left=T[0] / 3)
    plain_ticks(time_axes.yaxis, [3, 10, 30, 100, 300])
    largest = settings.memory_batch_sizes[-1]
    lines = [(B, 0, color) for B, color in zip(settings.memory_batch_sizes, COLORS[2:], strict=False)]
    for B, checkpoint, color in [*lines, (largest, settings.memory_checkpoint, GREY)]:
        megabytes = {t: b / 1e6 for t, b in records.least("memory", "bytes", "T", B=B, checkpoint=checkpoint).items()}
        memory_axes.plot(T, [megabytes[t] for t in T], "o-", color=color, markersize=4)
        name = f"B={B}" + (f", checkpoint={checkpoint}" if checkpoint else "")
        label_line(memory_axes, T[-1], megabytes[T[-1]], name, color, shift=(-2, 9), align="right")
    memory_axes.set(
        xlabel="window T, time steps",
        ylabel="MB",
        title="its LSTM layer, forward and backward: what\nbackward needs of every step is kept until then",
    )
    plain_ticks(time_axes.xaxis, T)
    plain_ticks(memory_axes.xaxis, T[-3:])
    return figure


def draw_truncation_error(records: Records, settings: Settings) -> Any:
    """Cosine and norm of truncated gradients, against the reach of the gradient."""
    figure, axes_of = new_figure("The longer the window, the closer the gradient to that of all time steps")
    cases = {
        "untrained": ("text, before training", GREEN),
        "trained": ("text, trained", BLUE),
        "echo": (f"echo of {settings.echo_gradient_delay} steps", RED),
    }
    first = settings.overlapping[0]
    for axes, value in zip(axes_of, ("cosine", "norm_ratio"), strict=True):
        for model, (name, color) in cases.items():
            (record,) = records.select("gradient", model=model)
            windows = {e["k2"]: e[value] for e in record["errors"] if e["k1"] == e["k2"]}
            beyond = {e["k2"]: e[value] for e in record["errors"] if e["k1"] == first}
            axes.plot(windows.keys(), windows.values(), "o-", color=color, markersize=4, label=name)
            axes.plot(beyond.keys(), beyond.values(), "--", color=color, linewidth=1.2)
        axes.set_xscale("log", base=2)
        plain_ticks(axes.xaxis, settings.reaches)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set(xlabel="k, time steps", ylim=(0, 1.15))
    axes_of[0].set_title("direction: cosine of the angle")
    axes_of[0].legend(frameon=False, loc="lower right")
    axes_of[1].set_title("length: ratio of the norms")
    solid = axes_of[1].plot([], [], "o-", color=GREY, markersize=4, label="windows of k steps (k1 = k2 = k)")
    dashed = axes_of[1].plot([], [], "--", color=GREY, label=f"each loss reaches k steps back (k1 = {first}, k2 = k)")
    axes_of[1].legend(frameon=False, loc="lower right", handles=[*solid, *dashed])
    return figure

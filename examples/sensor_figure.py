"""Draw forecasts beside the measured values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from figure_style import BLUE, GREEN, GREY, ORANGE, label_line, new_figure, save_figure
from numpy.typing import NDArray


def draw_forecasts(
    path: Path, measured: NDArray[np.float32], forecasts: NDArray[np.float32], errors: dict[str, NDArray[np.float32]]
) -> None:
    """`measured` (T, I) and `forecasts` (T, horizon, I) of one recording; `errors` (horizon,) of each method."""
    figure, (series, by_step) = new_figure(
        "Forecasts of a watch's values: a GRU is hardly better than linear regression", widths=(2.2, 1)
    )
    horizon = forecasts.shape[1]
    seconds = np.arange(len(measured)) / 10
    value = int(forecasts.std(axis=(0, 1)).argmax())
    series.plot(seconds, measured[:, value], color=GREY, linewidth=3, label="measured")
    for ahead, color in ((1, BLUE), (horizon, ORANGE)):
        label = f"forecast {ahead / 10:.1f} s before"
        series.plot(seconds[ahead:], forecasts[:-ahead, ahead - 1, value], color=color, linewidth=1.5, label=label)
    series.set(xlabel="time, s", ylabel="standard deviations", title="one value of a walk")
    series.legend(loc="upper left", ncols=3, frameon=False)
    series.margins(y=0.2)
    lowest = min(errors, key=lambda name: errors[name][-1])
    for (name, error), color in zip(errors.items(), (GREY, GREEN, BLUE), strict=True):
        by_step.plot(np.arange(1, horizon + 1) / 10, error, "o-", color=color)
        shift = (0, -10 if name == lowest else 9)
        label_line(by_step, horizon / 10, error[-1], name, color, shift=shift, align="right")
    by_step.set(xlabel="ahead, s", ylabel="root mean square error", title="error on other recordings")
    by_step.set_ylim(0, 1.15 * max(error.max() for error in errors.values()))
    save_figure(figure, path)

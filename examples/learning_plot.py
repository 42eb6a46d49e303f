"""Draw learning curves; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAIN, VALIDATION, REFERENCE = "#7aa6d6", "#c2410c", "#555555"
POINTS = 300  # of a curve; each point is the mean over an equal number of windows


def import_pyplot() -> Any:
    """matplotlib.pyplot, drawing into files; None if matplotlib is missing."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return None
    return plt


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Means over neighbours, about `POINTS` values."""
    width = max(1, len(values) // POINTS)
    cut = len(values) // width * width
    means: NDArray[Any] = values[:cut].reshape(-1, width, *values.shape[1:]).mean(1)
    return means


def plot_curves(
    path: Path,
    train: list[tuple[int, float]],
    validation: list[tuple[int, float]],
    element: str,
    unit: str,
    described: Callable[[float], str],
    title: str,
    baseline: tuple[str, float] | None = None,
) -> bool:
    """Draw curves of (elements seen, loss) and another model's `baseline` (name, loss); False without matplotlib."""
    plt = import_pyplot()
    if plt is None:
        return False
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    seen, loss = thinned(np.array(train)).T
    axes.plot(seen / 1e6, loss, color=TRAIN, label="training windows")
    if validation:
        seen, loss = np.array(validation).T
        axes.plot(seen / 1e6, loss, "o-", color=VALIDATION, label=f"validation, at last {described(loss[-1])}")
    axes.set(xlabel=f"million {element} seen", ylabel=unit, title=title)
    if baseline:
        name, value = baseline
        axes.axhline(value, color=REFERENCE, linestyle="--", linewidth=1, label=f"{name}, {described(value)}")
        axes.set_ylim(top=min(axes.get_ylim()[1], value + 1.5))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True

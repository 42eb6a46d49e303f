"""Style of the examples' figures: colours that colour-blind readers can tell apart (Okabe & Ito), labels at lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#d97706", "#009e73", "#b91c1c", "#9d4e8c", "#56b4e9", "#8a8a8a",
)  # fmt: skip
COLORS = (GREEN, BLUE, PURPLE, ORANGE, RED)  # for sizes, from small to large
SETTINGS: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "svg.hashsalt": "fastrnn",  # the same figure gives the same file
    "svg.fonttype": "none",  # text stays text, which takes a third of the bytes
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],  # Verdana is as wide as DejaVu Sans
}


def new_figure(point: str, columns: int = 2, *, widths: tuple[float, ...] | None = None) -> tuple[Any, Any]:
    """A figure with its message as the title, and axes side by side; ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update(SETTINGS)
    figure, axes = plt.subplots(1, columns, figsize=(9.5, 4.2), layout="constrained", width_ratios=widths)
    figure.suptitle(point, x=0.01, horizontalalignment="left", weight="bold")
    return figure, axes


def save_figure(figure: Any, path: Path) -> None:
    """Save in the format of the path's extension: .svg, .png, …."""
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def label_line(
    axes: Any, x: float, y: float, text: str, color: str, *, shift: tuple[float, float] = (6, 0), align: str = "left"
) -> None:
    """Write the name of a line next to a point of the line; `shift` is in points."""
    axes.annotate(text, (x, y), xytext=shift, textcoords="offset points", color=color, va="center", ha=align)


def plain_ticks(axis: Any, values: Sequence[float]) -> None:
    """Ticks at these values of a logarithmic axis, as plain numbers."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")

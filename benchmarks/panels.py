"""Panels, the small charts of the page, as SVG in the page's colours and as PNG.

A panel is as wide as a phone screen, so its text stays readable there. Wide pages and pictures put several panels side
by side.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from palette import LIGHT

mpl.use("Agg")
import matplotlib.pyplot as plt

WIDTH_INCHES = 3.9
PNG_DPI = 160
GAP_PIXELS = 24
SETTINGS: dict[str, Any] = {
    "font.size": 8.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "figure.titlesize": 9.5,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["soft"],
    "axes.labelcolor": LIGHT["ink"],
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["soft"],
    "ytick.color": LIGHT["soft"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Panel:
    """One chart: `draw` fills its axes; `alt` describes it in words."""

    title: str
    alt: str
    height_inches: float
    draw: Callable[[Any], None]


@dataclass(frozen=True)
class Figure:
    """Panels under one heading; `name` is the name of the PNG."""

    name: str
    title: str
    text: str
    panels: list[Panel]


def _drawn(panel: Panel) -> Any:
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, panel.height_inches), layout="constrained")
    panel.draw(axes)
    figure.suptitle(panel.title, x=0.01, horizontalalignment="left")
    return figure


def svg_of(panel: Panel, name: str) -> str:
    """The panel as an element of an HTML page; `name` is unique in it."""
    file = io.StringIO()
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
        figure = _drawn(panel)
        figure.savefig(file, format="svg", metadata={"Date": None})
        plt.close(figure)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box is not None
    text = text[text.index(">") + 1 :]  # remove the opening tag with its sizes and XML namespaces
    text = re.sub(r'id="|url\(#|href="#', lambda found: f"{found[0]}{name}-", text)
    for variable, colour in LIGHT.items():
        text = text.replace(colour, f"var(--{variable})")
    text = text.replace("'DejaVu Sans'", "system-ui, sans-serif")
    alt = panel.alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg role="img" aria-label="{alt}" {view_box[0]}>{text}'


def save_png(figure: Figure, path: Path) -> None:
    """Save all panels of a figure in columns, on white, under its title."""
    pictures = []
    with mpl.rc_context({**SETTINGS, "figure.facecolor": "white"}):
        for panel in figure.panels:
            drawn = _drawn(panel)
            pictures.append(_pixels(drawn))
        columns = 2 if len(pictures) == 4 else min(3, len(pictures))
        width = columns * (pictures[0].shape[1] + GAP_PIXELS)
        title = plt.figure(figsize=(width / PNG_DPI, 0.5))
        title.text(0.01, 0.4, figure.title, size=13, weight="bold")
        head = _pixels(title)
    plt.imsave(path, _columns(pictures, head, columns))


def _pixels(figure: Any) -> np.ndarray:
    figure.set_dpi(PNG_DPI)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    plt.close(figure)
    return pixels


def _columns(pictures: Sequence[np.ndarray], head: np.ndarray, columns: int) -> np.ndarray:
    """Put each picture below the shortest column."""
    step = pictures[0].shape[1] + GAP_PIXELS
    heights, places = [head.shape[0]] * columns, []
    for picture in pictures:
        column = int(np.argmin(heights))
        places.append((heights[column], column * step))
        heights[column] += picture.shape[0] + GAP_PIXELS
    canvas = np.full((max(heights), columns * step, 3), 255, np.uint8)
    canvas[: head.shape[0], : head.shape[1]] = head[:, : canvas.shape[1]]
    for (top, left), picture in zip(places, pictures, strict=True):
        canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return np.pad(canvas, ((0, 0), (GAP_PIXELS, 0), (0, 0)), constant_values=255)

"""Colours, marks and dashes of the charts, for a light and a dark page.

A chart is drawn in the colours of the light theme. In the SVG of the page, each colour becomes a variable of the style
sheet, so one drawing works for both themes. No two contestants share a mark, so colour is never the only difference.
"""

from __future__ import annotations

# Variable: colour on light, colour on dark. All colours differ, since the colour in a drawing identifies its variable.
# The contrast to the page is at least 4.5 for text and 3 for marks.
THEMES = {
    "ink": ("#1c2024", "#e9ecef"),
    "soft": ("#5a6169", "#a9b1ba"),
    "line": ("#d4d8dd", "#3b424a"),
    "shade": ("#f6e7e1", "#3a2721"),
    "better": ("#0a5fb0", "#6db3f7"),
    "worse": ("#b23b06", "#ff9a62"),
    "c1": ("#0a5fb1", "#6db3f8"),
    "c2": ("#3f6fa8", "#9dbce0"),
    "c3": ("#6b7178", "#9aa3ad"),
    "c4": ("#c24a00", "#ff9f57"),
    "c5": ("#a05a00", "#e8b45c"),
    "c6": ("#00795a", "#4fd1a5"),
    "c7": ("#8a3ba8", "#d699f0"),
    "c8": ("#b0246a", "#ff8ec0"),
    "c9": ("#4b6b00", "#b6d35a"),
    "c10": ("#7a4a2e", "#d8a684"),
}
LIGHT = {name: colours[0] for name, colours in THEMES.items()}
# Contestant: its colour, mark and dashes.
STYLES = {
    "fastrnn": ("c1", "o", "-"),
    "fastrnn.torch": ("c2", "p", (0, (5, 1))),
    "numpy": ("c3", "x", (0, (1, 1))),
    "torch": ("c4", "s", "--"),
    "torch.compile": ("c5", "D", (0, (3, 1, 1, 1))),
    "onednn": ("c6", "^", "-."),
    "onnxruntime": ("c7", "v", (0, (4, 2))),
    "openvino": ("c8", "P", (0, (2, 1))),
    "jax": ("c9", "*", (0, (6, 2, 1, 2))),
    "keras": ("c10", "X", (0, (1, 2))),
}


def style_of(name: str) -> dict[str, object]:
    """Keyword arguments of matplotlib's `plot` for the line of a contestant; our line is the thickest."""
    role, mark, dashes = STYLES.get(name, ("ink", "+", ":"))
    ours = name == "fastrnn"
    return {
        "color": LIGHT[role],
        "marker": mark,
        "linestyle": dashes,
        "linewidth": 2.2 if ours else 1.1,
        "markersize": 6 if ours else 5,
        "zorder": 4 if ours else 3,
    }


def theme_css(theme: int) -> str:
    """The variables of the light (0) or the dark (1) theme."""
    return "".join(f"--{name}:{colours[theme]};" for name, colours in THEMES.items())

"""The Python of the pages, run as a reader would type it; and the pages of the documentation site."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages whose blocks run from the first to the last, in one namespace.
PAGES = [
    "README.md",
    "docs/README.md",
    "docs/api/functions.md",
    "docs/batch-and-steps.md",
    "docs/coming-from.md",
    "docs/from-static-rnn.md",
    "docs/memory-layout.md",
    "docs/reproducibility.md",
    "docs/schedules.md",
    "docs/start.md",
    "docs/streaming.md",
    "docs/truncated-bptt.md",
]
# Those that need torch besides.
TORCH_PAGES = ["docs/pytorch.md"]
# Those with blocks of ```py, which need onnx besides.
ONNX_PAGES = ["docs/coming-from.md"]


def blocks_of(page, languages="python"):
    """Blocks of ```python; those of ```py need a library besides, and are asked for by "python|py"."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^ *```(?:{languages})\n(.*?)```", text, re.DOTALL | re.MULTILINE)


def run_page(page, languages="python"):
    """The names that its blocks leave. They may write files where the process is."""
    names = {"__name__": page}
    for block in blocks_of(page, languages):
        exec(compile(block, page, "exec"), names)
    return names

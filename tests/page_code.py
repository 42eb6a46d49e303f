"""Runs the Python of the pages as a reader would type it, and lists the pages of the documentation site."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages with Python blocks, which run from the first to the last in one namespace.
PAGES = [
    "README.md",
    "docs/README.md",
    "docs/api/functions.md",
    "docs/batch-and-steps.md",
    "docs/coming-from.md",
    "docs/from-static-rnn.md",
    "docs/linear-recurrence.md",
    "docs/memory-layout.md",
    "docs/reproducibility.md",
    "docs/schedules.md",
    "docs/start.md",
    "docs/streaming.md",
    "docs/truncated-bptt.md",
    "docs/write-a-cell.md",
]
# Pages that also need torch.
TORCH_PAGES = ["docs/pytorch.md"]
# Pages with blocks of ```py, which also need onnx, or torch.
ONNX_PAGES = ["docs/coming-from.md"]
PAGES_WITH_TORCH = ["docs/write-a-cell.md"]


def blocks_of(page, languages="python"):
    """Blocks of ```python. Blocks of ```py need another library; select them with "python|py"."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^ *```(?:{languages})\n(.*?)```", text, re.DOTALL | re.MULTILINE)


def run_page(page, languages="python"):
    """Run the blocks and return the names that they define. Blocks may write files to the current folder."""
    names = {"__name__": page}
    for block in blocks_of(page, languages):
        exec(compile(block, page, "exec"), names)
    return names

"""The Python of the pages, run as a reader would type it; and the pages of the documentation site."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages whose blocks run from the first to the last, in one namespace.
PAGES = [
    "README.md",
    "docs/README.md",
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


def blocks_of(page):
    return re.findall(r"^ *```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run_page(page):
    """The names that its blocks leave. They may write files where the process is."""
    names = {"__name__": page}
    for block in blocks_of(page):
        exec(compile(block, page, "exec"), names)
    return names

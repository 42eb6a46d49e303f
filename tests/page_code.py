"""The Python of the pages that show how fastrnn is used, run as a reader would type it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Pages whose blocks run from the first to the last, in one namespace.
PAGES = ["README.md", "docs/from-static-rnn.md", "docs/batch-and-steps.md", "docs/coming-from.md"]


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def run_page(page):
    """The names that its blocks leave. They may write files where the process is."""
    names = {"__name__": page}
    for block in blocks_of(page):
        exec(compile(block, page, "exec"), names)
    return names

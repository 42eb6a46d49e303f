"""The README's examples run, in order, as a reader would type them."""

import os
import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def test_python_blocks_of_the_readme_run(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    before, names = Path.cwd(), {}
    os.chdir(tmp_path)
    try:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    finally:
        os.chdir(before)
    assert names["y"].shape[1:] == (20, 128)

"""Runs the programs that mypy and pyright check; the first program must use every public name."""

import re
from pathlib import Path

import fastrnn
import pytest
import typed_program
from fastrnn import convert, testing


def test_the_program_that_type_checkers_read_runs(tmp_path):
    typed_program.main(tmp_path)


@pytest.mark.parametrize("module", [fastrnn, testing, convert], ids=lambda module: module.__name__)
def test_the_program_uses_every_public_name(module):
    text = Path(typed_program.__file__).read_text(encoding="utf-8")
    for name in module.__all__:
        assert re.search(rf"\b{name}\b", text), name

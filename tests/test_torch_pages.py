"""The examples of the pages about PyTorch run, in order, as a reader would type them."""

import pytest
from page_code import TORCH_PAGES, blocks_of, run_page

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("page", TORCH_PAGES)
def test_python_blocks_of_a_page_about_torch_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert blocks_of(page)
    run_page(page)

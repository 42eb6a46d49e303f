"""The examples of the pages about PyTorch run, in order, as a reader would type them."""

import pytest
from page_code import PAGES_WITH_TORCH, TORCH_PAGES, blocks_of, run_page

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("page", TORCH_PAGES)
def test_python_blocks_of_a_page_about_torch_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert blocks_of(page)
    run_page(page)


@pytest.mark.parametrize("page", PAGES_WITH_TORCH)
def test_blocks_for_torch_run_after_the_others_of_their_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert blocks_of(page, "py")
    run_page(page, "python|py")

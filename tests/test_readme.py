"""The examples of the README and of the pages run, in order, as a reader would type them."""

import fastrnn
import pytest
from page_code import ONNX_PAGES, PAGES, PAGES_WITH_TORCH, ROOT, TORCH_PAGES, blocks_of, run_page


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder where a page may write; afterwards the number of threads is restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fastrnn.config, "_threads", fastrnn.config._threads)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_of_a_page_run(page, folder):
    assert blocks_of(page)
    run_page(page)


def test_the_readme_shows_outputs_of_the_shape_it_tells(folder):
    assert run_page("README.md")["y"].shape[1:] == (20, 128)


def test_every_page_with_python_blocks_is_run():
    pages = {str(path.relative_to(ROOT).as_posix()) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"))}
    assert sorted(page for page in pages if blocks_of(page)) == sorted(PAGES + TORCH_PAGES)
    assert sorted(page for page in pages if blocks_of(page, "py")) == sorted(ONNX_PAGES + PAGES_WITH_TORCH)

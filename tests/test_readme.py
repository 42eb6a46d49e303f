"""The examples of the README and of the pages run, in order, as a reader would type them."""

import pytest
from page_code import PAGES, blocks_of, run_page


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(blocks_of(page)) >= 3
    run_page(page)


def test_the_readme_shows_outputs_of_the_shape_it_tells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page("README.md")["y"].shape[1:] == (20, 128)

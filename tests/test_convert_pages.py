"""The examples of the pages about ONNX run, in order, as a reader would type them."""

import pytest
from page_code import ONNX_PAGES, blocks_of, run_page

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("page", ONNX_PAGES)
def test_blocks_of_a_page_that_need_onnx_run(page):
    assert blocks_of(page, "py")
    run_page(page, "python|py")

"""The documentation site has every page and every public name. `mkdocs build --strict` checks links and anchors."""

import ast
import importlib
import inspect
import re

import pytest
from page_code import ROOT

NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("nav:\n")[2].partition("\ntheme:")[0]
NAVIGATED = re.findall(r"(\S+\.md)$", NAVIGATION, re.MULTILINE)
BESIDE_DOCS = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
REFERENCE = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/api/*.md"))
SHOWN = set(re.findall(r"^::: (\S+)$", REFERENCE, re.MULTILINE))
# Public modules. The tests parse their source, so torch and safetensors need not be installed.
PUBLIC_MODULES = {"fastrnn": "__init__", "fastrnn.testing": "testing/__init__", "fastrnn.convert": "convert/__init__"}
PUBLIC_MODULES |= {"fastrnn.safetensors": "safetensors", "fastrnn.torch": "torch/__init__"}


def public_names(module):
    """The module's __all__, without importing it."""
    body = ast.parse((ROOT / "python/fastrnn" / f"{PUBLIC_MODULES[module]}.py").read_text(encoding="utf-8")).body
    (names,) = (n.value for n in body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__")
    return ast.literal_eval(names)


def test_the_navigation_has_every_page_once():
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    assert sorted(NAVIGATED) == sorted([*pages, *BESIDE_DOCS])
    assert all((ROOT / beside).exists() for beside in BESIDE_DOCS.values())


def test_the_reference_has_every_public_name():
    expected = {f"{module}.{name}" for module in PUBLIC_MODULES for name in public_names(module)}
    of_functions = ("fastrnn.cells.", "fastrnn.linear.", "fastrnn.written_function.")  # of functions
    assert {name for name in SHOWN if not name.startswith(of_functions)} == expected


@pytest.mark.parametrize("module", ["fastrnn", "fastrnn.testing", "fastrnn.convert"])
def test_every_public_name_and_member_is_documented(module):
    for name in public_names(module):
        value = getattr(importlib.import_module(module), name)
        assert isinstance(value, str) or inspect.getdoc(value), name
        for member, one in inspect.getmembers(value) if inspect.isclass(value) else ():
            if not member.startswith("_") and (callable(one) or isinstance(one, property)):
                assert inspect.getdoc(one), f"{name}.{member}"


def test_the_front_page_and_the_decisions_list_their_pages():
    front = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in NAVIGATED:
        if page != "README.md" and not re.match(r"decisions/\d", page):
            assert f"]({'../' * (page in BESIDE_DOCS)}{BESIDE_DOCS.get(page, page)})" in front, page
    decisions = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    for path in ROOT.glob("docs/decisions/0*.md"):
        assert f"]({path.name})" in decisions, path.name


def test_files_and_tests_that_pages_name_exist():
    written_there = {"csrc/kernels/cells/rnn_softsign.h", "csrc/kernels/cells/NAME.h"}  # users write them
    tests = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/test_*.py"))
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")):
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:benchmarks|csrc|docs|examples|python|tests)/[\w./-]+)`", text):
            assert (ROOT / path).exists() or path in written_there, f"{page.name}: {path}"
        for name in re.findall(r"`(test_\w+?)(?:\.\.\.)?`", text):
            assert f"def {name}" in tests, f"{page.name}: {name}"


def test_command_line_options_are_on_the_page_of_the_command_line():
    page = (ROOT / "docs/api/configuration.md").read_text(encoding="utf-8")
    source = (ROOT / "python/fastrnn/__main__.py").read_text(encoding="utf-8")
    options = re.findall(r'add_argument\("(--[\w-]+)"', source)
    assert options
    assert all(f"`{option}`" in page for option in options)

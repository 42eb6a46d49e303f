"""Layers are strict: no cycle of includes or imports, and folders use only folders below. The tests parse the files."""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CSRC, PACKAGE = ROOT / "csrc", ROOT / "python" / "fastrnn"

# The folders that the files of a folder may use, in addition to their own folder.
BELOW = {
    CSRC: {CSRC / "threads"},  # api.c runs calls; no file includes itself by way of others
    CSRC / "threads": {CSRC},
    CSRC / "kernels": {CSRC, CSRC / "threads"},
    CSRC / "kernels" / "cells": {CSRC / "kernels"},
    PACKAGE: {PACKAGE / "cell"},
    PACKAGE / "torch": {PACKAGE, PACKAGE / "cell", PACKAGE / "cell" / "library"},
    PACKAGE / "cell": set(),
    PACKAGE / "cell" / "library": {PACKAGE / "cell"},
    PACKAGE / "convert": {PACKAGE},
    PACKAGE / "testing": {PACKAGE, PACKAGE / "cell", PACKAGE / "cell" / "library"},
}
# Public modules. The torch part is beside them and uses the folders below.
ENTRANCES = {PACKAGE / name for name in ("__init__.py", "__main__.py", "layers.py", "windows.py", "safetensors.py")}
ENTRANCES |= {PACKAGE / f"layer_{name}.py" for name in ("parameters", "calls", "files")}
SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in (".c", ".h"))
MODULES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".pyx", ".pxd", ".pxi"))
named = pytest.mark.parametrize


def name_of(path):
    return path.name


def included(path):
    """The project files that a C file includes, without the lists that the build or a table generates."""
    names = re.findall(r'^\s*#\s*include "(.+)"', path.read_text(), re.MULTILINE)
    found = [(path.parent / name).resolve() for name in names if not name.endswith(".def")]
    return [one if one.exists() else CSRC / one.name for one in found]


def module(folder, dotted):
    """The file of a module of the package; None if the name is not a module."""
    path = folder.joinpath(*dotted.split("."))
    candidates = [path / "__init__.py", *(path.with_suffix(ending) for ending in (".py", ".pyx", ".pxd"))]
    return next((one for one in candidates if one.exists()), None)


def relative_imports(path):
    """(dots, module, names) of `from .module import names`; in Cython files also of `cimport`."""
    text = path.read_text()
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom) and node.level]
        return [(node.level, node.module or "", [alias.name for alias in node.names]) for node in nodes]
    lines = re.findall(r"^\s*from (\.+)([\w.]*) c?import (.+)", text, re.MULTILINE)
    return [(len(dots), name, re.findall(r"\w+", names)) for dots, name, names in lines]


def imported(path):
    """The files of the package that a module imports, or a Cython file includes as text."""
    found = {path.with_name(name) for name in re.findall(r'^include "(.+)"', path.read_text(), re.MULTILINE)}
    if path.suffix == ".pyx" and path.with_suffix(".pxd").exists():
        found.add(path.with_suffix(".pxd"))
    for dots, name, names in relative_imports(path):
        folder = path.parents[dots - 1]
        if name:
            found.add(module(folder, name))
        else:
            found |= {module(folder, one) or folder / "__init__.py" for one in names}
    return {one for one in found if one is not None}


def absolute_imports(path):
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def require_no_circle(graph):
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" uses ".join(str(path.relative_to(ROOT)) for path in error.args[1]))


def test_the_tree_is_here():
    assert len(SOURCES) > 30
    assert len(MODULES) > 50
    assert {path.parent for path in SOURCES + MODULES} == BELOW.keys()


def test_a_circle_is_found():
    one, other = ROOT / "one", ROOT / "other"
    with pytest.raises(pytest.fail.Exception, match=r"one uses other|other uses one"):
        require_no_circle({one: {other}, other: {one}})


def test_no_source_file_includes_itself_by_way_of_others():
    graph = {path: set(included(path)) for path in SOURCES}
    assert sum(map(len, graph.values())) > 50
    require_no_circle(graph)


def test_no_module_imports_itself_by_way_of_others():
    graph = {path: imported(path) for path in MODULES}
    assert sum(map(len, graph.values())) > 100
    require_no_circle(graph)


@named("path", SOURCES, ids=name_of)
def test_a_source_file_includes_only_from_folders_below(path):
    for file in included(path):
        assert file.parent in BELOW[path.parent] | {path.parent}, f"{path.name} includes {file.name}"


@named("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_folders_below(path):
    for file in imported(path):
        if path == PACKAGE / "__main__.py" and file.parent == PACKAGE / "testing":
            continue
        assert file.parent in BELOW[path.parent] | {path.parent}, f"{path.name} imports {file.name}"
        assert not (path.parent.name == "torch" and file in ENTRANCES), f"{path.name} imports {file.name}"


@named("path", [path for path in MODULES if path.suffix == ".py"], ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_needs_numpy_alone(path):
    beside = {"torch": {"torch"}}.get(path.parent.name, {path.stem} & {"safetensors"})
    assert absolute_imports(path) <= {"numpy", *sys.stdlib_module_names} | beside


@named("path", [path for path in MODULES if path.parent.name == "convert"], ids=name_of)
def test_a_converter_knows_no_other(path):
    kinds = {"keras.py", "onnx.py", "pytorch.py", "tensorflow1.py"}
    others = {file.name for file in imported(path)} & kinds
    assert not others or path.name in ("__init__.py", "stacking.py"), others


@named("path", SOURCES, ids=name_of)
def test_openmp_and_cpuid_each_have_one_place(path):
    text = path.read_text()
    if path.name not in ("run.c", "costs.c", "runtime.c"):
        assert not re.search(r"\bomp_|<omp\.h>|#\s*pragma omp", text)
    if path.name != "cpu.c":
        assert not re.search(r"cpuid\.h|\b__get_cpuid|\bxgetbv\b|__builtin_cpu_supports", text)


@named("path", SOURCES, ids=name_of)
def test_a_cell_knows_arithmetic_alone_and_loops_know_no_cell(path):
    if path.parent.name == "cells":
        assert {file.name for file in included(path)} <= {"cell.h", "activations.h"}
        assert not re.search(r"\bfor\b|\bwhile\b", re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL))
    else:
        assert not any(file.parent.name == "cells" for file in included(path))


@named("path", SOURCES, ids=name_of)
def test_kernels_print_abort_and_allocate_nothing(path):
    assert not re.search(r"\b(printf|abort|exit|malloc|calloc|realloc|alloca|free)\s*\(", path.read_text())

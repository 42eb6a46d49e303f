"""Layers are strict: a file includes or imports only from layers below its own. Reads the lines that say so."""

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Top to bottom. A file that is not listed has no place yet, and fails.
C_LAYERS = [
    {"api.c"},
    {"check.h", "call.c"},
    {"ways.c", "dispatch.c", "cpu.c", "cells.c"},
    {"dispatch.h", "ways.h"},
    {"call.h"},
    {"instance.c"},
    {"sequence_forward.h", "sequence_backward.h"},
    {"products.h"},
    {"step.h"},
    {"gemm.h", "rows.h", "cell_steps.h", "weight_gradients.h"},
    {"unpacked.h", "strips.h"},
    {"weights.h"},
    {"pack.h", "lstm.h", "gru.h", "rnn.h"},
    {"cell.h", "tile.h", "activations.h"},
    {"simd.h", "backend.h", "schedule.h"},
    {"thread_room.c", "runtime.c"},
    {"cells.h"},
    {"trials.h"},
    {"layout.h", "team.h", "crowding.h", "cpu.h", "fork.c"},
    {"fork.h", "thread_room.h"},
    {"fastrnn.h"},
    {"cells.def", "backends.def"},
]
PYTHON_LAYERS = [
    {"__main__"},
    {"__init__", "safetensors"},
    {"layers", "windows"},
    {"arguments"},
    {"stack", "stream"},
    {"cells", "weights"},
    {"backward"},
    {"recompute"},
    {"checkpoint"},
    {"_kernel"},
    {"tape", "config", "truncation"},
    {"schedule", "memory", "quota", "environment", "axes"},
    {"_check", "attributes"},
    {"_core"},
]
TORCH_LAYERS = [
    {"__init__"},
    {"swap", "scripting"},
    {"swapped_classes"},
    {"cell_modules"},
    {"modules"},
    {"operator"},
    {"autograd"},
    {"packed_weights"},
    {"execution", "formulation", "single_layer"},
    {"module_arguments", "core_calls"},
    {"plan"},
    {"routes", "compiling", "tensors"},
]
TESTING_LAYERS = [{"__init__"}, {"self_test"}, {"gradients", "reproducibility"}, {"values"}, {"reference"}]
CONVERT_LAYERS = [
    {"__init__"},
    {"keras", "onnx", "pytorch", "stacking", "tensorflow1"},
    {"foreign_arrays", "passes"},
]
# Of what is beside the package's modules, only the command line uses anything.
COMMAND_LINE = "__main__"
# Of fastrnn itself, the torch part imports only what is below this layer.
TORCH_STANDS_BESIDE = "layers"
SOURCES = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".c", ".h"))
MODULES = sorted((ROOT / "python" / "fastrnn").glob("*.py"))
TESTING_MODULES = sorted((ROOT / "python" / "fastrnn" / "testing").glob("*.py"))
CONVERT_MODULES = sorted((ROOT / "python" / "fastrnn" / "convert").glob("*.py"))
TORCH_MODULES = sorted((ROOT / "python" / "fastrnn" / "torch").glob("*.py"))
named = pytest.mark.parametrize


def name_of(path):
    return path.name


def layer_of(name, layers):
    (level,) = [level for level, names in enumerate(layers) if name in names]
    return level


def included(path):
    return [Path(name).name for name in re.findall(r'^\s*#\s*include "(.+)"', path.read_text(), re.MULTILINE)]


def imported(path, dots=1):
    """Top-level names of absolute imports, and names of modules imported from the package itself.

    With dots=2, the latter are those of the package around it.
    """
    absolute, relative = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            absolute |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            absolute.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == dots:
            relative |= {node.module} if node.module else {alias.name for alias in node.names}
    return absolute, relative


def test_the_tree_is_here():
    assert len(SOURCES) > 10
    assert len(MODULES) > 5


@named("path", SOURCES, ids=name_of)
def test_a_source_file_includes_only_from_layers_below(path):
    level = layer_of(path.name, C_LAYERS)
    for name in included(path):
        assert layer_of(name, C_LAYERS) > level, f"{path.name} includes {name}"


@named("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_layers_below(path):
    level = layer_of(path.stem, PYTHON_LAYERS)
    absolute, relative = imported(path)
    for name in relative - ({"testing"} if path.stem == COMMAND_LINE else set()):
        assert layer_of(name, PYTHON_LAYERS) > level, f"{path.name} imports {name}"
    assert absolute <= {"numpy", *sys.stdlib_module_names} | ({path.stem} & {"safetensors"})


@named("path", TORCH_MODULES, ids=name_of)
def test_a_module_of_the_torch_part_imports_only_from_layers_below(path):
    """The deferred import of `swap`, for torch.jit.script, is the one that goes up."""
    level = layer_of(path.stem, TORCH_LAYERS)
    absolute, relative = imported(path)
    for name in relative - ({"swap"} if path.stem in ("modules", "cell_modules") else set()):
        assert layer_of(name, TORCH_LAYERS) > level, f"{path.name} imports {name}"
    assert absolute <= {"numpy", "torch", *sys.stdlib_module_names}
    for name in imported(path, dots=2)[1]:
        assert layer_of(name, PYTHON_LAYERS) > layer_of(TORCH_STANDS_BESIDE, PYTHON_LAYERS), f"{path.name}: {name}"


@named("path", TESTING_MODULES, ids=name_of)
def test_a_module_for_testing_stands_above_the_package_and_nothing_imports_it(path):
    """That nothing does is seen by the other tests: it has no place in their lists."""
    level = layer_of(path.stem, TESTING_LAYERS)
    absolute, relative = imported(path)
    for name in relative:
        assert layer_of(name, TESTING_LAYERS) > level, f"{path.name} imports {name}"
    assert absolute <= {"numpy", *sys.stdlib_module_names}
    for name in imported(path, dots=2)[1]:
        assert layer_of(name, PYTHON_LAYERS) > layer_of("__init__", PYTHON_LAYERS), f"{path.name}: {name}"


@named("path", CONVERT_MODULES, ids=name_of)
def test_a_converter_stands_above_the_package_and_knows_no_other_and_no_framework(path):
    level = layer_of(path.stem, CONVERT_LAYERS)
    absolute, relative = imported(path)
    for name in relative:
        assert layer_of(name, CONVERT_LAYERS) > level, f"{path.name} imports {name}"
    assert absolute <= {"numpy", *sys.stdlib_module_names}
    for name in imported(path, dots=2)[1]:
        assert layer_of(name, PYTHON_LAYERS) > layer_of("__init__", PYTHON_LAYERS), f"{path.name}: {name}"


@named("path", SOURCES, ids=name_of)
def test_openmp_and_cpuid_each_have_one_place(path):
    text = path.read_text()
    if path.name not in ("call.c", "runtime.c", "team.h"):
        assert not re.search(r"\bomp_|<omp\.h>|#\s*pragma omp", text)
    if path.name != "cpu.c":
        assert not re.search(r"cpuid\.h|\b__get_cpuid|\bxgetbv\b|__builtin_cpu_supports", text)


@named("path", SOURCES, ids=name_of)
def test_a_cell_knows_arithmetic_alone_and_loops_know_no_cell(path):
    if path.parent.name == "cells":
        assert set(included(path)) <= {"cell.h", "activations.h"}
        assert not re.search(r"\bfor\b|\bwhile\b", re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL))
    elif path.name != "cell_steps.h":
        assert not {"lstm.h", "gru.h", "rnn.h"} & set(included(path))


@named("path", SOURCES, ids=name_of)
def test_kernels_print_abort_and_allocate_nothing(path):
    assert not re.search(r"\b(printf|abort|exit|malloc|calloc|realloc|alloca|free)\s*\(", path.read_text())

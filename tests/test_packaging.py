"""The installed package: version, type stubs, choice of a backend at import, show_config, the OpenMP runtime."""

import ast
import inspect
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import fastrnn
import numpy as np
import pytest
from fastrnn import _accept, _core, _kept, _linear, _plan, config, environment, quota
from fastrnn.testing import reference

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = Path(fastrnn.__file__).parent
BACKENDS = _core.backends()
RUNNABLE = [b.name for b in BACKENDS if b.runs_here]

SHOW = "import fastrnn; print(fastrnn.show_config(mode='dicts')['backend'])"


def run_python(code, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_version_is_the_one_of_pyproject():
    (declared,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert fastrnn.__version__ == metadata.version("fastrnn") == declared


def test_public_names_exist_once_and_have_docstrings():
    assert len(set(fastrnn.__all__)) == len(fastrnn.__all__)
    for name in fastrnn.__all__:
        value = getattr(fastrnn, name)
        assert isinstance(value, str) or value.__doc__, name


def test_only_numpy_is_needed_at_run_time():
    code = "import sys, fastrnn; print(*sorted({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names))"
    loaded = set(run_python(code).stdout.split())
    for dependency in ("torch", "matplotlib", "rich", "scipy", "Cython"):
        assert dependency not in loaded
    required = [r for r in metadata.requires("fastrnn") if "extra ==" not in r]
    assert [re.match(r"\w+", r)[0] for r in required] == ["numpy"]


# ---- types ----


def stub_of(module):
    path = INSTALLED.joinpath(*module.__name__.split(".")[1:])
    return ast.parse(path.with_suffix(".pyi").read_text()).body


def test_package_is_typed():
    assert (INSTALLED / "py.typed").exists()


@pytest.mark.parametrize("module", [_core, _plan, _kept, _accept, _linear])
def test_stubs_name_what_a_compiled_module_has(module):
    stubbed = {node.name for node in stub_of(module) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    public = {name for name, value in vars(module).items() if not name.startswith("_") and is_of(module, value)}
    assert stubbed == public


def is_of(module, value):
    return getattr(value, "__module__", None) == module.__name__


@pytest.mark.parametrize("module", [_core, _plan, _kept, _accept, _linear])
def test_stubs_have_the_parameters_of_a_compiled_module(module):
    for node in stub_of(module):
        if isinstance(node, ast.FunctionDef):
            expected = list(inspect.signature(getattr(module, node.name)).parameters)
            assert [a.arg for a in node.args.args] == expected, node.name


# ---- backends ----


def test_registry_and_reference_have_the_same_cells():
    assert {name: row.gates for name, row in _core.cells().items()} == reference.GATES


X86_64, AARCH64 = ["avx512", "avx2", "sse2"], ["neon"]
OF_MACHINE = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}


def test_every_instruction_set_of_this_kind_of_machine_is_built():
    assert [b.name for b in BACKENDS if b.name != "generic"] == OF_MACHINE.get(platform.machine().lower(), [])


def test_backends_are_unique_best_first_and_end_with_one_that_always_runs():
    names = [b.name for b in BACKENDS]
    assert len(set(names)) == len(names)
    assert names[_core.best_backend()] == RUNNABLE[0]
    assert BACKENDS[-1].runs_here
    assert not BACKENDS[-1].can_be_hidden
    widths = [b.vector_length["float32"] for b in BACKENDS]
    assert widths == sorted(widths, reverse=True)


def test_vectors_of_float32_have_twice_the_length():
    for backend in BACKENDS:
        assert backend.vector_length["float32"] == 2 * backend.vector_length["float64"]


def test_best_backend_is_used_unless_one_is_forced():
    assert run_python(SHOW, FASTRNN_BACKEND="").stdout.strip() == RUNNABLE[0]


@pytest.mark.parametrize("name", RUNNABLE)
def test_environment_forces_a_backend(name):
    assert run_python(SHOW, FASTRNN_BACKEND=name).stdout.strip() == name


@pytest.mark.parametrize("name", ["avx1024", "AVX2", *(b.name for b in BACKENDS if not b.runs_here)])
def test_a_backend_that_cannot_run_is_refused_at_import_with_those_that_can(name):
    result = run_python(SHOW, FASTRNN_BACKEND=name)
    assert result.returncode != 0
    assert f"FASTRNN_BACKEND: expected one of {', '.join(RUNNABLE)}, got {name!r}" in result.stderr


# ---- configuration ----


def test_show_config_tells_what_was_built_and_chosen():
    shown = fastrnn.show_config(mode="dicts")
    assert shown["version"] == fastrnn.__version__
    assert shown["backends"] == RUNNABLE
    assert shown["backend"] in RUNNABLE
    assert shown["threads"] == fastrnn.get_num_threads() >= 1
    single = _core.openmp_version() == "none"
    assert shown["openmp"] == ("none (single-threaded build)" if single else _core.openmp_version())
    assert shown["numpy"] == np.__version__
    assert shown["python"].endswith(platform.python_version())
    assert "-ffp-contract=off" in shown["build"]


def test_show_config_prints_every_entry(capsys):
    assert fastrnn.show_config() is None
    printed = capsys.readouterr().out
    for key, value in fastrnn.show_config(mode="dicts").items():
        assert key in printed
        assert (", ".join(value) if isinstance(value, list) else str(value)) in printed


def test_show_config_refuses_other_modes():
    with pytest.raises(ValueError, match=re.escape("mode: expected 'stdout' or 'dicts', got 'html'")):
        fastrnn.show_config(mode="html")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_child_of_a_fork_says_so_and_still_computes():
    code = """if True:
        import os, numpy as np, fastrnn
        layer, x = fastrnn.LSTM(64, 64, seed=0), np.ones((20, 64, 64), np.float32)
        y, _ = layer(x)
        child = os.fork()
        if child == 0:
            config = fastrnn.show_config(mode="dicts")
            same = np.array_equal(layer(x)[0], y)
            os._exit(0 if same and config["threads"] == 1 and config["forked"] != "no" else 3)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, fastrnn.show_config(mode="dicts")["forked"])
    """
    threaded = _core.openmp_version() != "none"
    result = run_python(code)
    assert result.stdout.strip() == ("0 no" if threaded else "3 no"), result.stderr


def test_extension_needs_the_openmp_runtime_under_its_plain_name():
    """Then the loader uses a copy that is already in the process; two copies would spin on the same cores."""
    library = Path(_core.__file__).read_bytes()
    assert not re.search(rb"libgomp-\w+\.so", library)
    if b"libgomp.so" in library:
        assert b"libgomp.so.1\0" in library
    for carried in INSTALLED.glob("**/libgomp*.so*"):
        assert carried == INSTALLED / "lib" / "libgomp.so.1"
        assert b"\0libgomp.so.1\0" in carried.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_one_openmp_runtime_is_in_the_process_and_is_the_one_that_is_shown():
    """The wheel's own runtime, if the wheel has one and no other runtime was loaded before."""
    code = "import fastrnn; print(*fastrnn.show_config('dicts')['openmp_libraries'])"
    shown = run_python(code, LD_LIBRARY_PATH="").stdout.split()
    assert len(shown) == (_core.openmp_version() != "none")
    carried = INSTALLED / "lib" / "libgomp.so.1"
    if carried.exists():
        assert shown == [str(carried)]


MAPS = """\
7f00-7f01 r-xp 00000000 fe:00 11 /usr/lib/libc.so.6
7f01-7f02 r-xp 00000000 fe:00 12 /env/torch/lib/libgomp-a34b3233.so.1
7f02-7f03 r--p 00000000 fe:00 12 /env/torch/lib/libgomp-a34b3233.so.1
7f03-7f04 r-xp 00000000 fe:00 13 /env/with blank/libiomp5.so
7f04-7f05 rw-p 00000000 00:00 0
7f05-7f06 r-xp 00000000 fe:00 14 /env/libomp.so.5
7f06-7f07 r-xp 00000000 fe:00 15 /env/libcomp.so.1
7f07-7f08 r-xp 00000000 fe:00 16 /env/libgomp.so.1
"""


def test_runtimes_of_others_are_shown_after_our_own(tmp_path):
    maps = tmp_path / "maps"
    maps.write_text(MAPS)
    others = ["/env/torch/lib/libgomp-a34b3233.so.1", "/env/with blank/libiomp5.so", "/env/libomp.so.5"]
    own = "/env/libgomp.so.1"
    assert environment.openmp_libraries(own, maps) == [own, *others]
    assert environment.openmp_libraries(None, maps) == [*others, own]
    assert environment.openmp_libraries(own, tmp_path / "absent") == [own]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", "the cores that this process may use"),
        ("os.environ['OMP_NUM_THREADS'] = '3'", "OMP_NUM_THREADS=3"),
    ],
)
def test_the_number_of_threads_comes_with_its_reason(before, expected):
    code = f"import os; {before or 'pass'}; import fastrnn; print(fastrnn.show_config('dicts')['threads_by'])"
    environment = {name: "" for name in os.environ if name.startswith("OMP_")}
    shown = run_python(code, **environment).stdout
    if _core.openmp_version() == "none":
        expected = "a build without OpenMP"
    elif quota.quota_threads() is not None and "OMP_NUM" not in before:
        expected = f"{expected}|the control group's quota"
    assert re.match(expected, shown), shown


def test_a_number_that_was_set_or_granted_is_said_so(monkeypatch):
    monkeypatch.setattr(config, "_HAS_OPENMP", True)
    monkeypatch.setattr(config, "_threads", None)
    monkeypatch.setattr(config, "_quota", 0)
    assert fastrnn.show_config("dicts")["threads_by"] == "the control group's quota of processor time"
    fastrnn.set_num_threads(2)
    assert fastrnn.show_config("dicts")["threads_by"] == "fastrnn.set_num_threads"


def test_processor_has_the_name_that_linux_gives_it(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu\n")
    assert environment.processor(tmp_path / "cpuinfo") == "Some CPU @ 3 GHz"
    assert environment.processor(tmp_path / "absent")

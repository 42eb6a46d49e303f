"""Limits on threads from the environment: OpenMP's variables, the affinity mask, a control group's quota."""

import json
import os
import subprocess
import sys

import fastrnn
import pytest
from fastrnn import config, environment, quota

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and sets an affinity mask as Linux has it")

CODE = """
import json, os, sys, zlib
for core in json.loads(sys.argv[1]):
    os.sched_setaffinity(0, [core])
import numpy as np, fastrnn
before = fastrnn.get_num_threads()
if sys.argv[2] != "0":
    fastrnn.set_num_threads(int(sys.argv[2]))
layer, x = fastrnn.GRU(24, 64, seed=0), np.linspace(-1, 1, 20 * 32 * 24, dtype=np.float32).reshape(20, 32, 24)
with fastrnn.config.use_cut("all"):
    y, state, tape = layer.forward(x)
    found = [y, *layer.backward(tape, y).parameters.values()]
print(json.dumps([before, len(os.listdir("/proc/self/task")), [zlib.crc32(a.tobytes()) for a in found]]))
"""


def run(affinity=(), wanted=0, **environment):
    """The default number of threads, the process's threads after a call for `wanted` threads, and CRCs of results."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | environment
    # Threads of NumPy's pool would be counted as well.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", CODE, json.dumps(list(affinity)), str(wanted)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def expected():
    return run(wanted=1)[2]


@linux
def test_the_number_of_openmp_is_the_default():
    assert run(OMP_NUM_THREADS="3")[0] == (3 if config._HAS_OPENMP else 1)


@linux
def test_an_affinity_mask_limits_the_default(expected):
    default, tasks, crcs = run(affinity=[min(os.sched_getaffinity(0))])
    assert (default, tasks, crcs) == (1, 1, expected)


@linux
def test_a_call_works_with_the_threads_that_it_gets(expected):
    """The call asks for four threads; the limit leaves two, or one."""
    for limit in (1, 2):
        _, tasks, crcs = run(wanted=4, OMP_THREAD_LIMIT=str(limit))
        assert tasks <= limit
        assert crcs == expected


@linux
@pytest.mark.parametrize("variables", [{"OMP_DYNAMIC": "true"}, {"OMP_NESTED": "true", "OMP_MAX_ACTIVE_LEVELS": "4"}])
def test_a_call_is_right_whatever_openmp_decides(expected, variables):
    assert run(wanted=4, **variables)[2] == expected


IN_A_REGION = """
import ctypes, zlib
import numpy as np, fastrnn
from fastrnn import _core

layer, x = fastrnn.GRU(24, 64, seed=0), np.linspace(-1, 1, 20 * 32 * 24, dtype=np.float32).reshape(20, 32, 24)
found = []

@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def work(_):
    y, state, tape = layer.forward(x)
    found.append([zlib.crc32(a.tobytes()) for a in (y, *layer.backward(tape, y).parameters.values())])

with fastrnn.config.use_cut("all"):
    work(None)
    ctypes.CDLL(_core.__file__).GOMP_parallel(work, None, 3, 0)  # as `#pragma omp parallel num_threads(3)`
print(len(found), len({tuple(crcs) for crcs in found}))
"""


@pytest.mark.skipif(not config._HAS_OPENMP, reason="there are no parallel regions without OpenMP")
@pytest.mark.parametrize("levels", ["1", "2"])
def test_calls_out_of_a_parallel_region_are_right(levels):
    """If regions do not nest, each thread of the outer region gets a team of one."""
    environment = os.environ | {"OMP_NUM_THREADS": "4", "OMP_MAX_ACTIVE_LEVELS": levels}
    arguments = [sys.executable, "-c", IN_A_REGION]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["4", "1"]


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".", 1)).write_text(text)


@pytest.mark.parametrize(
    ("text", "threads"),
    [("150000 100000\n", 2), ("20000 100000\n", 1), ("400000 100000\n", 4), ("max 100000\n", None), ("junk", None)],
)
def test_quota_of_the_group_itself(tmp_path, text, threads):
    group(tmp_path, cpu__max=text)
    assert quota.quota_threads(tmp_path, tmp_path / "absent") == threads


def test_tightest_quota_of_all_groups_above_counts(tmp_path):
    group(tmp_path / "a" / "b", cpu__max="max 100000")
    group(tmp_path / "a", cpu__max="100000 100000")
    group(tmp_path, cpu__max="300000 100000")
    (tmp_path / "membership").write_text("0::/a/b\n")
    assert quota.quota_threads(tmp_path, tmp_path / "membership") == 1


@pytest.mark.parametrize(("microseconds", "threads"), [("250000", 3), ("-1", None)])
def test_quota_of_control_groups_of_version_1(tmp_path, microseconds, threads):
    group(tmp_path / "cpu,cpuacct" / "job", cpu__cfs_quota_us=microseconds, cpu__cfs_period_us="100000")
    (tmp_path / "membership").write_text("5:memory:/job\n3:cpu,cpuacct:/job\n")
    assert quota.quota_threads(tmp_path, tmp_path / "membership") == threads


def test_no_control_groups_are_no_quota(tmp_path):
    assert quota.quota_threads(tmp_path / "absent", tmp_path / "absent") is None


CORES = environment.usable_cores()
MORE = CORES + 5
TAKEN = {
    f"{MORE}": MORE,
    f" {MORE}\t": MORE,
    f"{MORE},2": MORE,
    f"{MORE} , 1": MORE,
    f"+{MORE}": MORE,
    f"0{MORE}": MORE,
}
IGNORED = [
    "",
    " ",
    "abc",
    "0",
    "-3",
    f"{MORE}x",
    f"{MORE}.0",
    f"{MORE};2",
    "0x9",
    "\u0669",
    "99999999999999999999",
    "9" * 5000,
]


# LLVM's runtime (14) accepts no sign, and aborts any process at a value that it does not accept.
OF_LLVM = [value for value in TAKEN if not value.startswith("+")]
FOR_OPENMP = (
    OF_LLVM
    if any("libomp" in name for name in fastrnn.show_config("dicts")["openmp_libraries"])
    else [*TAKEN, *IGNORED]
)


@pytest.mark.skipif(not config._HAS_OPENMP, reason="OMP_NUM_THREADS means nothing without OpenMP")
@pytest.mark.parametrize("value", FOR_OPENMP, ids=lambda value: repr(value[:20]))
def test_the_default_is_the_number_that_openmp_takes_of_the_environment(value):
    """If OpenMP ignores the variable, the number equals that of a process without the variable."""
    code = "import fastrnn; print(fastrnn.get_num_threads(), fastrnn.show_config('dicts')['threads_by'], sep='|')"
    found = []
    for variables in ({"OMP_NUM_THREADS": value}, {}):
        variables |= {name: text for name, text in os.environ.items() if not name.startswith("OMP_")}
        done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.strip().split("|"))
    assert found[0] == ([f"{MORE}", f"OMP_NUM_THREADS={value}".strip()] if value in TAKEN else found[1])


@pytest.mark.parametrize("value", [*TAKEN, *IGNORED], ids=lambda value: repr(value[:20]))
def test_the_quota_counts_unless_openmp_takes_a_number_from_the_environment(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert environment.threads_asked_of_openmp() == (value if value in TAKEN else None)


@pytest.mark.skipif(not config._HAS_OPENMP, reason="OMP_NUM_THREADS means nothing without OpenMP")
@pytest.mark.parametrize("value", [2**31, 3 * 10**9, 2**32, 2**32 + 1, 2**63 - 1])
def test_a_number_of_threads_that_is_no_int_breaks_no_call(value):
    code = """if True:
        import numpy as np, fastrnn
        y, _ = fastrnn.LSTM(64, 256)(np.ones((5, 32, 64), "f"))
        print(y.shape, fastrnn.get_num_threads() >= 1)
    """
    variables = os.environ | {"OMP_NUM_THREADS": str(value)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "(5, 32, 256) True", done.stderr


def test_the_quota_limits_the_default_and_not_what_is_set(monkeypatch):
    monkeypatch.setattr(config, "_threads", None)
    monkeypatch.setattr(config, "_quota", 1)
    assert fastrnn.get_num_threads() == 1
    fastrnn.set_num_threads(2)
    assert fastrnn.get_num_threads() == (2 if config._HAS_OPENMP else 1)

"""FASTRNN_HIDE removes instruction sets from the dispatch, as if the CPU lacked them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastrnn import _core

BACKENDS = _core.backends()
NAMES = [b.name for b in BACKENDS]
CAN_BE_HIDDEN = [b.name for b in BACKENDS if b.can_be_hidden]
# Remove variables that already hide instruction sets in this process. If the machine lacks one, there is nothing to
# hide.
VISIBLE = {name: value for name, value in os.environ.items() if name not in ("FASTRNN_HIDE", "FASTRNN_BACKEND")}

REFUSED = "backend: no such backend, or this CPU cannot run it, or FASTRNN_HIDE hides it"
REPORT = """if True:
    import json
    import fastrnn
    from fastrnn import _core

    def outcome(call, *arguments):
        try:
            call(*arguments)
        except ValueError as error:
            return str(error)

    shown = fastrnn.show_config("dicts")
    calls = [outcome(_core.Problem, "gru", "float32", index, 1, 2, 1, 3, 4) for index, _ in enumerate(_core.backends())]
    named = {b.name: outcome(fastrnn.config.use_backend(b.name).__enter__) for b in _core.backends()}
    print(json.dumps({"backends": shown["backends"], "hidden": shown["hidden"], "chosen": shown["backend"],
                      "calls": calls, "named": named}))
"""


def run_python(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code], env=VISIBLE | variables, capture_output=True, text=True, timeout=120
    )


def report(**variables):
    result = run_python(REPORT, **variables)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_every_instruction_set_that_some_cpus_lack_can_be_hidden():
    """Every instruction set but the last can be hidden; the last runs on every CPU that the build supports."""
    known = ["avx512", "avx2"] if "sse2" in NAMES else []
    assert known == CAN_BE_HIDDEN


@pytest.mark.parametrize("value", [*CAN_BE_HIDDEN, ",".join(CAN_BE_HIDDEN), ",".join(reversed(CAN_BE_HIDDEN))])
def test_what_is_hidden_and_what_needs_it_does_not_run(value):
    here = report(FASTRNN_HIDE="")
    assert here["hidden"] == []
    # Best first: a better set needs every worse set. So the worst named set and all better sets are hidden.
    gone = NAMES[: 1 + max((NAMES.index(name) for name in value.split(",") if name), default=-1)]
    found = report(FASTRNN_HIDE=value)
    assert found["hidden"] == [name for name in here["backends"] if name in gone]
    assert found["backends"] == [name for name in here["backends"] if name not in gone]
    assert found["chosen"] == found["backends"][0]
    for name, refusal in zip(NAMES, found["calls"], strict=True):
        assert refusal == (None if name in found["backends"] else REFUSED)
    for name, refusal in found["named"].items():
        expected = f"FASTRNN_BACKEND: expected one of {', '.join(found['backends'])}, got {name!r}"
        expected += f", which FASTRNN_HIDE={value} hides" if name in found["hidden"] else ""
        assert refusal == (None if name in found["backends"] else expected)


@pytest.mark.parametrize("name", CAN_BE_HIDDEN)
def test_a_hidden_backend_cannot_be_forced(name):
    result = run_python("import fastrnn", FASTRNN_HIDE=name, FASTRNN_BACKEND=name)
    assert result.returncode == 1
    assert "ValueError: FASTRNN_BACKEND: expected one of " in result.stderr


@pytest.mark.parametrize("value", ["mmx", "AVX2", " avx2", "avx2,", ",avx2", "avx", "avx2;avx512", NAMES[-1], "1"])
def test_a_name_that_cannot_be_hidden_is_refused_at_import_with_those_that_can(value):
    result = run_python("import fastrnn", FASTRNN_HIDE=value)
    assert result.returncode == 1
    possible = f"names out of {', '.join(CAN_BE_HIDDEN)}, separated by commas"
    expected = possible if CAN_BE_HIDDEN else "no name: every such CPU runs them all"
    assert f"ValueError: FASTRNN_HIDE: expected {expected}, got {value!r}" in result.stderr


def test_the_core_runs_nothing_when_a_name_cannot_be_hidden():
    """In a C program no import can fail, so it finds no backend."""
    code = """if True:
        import importlib, sys, types

        # The extensions alone, without the package that refuses the variable.
        sys.modules["fastrnn"] = types.ModuleType("fastrnn")
        sys.modules["fastrnn"].__path__ = [sys.argv[1]]
        core = importlib.import_module("fastrnn._core")
        print(core.best_backend(), any(b.runs_here for b in core.backends()))
        try:
            core.Problem("gru", "float32", 0, 1, 2, 1, 3, 4)
        except ValueError as error:
            print(error)
    """
    command = [sys.executable, "-c", code, str(Path(_core.__file__).parent)]
    result = subprocess.run(
        command, env=VISIBLE | {"FASTRNN_HIDE": "mmx"}, capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.splitlines() == [
        "-1 False",
        REFUSED,
    ]

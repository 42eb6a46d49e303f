"""The command lines of benchmarks/run.py and report.py, and their output. Needs the extra `benchmarks`."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("rich")
pytest.importorskip("threadpoolctl")

import report
import run
from benchmark_cases import content_of, result_of
from display import LineDisplay, LiveDisplay
from results import parse
from rich.console import Console

RUN = Path(run.__file__)
RESULTS = [result_of(1e-3 * B, {"torch": 2e-3 * B}, group="batch", T=50, B=B) for B in range(1, 13)]


def test_bad_files_get_one_sentence_and_status_2(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text("{}")
    for main in (lambda: report.main([str(path)]), lambda: run.main(["--read", str(path)])):
        assert main() == 2
        assert capsys.readouterr().err.count("\n") == 1


def compared(tmp_path, now, then, *options):
    paths = [tmp_path / "now.json", tmp_path / "then.json"]
    for path, content in zip(paths, (now, then), strict=True):
        path.write_text(json.dumps(content))
    return run.main(["--read", str(paths[0]), "--compare", str(paths[1]), *options])


def test_compare_ends_with_1_where_a_case_is_slower(tmp_path, capsys):
    slow, quick = content_of(result_of(2e-3), result_of(1, H=16)), content_of(result_of(1e-3), result_of(1, H=32))
    assert compared(tmp_path, slow, quick) == 1
    printed = capsys.readouterr().out
    for part in ("1 slower", "only in this run: lstm T=1 B=1 I=8 H=16", "missing in this run: lstm T=1 B=1 I=8 H=32"):
        assert part in printed
    assert compared(tmp_path, quick, slow) == 0
    assert compared(tmp_path, slow, quick, "--tolerance", "1.5") == 0


def test_compare_ends_with_2_where_machines_differ(tmp_path, capsys):
    assert compared(tmp_path, content_of(result_of(1)), content_of(result_of(1), processor="Another")) == 2
    assert "same machine" in capsys.readouterr().err


def test_an_earlier_run_of_another_machine_is_refused_before_anything_is_measured(tmp_path, capsys):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(content_of(result_of(1), processor="Another")))
    assert run.main(["--compare", str(old), "--json", str(new)]) == 2
    assert "Another" in capsys.readouterr().err
    assert not new.exists()


def screen(display_class, *, terminal, width):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=width, height=12, color_system=None)
    with display_class(console, len(RESULTS)) as display:
        for m in parse(content_of(*RESULTS)).measurements:
            display.begin(m.label)
            display.say("torch: round 2 of 5")
            display.finished(m)
    return file.getvalue()


def test_without_a_terminal_there_is_a_line_for_each_case_and_no_control_character():
    printed = screen(LineDisplay, terminal=False, width=40)
    assert len(printed.splitlines()) == len(RESULTS)
    assert "lstm T=50 B=8 H=8, forward, 2 threads: 8 ms, ratio 2.00 to torch, 5 rounds" in printed
    assert all(character.isprintable() or character == "\n" for character in printed)


def test_in_a_terminal_the_last_cases_their_mean_and_what_runs_are_shown():
    printed = screen(LiveDisplay, terminal=True, width=110)
    assert "torch: round 2 of 5" in printed
    assert "geometric mean of the ratios so far" in printed
    assert "12/12" in printed


@pytest.fixture
def _interruptible():
    """Enable interrupts: a process that was started in the background ignores them, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_interrupt_keeps_and_shows_what_has_been_measured(tmp_path):
    path = tmp_path / "results.json"
    command = [sys.executable, str(RUN), "--suite", "full", "--rivals", "numpy", "--rounds", "1", "--seconds", "0.01"]
    with subprocess.Popen(
        [*command, "--threads", "1", "--json", str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        first = next(line for line in lines if ", 1 thread:" in line)
        process.send_signal(signal.SIGINT)
        rest = "".join(lines)
    assert process.returncode == 130
    assert first.startswith("lstm T=1 B=1 H=32, forward")
    assert "interrupted" in rest
    assert f"report.py {path}" in rest
    assert json.loads(path.read_text())["results"]


def test_a_missing_package_is_told_in_a_sentence(tmp_path):
    (tmp_path / "rich.py").write_text("raise ModuleNotFoundError('No module named rich', name='rich')")
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('no', name='matplotlib')")
    for program, missing in ((RUN, "rich"), (RUN.with_name("report.py"), "matplotlib")):
        code = f"import sys, runpy; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['x']; sys.path.insert(1, "
        code += f"{str(program.parent)!r}); runpy.run_path({str(program)!r}, run_name='__main__')"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert f"{missing} is not installed" in result.stderr
        assert "'.[benchmarks]'" in result.stderr

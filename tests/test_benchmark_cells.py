"""The group `cells` of benchmarks/run.py: contestants agree, the tables, and the command with its smallest case."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich")
pytest.importorskip("threadpoolctl")

import cells
import cells_measure
import cells_results
import cells_tables
import run
import sections
from cells_cases import GATES, PLAIN, CellCase, all_cases, data_of, parameters_of
from cells_measure import COMPILED, LOOP, OURS, SCAN, TORCH_COMPILED, left_out, rounds_of, takes_part
from small_measure import difference

RIVALS = Path(run.__file__).parent / "rivals"
CASES = [CellCase(cell, mode, 3, 16, 1, T=4) for cell in GATES for mode in ("forward", "training")]
by_name = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def _rivals(monkeypatch):
    """The programs of the contestants can be imported, and the process has its processors and threads afterwards."""
    monkeypatch.syspath_prepend(str(RIVALS))
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    if affinity:
        os.sched_setaffinity(0, affinity)


def outputs_of(contestant, case):
    """Samples of the outputs, as small_measure.difference compares them."""
    from small_worker import samples_of

    opened = contestant.opened(case, data_of(case))
    opened.call()
    return {name: samples_of(array) for name, array in opened.outputs(opened.call()).items()}


def ours(case):
    from cells_written import Written

    return outputs_of(Written(1), case)


@pytest.mark.usefixtures("_rivals")
@by_name
def test_a_written_cell_has_an_output_and_a_gradient_for_each_argument(case):
    expected = {"y"} if case.mode == "forward" else {"y", "dx", *(f"d{name}" for name in parameters_of(case.cell, 1))}
    assert set(ours(case)) == expected


@pytest.mark.usefixtures("_rivals")
@by_name
@pytest.mark.parametrize("program", ["cells_compiled.Compiled", "cells_torch.CellsTorch", "cells_torch_nn.CellsTorchNN",
                                     "cells_jax.CellsJax", "cells_haste.CellsHaste"])  # fmt: skip
def test_contestants_agree(case, program):
    module, _, name = program.partition(".")
    needed = {"jax": "jax", "haste": "haste_pytorch", "torch": "torch"}
    for part in needed.keys() & set(module.split("_")):
        pytest.importorskip(needed[part])
    if module in ("cells_compiled", "cells_torch_nn") and case.cell not in PLAIN:
        pytest.skip("plain cells only")
    if module == "cells_haste" and case.cell != "layer_norm_lstm":
        pytest.skip("one cell only")
    expected = ours(case)
    found = outputs_of(getattr(__import__(module), name)(1), case)
    assert difference(case, expected, found) is None


def test_names_of_cases_are_unique_and_all_sizes_of_all_cells_are_there():
    cases = all_cases()
    assert len({case.name for case in cases}) == len(cases) == 5 * 2 * 3 * 3 * 2
    assert cases[0].name == "lstm forward B=1 H=64 2 threads"
    assert CellCase(**cases[7].as_dict()) == cases[7]


def test_cases_have_the_same_arrays_in_both_modes_and_on_any_number_of_threads():
    one, other = CellCase("layer_norm_lstm", "forward", 2, 8, 1, 3), CellCase("layer_norm_lstm", "training", 2, 8, 2, 3)
    for name, array in data_of(one).items():
        np.testing.assert_array_equal(array, data_of(other)[name])


def test_torch_compile_runs_one_size_unless_it_runs_all():
    chosen = [case for case in all_cases() if takes_part(TORCH_COMPILED, case, everywhere=False)]
    assert [case.name for case in chosen] == [
        f"{cell} {mode} B=8 H=128 2 threads" for cell in GATES if cell not in PLAIN for mode in ("forward", "training")
    ]
    assert all(takes_part(TORCH_COMPILED, case, everywhere=True) for case in all_cases())


def test_long_cases_have_fewer_rounds_and_slow_rivals_one():
    assert [rounds_of(seconds) for seconds in (0.01, 1.0, 5.0, 99.0)] == [5, 3, 2, 2]
    medians = {OURS.name: [1.0], SCAN.name: [9.0], LOOP.name: [4.0], "torch.nn": [2.0], "haste": [2.9]}
    assert left_out(medians) == {LOOP.name}


class Answers:
    """A process with the given medians."""

    def __init__(self, medians, outputs=None):
        self.medians = iter(medians)
        self.outputs = outputs or {"y": [[1], [1.0]]}

    def ask(self, do, **_):
        if do == "open":
            return {"outputs": self.outputs, "seconds": 9.0}
        return {"median": next(self.medians)} if do == "time" else {}


def test_a_rival_that_disagrees_or_is_slow_is_not_timed_further():
    case = CellCase("peephole_lstm", "forward", 1, 64, 1)
    other = {"y": [[1], [2.0]]}
    processes = {OURS.name: Answers([1.0, 2.0]), COMPILED.name: Answers([0.5, 1.0], other)}
    processes |= {SCAN.name: Answers([3.0, 6.0]), LOOP.name: Answers([], other)}
    processes |= {"torch.nn": Answers([2.0, 4.0]), "haste": Answers([9.0])}
    found = cells_measure.times_of(case, processes, 2, 0.0)
    assert found == {
        OURS.name: [1.0, 2.0], COMPILED.name: [0.5, 1.0], SCAN.name: [3.0, 6.0], "torch.nn": [2.0, 4.0], "haste": [9.0],
        LOOP.name: "y differs by 1.0e+00 of the largest value",
    }  # fmt: skip
    measured = cells_results.MeasuredCell(case, found, [])
    assert measured.ratio.rival == "torch.nn"
    assert (measured.to("scan").value, measured.to("torch").value) == (pytest.approx(3), pytest.approx(2))
    assert measured.over_compiled.value == pytest.approx(2)


def content_of(ratio_of, cases=None):
    """A file in which ours takes 1 ms and the scan `ratio_of(case)` times that."""
    results = []
    for case in cases or all_cases():
        times = {OURS.name: [1e-3, 1.1e-3], COMPILED.name: [8e-4, 8.8e-4]}
        times |= {SCAN.name: [1e-3 * ratio_of(case), 1.1e-3 * ratio_of(case)], LOOP.name: [8e-3]}
        results.append({"case": case.as_dict(), "screen": times, "runs": []})
    return {"group": "cells", "versions": {"lax.scan": "jax 1"}, "backend": "avx2", "results": results}


def test_tables_have_means_limits_and_losses(tmp_path):
    file = cells_results.parse(content_of(lambda case: 0.5 if case.name.startswith("gru training B=1 H=64") else 2.0))
    text = cells_tables.markdown_of(file)
    row = next(line for line in text.splitlines() if line.startswith("| **the last three, H ≤ 128** | 2.2 |"))
    assert row.count("2.00 (2.00 to 2.00); 2.00 to 2.00; 18, 0") == 4
    assert "| LSTM, B ≥ 8, H ≥ 128 | 1.1 / 1.15 | 1.25 (1.25 to 1.25); 1.25 to 1.25; 4 of 4 above |" in text
    assert "| gru training B=1 H=64 1 thread | 1.05 | 0.50 (0.50 to 0.50) | lax.scan | no |" in text
    assert "| LSTM | 1, 64 | 1.05 / 1.05 | 0.84 / 0.84 | 2.1 / 2.1 | 8 / 8 |" in text
    page = tmp_path / "page.md"
    page.write_text(f"a\n{sections.begin('cells in brief')}\nold\n{sections.end('cells in brief')}\nz\n")
    cells_tables.write_page(page, file)
    assert "| peephole LSTM | 8, 128 | 1.05 / 1.05 | 2.1 / 2.1 | 8 / 8 |" in page.read_text()
    assert "\nold\n" not in page.read_text()


def test_the_interval_of_a_mean_comes_from_all_rounds():
    cases = [CellCase("lstm", "forward", B, 64, 1) for B in (1, 8, 32)]
    content = content_of(lambda case: 2.0, cases)
    for entry in content["results"]:
        entry["screen"][SCAN.name] = [2e-3, 2.2e-3 * np.exp(0.2)]
    mean = cells_results.mean_of(m.to("scan") for m in cells_results.parse(content).measured)
    assert mean.value == pytest.approx(2 * np.exp(0.1))
    assert np.log(mean.high / mean.value) == pytest.approx(1.96 * 0.1 / 3**0.5)


def test_doubtful_cases_have_five_processes_more(tmp_path, monkeypatch):
    calls = []

    def pass_over(cases, rounds, seconds, everywhere, keep):
        calls.append(len(cases))
        for case in cases:
            keep(case, {OURS.name: [1.0, 1.0], SCAN.name: [0.9 if case.B == 1 else 3.0] * 2})
        return {}

    monkeypatch.setattr(cells, "pass_over", pass_over)
    given = ["--suite", "cells", "--case", "gru forward", "--threads", "1", "--json", str(tmp_path / "r.json")]
    now = cells.CellsRun(run.complete(run.parser().parse_args(given)), run.Console(quiet=True))
    assert not now.measure()
    assert calls == [18] + [6] * 10  # gru and reset_before_gru
    found = cells_results.read(tmp_path / "r.json").measured
    assert all(m.is_slower == (m.case.B == 1) for m in found)


def test_the_command_measures_a_case_and_writes_pages(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr("ratios.DOUBTFUL_BELOW", 0)
    path, page = tmp_path / "results.json", tmp_path / "page.md"
    given = ["--suite", "cells", "--case", "lstm forward B=1 H=64", "--threads", "1", "--rounds", "2"]
    assert run.main([*given, "--case", "no such", "--seconds", "0.001", "--json", str(path)]) == 0
    measured = cells_results.read(path).measured
    assert {m.case.cell for m in measured} == {"lstm", "peephole_lstm", "layer_norm_lstm"}
    assert all(m.ratio and m.over_compiled for m in measured), [m.failures for m in measured]
    capsys.readouterr()
    page.write_text(f"before\n{sections.begin('cells')}\n{sections.end('cells')}\nafter\n")
    assert run.main(["--suite", "cells", "--read", str(path), "--page", str(page)]) == 0
    assert page.read_text().startswith("before\n")
    assert "| peephole LSTM | 1, 64 |" in page.read_text()


def test_a_contestant_without_its_environment_is_named(monkeypatch):
    monkeypatch.setattr("contestants.python_of", lambda environment: None)
    assert cells_measure.absent()[0].startswith("fastrnn: not installed (python benchmarks/run.py --install makes")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--compile-all"], "--compile-all: expected --suite cells, got --suite tour"),
        (["--suite", "cells", "--seed", "1"], "--seed: expected --suite small, got --suite cells"),
        (["--page", "a.md"], "--page: expected --suite small or --suite cells, got --suite tour"),
    ],
)
def test_options_of_other_suites_are_refused(given, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(given)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"group": "small"}), "got another file"),
        (json.dumps({"group": "cells", "results": [{"case": {}}]}), "a case of the group cells, got"),
    ],
)
def test_what_is_no_file_of_the_group_is_refused_in_a_sentence(tmp_path, content, message, capsys):
    path = tmp_path / "results.json"
    path.write_text(content)
    assert run.main(["--suite", "cells", "--read", str(path)]) == 2
    assert message in capsys.readouterr().err

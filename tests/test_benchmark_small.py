"""The group `small` of benchmarks/run.py: when a case is slower, the tables, and the command with tiny sizes."""

import json

import pytest

pytest.importorskip("rich")
pytest.importorskip("threadpoolctl")

import ratios
import run
import sections
import small
import small_overhead
import small_results
import small_tables
from results import ResultsError
from small_cases import FACTORS, SmallCase, covering_cases
from small_measure import CONTESTANTS

CASE = SmallCase("layer", "forward", "gru", 2, 1, 16, 1, "float32", "contiguous", "unchanged", 1)


def times(ours, **rivals):
    values = {"fastrnn": ours, **rivals}
    return {name: value if isinstance(value, str) else [value] * 3 for name, value in values.items()}


def measured(*ratios, runs=()):
    screen = times(1.0, numpy=ratios[0], torch=9.0)
    each = [[times(1.0, numpy=ratio, torch=9.0) for ratio in run] for run in runs]
    return small_results.Measured(CASE, False, screen, each)


def test_the_ratio_is_that_to_the_fastest_rival_in_rounds_that_are_interleaved():
    one = {"fastrnn": [1.0, 2.0, 1.0], "numpy": [3.0, 6.0, 3.0], "torch": [4.0] * 3}
    found = ratios.ratio_of([one], "fastrnn", ["numpy", "torch"])
    assert (found.rival, found.value, found.low) == ("numpy", pytest.approx(3), pytest.approx(3))
    assert ratios.ratio_of([{"fastrnn": "why", "numpy": [1.0], "torch": "why"}], "fastrnn", ["numpy"]) is None


def test_the_interval_is_students_over_processes():
    found = ratios.ratio_of([times(1.0, numpy=2.0**k) for k in (-1, 0, 0, 0, 1)], "fastrnn", ["numpy"])
    assert found.value == pytest.approx(1)
    assert found.high == pytest.approx(2 ** (2.776 * 0.5**0.5 / 5**0.5))
    assert found.low == pytest.approx(1 / found.high)


@pytest.mark.parametrize(
    ("runs", "is_slower"),
    [
        ([], False),
        ([[0.9, 0.91, 0.9, 0.89, 0.9]], False),
        ([[0.9, 0.91, 0.9, 0.89, 0.9], [0.9, 0.91, 0.9, 0.89, 0.9]], True),
        ([[0.9, 0.91, 0.9, 0.89, 0.9], [0.9, 0.91, 0.9, 0.89, 1.3]], False),
        ([[0.98] * 5, [0.98] * 5], False),
    ],
)
def test_a_case_is_slower_if_both_whole_intervals_are_below_the_limit(runs, is_slower):
    assert measured(0.9, runs=runs).is_slower is is_slower


def options_of(tmp_path, *given):
    return run.complete(run.parser().parse_args(["--suite", "small", "--json", str(tmp_path / "r.json"), *given]))


def test_doubtful_cases_have_five_processes_more_and_slower_ones_ten(tmp_path, monkeypatch):
    calls = []

    def pass_over(cases, rounds, seconds, keep):
        calls.append(len(cases))
        for case in cases:
            factor = {16: 0.9, 64: 1.05}.get(case.H, 3.0)
            keep(case, {entry.name: [factor if place else 1.0] for place, entry in enumerate(CONTESTANTS[case.kind])})
        return {"fastrnn": "fastrnn 1"}

    monkeypatch.setattr(small, "pass_over", pass_over)
    monkeypatch.setattr(small_overhead, "measure", lambda threads, say: iter(()))
    now = small.SmallRun(options_of(tmp_path, "--seed", "1"), run.Console(quiet=True))
    assert not now.measure()
    count = {H: sum(case.H == H for case in now.cases) for H in (16, 64)}
    assert calls == [len(now.cases)] + [count[16] + count[64]] * 5 + [count[16]] * 5
    found = small_results.read(tmp_path / "r.json").measured
    assert {len(m.runs) for m in found if m.case.H == 16} == {2}
    assert all(m.is_slower == (m.case.H == 16) for m in found)


def test_interrupt_keeps_what_has_been_measured(tmp_path, monkeypatch):
    def pass_over(cases, rounds, seconds, keep):
        keep(cases[0], {entry.name: [1.0] for entry in CONTESTANTS[cases[0].kind]})
        raise KeyboardInterrupt

    monkeypatch.setattr(small, "pass_over", pass_over)
    assert small.run(options_of(tmp_path), run.Console(quiet=True)) == 130
    assert len(small_results.read(tmp_path / "r.json").measured) == 1


@pytest.fixture(scope="module")
def _torch():
    pytest.importorskip("torch")


@pytest.mark.usefixtures("_torch")
def test_the_command_measures_cases_of_every_kind_and_writes_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ratios, "DOUBTFUL_BELOW", 0)
    path, page = tmp_path / "results.json", tmp_path / "page.md"
    narrow = [case for case in covering_cases() if case.H == 16 and case.threads == 1]
    named = [case.name for kind in FACTORS["kind"] for case in [c for c in narrow if c.kind == kind][:2]]
    cases = [part for name in named for part in ("--case", name)]
    given = ["--suite", "small", "--seed", "5", "--threads", "1", "--rounds", "1", "--seconds", "0.002"]
    assert run.main([*given, *cases, "--json", str(path)]) == 0
    assert "repeat the draw with --seed 5" in capsys.readouterr().out
    found = small_results.read(path)
    assert {m.case.kind for m in found.measured} == set(FACTORS["kind"])
    assert all(m.ratio and not m.failures for m in found.measured)
    page.write_text(f"before\n{sections.begin('small')}\nold\n{sections.end('small')}\nafter\n")
    for _ in range(2):
        assert run.main(["--suite", "small", "--read", str(path), str(path), "--page", str(page)]) == 0
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "\nold\n" not in text
        assert text.count("| torch cells, forward |") == 1


@pytest.mark.usefixtures("_torch")
def test_the_command_measures_the_overhead_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small_overhead, "WIDTHS", (16,))
    monkeypatch.setattr(small_overhead, "BATCHES", (1,))
    monkeypatch.setattr(small_overhead, "SECONDS", 0.001)
    path = tmp_path / "results.json"
    assert run.main(["--suite", "small", "--overhead", "--threads", "1", "--json", str(path)]) == 0
    assert "| layer, inference | 10 |" in capsys.readouterr().out
    overhead = small_results.read(path).overhead
    assert len(overhead) == len(FACTORS["cell"])
    assert all(small_overhead.microseconds(row, entry["times"]) for entry in overhead for row in small_overhead.ROWS)


def test_cases_below_1_and_contestants_without_a_time_are_named():
    runs = [[{"case": CASE.as_dict(), "drawn": True, "screen": times(1.0, numpy=0.9, torch="why"), "runs": []}], []]
    files = [small_results.parse({"results": one, "versions": {}, "seed": 1, "backend": "avx2"}) for one in runs]
    text = small_tables.markdown_of(files[:1])
    assert "1 cases lack the time of a contestant: layer forward gru T=2 B=1 H=16 1 thread, AVX2: torch: why." in text
    assert "| layer forward gru T=2 B=1 H=16 1 thread | AVX2 | 1e+06 | 0.90 | numpy | no |" in text
    assert "| calls | goal | AVX2, 1 thread |\n" in text
    assert "Cases below 1" not in small_tables.markdown_of(files[1:])


def test_overhead_is_what_is_left_of_a_call():
    parts = {"kernel": [1e-6, None], "training kernel": [2e-6, 3e-6], "cell, empty": [10e-6, 20e-6]}
    parts |= {"layer": [5e-6, None], "cell": [20e-6, 30e-6]}
    rows = {row.title: row for row in small_overhead.ROWS}
    assert small_overhead.microseconds(rows["layer, inference"], parts) == pytest.approx(4)
    assert small_overhead.microseconds(rows["torch cell, training, forward"], parts) == pytest.approx(8)
    assert small_overhead.microseconds(rows["torch cell, training, backward"], parts) == pytest.approx(7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--seed", "1"], "--seed: expected --suite small, got --suite tour"),
        (["--suite", "full", "--overhead"], "--overhead: expected --suite small, got --suite full"),
        (["--suite", "small", "--budget", "9"], "--budget: expected another suite, got --suite small"),
        (["--suite", "small", "--draws", "-1"], "--draws: expected 0 or more, got -1"),
    ],
)
def test_options_of_other_suites_are_refused(given, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(given)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON", "got no JSON"),
        ('{"results": []}', "got another file"),
        (json.dumps({"group": "small", "results": [{"case": {}}]}), "a case of the group small, got"),
    ],
)
def test_what_is_no_file_of_the_group_is_refused_in_a_sentence(tmp_path, content, message, capsys):
    path = tmp_path / "results.json"
    path.write_text(content)
    assert run.main(["--suite", "small", "--read", str(path)]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_a_page_without_the_section_is_refused_and_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ResultsError, match="expected the comments"):
        small_tables.write_page(page, "tables")
    assert page.read_text() == "nothing"

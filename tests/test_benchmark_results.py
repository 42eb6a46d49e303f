"""Benchmark results without measurements: reading files, comparing runs, bounds of the machine."""

import json
import statistics

import pytest
from benchmark_cases import LIMITS, content_of, result_of
from cases import CASES, Case
from regression import compare
from results import ResultsError, merge, parse, read
from roofline import bound_of

TOLERANCE = 0.1


def labels(changes):
    return [change.now.case.name for change in changes]


def comparison_of(now, then, tolerance=TOLERANCE):
    return compare(parse(content_of(*now)), parse(content_of(*then)), tolerance)


def test_a_case_that_takes_longer_is_slower_and_one_that_takes_less_is_faster():
    then = [result_of(1e-3, H=8), result_of(1e-3, H=16), result_of(1e-3, H=32)]
    now = [result_of(1.3e-3, H=8), result_of(0.7e-3, H=16), result_of(1.02e-3, H=32)]
    found = comparison_of(now, then)
    assert labels(found.of("slower")) == ["lstm T=1 B=1 H=8"]
    assert labels(found.of("faster")) == ["lstm T=1 B=1 I=8 H=16"]
    assert labels(found.of("equal")) == ["lstm T=1 B=1 I=8 H=32"]
    assert found.typical == pytest.approx(statistics.median([1.3, 0.7, 1.02]))


def test_what_the_spread_of_the_rounds_explains_is_not_reported():
    then, now = [result_of(1e-3, spread=0.5)], [result_of(1.3e-3, spread=0.5)]
    assert not comparison_of(now, then).of("slower")
    assert not comparison_of(then, now).of("faster")
    calm = [result_of(1e-3, spread=0.05)], [result_of(1.3e-3, spread=0.05)]
    assert comparison_of(calm[1], calm[0]).of("slower")


def test_a_single_disturbed_round_hides_no_regression():
    then, now = result_of(1e-3), result_of(1.3e-3)
    then["times"]["fastrnn"]["medians"][-1] = 1e-2
    now["times"]["fastrnn"]["medians"][0] = 1e-4
    assert comparison_of([now], [then]).of("slower")


def test_tolerance_is_the_least_change_that_is_reported():
    then, now = [result_of(1e-3)], [result_of(1.15e-3)]
    assert comparison_of(now, then, 0.1).of("slower")
    assert not comparison_of(now, then, 0.2).of("slower")


def test_a_case_that_no_longer_runs_is_slower():
    then, now = result_of(1e-3), result_of(1e-3)
    now["times"]["fastrnn"] = {"unsupported": "its process has ended"}
    (change,) = comparison_of([now], [then]).of("slower")
    assert change.ratio is None
    assert not comparison_of([then], [now]).of("slower")


def test_cases_of_one_run_only_are_named():
    found = comparison_of([result_of(1, H=8), result_of(1, H=16)], [result_of(1, H=8), result_of(1, H=32, threads=1)])
    assert found.only_now == ["lstm T=1 B=1 I=8 H=16, forward, 2 threads"]
    assert found.only_then == ["lstm T=1 B=1 I=8 H=32, forward, 1 thread"]


def test_a_case_that_measures_something_else_by_the_same_name_is_named_and_not_compared():
    then = [result_of(1e-3), result_of(1e-3, H=16, why="for one reason")]
    now = [result_of(9e-3, carried=True), result_of(1e-3, H=16, why="for another")]
    found = comparison_of(now, then)
    assert found.redefined == ["lstm T=1 B=1 H=8, forward, 2 threads"]
    assert labels(found.changes) == ["lstm T=1 B=1 I=8 H=16"]


def test_rivals_tell_whether_the_machine_has_changed():
    then = [result_of(1.0, {"torch": 2.0, "jax": 4.0, "keras": 1.0, "numpy": 1.0})]
    now = [result_of(2.0, {"torch": 4.0, "jax": 8.0, "keras": 9.0})]
    (change,) = comparison_of(now, then).changes
    assert change.rivals == 2


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"processor": "Another"}, "same machine and backend, got processor A processor in one, Another in the other"),
        ({"machine": "aarch64"}, "got machine x86_64 in one, aarch64 in the other"),
        ({"backend": "avx512"}, "got backend avx2 in one, avx512 in the other"),
    ],
)
def test_results_of_another_machine_or_backend_are_refused(details, message):
    one, other = parse(content_of(result_of(1))), parse(content_of(result_of(1), **details))
    with pytest.raises(ResultsError, match=message):
        compare(one, other, TOLERANCE)
    with pytest.raises(ResultsError, match=message.split("got ")[1]):
        merge([one, other])


def test_the_backend_of_an_older_file_is_in_its_version():
    old = content_of(result_of(1), versions={"fastrnn": "fastrnn 0.1.0 (avx512)"})
    del old["backend"], old["processor"]
    with pytest.raises(ResultsError, match="backend avx2 in one, avx512"):
        compare(parse(content_of(result_of(1))), parse(old), TOLERANCE)
    old["versions"]["fastrnn"] = "fastrnn 0.1.0 (avx2)"
    found = compare(parse(content_of(result_of(1))), parse(old), TOLERANCE)
    assert any("does not name its processor" in text for text in found.warnings)


def test_results_without_common_threads_or_cases_are_refused():
    with pytest.raises(ResultsError, match=r"of \[2\] threads, got \[1\]"):
        comparison_of([result_of(1)], [result_of(1, threads=1)])
    with pytest.raises(ResultsError, match="got none of them"):
        comparison_of([result_of(1)], [result_of(1, H=16)])


def test_few_rounds_another_version_and_another_speed_of_the_machine_are_told():
    then, now = result_of(1), result_of(1)
    then["times"]["fastrnn"]["medians"] = [1.0]
    slow = {"2": LIMITS | {"FMA peak, GFLOP/s": 100.0}}
    old = content_of(then, limits=slow, versions={"torch": "torch 1"})
    warnings = " ".join(compare(parse(content_of(now)), parse(old), TOLERANCE).warnings)
    for part in ("1 cases of the earlier run have fewer than 3 rounds", "2.00 of the earlier one", "torch was torch 1"):
        assert part in warnings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "got no JSON"),
        ("[1]", "without a list"),
        ('{"results": {}}', "without a list"),
        ('{"results": []}', "at least one measured case, got none"),
        ('{"results": [3]}', r"results\[0\]: expected a case"),
        (json.dumps(content_of(result_of(1, size=3))), r"results\[0\]: expected a case"),
        (json.dumps(content_of(result_of(1, cell="cnn"))), r"results\[0\]: expected a case"),
        (json.dumps(content_of(result_of(1), result_of(1, mode="sideways"))), r"results\[1\]: expected a case"),
        (json.dumps(content_of(result_of(-1.0))), r"results\[0\]: expected a case"),
    ],
)
def test_what_is_no_file_of_results_is_refused_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match=message) as refusal:
        read(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="No such file"):
        read(tmp_path / "nothing.json")


def test_of_a_case_in_several_files_the_last_counts():
    one = parse(content_of(result_of(1), result_of(2, H=16)))
    other = parse(content_of(result_of(5), date="2026-02-03"))
    merged = merge([one, other])
    assert [m.ours for m in merged.measurements] == [5, 2]
    assert merged.details["date"] == "2026-01-02 and 2026-02-03"


def test_ratio_is_that_to_the_fastest_rival_and_not_to_our_own_entries():
    (m,) = parse(content_of(result_of(1.0, {"torch": 3.0, "jax": 2.0, "fastrnn.torch": 0.5}))).measurements
    assert (m.ratio, m.fastest_rival) == (2.0, "jax")


def test_every_case_of_the_benchmark_is_read_back():
    results = [result_of(1.0, mode=case.modes[0], **case.as_dict()) for case in CASES]
    assert [m.case.name for m in parse(content_of(*results)).measurements] == [case.name for case in CASES]
    assert len({(case.group, case.name) for case in CASES}) == len(CASES)


def test_a_full_batch_is_bound_by_arithmetic():
    case = Case("large", "lstm", 50, 64, 512, 512)
    bound = bound_of(case, "forward", 2, LIMITS)
    assert bound.kind == "arithmetic"
    assert bound.seconds == pytest.approx(2 * 50 * 64 * 4 * 512 * 1024 / 200e9)
    double = bound_of(Case("large", "lstm", 50, 64, 512, 512, dtype="float64"), "training", 2, LIMITS)
    assert double.seconds == pytest.approx(6 * bound.seconds)


def test_one_sequence_is_bound_by_reading_its_weights_in_each_step():
    limits = LIMITS | {"FMA peak, GFLOP/s": 1e6, "L3 read, GB/s": 50.0}
    many = bound_of(Case("latency", "lstm", 100, 1, 512, 512), "forward", 2, limits)
    assert many.kind == "weights from L3"
    assert many.seconds == pytest.approx(100 * 4 * 512 * 512 * 4 / 50e9)
    single = bound_of(Case("latency", "lstm", 1, 1, 512, 512), "forward", 2, limits)
    assert single.seconds == pytest.approx(2 * many.seconds / 100)
    assert bound_of(Case("latency", "gru", 1, 1, 32, 32), "forward", 2, limits).kind == "weights from L1"


def test_the_share_of_the_peak_counts_products_only_and_in_float32():
    sizes = {"group": "large", "T": 50, "B": 64, "I": 512, "H": 512}
    single, double = parse(
        content_of(result_of(0.5, mode="training", **sizes), result_of(0.5, dtype="float64", **sizes))
    ).measurements
    assert single.of_peak == pytest.approx(3 * 2 * 50 * 64 * 4 * 512 * 1024 / 0.5 / 200e9)
    assert double.of_peak is None


def test_without_measured_limits_there_is_no_bound():
    (m,) = parse(content_of(result_of(1.0), limits={})).measurements
    assert m.of_limit("fastrnn") is None
    assert m.of_peak is None

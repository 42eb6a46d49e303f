"""The cases of the benchmark's group `small`: a covering set and drawn ones, and the loops of NumPy that they race."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rich")
pytest.importorskip("threadpoolctl")

import small_cases
import threadpoolctl
from small_cases import FACTORS, SmallCase, allowed, covering_cases, data_of, drawn_cases, laid_out
from small_covering import allowed_pairs, covering, pairs_of
from small_measure import difference

BENCHMARKS = Path(small_cases.__file__).parent


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 9))
def test_every_pair_of_values_occurs_in_a_covering_set(levels, seed):
    factors = {f"factor {place}": range(count) for place, count in enumerate(levels)}
    rows = covering(factors, lambda row: True, seed)
    assert {pair for row in rows for pair in pairs_of(row, list(factors))} == set(
        allowed_pairs(factors, lambda row: True)
    )
    assert all(row.keys() == factors.keys() for row in rows)


def test_every_allowed_pair_of_factors_occurs_in_the_covering_cases():
    cases = covering_cases()
    found = {pair for case in cases for pair in pairs_of(case.as_dict(), list(FACTORS))}
    assert found == set(allowed_pairs(FACTORS, allowed))
    assert len(set(cases)) == len(cases)
    assert 150 <= len(cases) <= 250


def test_kind_mode_weights_and_threads_meet_every_width_and_batch_together():
    cases = covering_cases()
    for name in ("H", "B"):
        found = {(case.kind, case.mode, case.weights, case.threads, getattr(case, name)) for case in cases}
        assert found == set(product(*(FACTORS[factor] for factor in ("kind", "mode", "weights", "threads", name))))


def test_functions_and_cells_have_one_layer_and_cells_one_step():
    for case in covering_cases() + drawn_cases(300, 1, []):
        assert allowed(case.as_dict())
        if case.kind in ("function", "cell"):
            assert (case.layers, case.batch_first) == (1, False)
        assert case.kind != "cell" or case.T == 1


def test_cases_are_the_same_in_every_process_and_for_every_seed_of_hashes():
    code = "import small_cases as s; c = s.covering_cases(); print(*(x.name for x in c + s.drawn_cases(20, 3, c)))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(BENCHMARKS)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    covered = covering_cases()
    assert printed == {" ".join(case.name for case in covered + drawn_cases(20, 3, covered)) + "\n"}


def test_drawn_cases_depend_on_the_seed_and_repeat_no_case():
    covered = covering_cases()
    drawn = drawn_cases(200, 1, covered)
    assert len(set(drawn) | set(covered)) == 200 + len(covered)
    assert drawn != drawn_cases(200, 2, covered)


@pytest.mark.parametrize("layout", FACTORS["layout"])
def test_layouts_change_strides_and_no_value(layout):
    case = SmallCase("layer", "forward", "gru", 3, 2, 16, 1, "float32", layout, "unchanged", 1)
    x = data_of(case)["x"]
    found = laid_out(case, x)
    assert ((found.swapaxes(0, 1) if case.batch_first else found) == x).all()
    assert found.flags.c_contiguous == (layout == "contiguous")


@pytest.fixture
def _rivals(monkeypatch):
    """The programs of the contestants can be imported, and BLAS has its threads back afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS / "rivals"))
    with threadpoolctl.threadpool_limits(None):
        yield


@pytest.mark.usefixtures("_rivals")
@pytest.mark.parametrize("cell", FACTORS["cell"])
@pytest.mark.parametrize("mode", FACTORS["mode"])
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_numpy_loops_agree_with_fastrnn(cell, mode, T, layers):
    from small_fastrnn import SmallFastrnn
    from small_numpy import SmallNumpy
    from small_worker import samples_of

    kind = "function" if layers == 1 else "layer"
    case = SmallCase(kind, mode, cell, T, 3, 5, layers, "float64", "swapped", "new", 1)
    outputs = []
    for make in (SmallFastrnn, SmallNumpy):
        opened = make(1).opened(case, data_of(case))
        for _ in range(3):
            opened.negate()
            result = opened.call()
        outputs.append({name: samples_of(array) for name, array in opened.outputs(result).items()})
    assert difference(case, *outputs) is None
    assert len(outputs[0]) == 1 + (mode == "training") * (1 + 4 * layers + (T == 1) * (1 + (cell == "lstm")))


def test_names_of_cases_are_unique_in_the_group():
    cases = covering_cases() + drawn_cases(400, 1, covering_cases())
    assert len({case.name for case in cases}) == len(cases)

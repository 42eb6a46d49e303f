"""Inputs from fuzzing the argument checks: one for each behaviour, and inputs that once failed."""

from pathlib import Path

import pytest
from fuzz.fuzz_arguments import one_input

CORPUS = Path(__file__).parent / "fuzz" / "corpus_arguments"
INPUTS = sorted(CORPUS.iterdir())


def test_the_corpus_is_here():
    assert len(INPUTS) > 100


# NumPy 1.23 warns about ragged lists and converts them to arrays of objects, which fastrnn then refuses.
@pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged nested sequences")
@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name[:8])
def test_an_input_of_the_fuzzer_gives_documented_errors_and_changes_no_argument(path):
    one_input(path.read_bytes())

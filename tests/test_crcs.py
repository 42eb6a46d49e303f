"""This machine has the committed CRCs, on every backend and with any number of threads."""

import crc_cases
import fastrnn
import pytest
from fastrnn import config

TABLES = pytest.mark.parametrize("has_fma", [True, False], ids=["with FMA", "without FMA"])


@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_and_gradients_have_the_committed_crcs(backend, threads):
    fastrnn.set_num_threads(threads)
    with config.use_cut("all"):
        assert list(crc_cases.lines()) == crc_cases.expected_lines(crc_cases.backends()[backend])


@TABLES
def test_a_table_covers_every_cell_and_case_and_every_function(has_fma):
    keys = {tuple(line.split()[:3]) for line in crc_cases.expected_lines(has_fma)}
    count = (len(crc_cases.CASES) * len(crc_cases.KINDS) + len(crc_cases.FUNCTIONS)) * 2
    assert len(keys) == len(crc_cases.expected_lines(has_fma)) == count


def test_every_line_of_the_tables_differs_from_every_other():
    """This test would detect a generator that repeats itself, a CRC of no data, or one table written twice. Functions
    may have the same bits with and without FMA: hardly a logarithm differs."""
    functions, layers = {}, []
    for has_fma in (True, False):
        lines = crc_cases.expected_lines(has_fma)
        functions[has_fma] = [line.split()[3] for line in lines if line.startswith("function ")]
        layers += [field for line in lines if not line.startswith("function ") for field in line.split()[3:]]
    assert functions[True] != functions[False]
    for crcs in (functions[True], functions[False], layers):
        assert len(set(crcs)) == len(crcs)

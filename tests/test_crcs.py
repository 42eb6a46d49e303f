"""The committed CRCs are those of this machine, on every backend with FMA and any number of threads."""

import crc_cases
import fastrnn
import pytest
from fastrnn import config


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("backend", crc_cases.backends())
def test_outputs_and_gradients_have_the_committed_crcs(backend, threads):
    fastrnn.set_num_threads(threads)
    with config.use_backend(backend), config.use_team("all"):
        assert list(crc_cases.lines()) == crc_cases.expected_lines()


def test_the_table_covers_every_cell_dtype_and_case():
    keys = {tuple(line.split()[:3]) for line in crc_cases.expected_lines()}
    assert len(keys) == len(crc_cases.expected_lines()) == len(crc_cases.CASES) * len(crc_cases.KINDS) * 2


def test_every_line_of_the_table_differs_from_every_other():
    """A generator that repeats itself, or a CRC of nothing, would show here."""
    crcs = [field for line in crc_cases.expected_lines() for field in line.split()[3:]]
    assert len(set(crcs)) == len(crcs)

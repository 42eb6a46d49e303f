"""The core refuses schedules that break a rule of csrc/fastrnn.h, before it writes anything."""

import numpy as np
import pytest
from fastrnn import _core, config

T, B, I, H = 3, 2, 4, 5
SOUND = {"active": [2, 2, 1], "row": [0, 1, 2, 3, 4], "first": [0, 1], "last": [1, 0]}
MESSAGE = (
    "schedule: active must not grow, row, first, last and d_first must lie in range, and no row or state be there twice"
)
# The change, and whether a plan can still be made: finding duplicates needs memory.
MALFORMED = {
    "active grows": ({"active": [2, 1, 2]}, False),
    "active is negative": ({"active": [2, 2, -1], "row": [0, 1, 2]}, False),
    "more rows than the grid has": ({"active": [2, 2, 2, 2], "row": [0, 1, 2, 3, 4, 5, 0, 1]}, False),
    "a row beyond the grid": ({"row": [0, 1, 2, 3, 6]}, False),
    "a row below the grid": ({"row": [0, 1, -1, 3, 4]}, False),
    "a start below -1": ({"first": [0, -2]}, False),
    "a start beyond states and rows": ({"first": [0, 8]}, False),
    "an end beyond the states": ({"last": [0, 2]}, False),
    "an end below -1": ({"last": [0, -2]}, False),
    "a gradient beyond the states": ({"d_first": [0, 2]}, False),
    "a gradient below -1": ({"d_first": [0, -2]}, False),
    "a row twice in a step": ({"row": [0, 0, 2, 3, 4]}, True),
    "a row twice, far apart": ({"row": [0, 1, 2, 3, 0]}, True),
    "a start twice": ({"first": [1, 1]}, True),
    "an end twice": ({"last": [0, 0]}, True),
    "a gradient twice": ({"d_first": [0, 0]}, True),
}


def problem(changes):
    arrays = [np.array(array, np.int64) for array in (SOUND | changes).values()]
    return _core.Problem("gru", "float32", config.backend_index(), 1, T, B, I, H, arrays)


def zeros(*shape):
    return np.zeros(shape, np.float32)


def run_forward(p):
    outputs = y, h_n, reserve = zeros(T, B, H), zeros(B, H), np.zeros(p.reserve, np.uint8)
    packed, scratch = np.zeros(p.packed_forward, np.uint8), np.zeros(p.scratch_forward, np.uint8)
    return outputs, lambda: _core.forward(
        p, packed, zeros(T, B, I) + 1, (zeros(B, H) + 1,), y, (h_n,), reserve, scratch
    )


def run_backward(p):
    outputs = dx, dh0, dw_ih, dw_hh, b = zeros(T, B, I), zeros(B, H), zeros(15, I), zeros(15, H), zeros(15)
    packed, scratch = np.zeros(p.packed_backward, np.uint8), np.zeros(p.scratch_backward, np.uint8)
    reserve, one = np.zeros(p.reserve, np.uint8), zeros(B, H) + 1
    return outputs, lambda: _core.backward(
        p, packed, zeros(T, B, I) + 1, (one,), zeros(T, B, H), reserve, zeros(T, B, H) + 1, (one,), dx, (dh0,),
        (dw_ih, dw_hh, b, b.copy()), scratch,
    )  # fmt: skip


@pytest.mark.parametrize("run", [run_forward, run_backward])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_schedule_is_refused_and_nothing_is_written(name, run):
    changes, has_sizes = MALFORMED[name]
    if not has_sizes:
        with pytest.raises(ValueError, match=MESSAGE):
            problem(changes)
        return
    outputs, call = run(problem(changes))
    with pytest.raises(ValueError, match=MESSAGE):
        call()
    assert not any(output.any() for output in outputs)


@pytest.mark.parametrize("run", [run_forward, run_backward])
def test_the_sound_schedule_that_they_were_made_of_is_run(run):
    outputs, call = run(problem({}))
    call()
    assert all(np.isfinite(output.view(np.float32)).all() for output in outputs)


def test_forward_refuses_to_start_from_a_row_of_y():
    _, call = run_forward(problem({"first": [0, 3]}))
    with pytest.raises(ValueError, match=MESSAGE):
        call()
    _, call = run_backward(problem({"first": [0, 3]}))
    call()


def test_several_sequences_may_start_from_one_row_of_y_and_from_nothing():
    for first in ([3, 3], [-1, -1]):
        _, call = run_backward(problem({"first": first}))
        call()


def test_marks_of_a_grid_that_is_hardly_visited_fit_scratch():
    """Scratch for a few rows must hold the marks for all rows that a schedule could name."""
    far = 10**6
    part = [np.array(a, np.int64) for a in ([2], [0, far - 1], [-1, -1], [-1, -1])]
    p = _core.Problem("rnn_tanh", "float32", config.backend_index(), 1, far, 1, 0, 1, part, False, 1)
    y = np.zeros((far, 1, 1), np.float32)
    packed, scratch = np.zeros(p.packed_forward, np.uint8), np.full(p.scratch_forward, 1, np.uint8)
    _core.forward(p, packed, np.empty((far, 1, 0), np.float32), None, y, None, None, scratch)

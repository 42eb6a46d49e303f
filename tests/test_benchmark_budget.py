"""The time of the suite "tour": shared among cases, and kept even for slow cases. The tests set the clock."""

import pytest
from budget import ROUNDS_MIN, Budget


class Clock:
    """A clock that advances only when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def rounds_of(budget, clock, round_seconds):
    budget.begin_case()
    done = 0
    while budget.another_round(done):
        clock.now += round_seconds
        done += 1
    return done


@pytest.mark.parametrize("round_seconds", [0.1, 1.0, 2.0])
def test_a_tour_takes_the_time_that_it_may_however_long_its_rounds(round_seconds):
    clock = Clock()
    budget = Budget(120, 12, clock)
    for _ in range(12):
        assert rounds_of(budget, clock, round_seconds) >= ROUNDS_MIN
    assert 120 <= clock.now <= 120 + 2 * round_seconds


def test_each_case_has_a_median_even_when_the_time_is_over():
    clock = Clock()
    budget = Budget(10, 4, clock)
    assert rounds_of(budget, clock, 100) == ROUNDS_MIN
    assert [rounds_of(budget, clock, 1) for _ in range(3)] == [ROUNDS_MIN] * 3


def test_what_a_case_leaves_over_goes_to_the_next_ones():
    clock = Clock()
    budget = Budget(40, 2, clock)
    budget.begin_case()
    clock.now += 5
    assert rounds_of(budget, clock, 1) == 35


def test_a_contestant_whose_preparation_eats_the_time_is_left_out_and_ours_is_not():
    clock = Clock()
    budget = Budget(100, 10, clock)
    budget.begin_case()
    assert budget.admits("slow")
    for name, seconds in (("slow", 8.0), ("quick", 0.5), ("fastrnn", 8.0)):
        budget.prepared(name, seconds)
    budget.begin_case()
    assert [budget.admits(name) for name in ("slow", "quick", "fastrnn")] == [False, True, True]

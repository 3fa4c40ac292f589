"""The plan of a run; the run itself is tried by ``tests/cli/test_bench.py``."""

from __future__ import annotations

import pytest

from inspectd.bench.course import Plan

PLAN = Plan(seconds=20, rounds=10, rate=5, gap_s=2, gaps=3, threads=1)


def test_everyone_has_a_turn_in_every_round() -> None:
    """In an order that changes, and is the same when run again."""
    names = ["a", "b", "c", "d"]
    rounds = PLAN.order(names)
    assert len(rounds) == 10
    assert all(sorted(order) == names for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert PLAN.order(names) == rounds


def test_the_time_is_shared() -> None:
    """Half back to back, half at the cadence."""
    assert PLAN.turn_s == 1.0
    assert PLAN.parts_per_turn == 5
    assert Plan(1, 10, 0.1, 2, 3, 1).parts_per_turn == 1


@pytest.mark.parametrize(
    ("gaps", "rounds", "expected"), [(3, 10, {0, 3, 6}), (0, 4, set()), (9, 2, {0, 1})]
)
def test_stand_stills_are_spread(gaps: int, rounds: int, expected: set[int]) -> None:
    """Over the rounds, at most one in each."""
    assert Plan(1, rounds, 5, 2, gaps, 1).gap_rounds == expected

"""Intervals of counted rates."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from calibration.intervals import rule_of_three, wilson


@settings(deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_scipy(counted: tuple[int, int]) -> None:
    """Wilson's interval is scipy's, and contains the counted rate."""
    k, n = counted
    low, high = wilson(k, n)
    wanted = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert 0.0 <= low <= k / n <= high <= 1.0


def test_wilson_by_hand() -> None:
    """One event in ten parts lies between 1.79 % and 40.42 % at 95 %."""
    assert wilson(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)


def test_wilson_is_wider_at_higher_confidence() -> None:
    """More confidence takes a wider interval."""
    low, high = wilson(3, 20, confidence=0.99)
    assert low < wilson(3, 20)[0] < wilson(3, 20)[1] < high


def test_wilson_without_parts_allows_every_rate() -> None:
    """Nothing looked at, nothing known."""
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_ends_are_exact() -> None:
    """No event starts at exactly 0, nothing but events ends at exactly 1."""
    assert wilson(0, 37)[0] == 0.0
    assert wilson(37, 37)[1] == 1.0


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, -1)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    """More events than parts, or fewer than none, are a mistake of the caller."""
    with pytest.raises(ValueError, match="impossible"):
        wilson(k, n)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_wilson_refuses_impossible_confidence(confidence: float) -> None:
    """A confidence is a fraction, not a percentage."""
    with pytest.raises(ValueError, match="fraction"):
        wilson(1, 5, confidence)


@given(st.integers(1, 10_000))
def test_rule_of_three_bounds_the_exact_limit(n: int) -> None:
    """3 / n is never below the exact bound at 95 %, and close to it for large n."""
    exact = 1 - 0.05 ** (1 / n)
    assert exact <= rule_of_three(n) <= 1.0
    if n >= 30:
        assert rule_of_three(n) == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize(("n", "bound"), [(0, 1.0), (2, 1.0), (3, 1.0), (60, 0.05)])
def test_rule_of_three_by_hand(n: int, bound: float) -> None:
    """Up to three parts prove nothing, sixty prove 5 %."""
    assert rule_of_three(n) == bound


def test_rule_of_three_refuses_negative_counts() -> None:
    """Fewer parts than none are a mistake of the caller."""
    with pytest.raises(ValueError, match="impossible"):
        rule_of_three(-1)

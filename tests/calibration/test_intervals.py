"""Intervals of counted rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from calibration.intervals import (
    events_allowed,
    parts_needed,
    rule_of_three,
    upper_bound,
    weighted_sum,
    wilson,
)


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


counted_ = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
rate_ = st.floats(0.001, 0.5)


@settings(deadline=None, max_examples=60)
@given(counted_, st.sampled_from([0.9, 0.95, 0.99]))
def test_upper_bound_is_clopper_pearsons(counted: tuple[int, int], confidence: float) -> None:
    """The exact bound is the quantile of a beta distribution, and 1 if every part is an event."""
    k, n = counted
    wanted = 1.0 if k == n else beta.ppf(confidence, k + 1, n - k)
    assert upper_bound(k, n, confidence) == pytest.approx(wanted, abs=1e-9)


def test_upper_bound_by_hand() -> None:
    """No event in 59 parts proves just under 5 %, one in 93 too."""
    assert upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert upper_bound(1, 93) < 0.05 < upper_bound(1, 92)
    assert upper_bound(0, 0) == 1.0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 500), rate_)
def test_events_allowed_is_the_most_the_bound_lets_pass(n: int, rate: float) -> None:
    """One event more proves too little, and None means that even none does."""
    k = events_allowed(rate, n)
    if k is None:
        assert n == 0 or upper_bound(0, n) > rate
        return
    assert upper_bound(k, n) <= rate + 1e-12
    assert upper_bound(k + 1, n) > rate


@given(rate_, rate_, st.integers(0, 300))
@settings(deadline=None, max_examples=60)
def test_a_stricter_rate_never_allows_more(one: float, other: float, n: int) -> None:
    """Fewer events go with a lower rate."""
    low, high = (events_allowed(rate, n) for rate in sorted((one, other)))
    assert (-1 if low is None else low) <= (-1 if high is None else high)


@pytest.mark.parametrize(("rate", "n"), [(0.05, 59), (0.01, 299), (0.001, 2995), (0.5, 5)])
def test_parts_needed_by_hand(rate: float, n: int) -> None:
    """ln 0.05 / ln(1 - rate), rounded up: the fewest parts that can prove the rate."""
    assert parts_needed(rate) == n
    assert events_allowed(rate, n) == 0
    assert events_allowed(rate, n - 1) is None


@pytest.mark.parametrize("rate", [0.0, 1.0, 5.0])
def test_parts_needed_refuses_an_impossible_rate(rate: float) -> None:
    """No number of parts proves a rate of nothing, and a percentage is no fraction."""
    with pytest.raises(ValueError, match="fraction"):
        parts_needed(rate)


def test_a_tolerance_limit_holds_as_often_as_it_says() -> None:
    """The share below the (k + 1)-th lowest of n scores is within the rate in 95 of 100 draws."""
    n, rate = 120, 0.05
    k = events_allowed(rate, n)
    assert k is not None
    scores = np.sort(np.random.default_rng(1).random((4000, n)), axis=1)
    assert np.mean(scores[:, k] <= rate) == pytest.approx(
        1 - float(binomtest(k, n, rate, "less").pvalue), abs=0.012
    )
    assert np.mean(scores[:, k] <= rate) >= 0.94


def test_weighted_sum_of_one_rate_is_wilsons() -> None:
    """A single rate's interval is scaled, and a second of weight 0 changes nothing."""
    assert weighted_sum((2.0,), ((3, 20),)) == pytest.approx(tuple(2 * x for x in wilson(3, 20)))
    assert weighted_sum((1.0, 0.0), ((3, 20), (0, 5))) == pytest.approx(wilson(3, 20))
    assert weighted_sum((1.0, 1.0), ((0, 20), (0, 20)))[1] > wilson(0, 20)[1]


def test_weighted_sum_covers_as_often_as_it_says() -> None:
    """Of 2,000 pairs of counts at 4 % and 10 % about 95 of 100 intervals hold the sum."""
    rng, weights = np.random.default_rng(2), (3.0, 1.0)
    truth = weights[0] * 0.04 + weights[1] * 0.10
    pairs = zip(rng.binomial(80, 0.04, 2000), rng.binomial(60, 0.10, 2000), strict=True)
    ends = [weighted_sum(weights, ((int(a), 80), (int(b), 60))) for a, b in pairs]
    assert np.mean([low <= truth <= high for low, high in ends]) == pytest.approx(0.95, abs=0.02)

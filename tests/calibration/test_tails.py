"""Policy sigma: the fitted tail of good scores."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calibration.tails import LEAST_GOOD, Tail, fit_tail, sigma_threshold
from inspectd.core.errors import DatasetError


def _normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 0.05, n)


@pytest.mark.parametrize("shape", [-0.4, 0.0, 0.3])
def test_a_tail_is_scipys_generalized_pareto(shape: float) -> None:
    """Cut and rate are each other's inverse and agree with scipy's distribution."""
    tail = Tail(start=2.0, share=0.1, shape=shape, scale=0.5)
    for rate in (0.05, 0.01, 0.001):
        cut = tail.cut(rate)
        assert cut == pytest.approx(2.0 + stats.genpareto.isf(rate / 0.1, shape, scale=0.5))
        assert tail.rate(cut) == pytest.approx(rate)


def test_an_exponential_tail_by_hand() -> None:
    """A tenth lies above 2; of an exponential of scale 0.5 a hundredth of that above 2 + 2.3."""
    assert Tail(2.0, 0.1, 0.0, 0.5).cut(0.001) == pytest.approx(2.0 + 0.5 * np.log(100))


def test_beyond_the_end_of_a_short_tail_comes_nothing() -> None:
    """With a negative shape the tail ends, at start + scale / -shape."""
    tail = Tail(2.0, 0.1, -0.5, 0.5)
    assert tail.rate(2.99) > 0.0
    assert tail.rate(3.01) == 0.0


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.25])
def test_the_fit_finds_the_tail_it_was_drawn_from(shape: float) -> None:
    """From 1,000 excesses shape and scale come out within what chance allows."""
    drawn = stats.genpareto.rvs(shape, scale=0.5, size=9000, random_state=4)
    tail, excess = fit_tail(drawn, 1000)
    assert excess.size == 1000
    assert tail.share == pytest.approx(1 / 9)
    assert tail.shape == pytest.approx(shape, abs=0.12)
    wanted = stats.genpareto.fit(excess, floc=0)
    assert (tail.shape, tail.scale) == pytest.approx((wanted[0], wanted[2]), abs=0.03)


def test_the_tail_is_a_tenth_but_at_least_ten_scores() -> None:
    """Of 40 good parts 10 are the tail, of 300 it is 30."""
    assert sigma_threshold(_normal(40), 0.02).n_tail == 10
    assert sigma_threshold(_normal(300), 0.02).n_tail == 30


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(40, 300), st.booleans())
def test_a_lower_rate_never_lowers_the_threshold(seed: int, n: int, is_rounded: bool) -> None:
    """Fewer false alarms take a higher cut, and a shift or scale of the scores moves it along."""
    good = _normal(n, seed)
    good = np.round(good, 3) if is_rounded else good
    cuts = [sigma_threshold(good, rate).cut for rate in (0.1, 0.05, 0.02, 0.005)]
    assert all(low <= high for low, high in pairwise(cuts))
    if not is_rounded:
        moved = sigma_threshold(100 * good - 7, 0.02).cut
        assert moved == pytest.approx(100 * cuts[2] - 7, rel=1e-6)


@pytest.mark.parametrize(
    "law", [stats.norm(), stats.expon(), stats.gamma(3), stats.t(5), stats.uniform()]
)
def test_the_stated_rate_is_kept_and_its_interval_covers(law: object) -> None:
    """For light and heavy tails: the mean true rate is near the stated, most intervals hold it."""
    rates, held = [], 0
    for seed in range(50):
        fit = sigma_threshold(law.rvs(size=200, random_state=seed), 0.01, seed)
        rates.append(law.sf(fit.cut))
        held += fit.rate_interval[0] <= rates[-1] <= fit.rate_interval[1]
    assert 0.007 <= np.mean(rates) <= 0.015
    assert held / 50 >= 0.84


def test_the_same_scores_give_the_same_fit() -> None:
    """The bootstrap is seeded: a revision can be made again."""
    assert sigma_threshold(_normal(60), 0.02) == sigma_threshold(_normal(60)[::-1].copy(), 0.02)


@pytest.mark.parametrize(
    ("good", "rate", "words"),
    [
        (_normal(LEAST_GOOD - 1), 0.05, "at least 30 good parts.*has 29: add 1"),
        (_normal(60), 0.001, "can't support .* 0.1 %; the lowest .* 0.167 %.*at least 100"),
        (np.round(_normal(60), 1), 0.02, "different values, too few"),
        (np.full(60, 0.3), 0.02, "only 1 different values"),
        (np.append(_normal(60), np.nan), 0.02, "not finite"),
    ],
)
def test_what_can_not_be_fitted_is_refused(good: np.ndarray, rate: float, words: str) -> None:
    """Too few, too equal, or too far out: the refusal says what it takes."""
    with pytest.raises(DatasetError, match=words):
        sigma_threshold(good, rate)


def test_reaching_beyond_the_parts_seen_is_warned_of() -> None:
    """1 in 200 from 60 parts is extrapolated; 1 in 20 isn't."""
    (warning,) = sigma_threshold(_normal(60), 0.005).warnings()
    assert "reaches beyond the 60 good parts" in warning
    assert "at least 200 in all" in warning
    assert sigma_threshold(_normal(60), 0.05).warnings() == []


def test_a_tail_of_two_kinds_of_parts_is_warned_of() -> None:
    """Twelve parts far out among 400 don't look like one tail."""
    good = np.concatenate([_normal(388), np.random.default_rng(1).normal(1.5, 0.01, 12)])
    fit = sigma_threshold(good, 0.02)
    assert fit.p_value < 0.05
    assert any("don't follow the fitted tail" in warning for warning in fit.warnings())


def test_a_heavy_tail_is_warned_of() -> None:
    """Scores like Cauchy's have good parts anywhere."""
    fit = sigma_threshold(stats.cauchy.rvs(size=400, random_state=1), 0.01)
    assert any("heavy tail" in warning for warning in fit.warnings())

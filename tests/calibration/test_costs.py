"""Policy cost: prices, prevalence, and how sure the cheapest cut is."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from calibration.costs import Prices, cost_threshold
from calibration.metrics import confusion
from inspectd.core.errors import DatasetError

EVEN = Prices(cost_ratio=1.0, prevalence=0.5)


def _parts(good: list[float], defective: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*good, *defective]), np.arange(len(good) + len(defective)) >= len(good)


def _cost(scores: np.ndarray, is_defect: np.ndarray, cut: float, prices: Prices) -> float:
    counts = confusion(scores, is_defect, cut)
    escape, overkill = prices.weights
    return escape * counts.fn / is_defect.sum() + overkill * counts.fp / (~is_defect).sum()


def test_cost_by_hand() -> None:
    """4 good and 2 defective parts; 10 % are defective on the line.

    Cutting at 3.5 costs one of four good parts, 0.9 / 4 = 0.225; cutting at 6 one of two defects,
    0.1 / 2 = 0.05 times the price of an escape. They meet at a ratio of 4.5.
    """
    parts = _parts([1.0, 2.0, 3.0, 5.0], [4.0, 7.0])
    low = cost_threshold(*parts, Prices(4.6, 0.1))
    assert (low.cut, low.cost) == (3.5, pytest.approx(0.225))
    high = cost_threshold(*parts, Prices(4.4, 0.1))
    assert (high.cut, high.cost) == (6.0, pytest.approx(0.22))


def test_separable_parts_cost_nothing_but_prove_little() -> None:
    """No mistake among 20 and 20 parts still leaves what Wilson's intervals leave."""
    fit = cost_threshold(*_parts([*np.linspace(0, 1, 20)], [*np.linspace(2, 3, 20)]), EVEN)
    assert (fit.cut, fit.cost, fit.cost_interval[0]) == (1.5, 0.0, 0.0)
    assert fit.cost_interval[1] > 0.05
    assert fit.cut_interval[0] < 1.5 < fit.cut_interval[1]


def test_equal_costs_take_the_wider_gap() -> None:
    """1 and 1 mistakes, or 0 and 2 of 3: the cut with room on both sides wins."""
    assert cost_threshold(*_parts([1.0, 3.0, 4.0], [2.0, 10.0, 11.0]), EVEN).cut == 7.0


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Up to 60 parts of both classes, often tied."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels, n = draw(st.sampled_from([4, 20, 10**6])), draw(st.integers(6, 60))
    is_defect = rng.random(n) < 0.5
    scores = rng.integers(0, levels, n) + is_defect * draw(st.integers(0, levels))
    assume(is_defect.any() and not is_defect.all() and scores.min() < scores.max())
    return scores.astype(np.float64), is_defect


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([0.01, 0.2, 0.5]))
def test_no_cut_costs_less_and_dearer_escapes_never_raise_it(
    case: tuple[np.ndarray, np.ndarray], prevalence: float
) -> None:
    """Of all cuts inside the scores it is the cheapest; the dearer an escape the lower it lies."""
    distinct, cuts = np.unique(case[0]), []
    for ratio in (0.25, 1.0, 3.0, 17.0, 200.0):
        prices = Prices(ratio, prevalence)
        least = min(_cost(*case, cut, prices) for cut in distinct[1:])
        try:
            fit = cost_threshold(*case, prices)
        except DatasetError:
            assert least > min(sum(prices.weights[:1]), sum(prices.weights[1:]))
            continue
        assert fit.cost == pytest.approx(least)
        assert _cost(*case, fit.cut, prices) == pytest.approx(least)
        assert fit.cost_interval[0] <= fit.cost <= fit.cost_interval[1]
        cuts.append(fit.cut)
    assert all(high >= low for high, low in pairwise(cuts))


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (Prices(1e6, 0.5), "failing every part is cheapest.*a lower --cost-ratio"),
        (Prices(1e-6, 0.5), "passing every part is cheapest.*a higher --cost-ratio"),
    ],
)
def test_prices_that_need_no_inspection_are_refused(prices: Prices, words: str) -> None:
    """Where everything is best passed or failed there is no threshold to give."""
    with pytest.raises(DatasetError, match=words):
        cost_threshold(*_parts([1.0, 2.0, 5.0], [1.0, 4.0, 5.0]), prices)


def test_the_intervals_cover_as_often_as_they_say() -> None:
    """Over 100 hold-out sets most intervals hold the best cut, and the true cost of the cut."""
    prices = Prices(20.0, 0.05)
    escape, overkill = prices.weights

    def cost(cut: float) -> float:
        return float(escape * stats.norm.cdf(cut - 3) + overkill * stats.norm.sf(cut))

    best = optimize.minimize_scalar(cost, bounds=(0, 3), method="bounded").x
    rng, is_defect, held = np.random.default_rng(5), np.arange(300) >= 150, np.zeros(2)
    for _ in range(100):
        scores = rng.normal(np.where(is_defect, 3.0, 0.0), 1.0)
        fit = cost_threshold(scores, is_defect, prices)
        held[0] += fit.cut_interval[0] <= best <= fit.cut_interval[1]
        held[1] += fit.cost_interval[0] <= cost(fit.cut) <= fit.cost_interval[1]
    assert held[0] / 100 >= 0.85
    assert held[1] / 100 >= 0.85


def test_the_same_parts_give_the_same_fit() -> None:
    """The bootstrap is seeded: a revision can be made again."""
    parts = _parts([1.0, 2.0, 3.0, 5.0], [4.0, 7.0])
    assert cost_threshold(*parts, EVEN) == cost_threshold(*parts, EVEN)

"""Intervals of the difference between two scorings of the same parts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from calibration.comparison import paired
from calibration.comparison.paired import ROUNDS, Changes, auroc_difference, changes
from calibration.metrics import auroc


def scoring(seed: int, n_good: int, n_defect: int, gap: float) -> np.ndarray:
    """Good parts first; defects lie `gap` higher on average; rounded, so that some tie."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(0, 1, n_good), rng.normal(gap, 1, n_defect)])
    return np.round(scores, 1)


def labels(n_good: int, n_defect: int) -> np.ndarray:
    """Good parts first."""
    return np.arange(n_good + n_defect) >= n_good


def test_it_is_the_bootstrap() -> None:
    """The interval is that of AUROCs computed one by one on parts drawn with replacement."""
    is_defect = labels(7, 9)
    ours, theirs = scoring(0, 7, 9, 1.0), scoring(1, 7, 9, 0.5)
    rng = np.random.default_rng(5)
    bad = rng.multinomial(9, np.full(9, 1 / 9), ROUNDS)
    good = rng.multinomial(7, np.full(7, 1 / 7), ROUNDS)
    drawn = []
    for times in np.hstack([good, bad]):
        parts = np.repeat(np.arange(16), times)
        drawn.append(auroc(ours[parts], is_defect[parts]) - auroc(theirs[parts], is_defect[parts]))
    found = auroc_difference(ours, theirs, is_defect, 5)
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, (2.5, 97.5)), abs=1e-6)
    assert found.value == auroc(ours, is_defect) - auroc(theirs, is_defect)


def test_the_other_way_round() -> None:
    """Who is compared with whom only turns the sign."""
    is_defect = labels(30, 20)
    ours, theirs = scoring(0, 30, 20, 2.0), scoring(1, 30, 20, 1.0)
    there, back = (
        auroc_difference(*pair, is_defect, 0) for pair in ((ours, theirs), (theirs, ours))
    )
    assert (back.value, back.low, back.high) == pytest.approx(
        (-there.value, -there.high, -there.low)
    )


def test_what_may_be_said() -> None:
    """A clear difference is called one, in its direction; the same scores are not told apart."""
    is_defect = labels(60, 60)
    sharp, blunt = scoring(0, 60, 60, 4.0), scoring(1, 60, 60, 0.3)
    assert auroc_difference(sharp, blunt, is_defect, 0).verdict == "higher"
    assert auroc_difference(blunt, sharp, is_defect, 0).verdict == "lower"
    same = auroc_difference(sharp, 2 * sharp + 1, is_defect, 0)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert same.verdict == "not told apart"


def test_a_small_difference_on_few_parts_is_not_told_apart() -> None:
    """One part that changes places is no proof."""
    is_defect = labels(10, 10)
    ours = np.arange(20.0)
    theirs = ours.copy()
    theirs[[9, 10]] = theirs[[10, 9]]
    found = auroc_difference(ours, theirs, is_defect, 0)
    assert found.value > 0
    assert found.verdict == "not told apart"


def test_many_defects_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many are looked at together changes nothing."""
    is_defect = labels(12, 11)
    pair = scoring(0, 12, 11, 1.0), scoring(1, 12, 11, 1.0)
    whole = auroc_difference(*pair, is_defect, 0)
    monkeypatch.setattr(paired, "BLOCK", 3)
    blocks = auroc_difference(*pair, is_defect, 0)
    assert (blocks.low, blocks.high) == pytest.approx((whole.low, whole.high), abs=1e-6)


def test_the_seed_decides() -> None:
    """The same seed gives the same interval, another one a slightly different one."""
    is_defect = labels(15, 15)
    pair = scoring(0, 15, 15, 1.0), scoring(1, 15, 15, 0.8)
    first, again, other = (auroc_difference(*pair, is_defect, seed) for seed in (1, 1, 2))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.low == pytest.approx(other.low, abs=0.05)


def test_changed_verdicts() -> None:
    """Only verdicts that differ count, and in which direction."""
    is_defect = np.array([True, True, True, False, False])
    ours = np.array([True, True, False, False, True])
    theirs = np.array([True, False, False, True, False])
    assert changes(ours, theirs, is_defect) == Changes(better=2, worse=1)
    assert changes(theirs, ours, is_defect) == Changes(better=1, worse=2)
    assert changes(ours, ours, is_defect) == Changes(0, 0)


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (0, 1), (3, 0), (0, 6), (2, 9), (10, 10), (400, 300)]
)
def test_the_exact_test(better: int, worse: int) -> None:
    """The p-value is the two-sided binomial test's with equal odds."""
    n = better + worse
    expected = binomtest(better, n, 0.5).pvalue if n else 1.0
    assert Changes(better, worse).p_value == pytest.approx(expected)

"""The threshold policies, their record and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from calibration.intervals import upper_bound, wilson
from calibration.metrics import BoolArray, FloatArray, best_f1, confusion
from calibration.thresholds import (
    escape_threshold,
    f1_threshold,
    overkill_threshold,
    pixel_f1_threshold,
    record_threshold,
)
from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.records import Threshold

few = settings(max_examples=60, deadline=None)

Parts = tuple[FloatArray, BoolArray]


def _parts(good: list[float], defective: list[float]) -> Parts:
    return np.array([*good, *defective]), np.arange(len(good) + len(defective)) >= len(good)


def _candidates(scores: FloatArray) -> FloatArray:
    """A cut below all, one in each gap and one above all."""
    distinct = np.unique(scores)
    return np.concatenate(
        ([distinct[0] - 1], (distinct[1:] + distinct[:-1]) / 2, [distinct[-1] + 1])
    )


@st.composite
def parts(draw: st.DrawFn) -> Parts:
    """Up to 40 parts of both classes with at least two distinct scores, often tied."""
    n = draw(st.integers(2, 40))
    elements = draw(st.sampled_from([st.integers(-4, 4).map(float), st.floats(-1e6, 1e6)]))
    scores = draw(hnp.arrays(np.float64, n, elements=elements))
    is_defect = draw(hnp.arrays(np.bool_, n))
    assume(is_defect.any() and not is_defect.all() and scores.min() < scores.max())
    return scores, is_defect


@few
@given(parts())
def test_no_cut_has_a_higher_f1(case: Parts) -> None:
    """The threshold's F1 is the best there is, exactly."""
    wanted = max(confusion(*case, cut).f1 for cut in _candidates(case[0]))
    assert confusion(*case, f1_threshold(*case)).f1 == wanted == best_f1(*case)


@few
@given(parts())
def test_of_equal_cuts_the_widest_gap_wins(case: Parts) -> None:
    """The threshold lies mid-way in a gap, and no wider gap has the same F1."""
    scores, is_defect = case
    cut, distinct = f1_threshold(*case), np.unique(scores)
    below, above = distinct[distinct < cut], distinct[distinct >= cut]
    if not below.size:
        inner = (distinct[1:] + distinct[:-1]) / 2
        assert all(confusion(*case, c).f1 < best_f1(*case) for c in inner)
        return
    width = above[0] - below[-1]
    assert cut == above[0] or cut == pytest.approx((above[0] + below[-1]) / 2)
    for low, high in pairwise(distinct):
        assert high - low <= width or confusion(scores, is_defect, high).f1 < best_f1(*case)


def test_separable_scores_are_cut_mid_way() -> None:
    """Between the worst good part and the mildest defect; at the latter if no number is between."""
    assert f1_threshold(*_parts([0.1, 0.2], [0.4, 0.9])) == pytest.approx(0.3)
    for low in (0.3, float(np.nextafter(0.3, 1.0))):  # the middle rounds up once, down once
        high = float(np.nextafter(low, 1.0))
        assert f1_threshold(*_parts([low], [high])) == high


def test_equal_f1_takes_the_wider_gap() -> None:
    """Of two cuts with F1 = 2 / 3 first the upper one has the wider gap, then the lower one."""
    assert f1_threshold(*_parts([1.0, 3.0, 4.0], [2.0, 10.0])) == 7.0
    assert f1_threshold(*_parts([1.0, 4.0, 4.0], [3.0, 5.0])) == 2.0


def test_equally_wide_gaps_take_the_lower_one() -> None:
    """Where nothing else tells two cuts apart, the one with fewer escapes is taken."""
    scores, is_defect = _parts([1.0, 4.0, 4.0], [2.0, 5.0])
    assert confusion(scores, is_defect, 4.5).f1 == confusion(scores, is_defect, 1.5).f1
    assert f1_threshold(scores, is_defect) == 1.5


def test_a_cut_below_all_scores_is_the_last_resort() -> None:
    """If defects score below all good parts, the best cut fails everything."""
    assert 0.0 < f1_threshold(*_parts([3.0, 4.0], [1.0, 2.0])) < 1.0


def test_threshold_generalises_to_the_unseen_half() -> None:
    """On the other half of 400 parts F1 is within 0.03 of the best possible, on average."""
    rng, lost = np.random.default_rng(7), []
    is_defect = np.arange(200) % 2 == 1
    for _ in range(50):
        seen, unseen = (
            np.where(is_defect, rng.normal(3.0, 1.0, 200), rng.normal(0.0, 1.0, 200))
            for _ in range(2)
        )
        cut = f1_threshold(seen, is_defect)
        lost.append(best_f1(unseen, is_defect) - confusion(unseen, is_defect, cut).f1)
    assert np.mean(lost) < 0.03
    assert np.quantile(lost, 0.9) < 0.05


@pytest.mark.parametrize(
    ("good", "defective", "words"),
    [
        ([], [1.0, 2.0], "no good part.*; add"),
        ([1.0, 2.0], [], "no defect.*; add"),
        ([], [], "no good part"),
        ([1.0, 1.0], [1.0], "all scores.*; see"),
        ([1.0, np.nan], [2.0], "not finite; remove"),
        ([1.0], [np.inf], "not finite; remove"),
    ],
)
def test_hopeless_hold_out_sets_are_refused(
    good: list[float], defective: list[float], words: str
) -> None:
    """An error says what is missing and what to do; no threshold comes out."""
    with pytest.raises(DatasetError, match=words):
        f1_threshold(*_parts(good, defective))


@few
@given(st.integers(0, 2**32 - 1), st.sampled_from([3, 10, 10_000]))
def test_pixel_threshold_is_that_of_all_pixels(seed: int, levels: int) -> None:
    """Pixels are cut as parts would be, to float32, good maps included."""
    rng = np.random.default_rng(seed)
    maps = [(rng.integers(0, levels, (5, 4)) / levels).astype(np.float32) for _ in range(3)]
    mask = (rng.random((5, 4)) < 0.3).astype(np.uint8) * 255
    mask.flat[:2] = 0, 255
    masks = [mask, None, np.roll(mask, 3)]
    scores = np.concatenate(maps, None).astype(np.float64)
    is_defect = np.concatenate([mask, np.zeros_like(mask), np.roll(mask, 3)], None) > 0
    assume(scores.min() < scores.max())
    cut = pixel_f1_threshold(maps, masks)
    assert cut is not None
    assert cut == np.float32(cut) == pytest.approx(f1_threshold(scores, is_defect), abs=1e-6)
    wanted = max(confusion(scores, is_defect, c).f1 for c in _candidates(scores))
    assert confusion(scores, is_defect, cut).f1 == wanted


def test_pixel_threshold_needs_a_defective_pixel() -> None:
    """Without masks, or with empty ones only, there is None; constant maps are refused."""
    values = np.array([[0.0, 1.0]], np.float32)
    assert pixel_f1_threshold([values, values], [None, np.zeros((1, 2), np.uint8)]) is None
    assert pixel_f1_threshold([], []) is None
    with pytest.raises(DatasetError, match="all scores"):
        pixel_f1_threshold([np.ones((1, 2), np.float32)], [np.array([[0, 1]], np.uint8)])


def test_record_has_counts_and_intervals() -> None:
    """The record says what the cut does on the hold-out set."""
    parts = _parts([1.0, 2.0, 3.0, 8.0], [7.0, 9.0, 9.5, 10.0])
    got = record_threshold(f1_threshold(*parts), *parts, policy="f1", basis="real", pixel=0.25)
    assert got == Threshold(
        image=5.0,
        pixel=0.25,
        policy="f1",
        basis="real",
        f1=8 / 9,
        precision=0.8,
        recall=1.0,
        escapes=0,
        overkill=1,
        n_good=4,
        n_defect=4,
        escape_rate_interval=wilson(0, 4),
        overkill_rate_interval=wilson(1, 4),
    )


def test_record_counts_the_review_band() -> None:
    """Parts from the pass limit to below the fail limit are counted by class."""
    parts = _parts([1.0, 2.0, 3.0, 8.0], [5.0, 7.9, 8.0, 10.0])
    got = record_threshold(5.0, *parts, policy="f1", basis="real", pixel=None, review_below=8.0)
    assert (got.review_below, got.review_good, got.review_defect) == (8.0, 0, 2)
    assert (got.escapes, got.overkill) == (0, 1)


def test_record_refuses_an_unknown_basis() -> None:
    """A misspelt basis is an error that names the two there are."""
    with pytest.raises(ConfigError, match="real, simulated"):
        record_threshold(1.5, *_parts([1.0], [2.0]), policy="f1", basis="simulation", pixel=None)


def test_record_takes_the_cut_of_any_policy() -> None:
    """A policy that is yet to come needs no more than a name and a cut, even without defects."""
    parts = _parts([1.0, 2.0], [])
    got = record_threshold(2.5, *parts, policy="sigma", basis="real", pixel=None)
    assert (got.policy, got.image, got.overkill, got.n_defect) == ("sigma", 2.5, 0, 0)
    assert got.escape_rate_interval == (0.0, 1.0)


SIXTY = [float(score) for score in range(100, 160)]
"""Scores of 60 defects: one more than 5 % at 95 % needs."""


def test_max_escapes_by_hand() -> None:
    """Of 59 to 92 defects none may escape for 5 %, of 93 one may: n >= ln 0.05 / ln 0.95."""
    assert escape_threshold(*_parts([1.0, 90.0], SIXTY), 0.05) == 95.0
    assert escape_threshold(*_parts([1.0, 150.0], SIXTY), 0.05) == 50.5
    many = [float(score) for score in range(100, 193)]
    assert escape_threshold(*_parts([1.0], many), 0.05) == 100.5
    assert escape_threshold(*_parts([1.0, 100.8], many), 0.05) == 100.9
    assert escape_threshold(*_parts([500.0], many), 0.05) == 100.5


def test_max_escapes_with_ties_lets_none_of_them_pass() -> None:
    """Tied mildest defects are caught together, though one of 93 might escape."""
    parts = _parts([1.0], [100.0] * 2 + [200.0] * 91)
    cut = escape_threshold(*parts, 0.05)
    assert cut == 50.5
    assert confusion(*parts, cut).escapes == 0


def test_max_escapes_below_all_good_parts_fails_everything() -> None:
    """The promise is kept even if no good part passes; the cut stays just below the defect."""
    parts = _parts([500.0, 600.0], SIXTY)
    cut = escape_threshold(*parts, 0.05)
    assert 90.0 < cut < 100.0
    assert confusion(*parts, cut).overkill == 2


def test_max_overkill_by_hand() -> None:
    """The mirror image: of 60 good parts none may fail for 5 %, of 93 one may."""
    assert overkill_threshold(*_parts(SIXTY, [1.0, 169.0]), 0.05) == 164.0
    many = [float(score) for score in range(100, 193)]
    assert overkill_threshold(*_parts(many, [300.0]), 0.05) == 191.5
    assert overkill_threshold(*_parts([100.0] * 91 + [200.0] * 2, [300.0]), 0.05) == 250.0


def test_max_overkill_needs_no_defect() -> None:
    """With good parts alone, or below all of them defects, the cut lies just above them."""
    for defective in ([], [1.0]):
        cut = overkill_threshold(*_parts(SIXTY, defective), 0.05)
        assert 159.0 < cut < 163.0
    lone = _parts([1e9] * 59 + [1e9 - 1e-6], [])
    assert overkill_threshold(*lone, 0.05) > 1e9


@pytest.mark.parametrize("policy", [escape_threshold, overkill_threshold])
def test_too_few_parts_for_a_limit_are_refused(
    policy: Callable[[FloatArray, BoolArray, float], float],
) -> None:
    """The refusal says how many it takes and what limit so many could prove."""
    parts = _parts(SIXTY[:58], SIXTY[:58])
    with pytest.raises(DatasetError, match=r"at least 59.*Add 1,.* at best 5\.03 %"):
        policy(*parts, 0.05)


@pytest.mark.parametrize(
    ("good", "defective", "words"),
    [
        ([1.0], [], "no defect.*; add"),
        ([], SIXTY, "no good part.*; add"),
        ([1.0] * 60, [1.0] * 60, "all scores.*; see"),
        ([np.nan], SIXTY, "not finite; remove"),
    ],
)
def test_hopeless_sets_have_no_limit_on_escapes(
    good: list[float], defective: list[float], words: str
) -> None:
    """What can't weigh escapes refuses instead of accepting or rejecting everything."""
    with pytest.raises(DatasetError, match=words):
        escape_threshold(*_parts(good, defective), 0.05)


@st.composite
def many_parts(draw: st.DrawFn) -> Parts:
    """60 to 140 parts of each class, often tied."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = draw(st.tuples(st.integers(60, 140), st.integers(60, 140)))
    levels = draw(st.sampled_from([3, 12, 10**6]))
    good, defective = (rng.integers(0, levels, count) for count in counts)
    shift = draw(st.integers(-levels, levels))
    scores = np.concatenate([good, defective + shift]).astype(np.float64)
    return scores, np.arange(scores.size) >= counts[0]


limits_ = st.sampled_from([0.05, 0.07, 0.1, 0.2, 0.5])


@few
@given(many_parts(), limits_, limits_)
def test_a_stricter_limit_on_escapes_never_raises_the_threshold(
    case: Parts, one: float, other: float
) -> None:
    """And each limit is proved by the exact bound of the escapes that are left."""
    strict, lax = (escape_threshold(*case, rate) for rate in sorted((one, other)))
    assert strict <= lax
    escapes = confusion(*case, lax).escapes
    assert upper_bound(escapes, int(case[1].sum())) <= max(one, other)


@few
@given(many_parts(), limits_, limits_)
def test_a_stricter_limit_on_overkill_never_lowers_the_threshold(
    case: Parts, one: float, other: float
) -> None:
    """And each limit is proved by the exact bound of the overkill that is left."""
    strict, lax = (overkill_threshold(*case, rate) for rate in sorted((one, other)))
    assert strict >= lax
    overkill = confusion(*case, lax).overkill
    assert upper_bound(overkill, int((~case[1]).sum())) <= max(one, other)


@few
@given(many_parts(), limits_)
def test_no_other_cut_keeps_the_limit_with_less_overkill(case: Parts, rate: float) -> None:
    """Of all cuts that prove the escape rate it fails the fewest good parts."""
    n = int(case[1].sum())
    counted = [confusion(*case, cut) for cut in _candidates(case[0])]
    least = min(c.overkill for c in counted if upper_bound(c.escapes, n) <= rate)
    assert confusion(*case, escape_threshold(*case, rate)).overkill == least


@pytest.mark.parametrize("decimals", [12, 1])
def test_the_promise_on_escapes_holds_as_often_as_it_says(decimals: int) -> None:
    """Over 600 hold-out sets the true escape rate is above the limit at most 5 times in 100."""
    rng, broken = np.random.default_rng(3), 0
    is_defect = np.arange(160) >= 60
    for _ in range(600):
        scores = np.round(
            np.where(is_defect, rng.normal(3, 1, 160), rng.normal(0, 1, 160)), decimals
        )
        cut = escape_threshold(scores, is_defect, 0.05)
        # A part's rounded score is below the cut if it is below the middle of the next step.
        edge = cut if decimals > 6 else np.ceil(cut * 10) / 10 - 0.05
        broken += norm.cdf(edge - 3) > 0.05
    assert broken / 600 <= 0.05 + 0.018

"""The threshold policies, their record and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.intervals import wilson
from calibration.metrics import BoolArray, FloatArray, best_f1, confusion
from calibration.thresholds import (
    calibrate_threshold,
    describe,
    f1_threshold,
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
        calibrate_threshold(*_parts(good, defective), basis="real", pixel=None)


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
    scores, is_defect = _parts([1.0, 2.0, 3.0, 8.0], [7.0, 9.0, 9.5, 10.0])
    got = calibrate_threshold(scores, is_defect, basis="real", pixel=0.25)
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


def test_record_refuses_an_unknown_basis() -> None:
    """A misspelt basis is an error that names the two there are."""
    with pytest.raises(ConfigError, match="real, simulated"):
        calibrate_threshold(*_parts([1.0], [2.0]), basis="simulation", pixel=None)


def test_record_takes_the_cut_of_any_policy() -> None:
    """A policy that is yet to come needs no more than a name and a cut, even without defects."""
    counts = confusion(*_parts([1.0, 2.0], []), 2.5)
    got = record_threshold(2.5, counts, policy="sigma", basis="real", pixel=None)
    assert (got.policy, got.image, got.overkill, got.n_defect) == ("sigma", 2.5, 0, 0)
    assert got.escape_rate_interval == (0.0, 1.0)


@pytest.fixture
def threshold() -> Threshold:
    """Rests on 40 good parts and 25 real defects, all of them parted."""
    good, defective = np.linspace(0, 1, 40), np.linspace(2, 3, 25)
    return calibrate_threshold(*_parts([*good], [*defective]), basis="real", pixel=0.5)


def test_no_escape_is_put_in_proportion(threshold: Threshold) -> None:
    """Beside "0 escapes" stands what it proves."""
    text = describe(threshold)
    assert "0 escapes in 25 defects proves only a rate of at most 3/25 = 12 % at 95 %." in text
    assert "0 overkill in 40 good parts proves only a rate of at most 3/40 = 7.5 % at 95 %." in text


def test_counted_escapes_come_with_their_interval(threshold: Threshold) -> None:
    """An escape rate above 0 is given with Wilson's interval."""
    text = describe(replace(threshold, escapes=1, escape_rate_interval=wilson(1, 25)))
    assert "1 escape in 25 defects is 4 %; at 95 % the rate is 0.71 to 19.5 %." in text


def test_basis_is_said(threshold: Threshold) -> None:
    """Real and simulated defects are told apart, and simulated ones are a reservation."""
    assert "This threshold rests on real defects: 25 of them." in describe(threshold)
    text = describe(replace(threshold, basis="simulated"))
    assert any(line.startswith("This threshold rests on simulated defects: ") for line in text)
    assert any(line.startswith("0 escapes in 25 simulated defects proves") for line in text)


def test_a_sound_threshold_has_no_warning(threshold: Threshold) -> None:
    """Warnings come only where something is to be mended."""
    assert not any("Warning" in line or "no pixel" in line for line in describe(threshold))


def test_a_small_hold_out_set_is_warned_of(threshold: Threshold) -> None:
    """Fewer than ten good or defective parts are too few, and it says how many to add."""
    text = "\n".join(describe(replace(threshold, n_good=9, n_defect=3)))
    assert "Warning: only 9 good parts" in text
    assert "Add at least 1 more." in text
    assert "Warning: only 3 defective parts" in text
    assert "0 escapes in 3 defects proves nothing at 95 %" in text


def test_a_useless_or_partial_threshold_is_warned_of(threshold: Threshold) -> None:
    """Failing every good part and having no pixel threshold are said in words."""
    text = "\n".join(describe(replace(threshold, overkill=40, pixel=None)))
    assert "Warning: every good part of the hold-out set fails" in text
    assert "There is no pixel threshold" in text

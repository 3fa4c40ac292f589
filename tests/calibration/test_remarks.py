"""What is said to people of a threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.intervals import wilson
from calibration.remarks import describe
from calibration.thresholds import record_threshold
from inspectd.core.records import Threshold


@pytest.fixture
def threshold() -> Threshold:
    """Rests on 40 good parts and 25 real defects, all of them parted."""
    scores = np.concatenate([np.linspace(0, 1, 40), np.linspace(2, 3, 25)])
    return record_threshold(1.5, scores, scores > 1.5, policy="f1", basis="real", pixel=0.5)


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


def test_defects_that_all_pass_are_warned_of(threshold: Threshold) -> None:
    """A threshold above every defect finds nothing."""
    text = "\n".join(describe(replace(threshold, escapes=25)))
    assert "Warning: every defective part of the hold-out set passes" in text


def test_a_review_band_is_explained(threshold: Threshold) -> None:
    """Both limits and the parts between them are named."""
    banded = replace(threshold, review_below=2.1, review_good=0, review_defect=3)
    text = "\n".join(describe(banded))
    assert "from 1.5 to below 2.1 a part is undecided and a person decides" in text
    assert "0 of 40 good and 3 of 25 defective parts" in text


def test_good_parts_alone_say_nothing_of_escapes() -> None:
    """Without a defect no F1 and no escape rate is claimed, and it is a warning."""
    scores = np.linspace(0, 1, 40)
    record = record_threshold(1.5, scores, scores > 2, policy="sigma", basis="real", pixel=None)
    text = "\n".join(describe(record))
    assert "Warning: there is no defect in the hold-out set" in text
    assert "F1" not in text
    assert "0 escapes" not in text

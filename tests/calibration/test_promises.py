"""A promise beside what is found."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.promises import fails_from, found_beside
from calibration.thresholds import record_threshold
from inspectd.core.bundle import PolicyPart
from inspectd.core.records import Threshold


def _threshold(review_below: float | None = None) -> Threshold:
    scores, is_defect = np.array([0.0, 1.0]), np.array([False, True])
    return record_threshold(
        0.5, scores, is_defect, policy="max-escapes", basis="real", pixel=None,
        review_below=review_below,
    )  # fmt: skip


def _found(policy: PolicyPart, escapes: int, overkill: int, n: int, **band: float) -> str:
    """So many wrong among n good parts (at 0 or 0.7) and n defective ones (at 1 or 0)."""
    good = np.where(np.arange(n) < overkill, 0.7, 0.0)
    defective = np.where(np.arange(n) < escapes, 0.0, 1.0)
    scores, is_defect = np.append(good, defective), np.arange(2 * n) >= n
    return " ".join(found_beside(policy, _threshold(**band), scores, is_defect))


@pytest.mark.parametrize(
    ("k", "n", "verdict"),
    [
        (0, 59, "proved"),
        (0, 58, "not contradicted"),
        (6, 60, "not contradicted"),
        (7, 60, "broken"),
    ],
)
def test_a_promised_rate_is_proved_broken_or_neither(k: int, n: int, verdict: str) -> None:
    """5 % is proved by none of 59 and broken by 7 of 60, whose lower bound is 5.6 %."""
    policy = PolicyPart(name="max-escapes", limits={"max_escape_rate": 0.05})
    said = _found(policy, k, 0, n)
    assert said.startswith(f"escapes: promised at most 5 %, found {k} of {n}")
    assert verdict in said


def test_with_a_review_band_only_what_fails_is_overkill() -> None:
    """A good part in the band is no broken promise; without a band it is."""
    limits = {"max_escape_rate": 0.05, "max_overkill_rate": 0.05}
    policy = PolicyPart(name="max-escapes", limits=limits, review_band=True)
    assert "overkill: promised at most 5 %, found 0 of 60" in _found(
        policy, 0, 30, 60, review_below=0.8
    )
    assert "found 30 of 60 (50 %): broken" in _found(policy, 0, 30, 60)
    assert fails_from(_threshold()) == 0.5
    assert fails_from(_threshold(review_below=0.8)) == 0.8


def test_cost_and_false_alarms_are_compared_too() -> None:
    """A cost comes with its interval, a false-alarm rate with its verdict, f1 with nothing."""
    cost = PolicyPart(name="cost", limits={"cost_ratio": 10.0, "prevalence": 0.1})
    said = _found(cost, 2, 1, 20)  # 0.1 * 10 * 0.1 + 0.9 * 0.05
    assert "1,000 parts cost as much as 145 overkills" in said
    sigma = PolicyPart(name="sigma", limits={"false_alarm_rate": 0.01})
    assert "false alarms: stated about 1 %, found 1 of 20 (5 %): not" in _found(sigma, 0, 1, 20)
    assert _found(PolicyPart(name="f1"), 1, 1, 20) == ""


def test_nothing_is_said_where_no_part_tells() -> None:
    """Without a defect an escape rate is neither kept nor broken."""
    policy = PolicyPart(name="max-escapes", limits={"max_escape_rate": 0.05})
    (said,) = found_beside(policy, _threshold(), np.array([0.1]), np.array([False]))
    assert "no part to tell by" in said

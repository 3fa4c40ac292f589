"""The policies by name: what they need, promise and refuse, and the review band."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.policies import GOOD_ONLY, OPTIONS, POLICIES, check, choose
from inspectd.core.bundle import PolicyPart
from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.holdout import HoldoutPicture, HoldoutScores

LIMITS = {
    "f1": {},
    "max-escapes": {"max_escape_rate": 0.05},
    "max-overkill": {"max_overkill_rate": 0.05},
    "cost": {"cost_ratio": 20.0, "prevalence": 0.02},
    "sigma": {"false_alarm_rate": 0.02},
}


def _holdout(
    n_good: int = 100, n_defect: int = 100, shift: float = 3.0, pixel: float | None = 0.5
) -> HoldoutScores:
    """Normal scores, defects `shift` higher; a peak is twice its score."""
    rng = np.random.default_rng(0)
    rows = [("good", float(score)) for score in rng.normal(0, 1, n_good)]
    rows += [("dent", float(score)) for score in rng.normal(shift, 1, n_defect)]
    return HoldoutScores(
        pictures=tuple(
            HoldoutPicture(name=f"{label}/{i}", label=label, score=score, peak=2 * score)
            for i, (label, score) in enumerate(rows)
        ),
        pixel_f1=pixel,
    )


def test_every_policy_is_tested_here() -> None:
    """The table of limits has each policy with what it needs."""
    assert {name: tuple(limits) for name, limits in LIMITS.items()} == {
        name: policy.needs for name, policy in POLICIES.items()
    }


@pytest.mark.parametrize("name", LIMITS)
def test_a_policy_gives_record_promise_and_remarks(name: str) -> None:
    """The record carries the word; promise and interval come as sentences, for the report too."""
    choice = choose(PolicyPart(name=name, limits=LIMITS[name]), _holdout())
    assert choice.threshold.policy == choice.policy.name == name
    assert choice.policy.limits == LIMITS[name]
    assert choice.policy.promise == choice.remarks[0]
    assert (choice.threshold.n_good, choice.threshold.n_defect) == (100, 100)
    assert choice.threshold.pixel == 0.5
    assert choice.threshold.review_below is None
    assert any(f"Policy {name} put the threshold at" in remark for remark in choice.remarks)


@pytest.mark.parametrize("name", LIMITS)
def test_without_defects_only_what_needs_none_works(name: str) -> None:
    """Good parts alone serve sigma and max-overkill; their peaks give the pixel threshold."""
    policy, holdout = PolicyPart(name=name, limits=LIMITS[name]), _holdout(n_defect=0, pixel=None)
    if name not in GOOD_ONLY:
        with pytest.raises(DatasetError, match="no defect"):
            choose(policy, holdout)
        return
    choice = choose(policy, holdout)
    assert choice.threshold.n_defect == 0
    assert choice.threshold.pixel == pytest.approx(2 * choice.threshold.image)
    assert any("there is no defect in the hold-out set" in remark for remark in choice.remarks)


def test_policies_stand_in_the_expected_order() -> None:
    """Catching nearly all defects cuts lowest, passing nearly all good parts highest."""
    cuts = {
        name: choose(PolicyPart(name=name, limits=limits), _holdout(shift=2.0)).threshold.image
        for name, limits in LIMITS.items()
    }
    assert cuts["max-escapes"] < cuts["f1"] < cuts["max-overkill"]
    assert cuts["f1"] < cuts["sigma"]


def test_a_review_band_lies_between_two_promises() -> None:
    """Below it escapes are limited, above it overkill; the parts in it are counted."""
    limits = {"max_escape_rate": 0.05, "max_overkill_rate": 0.05}
    holdout = _holdout(shift=2.0)
    choice = choose(PolicyPart(name="max-escapes", limits=limits, review_band=True), holdout)
    lower = choose(PolicyPart(name="max-escapes", limits=LIMITS["max-escapes"]), holdout)
    upper = choose(PolicyPart(name="max-overkill", limits=LIMITS["max-overkill"]), holdout)
    record = choice.threshold
    assert record.image == lower.threshold.image
    assert record.review_below == upper.threshold.image
    in_band = (holdout.scores >= record.image) & (holdout.scores < upper.threshold.image)
    assert record.review_good == np.sum(in_band & ~holdout.is_defect) > 0
    assert record.review_defect == np.sum(in_band & holdout.is_defect) > 0
    assert "at most 5 % of defective parts pass" in choice.policy.promise
    assert "at most 5 % of good parts fail" in choice.policy.promise
    assert any(remark.startswith("Review band: from") for remark in choice.remarks)


def test_no_band_where_one_threshold_keeps_both_limits() -> None:
    """Well parted classes need nobody to review them."""
    limits = {"max_escape_rate": 0.05, "max_overkill_rate": 0.05}
    policy = PolicyPart(name="max-escapes", limits=limits, review_band=True)
    choice = choose(policy, _holdout(shift=12.0))
    assert choice.threshold.review_below is None
    assert "One threshold keeps both limits" in choice.policy.promise


def test_a_set_just_large_enough_is_warned_of() -> None:
    """Where no escape is allowed, one part decides, and the remark says how many to add."""
    policy = PolicyPart(name="max-escapes", limits=LIMITS["max-escapes"])
    (warning,) = [r for r in choose(policy, _holdout(n_defect=60)).remarks if "just enough" in r]
    assert "With 93 one would be allowed; add 33." in warning
    assert not any("just enough" in r for r in choose(policy, _holdout(n_defect=93)).remarks)


def test_no_escape_comes_with_the_rule_of_three() -> None:
    """Whatever the policy: 0 escapes in n defects stands beside 3/n."""
    policy = PolicyPart(name="max-escapes", limits=LIMITS["max-escapes"])
    text = "\n".join(choose(policy, _holdout(n_defect=60, shift=9.0)).remarks)
    assert "0 escapes in 60 defects proves only a rate of at most 3/60 = 5 % at 95 %." in text


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (PolicyPart(name="f2"), "unknown; known: f1, max-escapes"),
        (PolicyPart(name="max-escapes"), "needs --max-escape-rate: the share of defective"),
        (PolicyPart(name="cost", limits={"cost_ratio": 2.0}), "needs --prevalence"),
        (PolicyPart(name="f1", limits={"prevalence": 0.1}), "--prevalence is not for --policy f1"),
        (PolicyPart(name="f1", review_band=True), "with --review-band needs --max-overkill-rate"),
        (
            PolicyPart(name="max-overkill", limits=LIMITS["max-overkill"], review_band=True),
            "choose another --policy",
        ),
        *(
            (PolicyPart(name=name, limits={**LIMITS[name], option: value}), f"lies {bounds}")
            for name, option, value, bounds in (
                ("max-escapes", "max_escape_rate", 0.0, "between 0 and 1"),
                ("max-escapes", "max_escape_rate", 5.0, "between 0 and 1"),
                ("max-overkill", "max_overkill_rate", 1.0, "between 0 and 1"),
                ("cost", "cost_ratio", 0.0, "above 0"),
                ("cost", "prevalence", 1.5, "between 0 and 1"),
                ("sigma", "false_alarm_rate", 0.2, "between 0 and 0.1"),
            )
        ),
    ],
)
def test_a_policy_that_can_not_be_meant_is_refused(policy: PolicyPart, words: str) -> None:
    """The message names the option and what it may be."""
    with pytest.raises(ConfigError, match=words):
        check(policy)
    with pytest.raises(ConfigError, match=words):
        choose(policy, _holdout())


def test_every_limit_has_its_bounds() -> None:
    """No policy needs a limit that isn't described."""
    assert {need for policy in POLICIES.values() for need in policy.needs} == set(OPTIONS)


def _probabilities(n_good: int, highest: float | None, saturated: int = 0) -> HoldoutScores:
    """Good parts only, of a scorer that gives probabilities: most near 0, some far out."""
    scores = np.minimum(0.02 / (1 - np.linspace(0, 0.999, n_good)), 0.99)
    scores[n_good - saturated :] = 1.0
    return HoldoutScores(
        pictures=tuple(
            HoldoutPicture(name=f"good/{i}", label="good", score=float(score))
            for i, score in enumerate(scores)
        ),
        pixel_f1=None,
        highest=highest,
    )


@pytest.mark.parametrize(
    ("policy", "saturated"),
    [
        (PolicyPart(name="sigma", limits={"false_alarm_rate": 0.002}), 0),
        (PolicyPart(name="max-overkill", limits={"max_overkill_rate": 0.02}), 8),
    ],
    ids=lambda value: value.name if isinstance(value, PolicyPart) else "",
)
def test_a_threshold_that_no_part_can_reach_is_refused(policy: PolicyPart, saturated: int) -> None:
    """Above the highest probability everything would pass; scores without a bound may go there."""
    free = choose(policy, _probabilities(200, None, saturated)).threshold.image
    assert free > 1
    with pytest.raises(DatasetError, match=r"scores end at 1: no part would ever fail"):
        choose(policy, _probabilities(200, 1.0, saturated))
    assert choose(policy, _probabilities(200, 500.0, saturated)).threshold.image == free


def test_a_promise_that_rests_on_simulated_defects_says_so() -> None:
    """Wherever it is repeated: the promise alone stands beside what an evaluation finds."""
    real = _holdout(n_defect=100)
    simulated = real.model_copy(
        update={
            "pictures": tuple(
                one.model_copy(update={"origin": "real" if one.label == "good" else "simulated"})
                for one in real.pictures
            )
        }
    )
    for name, limits in LIMITS.items():
        policy = PolicyPart(name=name, limits=limits)
        said = "of real ones this promises nothing"
        assert (said in choose(policy, simulated).policy.promise) == (name not in GOOD_ONLY)
        assert said not in choose(policy, real).policy.promise

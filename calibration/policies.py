"""The policies by name: what each needs, what it promises, and the threshold it chooses.

A policy of one threshold says where a part stops passing. With a review band there is a second
one, by `max-overkill`: from it on a part fails, and between both a person decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibration import tails
from calibration.costs import Prices, cost_threshold
from calibration.intervals import events_allowed
from calibration.metrics import BoolArray, FloatArray
from calibration.remarks import describe
from calibration.tails import HIGHEST_RATE, sigma_threshold
from calibration.thresholds import (
    allowed_events,
    escape_threshold,
    f1_threshold,
    overkill_threshold,
    record_threshold,
    require_both_classes,
)
from inspectd.core.bundle import PolicyPart
from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.holdout import HoldoutScores
from inspectd.core.records import Threshold

OPTIONS: Mapping[str, tuple[float, float, str]] = {
    "max_escape_rate": (0.0, 1.0, "share of defective parts that may pass"),
    "max_overkill_rate": (0.0, 1.0, "share of good parts that may fail"),
    "cost_ratio": (0.0, float("inf"), "price of an escape over price of an overkill"),
    "prevalence": (0.0, 1.0, "share of the line's parts that are defective"),
    "false_alarm_rate": (0.0, HIGHEST_RATE, "share of good parts that may fail"),
}
"""Each limit's bounds (both excluded, but the last one's) and meaning."""
GOOD_ONLY = ("max-overkill", "sigma")
"""Policies that need no defect."""
_SIMULATED = "The defects are simulated: of real ones this promises nothing."
"""Beside a promise that rests on them, wherever it is repeated."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a policy says of one set of scores."""

    value: float
    promise: str
    """A sentence."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold by a policy, and everything that is to be said of it."""

    threshold: Threshold
    policy: PolicyPart
    remarks: tuple[str, ...]


def choose(policy: PolicyPart, holdout: HoldoutScores) -> Choice:
    """The threshold that a policy chooses on a hold-out set.

    The pixel threshold is the one of the highest pixel F1 whatever the policy: an escape's price
    says nothing about where a defect ends. Where no mask is known, a policy that needs good parts
    only finds it on the peaks of the good parts' maps.

    Raises:
        ConfigError: a limit is missing, of another policy, or impossible.
        DatasetError: the hold-out set can't support the policy; the message says what it takes.
    """
    check(policy)
    scores, is_defect = holdout.scores, holdout.is_defect
    cut = POLICIES[policy.name].cut(scores, is_defect, policy.limits)
    _require_reachable(cut.value, policy.name, holdout)
    band, said = _band(policy, cut, scores, is_defect)
    threshold = record_threshold(
        cut.value,
        scores,
        is_defect,
        policy=policy.name,
        basis=holdout.basis,
        pixel=holdout.pixel_f1 if holdout.pixel_f1 is not None else _pixel(policy, holdout),
        review_below=band,
    )
    if holdout.basis == "simulated" and policy.name not in GOOD_ONLY:
        cut = replace(cut, promise=f"{cut.promise} {_SIMULATED}")
    promise = " ".join((cut.promise, *said[:1]))
    remarks = (cut.promise, *said, *cut.warnings, *describe(threshold))
    return Choice(threshold, policy.model_copy(update={"promise": promise}), remarks)


def check(policy: PolicyPart) -> None:
    """Refuses a policy that can't be meant.

    Raises:
        ConfigError: it is unknown, or a limit is missing, superfluous or impossible.
    """
    if policy.name not in POLICIES:
        raise ConfigError(f"policy {policy.name!r} is unknown; known: {', '.join(POLICIES)}")
    if policy.review_band and policy.name == "max-overkill":
        raise ConfigError(
            "--review-band: max-overkill says already where parts fail; choose another --policy "
            "for where they stop passing, such as max-escapes"
        )
    needs = [*POLICIES[policy.name].needs, *(["max_overkill_rate"] if policy.review_band else [])]
    for name in needs:
        if name not in policy.limits:
            band = " with --review-band" if name not in POLICIES[policy.name].needs else ""
            raise ConfigError(
                f"--policy {policy.name}{band} needs {_option(name)}: the {OPTIONS[name][2]}"
            )
    for name, value in policy.limits.items():
        if name not in needs:
            raise ConfigError(f"{_option(name)} is not for --policy {policy.name}; leave it out")
        low, high, meaning = OPTIONS[name]
        is_allowed = low < value < high or (name == "false_alarm_rate" and value == high)
        if not is_allowed:
            bounds = "above 0" if high == float("inf") else f"between 0 and {high:g}, as 0.01"
            raise ConfigError(f"{_option(name)} {value:g}: the {meaning} lies {bounds}")


def require_support(policy: PolicyPart, n_good: int, n_defect: int) -> None:
    """Refuses a hold-out set too small for the policy, before minutes of work are spent on it.

    Raises:
        DatasetError: it says what it would take.
    """
    limits = policy.limits
    if policy.name == "sigma":
        tails.require_support(n_good, limits["false_alarm_rate"])
    if "max_escape_rate" in limits:
        allowed_events(limits["max_escape_rate"], n_defect, "escape", "defect")
    if "max_overkill_rate" in limits:
        allowed_events(limits["max_overkill_rate"], n_good, "overkill", "good part")


def _require_reachable(cut: float, policy: str, holdout: HoldoutScores) -> None:
    """Refuses a cut that no part can reach: it would pass everything.

    A tail fitted to probabilities may go on above 1; so may the cut above the highest good part.

    Raises:
        DatasetError: it is above the highest score there can be.
    """
    if holdout.highest is None or cut <= holdout.highest:
        return
    raise DatasetError(
        f"policy {policy} puts the threshold at {cut:.6g}, but this scorer's scores end at "
        f"{holdout.highest:g}: no part would ever fail. See whether the highest good parts of the "
        "hold-out set are good; add good parts, allow a higher rate, or choose a policy that "
        "weighs defects (f1, max-escapes)"
    )


def _band(
    policy: PolicyPart, cut: Cut, scores: FloatArray, is_defect: BoolArray
) -> tuple[float | None, list[str]]:
    """Top of the review band, and what is said of it; None where none is needed."""
    if not policy.review_band:
        return None, []
    upper = _max_overkill(scores, is_defect, policy.limits)
    if upper.value <= cut.value:
        return None, [
            f"{upper.promise} One threshold keeps both limits, so there is no review band."
        ]
    said = f"{upper.promise} In between a person decides."
    return upper.value, [said, *upper.warnings]


def _pixel(policy: PolicyPart, holdout: HoldoutScores) -> float | None:
    """The pixel threshold where no mask is known."""
    peaks = holdout.good_peaks
    if policy.name not in GOOD_ONLY or peaks is None:
        return None
    try:
        return POLICIES[policy.name].cut(peaks, np.zeros(peaks.shape, bool), policy.limits).value
    except DatasetError:
        return None  # the pixel threshold only draws outlines; the remarks say it is missing


def _f1(scores: FloatArray, is_defect: BoolArray, limits: Mapping[str, float]) -> Cut:
    return Cut(
        f1_threshold(scores, is_defect),
        "Policy f1 takes the highest F1 on the hold-out set; it promises no rate.",
    )


def _max_escapes(scores: FloatArray, is_defect: BoolArray, limits: Mapping[str, float]) -> Cut:
    rate, n = limits["max_escape_rate"], int(is_defect.sum())
    cut = escape_threshold(scores, is_defect, rate)
    return Cut(
        cut,
        f"Promise: at most {_percent(rate)} of defective parts pass, with 95 % confidence, if "
        f"they are like the {n} of the hold-out set.",
        _thin("escape", "mildest defect", rate, n),
    )


def _max_overkill(scores: FloatArray, is_defect: BoolArray, limits: Mapping[str, float]) -> Cut:
    rate, n = limits["max_overkill_rate"], int((~is_defect).sum())
    cut = overkill_threshold(scores, is_defect, rate)
    return Cut(
        cut,
        f"Promise: at most {_percent(rate)} of good parts fail, with 95 % confidence, if they are "
        f"like the {n} of the hold-out set.",
        _thin("overkill", "highest good score", rate, n),
    )


def _thin(event: str, extreme: str, rate: float, n: int) -> tuple[str, ...]:
    """A warning where the limit lets no event pass, so that one part decides."""
    if events_allowed(rate, n) != 0:
        return ()
    more = n + 1
    while events_allowed(rate, more) == 0:
        more += 1
    return (
        f"Warning: {n} parts are just enough for this limit: it allows no {event} among them, so "
        f"the {extreme} alone decides. With {more} one would be allowed; add {more - n}.",
    )


def _cost(scores: FloatArray, is_defect: BoolArray, limits: Mapping[str, float]) -> Cut:
    require_both_classes(is_defect)
    f1_threshold(scores, is_defect)  # refuses what can't be parted
    prices = Prices(limits["cost_ratio"], limits["prevalence"])
    fit = cost_threshold(scores, is_defect, prices)
    low, high = (1000 * end for end in fit.cost_interval)
    warnings = []
    if fit.cost_interval[1] > 10 * max(fit.cost, 1e-9):
        warnings.append(
            "Warning: the expected cost is known to no better than a factor of ten; add parts, "
            "defective ones above all."
        )
    return Cut(
        fit.cut,
        f"Expected cost: if an escape costs {prices.cost_ratio:g} times an overkill and "
        f"{_percent(prices.prevalence)} of the parts are defective, 1,000 parts cost as much as "
        f"{1000 * fit.cost:.3g} overkills (95 %: {low:.3g} to {high:.3g}). By bootstrap the best "
        f"threshold lies between {fit.cut_interval[0]:.4g} and {fit.cut_interval[1]:.4g} at 95 %.",
        tuple(warnings),
    )


def _sigma(scores: FloatArray, is_defect: BoolArray, limits: Mapping[str, float]) -> Cut:
    fit = sigma_threshold(scores[~is_defect], limits["false_alarm_rate"])
    low, high = (_percent(end) for end in fit.rate_interval)
    return Cut(
        fit.cut,
        f"Estimate: about {_percent(fit.rate)} of good parts fail, by the tail of "
        f"{fit.n_good} good parts (generalized Pareto on the {fit.n_tail} highest, shape "
        f"{fit.tail.shape:.2f}); were the tail so, a threshold from as few parts would have "
        f"{low} to {high} at 95 %, and lie between {fit.cut_interval[0]:.4g} and "
        f"{fit.cut_interval[1]:.4g}. Escapes don't enter it.",
        tuple(fit.warnings()),
    )


@dataclass(frozen=True, slots=True)
class _Policy:
    needs: tuple[str, ...]
    cut: Callable[[FloatArray, BoolArray, Mapping[str, float]], Cut]


POLICIES: Mapping[str, _Policy] = {
    "f1": _Policy((), _f1),
    "max-escapes": _Policy(("max_escape_rate",), _max_escapes),
    "max-overkill": _Policy(("max_overkill_rate",), _max_overkill),
    "cost": _Policy(("cost_ratio", "prevalence"), _cost),
    "sigma": _Policy(("false_alarm_rate",), _sigma),
}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"

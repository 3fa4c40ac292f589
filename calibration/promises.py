"""What a policy promised beside what is found on pictures it never saw.

A promised rate is broken where even the exact lower bound of the found rate lies above it, proved
where the exact upper bound keeps it, and else neither: the set is too small to tell (95 %, one
side; Clopper & Pearson 1934).
"""

from __future__ import annotations

from calibration.costs import Prices
from calibration.intervals import upper_bound, weighted_sum
from calibration.metrics import BoolArray, FloatArray, confusion
from inspectd.core.bundle import PolicyPart
from inspectd.core.records import Threshold


def fails_from(threshold: Threshold) -> float:
    """The score from which on a part fails: with a review band, the band's top."""
    return threshold.image if threshold.review_below is None else threshold.review_below


def found_beside(
    policy: PolicyPart, threshold: Threshold, scores: FloatArray, is_defect: BoolArray
) -> list[str]:
    """A sentence for each promise of the policy; none where it promised nothing.

    Args:
        policy: of the revision.
        threshold: its threshold.
        scores: (N,) float64 of the evaluated parts.
        is_defect: (N,) bool.
    """
    n_defect, n_good = int(is_defect.sum()), int((~is_defect).sum())
    counts = confusion(scores, is_defect, threshold.image)
    failed = confusion(scores, is_defect, fails_from(threshold))
    limits, said = policy.limits, []
    if "max_escape_rate" in limits:
        said.append(_verdict("escapes", limits["max_escape_rate"], counts.escapes, n_defect))
    if "max_overkill_rate" in limits:
        said.append(_verdict("overkill", limits["max_overkill_rate"], failed.overkill, n_good))
    if "false_alarm_rate" in limits:
        rate = limits["false_alarm_rate"]
        said.append(_verdict("false alarms", rate, counts.overkill, n_good, "stated about"))
    if "cost_ratio" in limits and "prevalence" in limits:
        prices = Prices(limits["cost_ratio"], limits["prevalence"])
        escape, overkill = prices.weights
        cost = escape * counts.fn / max(n_defect, 1) + overkill * counts.fp / max(n_good, 1)
        low, high = weighted_sum(
            prices.weights, ((counts.escapes, n_defect), (counts.overkill, n_good))
        )
        said.append(
            f"found: 1,000 parts cost as much as {1000 * cost:.3g} overkills (95 %: "
            f"{1000 * low:.3g} to {1000 * high:.3g})."
        )
    return said


def _verdict(event: str, limit: float, k: int, n: int, promised: str = "promised at most") -> str:
    """What k events in n parts say of a promised rate."""
    if n == 0:
        return f"{event}: {promised} {_percent(limit)}, no part to tell by."
    found = f"{event}: {promised} {_percent(limit)}, found {k} of {n}"
    if 1 - upper_bound(n - k, n) > limit:
        return f"{found} ({_percent(k / n)}): broken, at 95 % it is more. Calibrate anew."
    if upper_bound(k, n) <= limit:
        return f"{found} ({_percent(k / n)}): proved on these parts, too."
    return f"{found} ({_percent(k / n)}): not contradicted; more parts would tell."


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"

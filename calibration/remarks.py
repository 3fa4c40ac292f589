"""What is said to people of a threshold: what it rests on, what its counts prove, what to mend."""

from __future__ import annotations

from calibration.intervals import rule_of_three
from inspectd.core.records import Threshold

FEW = 10
"""With fewer good or fewer defective parts than this there is a warning."""


def describe(threshold: Threshold) -> list[str]:
    """Sentences: what the threshold rests on, what its counts prove, what to mend."""
    t = threshold
    defect = "simulated defect" if t.basis == "simulated" else "defect"
    rates = []
    if t.n_defect:
        rates.append(
            _rate_sentence("escape", t.escapes, t.n_defect, defect, t.escape_rate_interval)
        )
    rates.append(
        _rate_sentence("overkill", t.overkill, t.n_good, "good part", t.overkill_rate_interval)
    )
    return [
        _policy_sentence(t),
        _basis_sentence(t),
        *rates,
        *_band_sentences(t),
        "The threshold was chosen on these same parts; expect somewhat more of both on new ones.",
        *_warnings(t),
    ]


def _policy_sentence(t: Threshold) -> str:
    if not t.n_defect:
        return (
            f"Policy {t.policy} put the threshold at {t.image:.6g} on the hold-out set of "
            f"{t.n_good} good parts."
        )
    return (
        f"Policy {t.policy} put the threshold at {t.image:.6g}: F1 {t.f1:.3f}, precision "
        f"{t.precision:.3f}, recall {t.recall:.3f} on the hold-out set of {t.n_good} good and "
        f"{t.n_defect} defective parts."
    )


def _basis_sentence(t: Threshold) -> str:
    if not t.n_defect:
        return (
            "Warning: there is no defect in the hold-out set, so how many escape is not known. "
            "Add pictures of defects as soon as there are some."
        )
    if t.basis == "simulated":
        return (
            "This threshold rests on simulated defects: how many real ones escape is not known. "
            "Add pictures of real defects to the hold-out set and calibrate again."
        )
    return f"This threshold rests on real defects: {t.n_defect} of them."


def _rate_sentence(event: str, k: int, n: int, kind: str, interval: tuple[float, float]) -> str:
    """What k events in n parts prove (Wilson 1927; Hanley & Lippman-Hand 1983)."""
    events = event if k == 1 or event == "overkill" else f"{event}s"
    counted = f"{k} {events} in {n} {kind}{'' if n == 1 else 's'}"
    if rule_of_three(n) == 1.0 and k == 0:
        return f"{counted} proves nothing at 95 %: that takes more than 3."
    if k == 0:
        bound = 100 * rule_of_three(n)
        return f"{counted} proves only a rate of at most 3/{n} = {bound:.3g} % at 95 %."
    low, high = (100 * end for end in interval)
    return f"{counted} is {100 * k / n:.3g} %; at 95 % the rate is {low:.3g} to {high:.3g} %."


def _band_sentences(t: Threshold) -> list[str]:
    if t.review_below is None:
        return []
    return [
        f"Review band: from {t.image:.6g} to below {t.review_below:.6g} a part is undecided and a "
        f"person decides. Of the hold-out set that is {t.review_good} of {t.n_good} good and "
        f"{t.review_defect} of {t.n_defect} defective parts; they are counted above as not passed."
    ]


def _warnings(t: Threshold) -> list[str]:
    """What is wrong with the hold-out set or the threshold, each with its remedy."""
    warnings = [
        f"Warning: only {n} {kind} in the hold-out set; with fewer than {FEW} one odd part moves "
        f"the threshold. Add at least {FEW - n} more."
        for kind, n in (("good parts", t.n_good), ("defective parts", t.n_defect))
        if 0 < n < FEW
    ]
    if t.n_good and t.overkill == t.n_good:
        warnings.append(
            "Warning: every good part of the hold-out set fails. The scores don't tell good from "
            "defective; check labels, lighting and alignment, or train another model."
        )
    if t.n_defect and t.escapes == t.n_defect:
        warnings.append(
            "Warning: every defective part of the hold-out set passes. The threshold lies above "
            "all that the model finds; choose a laxer limit, or train another model."
        )
    if t.pixel is None:
        warnings.append(
            "There is no pixel threshold, so defects can't be outlined; add masks to defects of "
            "the hold-out set."
        )
    return warnings

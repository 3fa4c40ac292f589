"""Where pass ends and fail begins: policies that find a threshold on a labelled hold-out set.

A policy is a pure function of (scores, is_defect), and whatever limits it has, to a cut; a part
fails if its score is at or above the cut. Those that count are here, `cost` is in
`calibration.costs` and `sigma` in `calibration.tails`; `calibration.policies` chooses among them.
`record_threshold` adds what a cut of any policy does on the hold-out set and how sure that is;
`calibration.remarks` says it to people.

Without a defect in the hold-out set every policy that weighs escapes would accept or reject
everything, so it refuses (`DatasetError`) and never only warns.
"""

from __future__ import annotations

import numpy as np

from calibration.intervals import events_allowed, parts_needed, wilson
from calibration.metrics import (
    BoolArray,
    FloatArray,
    Maps,
    Masks,
    Roi,
    Steps,
    confusion,
    has_defective_pixel,
    image_steps,
    pixel_steps,
)
from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.records import Threshold

BASES = ("real", "simulated")


def f1_threshold(scores: FloatArray, is_defect: BoolArray) -> float:
    """The cut with the highest F1 on the hold-out set, in the widest gap that has it.

    Candidates are the mid-points between neighbouring distinct scores. Of cuts with equal F1 the
    one in the widest gap wins, because a score may move farthest there before a verdict flips; of
    equally wide gaps the lowest, as an escape costs more than an overkill. A cut below all scores,
    where everything fails, is taken only where none inside is as good; one above all scores, where
    nothing fails, never is.

    Other rules that keep the highest F1 were tried on unseen halves of five kinds of simulated
    scores, 200 draws each: other places in the gap, the lowest, highest or middle gap, the one with
    the best neighbours, the one nearest to a bootstrap's median. None lost less F1 by more than
    0.005; the loss itself (0.01 to 0.06 of F1 with 30 or 60 defects) is due to the set's size.

    Args:
        scores: (N,) float64, finite; higher is more anomalous.
        is_defect: (N,) bool.

    Raises:
        DatasetError: no good part, no defect, a score that is not finite, or all scores equal.
    """
    require_both_classes(is_defect)
    return _best_cut(image_steps(scores, is_defect))


def escape_threshold(scores: FloatArray, is_defect: BoolArray, rate: float) -> float:
    """The highest cut that proves an escape rate of at most `rate`, with 95 % confidence.

    As many defects of the hold-out set may escape as `calibration.intervals.events_allowed` lets
    pass: k of n, known before a score is seen. The cut lies mid-way between the (k + 1)-th lowest
    defect, which is caught, and the next lower score of any part, so the promise is exact (Wilks'
    tolerance limit) although cut and promise rest on the same parts.

    Args:
        scores: (N,) float64, finite.
        is_defect: (N,) bool.
        rate: share of all defective parts that may pass.

    Raises:
        DatasetError: no good part, no defect, all scores equal, or too few defects to prove it.
    """
    require_both_classes(is_defect)
    _require_finite(scores)
    defective = np.sort(scores[is_defect])
    allowed = allowed_events(rate, defective.size, "escape", "defect")
    caught = defective[allowed]
    lower = scores[scores < caught]
    # Where nothing scores lower, every part fails: the cut is kept off the score by a little.
    below = lower.max() if lower.size else caught - (scores.max() - caught) / scores.size
    return _between(below, caught)


def overkill_threshold(scores: FloatArray, is_defect: BoolArray, rate: float) -> float:
    """The lowest cut that proves an overkill rate of at most `rate`, with 95 % confidence.

    The mirror image of `escape_threshold`; it needs no defect.

    Args:
        scores: (N,) float64, finite.
        is_defect: (N,) bool.
        rate: share of all good parts that may fail.

    Raises:
        DatasetError: no good part, all scores equal, or too few good parts to prove it.
    """
    if is_defect.all():
        require_both_classes(is_defect)
    _require_finite(scores)
    good = np.sort(scores[~is_defect])
    allowed = allowed_events(rate, good.size, "overkill", "good part")
    passed = good[good.size - 1 - allowed]
    higher = scores[scores > passed]
    above = higher.min() if higher.size else passed + (passed - scores.min()) / scores.size
    return _between(passed, max(above, np.nextafter(passed, np.inf)))


def pixel_f1_threshold(maps: Maps, masks: Masks, roi: Roi = None) -> float | None:
    """The cut with the highest F1 over all pixels of the hold-out set, by the rule of the parts.

    Exact, by one sort of the clean pixels, in about twice the memory of the maps. The cut
    is a float32 number, so comparing a float32 map with it rounds nothing.

    Args:
        maps: N of (H, W) float32, finite. Leave out defective parts whose mask is not known.
        masks: N of (H, W), non-zero where defective; None for a good part.
        roi: (H, W) of every map, non-zero where pixels count; None: they all do.

    Returns:
        The cut in units of the maps, or None where no mask has a defective pixel.

    Raises:
        DatasetError: no clean pixel, a score that is not finite, a mask of another size than its
            map, or all scores equal.
    """
    if not has_defective_pixel(masks, roi):
        return None
    return _best_cut(pixel_steps(maps, masks, roi))


def record_threshold(
    cut: float,
    scores: FloatArray,
    is_defect: BoolArray,
    *,
    policy: str,
    basis: str,
    pixel: float | None,
    review_below: float | None = None,
) -> Threshold:
    """The record of a cut of any policy and what it does on the hold-out set.

    Args:
        cut: in units of the scores.
        scores: (N,) float64, of the hold-out set; never of the test set.
        is_defect: (N,) bool.
        policy: its word.
        basis: `real` or `simulated`: what the defects are.
        pixel: the pixel threshold, where there is one.
        review_below: top of the review band, where there is one.

    Raises:
        ConfigError: the basis is neither of both.
    """
    if basis not in BASES:
        raise ConfigError(f"the basis {basis!r} is unknown; pass one of {', '.join(BASES)}")
    counts = confusion(scores, is_defect, cut)
    n_good, n_defect = counts.tn + counts.fp, counts.tp + counts.fn
    in_band = (scores >= cut) & (scores < (cut if review_below is None else review_below))
    return Threshold(
        image=cut,
        pixel=pixel,
        policy=policy,
        basis=basis,
        f1=counts.f1,
        precision=counts.precision,
        recall=counts.recall,
        escapes=counts.escapes,
        overkill=counts.overkill,
        n_good=n_good,
        n_defect=n_defect,
        escape_rate_interval=wilson(counts.escapes, n_defect),
        overkill_rate_interval=wilson(counts.overkill, n_good),
        review_below=review_below,
        review_good=int(np.sum(in_band & ~is_defect)),
        review_defect=int(np.sum(in_band & is_defect)),
    )


def require_both_classes(is_defect: BoolArray) -> None:
    """Refuses a hold-out set that can't weigh escapes against overkill.

    Raises:
        DatasetError: no good part or no defect.
    """
    if is_defect.all():
        raise DatasetError(
            "the hold-out set has no good part, so overkill can't be weighed; add good parts that "
            "the model was not trained on"
        )
    if not is_defect.any():
        raise DatasetError(
            "the hold-out set has no defect, and a threshold found without one accepts or rejects "
            "everything; add pictures of defects, or calibrate on simulated ones"
        )


def _best_cut(steps: Steps) -> float:
    """The rule of `f1_threshold`, in the precision of the scores."""
    lowest = min(steps.clean[0], steps.thresholds[-1])
    highest = max(steps.clean[-1], steps.thresholds[0])
    if lowest == highest:
        raise _nothing_to_part(lowest)
    f1 = steps.f1()
    best = np.flatnonzero(f1 == f1.max())[::-1]
    # The next score below a best step is a clean one (a defective one would be one more hit for
    # free) or none at all, and then that step fails everything: a gap of width 0 comes last.
    passed = steps.clean.size - steps.alarms[best]
    upper = steps.thresholds[best]
    lower = np.where(passed > 0, steps.clean[passed - 1], upper)
    widest = int(np.argmax(upper - lower))
    above, below = upper[widest], lower[widest]
    if above == below:
        below = above - (highest - above) / (steps.clean.size + steps.thresholds.size)
    return _between(below, above)


def _between(below: np.floating | float, above: np.floating | float) -> float:
    """The middle, in the precision of the scores, at which the lower score passes.

    Between neighbouring floats there is no middle; at `above` the verdicts are the same.
    """
    cut = below / 2 + above / 2
    return float(cut if below < cut <= above else above)


def allowed_events(rate: float, n: int, event: str, part: str) -> int:
    """How many events in n parts still prove the rate.

    Raises:
        DatasetError: not even none does.
    """
    allowed = events_allowed(rate, n)
    if allowed is not None:
        return allowed
    needed = parts_needed(rate)
    possible = f"prove at best {100 * (1 - 0.05 ** (1 / n)):.3g} %" if n else "prove nothing"
    raise DatasetError(
        f"{n} {part}{'' if n == 1 else 's'} in the hold-out set can't prove an {event} rate of at "
        f"most {100 * rate:.3g} % at 95 %: that takes at least {needed}, ln 0.05 / ln(1 - rate), "
        f"all judged correctly. Add {needed - n}, or choose another limit: {n} {possible}"
    )


def _require_finite(scores: FloatArray) -> None:
    """Raises DatasetError where a score is no number or all are equal."""
    if not np.isfinite(scores).all():
        raise DatasetError("a part's score is not finite; remove its picture")
    if scores.min() == scores.max():
        raise _nothing_to_part(scores.min())


def _nothing_to_part(score: np.floating | float) -> DatasetError:
    return DatasetError(
        f"all scores of the hold-out set are {score:g}, so no threshold can part them; see whether "
        "the pictures differ and the model was trained"
    )

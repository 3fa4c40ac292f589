"""Scores the hold-out set: real parts, or good ones with simulated defects where none were kept.

Where real defects exist, simulated ones are scored beside them: how far their threshold lies from
the real one says how far a threshold from simulated defects alone can be trusted on this product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.evaluate import (
    Scored,
    arrays,
    kept_roi,
    let_go,
    maps_and_masks,
    score_labelled,
    score_one,
)
from calibration.lazy import Lazily
from calibration.material import SimulatedSamples
from calibration.metrics import Confusion, confusion
from calibration.policies import GOOD_ONLY, choose
from calibration.scorers import Labelled, Report
from calibration.thresholds import pixel_f1_threshold
from inspectd.core.bundle import PolicyPart
from inspectd.core.contracts import Runtime
from inspectd.core.errors import DatasetError
from inspectd.core.holdout import SIMULATED, HoldoutPicture, HoldoutScores
from inspectd.core.scope import WHOLE, Scope

MOST_SIMULATED = 60
"""Simulated defects that are scored beside real ones, at most."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """The scored hold-out set."""

    scored: tuple[Scored, ...]
    basis: str
    """`real` or `simulated` defects."""
    scope: Scope = WHOLE
    """What of the pictures counted."""


@dataclass(frozen=True, slots=True)
class SimulatedThreshold:
    """The threshold that simulated defects alone would have given, judged by the real ones."""

    image: float
    """A part would fail if its score were at or above it."""
    n_simulated: int
    """Simulated defects it rests on, and as many good parts."""
    counts: Confusion
    """What it does on the real hold-out set."""

    def figures(self) -> dict[str, float]:
        """For the manifest's metrics."""
        return {
            f"{SIMULATED}threshold": self.image,
            f"{SIMULATED}defects": float(self.n_simulated),
            f"{SIMULATED}f1": self.counts.f1,
            f"{SIMULATED}escapes": float(self.counts.escapes),
            f"{SIMULATED}overkill": float(self.counts.overkill),
        }

    def facts(self, real: float, counts: Confusion) -> dict[str, str]:
        """For the report, beside the threshold from real defects and what that does.

        Args:
            real: the threshold from real defects.
            counts: what it does on the same parts.
        """
        beside = ((self.image, self.counts, "simulated"), (real, counts, "real"))
        return {
            f"threshold from {origin} defects": f"{image:.6g}; on the real hold-out set F1 "
            f"{on.f1:.3f}, {on.escapes} escapes, {on.overkill} overkill"
            for image, on, origin in beside
        } | {"simulated defects beside the real ones": f"{self.n_simulated}"}


def score_holdout(
    pictures: Sequence[Labelled], basis: str, scope: Scope, runtime: Runtime, report: Report
) -> Holdout:
    """Scores prepared pictures; raises what reading them raises.

    Args:
        pictures: labelled ones, read one at a time.
        basis: `real` or `simulated` defects.
        scope: what of the pictures counts.
        runtime: what the line will use.
        report: hears of the progress.
    """
    scored = score_labelled(
        pictures,
        scope,
        runtime,
        lambda done, total: report("scoring the hold-out set", done, total),
    )
    return Holdout(tuple(scored), basis, scope)


def holdout_scores(holdout: Holdout, highest: float | None = None) -> HoldoutScores:
    """What a threshold is chosen on, now and later, without pictures and maps.

    `highest` as `Fitted` has it. Where a defect has a least area a peak is a level too: what is
    smaller never is marked.
    """
    pixel = pixel_f1_threshold(*maps_and_masks(holdout.scored), kept_roi(holdout.scope))
    found = _scores(holdout.scored, holdout.basis, holdout.scope, pixel)
    return found.model_copy(update={"highest": highest})


def simulated_beside(
    holdout: Holdout,
    pictures: Sequence[Labelled],
    policy: PolicyPart,
    runtime: Runtime,
    seed: int,
    report: Report,
) -> SimulatedThreshold | None:
    """The threshold that the same policy finds on simulated defects on the hold-out's good parts.

    None where there is nothing to compare: the hold-out has no real defects, the policy doesn't
    look at defects, or so few good parts don't support it. `pictures` are those that were scored.
    """
    scores, is_defect = arrays(holdout.scored)
    if holdout.basis != "real" or not is_defect.any() or policy.name in GOOD_ONLY:
        return None
    chosen = _spread(np.flatnonzero(~is_defect))
    good = [holdout.scored[index] for index in chosen]
    clean = Lazily(len(good), lambda at: pictures[chosen[at]])
    simulation = SimulatedSamples(clean, holdout.scope, seed)
    simulated: list[Scored] = []
    for index in range(len(good)):
        one = simulation.defect(index)
        simulated.append(
            score_one(one.name, one.label, one.image, one.mask, holdout.scope, runtime)
        )
        let_go(simulated)
        report("scoring simulated defects", index + 1, len(good))
    try:
        choice = choose(policy, _scores([*good, *simulated], "simulated", holdout.scope, None))
    except DatasetError:
        return None
    cut = choice.threshold.image
    return SimulatedThreshold(cut, len(simulated), confusion(scores, is_defect, cut))


def compared(
    found: SimulatedThreshold | None, real: float, holdout: Holdout
) -> tuple[dict[str, str], dict[str, float]]:
    """Facts for the report and figures for the manifest; empty where nothing was compared."""
    if found is None:
        return {}, {}
    return found.facts(real, confusion(*arrays(holdout.scored), real)), found.figures()


def _spread(places: npt.NDArray[np.intp]) -> list[int]:
    """At most `MOST_SIMULATED`, evenly spread over all."""
    count = min(MOST_SIMULATED, len(places))
    return [int(places[at]) for at in np.linspace(0, len(places) - 1, count, dtype=int)]


def _scores(
    scored: Sequence[Scored], basis: str, scope: Scope, pixel: float | None
) -> HoldoutScores:
    return HoldoutScores(
        pictures=tuple(
            HoldoutPicture(
                name=one.name,
                label=one.label,
                origin="simulated" if one.is_defect and basis == "simulated" else "real",
                score=one.score,
                peak=one.score if scope.min_pixels > 1 else float(one.anomaly_map.max()),
            )
            for one in scored
        ),
        pixel_f1=pixel,
    )

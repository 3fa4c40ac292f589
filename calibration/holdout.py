"""Scores the hold-out set: real parts, or good ones with simulated defects where none were kept.

Where real defects exist, simulated ones are scored beside them: how far their threshold lies from
the real one says how far a threshold from simulated defects alone can be trusted on this product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.anomalies import UNSEEN, AnomalyGenerator, Style
from calibration.dataset import PreparedImages, Sample
from calibration.evaluate import Scored, arrays, maps_and_masks, score_one, score_samples
from calibration.metrics import Confusion, confusion
from calibration.policies import GOOD_ONLY, choose
from calibration.scorers import Report
from calibration.thresholds import pixel_f1_threshold
from inspectd.core.bundle import PolicyPart
from inspectd.core.contracts import Runtime
from inspectd.core.errors import DatasetError
from inspectd.core.holdout import SIMULATED, HoldoutPicture, HoldoutScores
from inspectd.core.preprocess import Preprocessing

STYLE = Style(opacity=(0.35, 1.0), area=(0.002, 0.1), visible=20)
"""Of hold-out defects: what people would see, too. Chosen on bottle and metal_nut; see
`tests/benchmarks/simulated_threshold.py` for what it gives there and elsewhere."""
MOST_SIMULATED = 60
"""Simulated defects that are scored beside real ones, at most."""


@dataclass(frozen=True, slots=True)
class Holdout:
    """The scored hold-out set."""

    scored: tuple[Scored, ...]
    basis: str
    """`real` or `simulated` defects."""


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


def simulated_holdout(
    held_back: Sequence[Sample],
    preprocessing: Preprocessing,
    runtime: Runtime,
    seed: int,
    report: Report,
) -> Holdout:
    """Scores kept-apart good pictures, each as it is and with a simulated defect.

    As many defects as good parts: with many more, failing everything has the highest F1.
    """
    images = PreparedImages([sample.path for sample in held_back], preprocessing)
    generator = AnomalyGenerator(images, seed=seed, style=STYLE)
    scored: list[Scored] = []
    clean = np.zeros(preprocessing.crop, dtype=np.uint8)
    for index, sample in enumerate(held_back):
        scored.append(score_one(sample.name, "good", images[index], clean, runtime))
        scored.append(_score_simulated(generator, index, f"simulated/{sample.path.name}", runtime))
        report("scoring the hold-out set", index + 1, len(held_back))
    return Holdout(tuple(scored), "simulated")


def real_holdout(
    samples: Sequence[Sample], preprocessing: Preprocessing, runtime: Runtime, report: Report
) -> Holdout:
    """Scores labelled pictures.

    Raises:
        DatasetError, ImageError: see `calibration.evaluate.score_samples`.
    """
    scored = score_samples(
        samples,
        preprocessing,
        runtime,
        lambda done, total: report("scoring the hold-out set", done, total),
    )
    return Holdout(tuple(scored), "real")


def holdout_scores(holdout: Holdout) -> HoldoutScores:
    """What a threshold is chosen on, now and later, without pictures and maps."""
    pixel = pixel_f1_threshold(*maps_and_masks(holdout.scored))
    return _scores(holdout.scored, holdout.basis, pixel)


def simulated_beside(
    holdout: Holdout, policy: PolicyPart, runtime: Runtime, seed: int, report: Report
) -> SimulatedThreshold | None:
    """The threshold that the same policy finds on simulated defects on the hold-out's good parts.

    None where there is nothing to compare: the hold-out has no real defects, the policy doesn't
    look at defects, or so few good parts don't support it.
    """
    scores, is_defect = arrays(holdout.scored)
    if holdout.basis != "real" or not is_defect.any() or policy.name in GOOD_ONLY:
        return None
    good = _spread([one for one in holdout.scored if not one.is_defect])
    generator = AnomalyGenerator([one.image for one in good], seed=seed, style=STYLE)
    simulated = []
    for index, one in enumerate(good):
        simulated.append(_score_simulated(generator, index, f"simulated/{one.name}", runtime))
        report("scoring simulated defects", index + 1, len(good))
    try:
        choice = choose(policy, _scores([*good, *simulated], "simulated", None))
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


def _spread(good: list[Scored]) -> list[Scored]:
    """At most `MOST_SIMULATED`, evenly spread over all."""
    count = min(MOST_SIMULATED, len(good))
    return [good[index] for index in np.linspace(0, len(good) - 1, count, dtype=int)]


def _score_simulated(
    generator: AnomalyGenerator, index: int, name: str, runtime: Runtime
) -> Scored:
    defect = generator.sample_on(index, index, UNSEEN.kind_of(index))
    return score_one(name, "simulated", defect.image, defect.mask, runtime)


def _scores(scored: Sequence[Scored], basis: str, pixel: float | None) -> HoldoutScores:
    return HoldoutScores(
        pictures=tuple(
            HoldoutPicture(
                name=one.name,
                label=one.label,
                origin="simulated" if one.is_defect and basis == "simulated" else "real",
                score=one.score,
                peak=float(one.anomaly_map.max()),
            )
            for one in scored
        ),
        pixel_f1=pixel,
    )

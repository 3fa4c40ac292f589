"""Scores labelled pictures through the line's own pipeline and runtime, and sums up.

Used twice: on the hold-out set, to find the threshold, and by ``inspectd evaluate`` on a test set,
to report what the calibrated threshold does there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from calibration.dataset import Sample
from calibration.material import PreparedSamples
from calibration.metrics import (
    aupro,
    auroc,
    best_f1,
    confusion,
    pixel_auroc,
    pixel_average_precision,
)
from calibration.promises import fails_from, found_beside
from calibration.scorers import Labelled
from inspectd.core.bundle import Manifest, PolicyPart
from inspectd.core.contracts import Runtime
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import ImageArray, MapArray, MaskArray

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """One labelled picture and what the model said of it."""

    name: str
    label: str
    """``good`` or the kind of defect."""
    is_defect: bool
    score: float
    image: ImageArray
    """(H, W, 3): what the model saw."""
    anomaly_map: MapArray
    """(H, W)."""
    mask: MaskArray | None
    """(H, W), 255 where defective; None where it isn't known; zeros for a good part."""
    infer_ms: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of ``inspectd evaluate``; the names are its JSON's keys."""

    image_auroc: float
    f1: float
    best_f1: float
    """The highest F1 that any threshold could reach on these pictures."""
    precision: float
    recall: float
    escapes: int
    overkill: int
    threshold: float
    policy: str
    promise: str
    """What the policy promised when the threshold was chosen; empty where that isn't known."""
    found: str
    """What these parts say of it; empty where no rate was promised."""
    review_good: int
    """Good parts in the review band: undecided, counted above as failed."""
    review_defect: int
    """Defective parts in it, counted above as failed."""
    n_good: int
    n_defect: int
    pixel_auroc: float | None
    pixel_ap: float | None
    aupro: float | None
    """PRO integrated to a false-positive rate of 0.3, divided by 0.3."""
    latency_ms_p50: float
    runtime: str
    product: str
    revision: str

    def as_json(self) -> dict[str, float | int | str | None]:
        """Plain numbers and strings."""
        return asdict(self)


def score_samples(
    samples: Sequence[Sample], preprocessing: Preprocessing, runtime: Runtime, report: Report
) -> list[Scored]:
    """Scores pictures from disk.

    Raises:
        ImageError: one can't be read.
        DatasetError: one is not of the size the product was calibrated for.
    """
    return score_labelled(PreparedSamples(samples, preprocessing), runtime, report)


def score_labelled(pictures: Sequence[Labelled], runtime: Runtime, report: Report) -> list[Scored]:
    """Scores prepared pictures; raises what reading them raises."""
    scored = []
    for index, one in enumerate(pictures):
        scored.append(score_one(one.name, one.label, one.image, one.mask, runtime))
        report(index + 1, len(pictures))
    return scored


def score_one(
    name: str, label: str, image: ImageArray, mask: MaskArray | None, runtime: Runtime
) -> Scored:
    """Scores one prepared (H, W, 3) picture."""
    started = perf_counter()
    anomaly = runtime.infer(image)
    elapsed = (perf_counter() - started) * 1e3
    return Scored(name, label, label != "good", anomaly.score, image, anomaly.values, mask, elapsed)


def arrays(scored: Sequence[Scored]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """(N,) scores and (N,) labels, as the metrics want them."""
    return (
        np.array([one.score for one in scored], dtype=np.float64),
        np.array([one.is_defect for one in scored], dtype=bool),
    )


def maps_and_masks(
    scored: Sequence[Scored],
) -> tuple[list[MapArray], list[MaskArray | None]]:
    """Maps and masks of good parts and of defective ones whose mask is known."""
    usable = [one for one in scored if one.mask is not None]
    return [one.anomaly_map for one in usable], [
        one.mask if one.is_defect else None for one in usable
    ]


def summarise(scored: Sequence[Scored], manifest: Manifest, runtime: str) -> Evaluation:
    """The figures of a labelled set at the calibrated threshold of a revision.

    Raises:
        DatasetError: the set has no good or no defective picture.
    """
    scores, is_defect = arrays(scored)
    threshold = manifest.threshold.as_record()
    policy = manifest.policy or PolicyPart(name=threshold.policy)
    counts = confusion(scores, is_defect, threshold.image)
    failed = confusion(scores, is_defect, fails_from(threshold))
    pixel = pixel_figures(scored)
    return Evaluation(
        image_auroc=auroc(scores, is_defect),
        f1=counts.f1,
        best_f1=best_f1(scores, is_defect),
        precision=counts.precision,
        recall=counts.recall,
        escapes=counts.escapes,
        overkill=counts.overkill,
        threshold=threshold.image,
        policy=threshold.policy,
        promise=policy.promise,
        found=" ".join(found_beside(policy, threshold, scores, is_defect)),
        review_good=counts.fp - failed.fp,
        review_defect=counts.tp - failed.tp,
        n_good=int((~is_defect).sum()),
        n_defect=int(is_defect.sum()),
        pixel_auroc=pixel.get("pixel_auroc"),
        pixel_ap=pixel.get("pixel_ap"),
        aupro=pixel.get("aupro"),
        latency_ms_p50=float(np.median([one.infer_ms for one in scored])),
        runtime=runtime,
        product=manifest.product,
        revision=manifest.revision,
    )


def pixel_figures(scored: Sequence[Scored]) -> dict[str, float]:
    """Pixel AUROC, AP and PRO over all pictures with a known mask; empty where none has one."""
    maps, masks = maps_and_masks(scored)
    if not any(mask is not None and mask.any() for mask in masks):
        return {}
    return {
        "pixel_auroc": pixel_auroc(maps, masks),
        "pixel_ap": pixel_average_precision(maps, masks),
        "aupro": aupro(maps, masks),
    }

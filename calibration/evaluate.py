"""Scores labelled pictures through the line's own pipeline and runtime, and sums up.

Used twice: on the hold-out set, to find the threshold, and by ``inspectd evaluate`` on a test set,
to report what the calibrated threshold does there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import perf_counter

import numpy as np
import numpy.typing as npt

from calibration.dataset import Sample
from calibration.large import block_maxima, shrunk
from calibration.material import PreparedSamples
from calibration.metrics import (
    aupro,
    auroc,
    best_f1,
    confusion,
    has_defective_pixel,
    pixel_auroc,
    pixel_average_precision,
)
from calibration.promises import fails_from, found_beside
from calibration.scorers import Labelled
from inspectd.core.bundle import Manifest, PolicyPart
from inspectd.core.contracts import Runtime
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import ImageArray, MapArray, MaskArray
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.score import examine

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
    """(H, W, 3): what the model saw; reduced where that is large (`calibration.large`)."""
    anomaly_map: MapArray
    """(H, W), reduced like the picture."""
    mask: MaskArray | None
    """(H, W), 255 where defective; None where it isn't known; zeros for a good part."""
    infer_ms: float
    full: ImageArray | None = None
    """Where `image` is reduced: all of it, of the parts that may become golden."""

    @property
    def input(self) -> ImageArray:
        """(H, W, 3): what the model saw, as far as it is kept."""
        return self.image if self.full is None else self.full


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
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    scope: Scope,
    runtime: Runtime,
    report: Report,
) -> list[Scored]:
    """Scores pictures from disk.

    Raises:
        ImageError: one can't be read.
        DatasetError: one is not of the size the product was calibrated for.
    """
    return score_labelled(PreparedSamples(samples, preprocessing), scope, runtime, report)


def score_labelled(
    pictures: Sequence[Labelled], scope: Scope, runtime: Runtime, report: Report
) -> list[Scored]:
    """Scores prepared pictures; raises what reading them raises."""
    scored: list[Scored] = []
    for index, one in enumerate(pictures):
        scored.append(score_one(one.name, one.label, one.image, one.mask, scope, runtime))
        let_go(scored)
        report(index + 1, len(pictures))
    return scored


def score_one(
    name: str,
    label: str,
    image: ImageArray,
    mask: MaskArray | None,
    scope: Scope,
    runtime: Runtime,
) -> Scored:
    """Scores one prepared (H, W, 3) picture as the line does."""
    started = perf_counter()
    anomaly = examine(runtime, image, scope)
    elapsed = (perf_counter() - started) * 1e3
    kept = shrunk(image)
    return Scored(
        name=name,
        label=label,
        is_defect=label != "good",
        score=anomaly.score,
        image=kept,
        anomaly_map=block_maxima(anomaly.values),
        mask=None if mask is None else block_maxima(mask),
        infer_ms=elapsed,
        full=None if kept is image else image,
    )


def let_go(scored: list[Scored]) -> None:
    """Drops large pictures in place, but for the lowest good part and the highest defect."""
    for wanted in (False, True):
        held = [i for i, s in enumerate(scored) if s.full is not None and s.is_defect is wanted]
        held.sort(key=lambda i: scored[i].score, reverse=wanted)
        for index in held[1:]:
            scored[index] = replace(scored[index], full=None)


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


def summarise(
    scored: Sequence[Scored], manifest: Manifest, runtime: str, scope: Scope = WHOLE
) -> Evaluation:
    """The figures of a labelled set at the calibrated threshold of a revision.

    Raises:
        DatasetError: the set has no good or no defective picture.
    """
    scores, is_defect = arrays(scored)
    threshold = manifest.threshold.as_record()
    policy = manifest.policy or PolicyPart(name=threshold.policy)
    counts = confusion(scores, is_defect, threshold.image)
    failed = confusion(scores, is_defect, fails_from(threshold))
    pixel = pixel_figures(scored, scope)
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


def pixel_figures(scored: Sequence[Scored], scope: Scope = WHOLE) -> dict[str, float]:
    """Pixel AUROC, AP and PRO over all pictures with a known mask; empty where none has one.

    Only pixels that are inspected count.
    """
    maps, masks = maps_and_masks(scored)
    roi = kept_roi(scope)
    if not has_defective_pixel(masks, roi):
        return {}
    return {
        "pixel_auroc": pixel_auroc(maps, masks, roi),
        "pixel_ap": pixel_average_precision(maps, masks, roi),
        "aupro": aupro(maps, masks, roi=roi),
    }


def kept_roi(scope: Scope) -> MaskArray | None:
    """The (H, W) region, reduced as maps are."""
    return None if scope.roi is None else block_maxima(scope.roi)

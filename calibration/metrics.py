"""How well anomaly scores tell good from defective: whole parts and pixels.

All rests on one staircase: going down the distinct scores of what is defective, `Steps` counts
hits and false alarms. A score that only clean items have needs no step, so the pixels of a whole
test set take one sort of the clean ones, in about twice the memory of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.core.errors import DatasetError
from inspectd.core.records import MapArray

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.floating]
Maps = Sequence[MapArray]
Masks = Sequence[npt.NDArray[np.uint8] | npt.NDArray[np.bool_] | None]
"""N of (H, W), each as large as its map and non-zero where defective; None is defect-free."""
Roi = npt.NDArray[np.uint8] | None
"""(H, W) of every map, non-zero where pixels count; None: they all do."""


@dataclass(frozen=True, slots=True)
class RocCurve:
    """From the strictest cut to the laxest."""

    thresholds: FloatArray
    """(K + 1,) infinity, then the distinct scores; at or above it a part fails."""
    fpr: FloatArray
    """(K + 1,) share of good parts that fail."""
    tpr: FloatArray
    """(K + 1,) share of defective parts that fail."""


@dataclass(frozen=True, slots=True)
class PrecisionRecallF1Curve:
    """From the strictest cut to the laxest."""

    thresholds: FloatArray
    """(K,) the distinct scores; at or above it a part fails."""
    precision: FloatArray
    """(K,) share of failed parts that are defective."""
    recall: FloatArray
    """(K,) share of defective parts that fail."""
    f1: FloatArray
    """(K,) harmonic mean of both."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """Verdicts on parts, counted; positive is defective. A ratio of 0 / 0 reads 0."""

    tp: int
    fp: int
    tn: int
    fn: int

    @property
    def precision(self) -> float:
        """Share of failed parts that are defective."""
        return self.tp / max(self.tp + self.fp, 1)

    @property
    def recall(self) -> float:
        """Share of defective parts that fail."""
        return self.tp / max(self.tp + self.fn, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.tp / max(2 * self.tp + self.fp + self.fn, 1)

    @property
    def escapes(self) -> int:
        """Defective parts that pass."""
        return self.fn

    @property
    def overkill(self) -> int:
        """Good parts that fail."""
        return self.fp


@dataclass(frozen=True, slots=True)
class Steps:
    """What fails if the cut is at one of the K distinct scores of what is defective."""

    thresholds: Scores
    """(K,) descending."""
    hits: FloatArray
    """(K,) weight of the defective items at or above the threshold; the last one is all of it."""
    alarms: Counts
    """(K,) clean items at or above the threshold."""
    clean: Scores
    """(M,) scores of all clean items, ascending."""

    def f1(self) -> FloatArray:
        """(K,) F1 at each threshold; at weight 1 equal fractions are equal numbers."""
        return np.asarray(2 * self.hits / (self.hits + self.alarms + self.hits[-1]))

    def average_precision(self) -> float:
        """Sum over the steps of gained recall times precision."""
        gained = np.diff(self.hits, prepend=0.0) / self.hits[-1]
        return float(np.sum(gained * self.hits / (self.hits + self.alarms)))

    def area(self, limit: float) -> float:
        """Hit rate over false-alarm rate, integrated from 0 to `limit` and divided by it.

        Where clean and defective items tie the curve is a straight line, as if by mid-ranks.
        """
        above = self.clean.size - np.searchsorted(self.clean, self.thresholds, side="right")
        rise, top = above / self.clean.size, self.alarms / self.clean.size
        share = self.hits / self.hits[-1]
        # Corners of the curve (2K + 2,): level up to `rise`, then straight to (`top`, `share`).
        x = np.concatenate(([0.0], np.column_stack((rise, top)).ravel(), [1.0]))
        y = np.append([0.0, 0.0], np.repeat(share, 2))
        end = int(np.searchsorted(x, limit))
        last = np.interp(limit, x[end - 1 : end + 1], y[end - 1 : end + 1])
        return float(np.trapezoid(np.append(y[:end], last), np.append(x[:end], limit)) / limit)


def image_steps(scores: FloatArray, is_defect: BoolArray) -> Steps:
    """The staircase of whole parts: (N,) float64 scores, (N,) bool labels.

    Raises:
        DatasetError: no good part, no defective part, or a score that is not finite.
    """
    defective = scores[is_defect]
    return _steps(scores[~is_defect], defective, np.ones(defective.size), "part")


def pixel_steps(maps: Maps, masks: Masks, roi: Roi = None) -> Steps:
    """The staircase of all pixels of all maps, or of those within a region of interest.

    Raises:
        DatasetError: no clean or no defective pixel, a score that is not finite, a wrong size.
    """
    clean, defective = _split(maps, masks, roi)
    return _steps(clean, defective, np.ones(defective.size), "pixel")


def auroc(scores: FloatArray, is_defect: BoolArray) -> float:
    """How often a defective part outscores a good one, a tie counting half. See `image_steps`."""
    return image_steps(scores, is_defect).area(1.0)


def average_precision(scores: FloatArray, is_defect: BoolArray) -> float:
    """Sum over all cuts of gained recall times precision. See `image_steps`."""
    return image_steps(scores, is_defect).average_precision()


def best_f1(scores: FloatArray, is_defect: BoolArray) -> float:
    """Highest F1 that any threshold reaches. See `image_steps`."""
    return float(image_steps(scores, is_defect).f1().max())


def roc_curve(scores: FloatArray, is_defect: BoolArray) -> RocCurve:
    """Hits over false alarms at every distinct score. See `image_steps`."""
    thresholds, tp, fp = _failed_at(scores, is_defect)
    fpr, tpr = (np.append(0.0, counts / counts[-1]) for counts in (fp, tp))
    return RocCurve(np.append(np.inf, thresholds), fpr, tpr)


def precision_recall_f1_curve(scores: FloatArray, is_defect: BoolArray) -> PrecisionRecallF1Curve:
    """Precision, recall and F1 at every distinct score. See `image_steps`."""
    thresholds, tp, fp = _failed_at(scores, is_defect)
    f1 = 2 * tp / (tp + fp + tp[-1])
    return PrecisionRecallF1Curve(thresholds, tp / (tp + fp), tp / tp[-1], f1)


def confusion(scores: FloatArray, is_defect: BoolArray, threshold: float) -> Confusion:
    """Counts verdicts: a part fails at or above the threshold. One class alone is fine here."""
    fails = scores >= threshold
    tp, failed = int(np.sum(fails & is_defect)), int(np.sum(fails))
    fn = int(np.sum(is_defect)) - tp
    return Confusion(tp=tp, fp=failed - tp, tn=fails.size - failed - fn, fn=fn)


def pixel_auroc(maps: Maps, masks: Masks, roi: Roi = None) -> float:
    """How often a defective pixel outscores a clean one. See `pixel_steps`."""
    return pixel_steps(maps, masks, roi).area(1.0)


def pixel_average_precision(maps: Maps, masks: Masks, roi: Roi = None) -> float:
    """Sum over all cuts of gained recall times precision, by pixels. See `pixel_steps`."""
    return pixel_steps(maps, masks, roi).average_precision()


def aupro(maps: Maps, masks: Masks, fpr_limit: float = 0.3, roi: Roi = None) -> float:
    """Area under the per-region-overlap curve (Bergmann et al., IJCV 129, 2021, section 5).

    PRO is the mean over all defects (8-connected components of the masks) of the share found of
    each: a hit rate in which a pixel weighs 1 / (defects * pixels of its defect). It's integrated
    over the false-alarm rate of all clean pixels up to `fpr_limit`. What a region of interest
    leaves of a defect is the defect. See `pixel_steps`.
    """
    if not 0.0 < fpr_limit <= 1.0:
        raise ValueError(f"fpr_limit is {fpr_limit}; pass a fraction in (0, 1]")
    clean, defective = _split(maps, masks, roi)
    weights = [_overlap_weights(_within(mask != 0, roi)) for mask in masks if mask is not None]
    return _steps(clean, defective, np.concatenate([*weights, []]), "pixel").area(fpr_limit)


def has_defective_pixel(masks: Masks, roi: Roi = None) -> bool:
    """Whether there is anything to be found."""
    return any(mask is not None and _within(mask != 0, roi).any() for mask in masks)


def _within(bad: BoolArray, roi: Roi) -> BoolArray:
    """(H, W) without what is outside of the region."""
    return bad if roi is None else bad & (roi != 0)


def _split(maps: Maps, masks: Masks, roi: Roi) -> tuple[MapArray, MapArray]:
    """Scores of all clean pixels (M,) and of all defective ones (D,), in the order of the maps."""
    clean, used = np.empty(sum(scores.size for scores in maps), np.float32), 0
    defective = [np.empty(0, np.float32)]
    for index, (scores, mask) in enumerate(zip(maps, masks, strict=True)):
        bad = np.zeros(scores.shape, np.bool_) if mask is None else mask != 0
        if bad.shape != scores.shape:
            raise DatasetError(f"mask {index} is {bad.shape}, its map {scores.shape}; resize it")
        defective.append(scores[_within(bad, roi)])
        rest = scores[_within(~bad, roi)]
        clean[used : used + rest.size] = rest
        used += rest.size
    return clean[:used], np.concatenate(defective, dtype=np.float32)


def _overlap_weights(bad: BoolArray) -> FloatArray:
    """For each True pixel of (H, W), in row order: 1 / pixels of its component."""
    labels = cv2.connectedComponents(bad.astype(np.uint8), connectivity=8)[1][bad]
    return np.asarray(1.0 / np.bincount(labels)[labels])


def _steps(clean: Scores, defective: Scores, weights: FloatArray, item: str) -> Steps:
    """The staircase; sorts `clean` (M,) in place. Raises DatasetError where there is none."""
    for name, values in (("good", clean), ("defective", defective)):
        if not values.size:
            raise DatasetError(f"there is no {name} {item}, but both kinds are needed; add some")
        if not np.isfinite(values).all():
            raise DatasetError(f"a {name} {item}'s score is not finite; remove its picture")
    clean.sort()
    ascending, place = np.unique(defective, return_inverse=True)
    hits = np.cumsum(np.bincount(place, weights)[::-1], dtype=np.float64)
    thresholds = ascending[::-1]
    return Steps(thresholds, hits, clean.size - np.searchsorted(clean, thresholds), clean)


def _failed_at(scores: FloatArray, is_defect: BoolArray) -> tuple[FloatArray, Counts, Counts]:
    """Distinct scores (K,), descending; defective and good parts at or above each."""
    good = image_steps(scores, is_defect).clean
    thresholds, defective = np.unique(scores)[::-1], np.sort(scores[is_defect])
    tp = defective.size - np.searchsorted(defective, thresholds)
    return thresholds, tp, good.size - np.searchsorted(good, thresholds)

"""The decision: pure functions from an anomaly map and a threshold to a verdict and its proof."""

from __future__ import annotations

import math

import cv2
import numpy as np

from inspectd.core.preprocess import Preprocessing, scale_to_source, to_source
from inspectd.core.records import (
    AnomalyMap,
    Decision,
    MapArray,
    MaskArray,
    Reason,
    Region,
    Threshold,
    Verdict,
)
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.score import level, without_small

MAX_REGIONS = 32
"""Regions reported per part, largest peak first: a `result` stays a small message."""


def decide(
    anomaly: AnomalyMap,
    threshold: Threshold,
    preprocessing: Preprocessing,
    source: tuple[int, int],
    scope: Scope = WHOLE,
) -> Decision:
    """The verdict on one part; `source` is the (H, W) of the camera's picture.

    `scope` is the one that the map was made with: regions lie inside it and are large enough.

    In the review band, where there is one, the part is undecided: a person decides, with score,
    regions and mask as of a fail, and the gate rejects it until then.

    A score that is not a number can't be compared, and some runtimes leave such numbers out of a
    maximum: if there is one in the score or the map the part is undecided, never passed.
    """
    if not math.isfinite(anomaly.score):
        return undecided(Reason.INFERENCE_FAILED, f"the score is {anomaly.score}")
    if not np.isfinite(anomaly.values).all():
        return undecided(Reason.INFERENCE_FAILED, "the anomaly map holds what is no number")
    if anomaly.score < threshold.image:
        return Decision(
            Verdict.PASS, Reason.BELOW_THRESHOLD, score=anomaly.score, threshold=threshold.image
        )
    mask = defect_mask(anomaly.values, threshold, scope)
    is_doubtful = threshold.review_below is not None and anomaly.score < threshold.review_below
    return Decision(
        Verdict.UNDECIDED if is_doubtful else Verdict.FAIL,
        Reason.REVIEW if is_doubtful else Reason.ABOVE_THRESHOLD,
        score=anomaly.score,
        threshold=threshold.image,
        regions=find_regions(mask, anomaly.values, preprocessing, source, scope.mm_per_pixel),
        mask=to_source(mask, preprocessing, source),
    )


def undecided(reason: Reason, detail: str = "") -> Decision:
    """What is said where nothing can be decided; the line treats it as a reject."""
    return Decision(Verdict.UNDECIDED, reason, detail)


def defect_mask(values: MapArray, threshold: Threshold, scope: Scope = WHOLE) -> MaskArray:
    """(H, W) map of a failed part to its mask, 255 where defective; never empty.

    The image threshold stands in where no pixel threshold is known, and where a failed part has no
    region at the pixel threshold, so that a reject always shows where.
    """
    cut = threshold.image if threshold.pixel is None else threshold.pixel
    highest = level(values, scope)
    if highest < cut:
        cut = min(threshold.image, highest)
    marked = values >= cut
    if scope.inside is not None:
        marked &= scope.inside
    return without_small(np.where(marked, 255, 0).astype(np.uint8), scope.min_pixels)


def find_regions(
    mask: MaskArray,
    values: MapArray,
    preprocessing: Preprocessing,
    source: tuple[int, int],
    mm_per_pixel: float | None = None,
) -> tuple[Region, ...]:
    """Connected (8-neighbour) regions of a mask in source pixels, highest peak first.

    Areas in square millimetres are given where the side of a source pixel is known.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    down, across, top, left = scale_to_source(preprocessing, source)
    regions = []
    for label in range(1, count):
        x, y, width, height, area = (int(number) for number in stats[label])
        window = (slice(y, y + height), slice(x, x + width))
        peak = float(values[window][labels[window] == label].max())
        first_row, rows = _span(y + top, height, down, source[0])
        first_column, columns = _span(x + left, width, across, source[1])
        regions.append(
            Region(
                top=first_row,
                left=first_column,
                height=rows,
                width=columns,
                area_px=max(1, round(area * down * across)),
                peak=peak,
                area_mm2=_area_mm2(area * down * across, mm_per_pixel),
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.peak)[:MAX_REGIONS])


def _area_mm2(pixels: float, mm_per_pixel: float | None) -> float | None:
    return None if mm_per_pixel is None else float(f"{pixels * mm_per_pixel**2:.6g}")


def _span(start: int, length: int, scale: float, limit: int) -> tuple[int, int]:
    """(start, length) scaled to whole pixels: at least one, and none beyond `limit`."""
    first = min(round(start * scale), limit - 1)
    return first, max(1, round((start + length) * scale) - first)

"""The one way from a prepared picture to the score that is compared with the threshold.

Calibration, golden pictures, `verify`, `evaluate` and the line all call `examine`. Where the whole
picture counts the graph's own map and score are passed on untouched; else the score is computed
anew from the map: over the region of interest only, and with a least area as the highest level at
which some connected region is at least that large. That makes ``score >= threshold`` mean the same
as "there is a region of at least that area at or above the threshold", whatever the threshold is.

The map is smoothed before the region is laid over it, so what lies less than about three sigma
outside of it (a dozen pixels of the map) still raises the map inside: draw a region to be ignored
by so much larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Protocol

import cv2
import numpy as np

from inspectd.core.contracts import Batched
from inspectd.core.records import AnomalyMap, ImageArray, MapArray, MaskArray
from inspectd.core.scope import Scope
from inspectd.pipeline.tiles import tiled_map

HEAD = 512
"""Of a map so many times the least area are ranked first: it is rare that more are needed."""


class Scores(Protocol):
    """What runs a graph: a `Runtime`, or torch."""

    def infer(self, image: ImageArray) -> AnomalyMap:
        """See `Runtime.infer`."""
        ...


def examine(runtime: Scores, image: ImageArray, scope: Scope) -> AnomalyMap:
    """Map and score of a prepared (H, W, 3) picture; outside the region the map is at its lowest.

    The score is NaN where the map holds what is no finite number, or no region can be as large as
    asked for: the decision is then `undecided`.

    Raises:
        InferenceError: the runtime failed.
    """
    if scope.tiles is None:
        return scored(runtime.infer(image), scope)
    values = tiled_map(image, scope.tiles, scope.roi, lambda cut: _infer_each(runtime, cut))
    return scored(AnomalyMap(values, float("nan")), scope)


def examine_at_once(
    runtime: Batched, images: Sequence[ImageArray], scope: Scope, size: int
) -> list[AnomalyMap]:
    """As `examine` of each, but every inference gets `size` inputs: where there are too few, again.

    Kernels differ from one batch size to another: what is proven for one input isn't for several.

    Raises:
        InferenceError: the runtime failed.
    """
    together = _AtOnce(runtime, size)
    if scope.tiles is not None:
        return [examine(together, image, scope) for image in images]
    parts = (images[start : start + size] for start in range(0, len(images), size))
    return [scored(one, scope) for part in parts for one in together.infer_batch(part)]


class _AtOnce:
    """A runtime that is given so many inputs at once, never fewer."""

    def __init__(self, runtime: Batched, size: int) -> None:
        self._runtime = runtime
        self.largest_batch = size

    def infer(self, image: ImageArray) -> AnomalyMap:
        """See `Scores.infer`."""
        return self.infer_batch((image,))[0]

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """See `Batched`."""
        full = list(islice(cycle(images), self.largest_batch))
        return self._runtime.infer_batch(full)[: len(images)]


def scored(anomaly: AnomalyMap, scope: Scope) -> AnomalyMap:
    """What counts of a whole picture's map: see `examine`."""
    if scope.is_graphs:
        return anomaly
    values = anomaly.values
    if not np.isfinite(values).all():
        return AnomalyMap(values, float("nan"))
    return AnomalyMap(_only_inside(values, scope), image_score(values, scope))


def image_score(values: MapArray, scope: Scope) -> float:
    """The score of a finite (H, W) map: its level, or the mean of its highest pixels inside."""
    if scope.min_pixels > 1 or scope.top_pixels == 1:
        return level(values, scope)
    inside = values.ravel() if scope.inside is None else values[scope.inside]
    count = min(scope.top_pixels, inside.size)
    return float(np.partition(inside, -count)[-count:].mean(dtype=np.float64))


def level(values: MapArray, scope: Scope) -> float:
    """Highest t at which a connected (8-neighbour) region of ``values >= t`` is large enough.

    Only pixels of the region of interest belong to it; NaN where it has no piece so large. Exact:
    regions only grow as t falls, so the sorted values can be bisected; and what is large at a
    higher t lies within what is large at a lower one, so only such pieces need be looked at.
    """
    inside, least = scope.inside, scope.min_pixels
    counted = values.ravel() if inside is None else values[inside]
    if least == 1:
        return float(counted.max())
    field = values if inside is None else np.where(inside, values, -np.inf)
    bound = _bound(field, counted, least)
    if bound is None:
        return float("nan")
    return max(_bisected(piece, least) for piece in _pieces(field, bound, least))


def without_small(mask: MaskArray, least: int) -> MaskArray:
    """(H, W) mask without its connected (8-neighbour) regions of less than `least` pixels."""
    if least <= 1:
        return mask
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= least
    kept[0] = False  # what isn't marked
    return np.where(kept[labels], 255, 0).astype(np.uint8)


def _infer_each(runtime: Scores, images: Sequence[ImageArray]) -> list[MapArray]:
    """The maps of several inputs, in batches where the runtime takes them."""
    if not isinstance(runtime, Batched) or runtime.largest_batch == 1:
        return [runtime.infer(image).values for image in images]
    size = runtime.largest_batch
    parts = (images[start : start + size] for start in range(0, len(images), size))
    return [one.values for part in parts for one in runtime.infer_batch(part)]


def _only_inside(values: MapArray, scope: Scope) -> MapArray:
    inside = scope.inside
    if inside is None:
        return values
    return np.where(inside, values, values[inside].min())


def _bound(field: MapArray, counted: MapArray, least: int) -> float | None:
    """A t at which some region is large enough, not far below the highest; None: there is none."""
    head = min(HEAD * least, counted.size)
    ranked = np.sort(np.partition(counted, -head)[-head:])[::-1]
    count = least
    while count <= counted.size:
        if count > ranked.size:
            ranked = np.sort(counted)[::-1]
        t = ranked[count - 1]
        if _areas(field >= t).max(initial=0) >= least:
            return float(t)
        count = counted.size if count < counted.size < 4 * count else 4 * count
    return None


def _pieces(field: MapArray, bound: float, least: int) -> list[MapArray]:
    """Boxes around the regions that are large at `bound`; -inf at what isn't of the region."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (field >= bound).view(np.uint8), connectivity=8
    )
    pieces = []
    for label in np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least) + 1:
        x, y, width, height = stats[label, : cv2.CC_STAT_AREA]
        box = (slice(y, y + height), slice(x, x + width))
        pieces.append(np.where(labels[box] == label, field[box], -np.inf))
    return pieces


def _bisected(piece: MapArray, least: int) -> float:
    """Exactly the highest t at which a region of the piece has `least` pixels."""
    ranked = np.sort(piece[piece > -np.inf])[::-1]
    below, at = least - 2, ranked.size - 1
    while at - below > 1:
        middle = (below + at) // 2
        if _areas(piece >= ranked[middle]).max(initial=0) >= least:
            at = middle
        else:
            below = middle
    return float(ranked[at])


def _areas(above: np.ndarray) -> np.ndarray:
    """Pixels of each connected region of an (H, W) bool."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(above.view(np.uint8), connectivity=8)
    return np.asarray(stats[1:, cv2.CC_STAT_AREA])

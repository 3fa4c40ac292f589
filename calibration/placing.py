"""Puts simulated defects where they count: inside the region, and as large as a tile shows them.

On a picture that is inspected as a whole nothing is changed. In a tiled one a defect is drawn into
one tile, as its size goes by the picture's it is drawn on: on all of 4096 x 4096 pixels none would
be small. What falls outside of the region of interest is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from calibration.anomalies import UNSEEN, AnomalyGenerator, Style
from calibration.lazy import Lazily
from inspectd.core.records import ImageArray, MaskArray
from inspectd.core.scope import Scope
from inspectd.pipeline.tiles import Window, windows

ATTEMPTS = 20
LEAST = 25
"""Pixels inside the region that a simulated defect has at least, or those that are asked for."""

STYLE = Style(opacity=(0.35, 1.0), area=(0.002, 0.1), visible=20)
"""Of hold-out defects: what people would see, too. Chosen on bottle and metal_nut; see
`tests/benchmarks/simulated_threshold.py` for what it gives there and elsewhere."""

Drawn = tuple[ImageArray, MaskArray]
"""(H, W, 3) picture and (H, W) mask, 255 where defective."""
Draw = Callable[[Window, int], Drawn]
"""Makes a defect in a part of the picture; another one at each attempt."""


def place_defect(good: Sequence[ImageArray], index: int, scope: Scope, seed: int) -> Drawn:
    """Simulates a defect on one of the prepared good pictures, where it is inspected.

    Args:
        good: (H, W, 3) each, not changed; other ones lend their texture.
        index: of the picture, and of the defect: the same gives the same.
        scope: where defects count and how small they may be.
        seed: decides all that is random.
    """

    def draw(window: Window, attempt: int) -> Drawn:
        cut = Lazily(len(good), lambda at: np.ascontiguousarray(good[at][window]))
        generator = AnomalyGenerator(cut, seed=seed, style=STYLE)
        number = index + attempt * len(good)
        defect = generator.sample_on(index, number, UNSEEN.kind_of(number))
        return defect.image, defect.mask

    rng = np.random.default_rng((seed, index))
    image = good[index]
    return placed(image, rng, scope, draw)


def placed(image: ImageArray, rng: np.random.Generator, scope: Scope, draw: Draw) -> Drawn:
    """Draws one defect into an (H, W, 3) picture where it counts, attempt by attempt."""
    if scope.is_graphs:
        return draw((slice(None), slice(None)), 0)
    window = _window(image, rng, scope)
    patch = np.ascontiguousarray(image[window])
    roi = np.full(patch.shape[:2], 255, np.uint8) if scope.roi is None else scope.roi[window]
    least = max(LEAST, scope.min_pixels)
    changed, mask = image.copy(), np.zeros(image.shape[:2], np.uint8)
    changed[window], mask[window] = _inside(patch, roi, least, lambda at: draw(window, at))
    return changed, mask


def _inside(patch: ImageArray, roi: MaskArray, least: int, draw: Callable[[int], Drawn]) -> Drawn:
    for attempt in range(ATTEMPTS):
        drawn, marked = draw(attempt)
        mask = np.where(roi > 0, marked, 0).astype(np.uint8)
        if np.count_nonzero(mask) >= least:
            return np.where(roi[..., None] > 0, drawn, patch).astype(np.uint8), mask
    return _spot(patch, roi, least)


def _window(image: ImageArray, rng: np.random.Generator, scope: Scope) -> Window:
    """A tile, likelier where more of it is inspected; all of the picture where it isn't tiled."""
    size = (image.shape[0], image.shape[1])
    if scope.tiles is None:
        return slice(0, size[0]), slice(0, size[1])
    found = windows(size, scope.tiles, scope.roi)
    share = [1 if scope.roi is None else np.count_nonzero(scope.roi[window]) for window in found]
    return found[rng.choice(len(found), p=np.array(share) / sum(share))]


def _spot(patch: ImageArray, roi: MaskArray, least: int) -> Drawn:
    """A dark or bright spot where the region is widest: what is left where no drawing fits."""
    depth = cv2.distanceTransform(np.pad(roi, 1), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    mask = np.zeros(roi.shape, np.uint8)
    radius = max(4, int(np.ceil(np.sqrt(least / np.pi))) + 1)
    cv2.circle(mask, (int(x) - 1, int(y) - 1), radius, 255, -1)
    mask[roi == 0] = 0
    changed = patch.copy()
    changed[mask > 0] = 255 if patch[mask > 0].mean() < 128 else 0
    return changed, mask

"""Puts simulated defects where they count: inside the region, and as large as a tile shows them.

On a picture that is inspected as a whole nothing is changed. In a tiled one a defect is drawn into
one tile, as its size goes by the picture's it is drawn on: on all of 4096 x 4096 pixels none would
be small. What falls outside of the region of interest is taken back.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from calibration.simulate import SimulatedDefect, simulate_defect
from inspectd.core.records import ImageArray, MaskArray
from inspectd.core.scope import Scope
from inspectd.pipeline.tiles import Window, windows

ATTEMPTS = 20
LEAST = 25
"""Pixels inside the region that a simulated defect has at least, or those that are asked for."""

Draw = Callable[[ImageArray, np.random.Generator], SimulatedDefect]


def place_defect(
    image: ImageArray, rng: np.random.Generator, scope: Scope, draw: Draw = simulate_defect
) -> SimulatedDefect:
    """Draws one defect into a prepared good picture, (H, W, 3), where it is inspected.

    Args:
        image: not changed.
        rng: decides all that is random.
        scope: where defects count and how small they may be.
        draw: makes a defect on a picture or on a tile of it.
    """
    if scope.is_graphs:
        return draw(image, rng)
    window = _window(image, rng, scope)
    patch = np.ascontiguousarray(image[window])
    roi = np.full(patch.shape[:2], 255, np.uint8) if scope.roi is None else scope.roi[window]
    defect = _inside(patch, roi, rng, max(LEAST, scope.min_pixels), draw)
    changed, mask = image.copy(), np.zeros(image.shape[:2], np.uint8)
    changed[window], mask[window] = defect.image, defect.mask
    return SimulatedDefect(changed, mask)


def _inside(
    patch: ImageArray, roi: MaskArray, rng: np.random.Generator, least: int, draw: Draw
) -> SimulatedDefect:
    for _ in range(ATTEMPTS):
        drawn = draw(patch, rng)
        mask = np.where(roi > 0, drawn.mask, 0).astype(np.uint8)
        if np.count_nonzero(mask) >= least:
            image = np.where(roi[..., None] > 0, drawn.image, patch).astype(np.uint8)
            return SimulatedDefect(image, mask)
    return _spot(patch, roi, least)


def _window(image: ImageArray, rng: np.random.Generator, scope: Scope) -> Window:
    """A tile, likelier where more of it is inspected; all of the picture where it isn't tiled."""
    size = (image.shape[0], image.shape[1])
    if scope.tiles is None:
        return slice(0, size[0]), slice(0, size[1])
    found = windows(size, scope.tiles, scope.roi)
    share = [1 if scope.roi is None else np.count_nonzero(scope.roi[window]) for window in found]
    return found[rng.choice(len(found), p=np.array(share) / sum(share))]


def _spot(patch: ImageArray, roi: MaskArray, least: int) -> SimulatedDefect:
    """A dark or bright spot where the region is widest: what is left where no drawing fits."""
    depth = cv2.distanceTransform(np.pad(roi, 1), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    mask = np.zeros(roi.shape, np.uint8)
    radius = max(4, int(np.ceil(np.sqrt(least / np.pi))) + 1)
    cv2.circle(mask, (int(x) - 1, int(y) - 1), radius, 255, -1)
    mask[roi == 0] = 0
    changed = patch.copy()
    changed[mask > 0] = 255 if patch[mask > 0].mean() < 128 else 0
    return SimulatedDefect(changed, mask)

"""Lays a source picture over a good one inside a mask, and says where that can be seen.

Equations 4 and 6 of PRN are the same: outside the mask M the good picture N, inside it
``(1 - beta) * A + beta * N`` of the anomaly's source A. Here the edge fades inward over about a
pixel, so that no hard edge gives the defect away; beyond M nothing changes.
"""

from __future__ import annotations

import cv2
import numpy as np

from inspectd.core.records import ImageArray, MaskArray


def blend(
    image: ImageArray, source: ImageArray, region: MaskArray, opacity: float, softness: float
) -> ImageArray:
    """A new picture: `image` with `source` in the region.

    Args:
        image: (H, W, 3), N of the equations.
        source: (H, W, 3), A of the equations.
        region: (H, W) of 0 and 1, M of the equations.
        opacity: 1 - beta, the share of the source.
        softness: sigma in pixels of the region's edge.
    """
    weight = region.astype(np.float32)
    if softness > 0:
        weight = np.minimum(cv2.GaussianBlur(weight, (0, 0), softness), weight)
    weight *= np.float32(opacity)
    return np.asarray(cv2.blendLinear(source, image, weight, 1 - weight), np.uint8)


def visible_change(
    image: ImageArray, changed: ImageArray, region: MaskArray, levels: int
) -> MaskArray:
    """(H, W), 255 where a pixel of the region changed by `levels` grey levels in some channel."""
    red, green, blue = cv2.split(cv2.absdiff(image, changed))
    most = cv2.max(cv2.max(red, green), blue)
    _, plain = cv2.threshold(most, levels - 1, 255, cv2.THRESH_BINARY)
    return np.asarray(cv2.bitwise_and(plain, plain, mask=region), np.uint8)


def spot(image: ImageArray, place: tuple[int, int]) -> tuple[ImageArray, MaskArray]:
    """A plain black or white spot about (row, column), whichever differs more, and its mask.

    Every pixel of the mask changes by at least 43 levels: what is lighter than 212 or darker than
    43 in the other direction is left as it is.
    """
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (place[1], place[0]), max(4, min(height, width) // 24), 255, -1)
    colour = 255 if image[mask > 0].mean() < 128 else 0
    changed = image.copy()
    changed[mask > 0] = colour
    return changed, visible_change(image, changed, mask, 43)

"""Where a defect may lie: the part's foreground, and target areas on it (PRN section 3.4, TA)."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from calibration.anomalies.records import Range
from inspectd.core.records import ImageArray, MaskArray

_WORKING = 128
"""Pixels of the shorter side at which the foreground is looked for; finer detail doesn't matter."""
_CONTRAST = 20
"""Grey levels between part and background."""
_EVEN = 10
"""Standard deviation in grey levels below which a corner is plain."""
_CORNER = 0.04
"""Side of a corner as a share of the picture's."""
_CORNERS = 3
"""Plain corners of one brightness that make a background."""


def foreground(image: ImageArray) -> npt.NDArray[np.bool_]:
    """(H, W): where the part is, as far as colour tells it from a plain background.

    The background is what has the corners' colour, hangs together with one of them and ends at an
    edge, not in a shade; a hole in the part belongs to the part. Without such a background the
    whole picture counts, as the paper has it for textures.

    Args:
        image: (H, W, 3) RGB.
    """
    size = image.shape[:2]
    shrink = max(1, min(size) // _WORKING)
    small = (max(1, size[1] // shrink), max(1, size[0] // shrink))  # (W, H)
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    blurred = np.asarray(cv2.GaussianBlur(reduced, (0, 0), 2 / shrink), np.uint8)
    colour = _background_colour(blurred)
    if colour is None:
        return np.ones(size, bool)
    distance = _highest(np.abs(blurred.astype(np.int16) - colour).astype(np.uint8))
    part = _apart_from_corners(distance, max(1, 9 // shrink))
    if not 0.1 < part.mean() < 0.98 or not _is_edged(blurred, part):
        return np.ones(size, bool)
    whole = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(whole, bool)


def _background_colour(image: ImageArray) -> npt.NDArray[np.int16] | None:
    """(3,) colour that most corners share; None where they don't or aren't plain."""
    tall, wide = (max(2, round(_CORNER * side)) for side in image.shape[:2])
    corners = [
        cv2.meanStdDev(image[rows, columns])
        for rows in (slice(tall), slice(-tall, None))
        for columns in (slice(wide), slice(-wide, None))
    ]
    plain = [mean.ravel() for mean, deviation in corners if deviation.max() < _EVEN]
    if len(plain) < _CORNERS:
        return None
    colour = np.median(plain, axis=0)
    alike = sum(bool(np.abs(one - colour).max() <= _CONTRAST) for one in plain)
    return np.rint(colour).astype(np.int16) if alike >= _CORNERS else None


def _apart_from_corners(distance: ImageArray, least: int) -> MaskArray:
    """(H, W) of 0 and 1 from distances to the background; what is thinner than `least` goes."""
    near = (distance <= _CONTRAST).astype(np.uint8)
    count, labels = cv2.connectedComponents(near, connectivity=4)
    is_part = np.ones(count, np.uint8)
    is_part[labels[[0, 0, -1, -1], [0, -1, 0, -1]]] = 0
    is_part[0] = 1  # what is not of the background's colour
    part = is_part[labels]
    return np.asarray(cv2.morphologyEx(part, cv2.MORPH_OPEN, np.ones((least, least))), np.uint8)


def _is_edged(image: ImageArray, part: MaskArray) -> bool:
    """Whether most of the part's outline runs along an edge: light that fades makes no part."""
    near = np.ones((5, 5), np.uint8)
    outline = cv2.morphologyEx(part, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    steps = _highest(np.asarray(cv2.morphologyEx(image, cv2.MORPH_GRADIENT, near), np.uint8))
    return bool(np.median(steps[outline > 0]) > _CONTRAST)


def _highest(image: ImageArray) -> ImageArray:
    """(H, W): of each pixel's channels the highest."""
    red, green, blue = cv2.split(image)
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def target_area(
    part: npt.NDArray[np.bool_], area: Range, rng: np.random.Generator
) -> tuple[MaskArray, tuple[int, int]]:
    """A circle, rectangle or polygon about a pixel of the part, and that pixel (row, column).

    Args:
        part: (H, W), True somewhere.
        area: range of the shape's area as a share of the picture, before it is clipped to the part.
        rng: draws shape, place and size.

    Returns:
        (H, W) of 0 and 1, 1 at that pixel and nowhere off the part.
    """
    places = np.flatnonzero(part)
    row, column = divmod(int(places[rng.integers(places.size)]), part.shape[1])
    share = np.exp(rng.uniform(*np.log(area)))
    radius = float(np.sqrt(share * part.size / np.pi))
    canvas = np.zeros(part.shape, np.uint8)
    _SHAPES[int(rng.integers(len(_SHAPES)))](canvas, (column, row), radius, rng)
    canvas[row, column] = 1
    return canvas & part, (row, column)


def _circle(
    canvas: MaskArray, centre: tuple[int, int], radius: float, rng: np.random.Generator
) -> None:
    cv2.circle(canvas, centre, max(1, round(radius)), 1, -1)


def _rectangle(
    canvas: MaskArray, centre: tuple[int, int], radius: float, rng: np.random.Generator
) -> None:
    """As large as the circle, with sides of up to 1 to 4, at any angle."""
    side = radius * np.sqrt(np.pi)
    aspect = np.exp(rng.uniform(-np.log(2), np.log(2)))
    box = (centre, (side * aspect, side / aspect), rng.uniform(0, 180))
    cv2.fillConvexPoly(canvas, np.rint(cv2.boxPoints(box)).astype(np.int32), 1)


def _polygon(
    canvas: MaskArray, centre: tuple[int, int], radius: float, rng: np.random.Generator
) -> None:
    """Three to eight corners around the centre, at 0.7 to 1.5 radii."""
    corners = int(rng.integers(3, 9))
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(0, 0.8, corners)) / corners
    reach = radius * rng.uniform(0.7, 1.5, corners)
    points = np.stack([np.cos(angles) * reach, np.sin(angles) * reach], axis=1) + centre
    cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)


_SHAPES = (_circle, _rectangle, _polygon)

"""A contact sheet of anomalies: the good picture, what became of it, and what is marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.anomalies.records import SimulatedDefect
from calibration.gallery import MARKED
from inspectd.core import overlay
from inspectd.core.records import ImageArray

ACROSS = 2
"""Anomalies side by side."""
_WASH = 0.45
"""Opacity of the mask's colour."""


def draw_sheet(
    good: Sequence[ImageArray], defects: Sequence[SimulatedDefect], tile_size: tuple[int, int]
) -> ImageArray:
    """(H, W, 3): three tiles for each defect, its kind and the share of marked pixels below.

    Args:
        good: the generator's good pictures.
        defects: at least one.
        tile_size: (H, W) in pixels of a picture on the sheet.
    """
    tiles = [tile for defect in defects for tile in _tiles(good[defect.good], defect)]
    return overlay.contact_sheet(tiles, 3 * ACROSS, tile_size)


def marked(defect: SimulatedDefect) -> ImageArray:
    """(H, W, 3): the defective picture under its mask's colour, outlined."""
    picture = defect.image.astype(np.float32)
    wash = picture + _WASH * (np.array(MARKED, np.float32) - picture)
    coloured = np.where(defect.mask[:, :, None] > 0, wash, picture)
    return overlay.outline_mask(np.rint(coloured).astype(np.uint8), defect.mask, MARKED)


def _tiles(good: ImageArray, defect: SimulatedDefect) -> list[tuple[str, ImageArray]]:
    share = 100 * float((defect.mask > 0).mean())
    kind = f"{defect.kind.value} (spot)" if defect.is_fallback else defect.kind.value
    return [
        (f"good {defect.good}", good),
        (kind, defect.image),
        (f"marked {share:.2g} %", marked(defect)),
    ]

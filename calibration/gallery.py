"""Pictures of hold-out parts as the report shows them, kept in the bundle: ``samples.json``.

Three pictures a part: as the model saw it, under its heat, with outlines. They are drawn once, when
the maps are there, and more parts than the first page shows: with another threshold other parts
are wrong, and ``inspectd threshold`` has no map to draw from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inspectd.core import overlay
from inspectd.core.bundle import SAMPLES, Bundle
from inspectd.core.errors import BundleError
from inspectd.core.records import ImageArray, MapArray, MaskArray

MARKED, FOUND, INSPECTED = (30, 136, 229), (233, 30, 99), (67, 160, 71)
"""Outlines, RGB: what a person or the simulator marked, what the pixel threshold finds, and the
region of interest."""
NEAR = 12
"""Of each class, the parts with the worst scores that are drawn whatever the threshold."""
TILE = (256, 256)
"""(H, W) of a picture in the page, in pixels."""


@dataclass(frozen=True, slots=True)
class Exhibit:
    """What one part's pictures are drawn from."""

    image: ImageArray
    """(H, W) or (H, W, 3) RGB: what the model saw."""
    anomaly_map: MapArray
    """(H, W)."""
    mask: MaskArray | None
    """(H, W) the marked or simulated defect; None where there is none or it isn't marked."""
    roi: MaskArray | None = None
    """(H, W) the region of interest; None where all of the picture is inspected."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Drawn parts."""

    heat: tuple[float, float]
    """Scores at which the heat's colours begin and end, the same in all pictures."""
    pixel: float | None
    """The pixel threshold of the outlines; None where none is drawn."""
    pictures: Mapping[int, tuple[str, ...]]
    """Place in the hold-out set to data URIs: as seen, under its heat, with outlines."""


EMPTY = Gallery((0.0, 1.0), None, {})


def worst(scores: npt.NDArray[np.float64], is_defect: npt.NDArray[np.bool_]) -> set[int]:
    """The lowest defects and the highest good parts: wrong at some threshold, if any is."""
    order = np.argsort(scores, kind="stable")
    return {*order[is_defect[order]][:NEAR].tolist(), *order[~is_defect[order]][-NEAR:].tolist()}


def draw_gallery(
    exhibits: Mapping[int, Exhibit],
    pixel: float | None,
    heat: tuple[float, float] | None = None,
) -> Gallery:
    """Draws parts, by their place in the hold-out set; without `heat` as suits all their maps."""
    if heat is None:
        heat = overlay.heat_range([one.anomaly_map for one in exhibits.values()], pixel)
    pictures = {index: _draw(exhibit, pixel, heat) for index, exhibit in exhibits.items()}
    return Gallery(heat, pixel, pictures)


def write_gallery(folder: Path, gallery: Gallery) -> None:
    """Writes ``samples.json`` into a bundle that is being made."""
    content = {"heat": gallery.heat, "pixel": gallery.pixel, "pictures": dict(gallery.pictures)}
    (folder / SAMPLES).write_text(json.dumps(content), encoding="utf-8")


def read_gallery(bundle: Bundle) -> Gallery:
    """The drawn parts of a revision; none where it has none, as of manifest version 1.

    Raises:
        BundleError: the file isn't what `write_gallery` writes.
    """
    if SAMPLES not in bundle.manifest.files:
        return EMPTY
    try:
        content = json.loads((bundle.path / SAMPLES).read_text(encoding="utf-8"))
        low, high = content["heat"]
        pictures = {int(at): tuple(map(str, uris)) for at, uris in content["pictures"].items()}
        pixel = content["pixel"]
        return Gallery((float(low), float(high)), None if pixel is None else float(pixel), pictures)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(bundle.path, f"{SAMPLES} can't be read ({error!r})") from error


def _draw(exhibit: Exhibit, pixel: float | None, heat: tuple[float, float]) -> tuple[str, ...]:
    outlined = exhibit.image
    if exhibit.roi is not None:
        outlined = overlay.outline_mask(outlined, exhibit.roi, INSPECTED)
    if pixel is not None:
        found = exhibit.anomaly_map >= pixel
        if exhibit.roi is not None:
            found &= exhibit.roi > 0
        outlined = overlay.outline_mask(outlined, found, FOUND)
    if exhibit.mask is not None:
        outlined = overlay.outline_mask(outlined, exhibit.mask, MARKED)
    hot = overlay.heat_overlay(exhibit.image, exhibit.anomaly_map, *heat)
    fitted = (overlay.fit(picture, TILE) for picture in (exhibit.image, hot, outlined))
    return tuple(overlay.jpeg_data_uri(picture) for picture in fitted)

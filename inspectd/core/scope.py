"""What of a picture counts: region of interest, least area of a defect, tiles, and the score.

A bundle says it once (`ScopePart` in the manifest, the region as ``roi.png``), and calibration and
line both score by it (`inspectd.pipeline.score`), so a threshold is found on what it will decide.

The region is kept at the size of the anomaly map, not of the source picture: it is laid over the
map pixel by pixel, without being scaled on the line, and holds for pictures of several sizes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from inspectd.core.errors import BundleError, ConfigError, ImageError
from inspectd.core.files import sha256_of
from inspectd.core.images import read_image
from inspectd.core.preprocess import Preprocessing, Tiling
from inspectd.core.records import MaskArray

ROI: Literal["roi.png"] = "roi.png"
"""(H, W) of the anomaly map, 255 where inspected, 0 where ignored."""
_AREA = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(px|mm2|mm²)\s*")


class ScopePart(BaseModel):
    """What counts, as the manifest says it; its defaults are what revisions did before it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    roi: Literal["roi.png"] | None = None
    """The file of the inspected region; None where all of the picture is inspected."""
    roi_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Inspected share of the anomaly map."""
    min_area_px: Annotated[float, Field(ge=0)] = 0.0
    """Area in pixels of the source picture that a defect has at least; 0: any."""
    mm_per_pixel: Annotated[float, Field(gt=0)] | None = None
    """Side of a source picture's pixel on the part; None where the scale isn't known."""
    top_pixels: Annotated[int, Field(ge=1)] = 1
    """The score is the mean of so many highest pixels; 1: the maximum. A least area replaces it."""

    @model_validator(mode="after")
    def _consistent(self) -> ScopePart:
        if self.roi is None and self.roi_share != 1:
            raise ValueError("roi_share below 1 without a roi")
        return self


@dataclass(frozen=True, slots=True)
class Scope:
    """The same, ready to be used on maps."""

    roi: MaskArray | None = None
    """(H, W) of the map, 255 where inspected; None: all of it."""
    min_pixels: int = 1
    """Pixels of the map that a defect has at least."""
    top_pixels: int = 1
    """The score is the mean of so many highest pixels, if `min_pixels` is 1."""
    tiles: Tiling | None = None
    """How the prepared picture is cut for the graph; None: it isn't."""
    mm_per_pixel: float | None = None
    """Side of a source picture's pixel on the part."""

    @property
    def is_graphs(self) -> bool:
        """Whether the score that the graph computes is the one that counts."""
        return self.roi is None and self.min_pixels == 1 and self.tiles is None

    @property
    def inside(self) -> npt.NDArray[np.bool_] | None:
        """(H, W) bool; None: all of the map."""
        return None if self.roi is None else self.roi > 0


WHOLE = Scope()
"""All of the picture, at once, by the graph's own score."""


def scope_of(part: ScopePart, preprocessing: Preprocessing, roi: MaskArray | None) -> Scope:
    """A manifest's scope with the (H, W) region that its file holds."""
    return Scope(
        roi=roi,
        min_pixels=min_pixels(part.min_area_px, preprocessing),
        top_pixels=part.top_pixels,
        tiles=preprocessing.tiles,
        mm_per_pixel=part.mm_per_pixel,
    )


def min_pixels(area_px: float, preprocessing: Preprocessing) -> int:
    """Pixels of the map for an area in source pixels, rounded up; at least 1.

    Raises:
        ConfigError: pictures of several sizes have no common area of a pixel.
    """
    if area_px == 0:
        return 1
    source = preprocessing.source_size
    if source is None:
        raise ConfigError(
            "a minimum area needs pictures of one size; make them equal or leave --min-area out"
        )
    scale = math.prod(preprocessing.resize) / math.prod(source)
    return max(1, math.ceil(area_px * scale - 1e-9))


def area_in_pixels(text: str, mm_per_pixel: float | None) -> float:
    """``12px`` or ``0.5mm2`` to pixels of the source picture.

    Raises:
        ConfigError: it is neither, or square millimetres without a scale.
    """
    found = _AREA.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--min-area {text}: give a number above 0 with its unit, 12px or 0.5mm2")
    if found[2] == "px":
        return float(found[1])
    if mm_per_pixel is None:
        raise ConfigError(f"--min-area {text}: the scale isn't known; add --mm-per-pixel")
    return float(found[1]) / mm_per_pixel**2


def write_roi(folder: Path, roi: MaskArray) -> str:
    """Writes ``roi.png`` into a bundle that is being made and returns its sha256."""
    cv2.imwrite(str(folder / ROI), roi)
    return sha256_of(folder / ROI)


def read_roi(folder: Path, size: tuple[int, int]) -> MaskArray:
    """The (H, W) region of a revision whose map is of `size`.

    Raises:
        BundleError: it can't be read, is of another size or inspects nothing.
    """
    try:
        roi = read_image(folder / ROI)
    except ImageError as error:
        raise BundleError(folder, str(error)) from error
    if roi.shape != size or not roi.any():
        raise BundleError(folder, f"{ROI} is {roi.shape}, not a region of {size}; calibrate anew")
    return np.where(roi > 127, 255, 0).astype(np.uint8)


def scope_facts(part: ScopePart, preprocessing: Preprocessing) -> dict[str, str]:
    """What counts, for people; only what isn't as ever."""
    facts = {}
    if part.roi is not None:
        facts["region of interest"] = f"{100 * part.roi_share:.3g} % of the map, see {ROI}"
    if part.min_area_px:
        facts["minimum area"] = _area_text(part, preprocessing)
    if part.mm_per_pixel is not None:
        facts["scale"] = f"{part.mm_per_pixel:g} mm a pixel"
    if part.top_pixels > 1:
        facts["score"] = f"mean of the {part.top_pixels} highest pixels"
    tiles = preprocessing.tiles
    if tiles is not None:
        facts["tiles (H x W)"] = f"{tiles.size[0]} x {tiles.size[1]}, overlap {tiles.overlap}"
    return facts


def _area_text(part: ScopePart, preprocessing: Preprocessing) -> str:
    scale = part.mm_per_pixel
    area = "" if scale is None else f" = {part.min_area_px * scale**2:.4g} mm2"
    pixels = min_pixels(part.min_area_px, preprocessing)
    return f"{part.min_area_px:.4g} px{area} ({pixels} of the map)"

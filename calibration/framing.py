"""From what the user asks for to what is looked at: size, tiles, region of interest, least area.

A region is drawn on a picture as it comes from the camera: as a mask (a picture of that size, white
where it counts) or as polygons in a recipe. The union of what is drawn for ``roi`` is inspected,
less all that is drawn for ``ignore``. It is kept at the anomaly map's size, by nearest neighbour.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.dataset import read_mask
from calibration.evaluate import Scored, kept_roi
from inspectd.core.errors import ConfigError, DatasetError
from inspectd.core.preprocess import Preprocessing, Tiling, prepare_mask
from inspectd.core.records import MaskArray
from inspectd.core.scope import ROI, Scope, ScopePart, min_pixels

PATCH = 16
"""Pixels of the map that a patch of the finest stage has: 4 x 4. No region is smaller."""
MAX_SIDE = 4096

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Framing:
    """What the user asks for, beside size and crop."""

    roi: Path | None = None
    """A mask of the source picture's size, white where inspected."""
    ignore: Path | None = None
    """The same, white where ignored."""
    recipe: Path | None = None
    """A TOML file with polygons; see `Recipe`."""
    min_area_px: float = 0.0
    """Least area of a defect in pixels of the source picture; 0: any."""
    mm_per_pixel: float | None = None
    """Side of a source picture's pixel on the part."""
    tiles: Tiling | None = None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Polygon(_Part):
    """Drawn on the source picture; its outline belongs to it."""

    points: Annotated[tuple[tuple[float, float], ...], Field(min_length=3)]
    """``[x, y]`` each, as drawing programs say it: the column from the left, then the row from the
    top, in pixels of the source picture. (Sizes are (H, W) everywhere else.)"""


class Recipe(_Part):
    """What ``--recipe`` may say: ``[[roi]]`` and ``[[ignore]]``, each with ``points``."""

    roi: tuple[Polygon, ...] = ()
    ignore: tuple[Polygon, ...] = ()


def read_recipe(path: Path) -> Recipe:
    """Reads polygons from a TOML file.

    Raises:
        ConfigError: it can't be read, or says something else; the place is named.
    """
    try:
        return Recipe.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: not valid at {where}: {first['msg']}; a recipe has [[roi]] and [[ignore]], "
            "each with points = [[x, y], [x, y], [x, y]]"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read as TOML ({error})") from error


def preprocessing_of(
    resize: Size | None, crop: Size | None, tiles: Tiling | None, sizes: Sequence[Size]
) -> Preprocessing:
    """How pictures of these (H, W) are prepared; without `resize` they keep their own size.

    Raises:
        DatasetError: there are several sizes and none is asked for.
        ConfigError: crop or tile is larger than the picture, or the picture too large.
    """
    source = sizes[0] if len(sizes) == 1 else None
    wanted = resize or source
    if wanted is None:
        raise DatasetError(
            "the pictures are of several sizes, so they can't be inspected at their own; give "
            "--input-size, or make them equal"
        )
    kept, rows_columns = crop or wanted, f"{wanted[0]} x {wanted[1]} (H x W)"
    if max(wanted) > MAX_SIDE:
        raise ConfigError(f"pictures of {rows_columns} are too large; give --input-size {MAX_SIDE}")
    if kept[0] > wanted[0] or kept[1] > wanted[1]:
        raise ConfigError(f"--crop {kept[0]} is larger than pictures of {rows_columns}")
    if tiles is not None and (tiles.size[0] > kept[0] or tiles.size[1] > kept[1]):
        raise ConfigError(
            f"--tile {tiles.size[0]} is larger than what is inspected, {kept[0]} x {kept[1]} "
            "(H x W); make it smaller, raise --input-size or leave it out"
        )
    return Preprocessing(resize=wanted, crop=kept, source_size=source, tiles=tiles)


def framed(
    framing: Framing, preprocessing: Preprocessing, sizes: Sequence[Size]
) -> tuple[ScopePart, MaskArray | None]:
    """What counts, and the (H, W) region of the map; None where everything is inspected.

    Raises:
        ConfigError, DatasetError, ImageError: a file can't be used, nothing or less than a patch is
            left to inspect, or no defect could be as large as the least area.
    """
    least = min_pixels(framing.min_area_px, preprocessing)
    roi = _region(framing, preprocessing, sizes)
    everything = np.full(preprocessing.crop, 255, np.uint8)
    largest = _largest_piece(everything if roi is None else roi)
    if least > largest:
        raise ConfigError(
            f"no defect can have the minimum area: {least} pixels of the anomaly map are asked "
            f"for, the largest piece that is inspected has {largest}; lower --min-area"
        )
    part = ScopePart(
        roi=None if roi is None else ROI,
        roi_share=1.0 if roi is None else float((roi > 0).mean()),
        min_area_px=framing.min_area_px,
        mm_per_pixel=framing.mm_per_pixel,
    )
    return part, roi


def scope_remarks(scored: Sequence[Scored], scope: Scope, counts: ScopePart) -> tuple[str, ...]:
    """Warns of hold-out defects that can't be found, and of an area that excludes nothing."""
    roi, remarks = kept_roi(scope), []
    masks = [one.mask for one in scored if one.is_defect and one.mask is not None]
    unseen = 0 if roi is None else sum(not mask[roi > 0].any() for mask in masks)
    if unseen:
        remarks.append(
            f"Warning: {unseen} defect(s) of the hold-out set lie wholly outside the region of "
            "interest and count as escapes; remove these pictures or draw the region larger."
        )
    if counts.min_area_px and scope.min_pixels == 1:
        remarks.append(
            f"Warning: the minimum area of {counts.min_area_px:.4g} pixels is no more than one "
            "pixel of the anomaly map, so it excludes nothing; raise it or --input-size."
        )
    return tuple(remarks)


def _region(
    framing: Framing, preprocessing: Preprocessing, sizes: Sequence[Size]
) -> MaskArray | None:
    recipe = Recipe() if framing.recipe is None else read_recipe(framing.recipe)
    roi = list(_drawn(framing.roi, recipe.roi, sizes))
    ignored = list(_drawn(framing.ignore, recipe.ignore, sizes))
    if not roi and not ignored:
        return None
    inspected = _union(roi, preprocessing) if roi else np.ones(preprocessing.crop, np.bool_)
    inspected &= ~_union(ignored, preprocessing)
    count = int(inspected.sum())
    if count == 0:
        raise DatasetError(
            "nothing is left to inspect: the region of interest is empty or all of it is ignored; "
            "draw it in white on black, within the part of the picture that --crop keeps"
        )
    if count < PATCH:
        raise DatasetError(
            f"the region of interest has {count} pixels of the anomaly map, less than one patch "
            f"(4 x 4); draw it larger or raise --input-size"
        )
    return None if inspected.all() else np.where(inspected, 255, 0).astype(np.uint8)


def _drawn(
    file: Path | None, polygons: Sequence[Polygon], sizes: Sequence[Size]
) -> Iterable[MaskArray]:
    """(H, W) masks of the source picture, 255 where drawn."""
    if file is not None:
        mask = read_mask(file)
        if mask.shape not in sizes:
            known = ", ".join(f"{height} x {width}" for height, width in sizes[:4])
            raise DatasetError(
                f"{file}: the mask is {mask.shape[0]} x {mask.shape[1]} (H x W), the pictures are "
                f"{known}; draw it on a picture as the camera gives it"
            )
        yield mask
    if polygons:
        if len(sizes) > 1:
            raise DatasetError(
                "polygons are in pixels of the source picture, but there are pictures of several "
                "sizes; make them equal or draw a mask"
            )
        yield _filled(polygons, sizes[0])


def _filled(polygons: Sequence[Polygon], size: Size) -> MaskArray:
    mask = np.zeros(size, np.uint8)
    for polygon in polygons:
        points = np.array(polygon.points)  # (N, 2) of x, y
        if (points < 0).any() or (points > (size[1], size[0])).any():
            raise ConfigError(
                f"a polygon leaves the picture of {size[0]} x {size[1]} (H x W): its points are "
                f"[x, y], x at most {size[1]}, y at most {size[0]}; correct the recipe"
            )
        cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
    return mask


def _union(masks: Sequence[MaskArray], preprocessing: Preprocessing) -> np.ndarray:
    """(H, W) bool at the size of the map; nowhere without masks."""
    found = np.zeros(preprocessing.crop, np.bool_)
    for mask in masks:
        found |= prepare_mask(mask, preprocessing) > 0
    return found


def _largest_piece(roi: MaskArray) -> int:
    """Pixels of the largest connected (8-neighbour) piece; where it is whole, all of them."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(roi, connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max())

"""The one preprocessing: what calibration learns from and what the line inspects are made here.

A picture is stretched to `resize`, its centre of size `crop` is kept, grey becomes RGB. All that
follows (scaling, normalisation) is in the ONNX graph. With `tiles` the graph is smaller than that
and sees it in overlapping pieces (`inspectd.pipeline.tiles`); the map is as large as `crop` anyhow.
"""

from __future__ import annotations

from typing import Annotated

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from inspectd.core.errors import ImageError, ImageSizeError
from inspectd.core.records import ImageArray, MaskArray

Side = Annotated[int, Field(ge=32, le=4096)]
Size = tuple[Side, Side]


class Tiling(BaseModel):
    """How a prepared picture is cut into overlapping inputs of the graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: Size
    """(H, W) in pixels of a tile: the graph's input."""
    overlap: Annotated[int, Field(ge=0)]
    """Pixels that neighbours share at least."""

    @model_validator(mode="after")
    def _overlap_fits(self) -> Tiling:
        if 2 * self.overlap > min(self.size):
            raise ValueError(f"overlap {self.overlap} is more than half of a tile {self.size}")
        return self


class Preprocessing(BaseModel):
    """How a source picture becomes the model's input; part of a bundle's manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resize: Size
    """(H, W) in pixels the picture is stretched to."""
    crop: Size
    """(H, W) in pixels of the centre that is kept: the anomaly map's size, and the model's input
    where there are no tiles."""
    source_size: tuple[int, int] | None = None
    """(H, W) in pixels every picture must have; None where calibration saw several sizes."""
    tiles: Tiling | None = None
    """None: the prepared picture is the graph's input."""

    @property
    def input_size(self) -> Size:
        """(H, W) in pixels of the graph's input."""
        return self.crop if self.tiles is None else self.tiles.size

    @model_validator(mode="after")
    def _tile_fits(self) -> Preprocessing:
        tile = self.input_size
        if tile[0] > self.crop[0] or tile[1] > self.crop[1]:
            raise ValueError(f"tile {tile} is larger than the prepared picture {self.crop}")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> Preprocessing:
        if self.crop[0] > self.resize[0] or self.crop[1] > self.resize[1]:
            raise ValueError(f"crop {self.crop} is larger than the resized picture {self.resize}")
        return self


def prepare(image: ImageArray, preprocessing: Preprocessing) -> ImageArray:
    """(H, W) or (H, W, 3) source picture to the (H, W, 3) RGB input of the model, or of its tiles.

    Raises:
        ImageSizeError: the picture isn't of the size that the product was calibrated for.
        ImageError: it is no 8-bit grey or RGB picture at all.
    """
    is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not (is_picture and image.size and image.dtype == np.uint8):
        raise ImageError(
            f"an array of shape {image.shape} and type {image.dtype} is no picture; the camera "
            "must give (H, W) grey or (H, W, 3) RGB of 8 bits"
        )
    source = (image.shape[0], image.shape[1])
    if preprocessing.source_size is not None and source != preprocessing.source_size:
        raise ImageSizeError(wanted=preprocessing.source_size, got=source)
    resized = _resized(image, preprocessing.resize)
    cropped = _centre(resized, preprocessing.crop)
    if cropped.ndim == 2:
        return np.asarray(cv2.cvtColor(cropped, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return np.ascontiguousarray(cropped)


def prepare_mask(mask: MaskArray, preprocessing: Preprocessing) -> MaskArray:
    """(H, W) mask of the source picture to the (H, W) of the model's map, 0 or 255."""
    height, width = preprocessing.resize
    resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    cropped = _centre(np.asarray(resized, dtype=np.uint8), preprocessing.crop)
    return np.where(cropped > 127, 255, 0).astype(np.uint8)


def to_source(
    values: MaskArray, preprocessing: Preprocessing, source: tuple[int, int]
) -> MaskArray:
    """(H, W) mask of the model's map to the (H, W) of the source picture; outside the crop 0.

    What is marked stays marked, however small the source picture is.
    """
    full = np.zeros(preprocessing.resize, dtype=np.uint8)
    top, left = _offset(preprocessing)
    height, width = values.shape
    full[top : top + height, left : left + width] = values
    least = (min(source[1], full.shape[1]), min(source[0], full.shape[0]))  # (W, H)
    share = cv2.resize(full.astype(np.float32), least, interpolation=cv2.INTER_AREA)
    mask = np.where(share > 0, 255, 0).astype(np.uint8)
    grown = cv2.resize(mask, (source[1], source[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(grown, dtype=np.uint8)


def scale_to_source(
    preprocessing: Preprocessing, source: tuple[int, int]
) -> tuple[float, float, int, int]:
    """Source pixels per map pixel (vertical, horizontal) and the crop's offset (top, left)."""
    top, left = _offset(preprocessing)
    return source[0] / preprocessing.resize[0], source[1] / preprocessing.resize[1], top, left


def _resized(image: ImageArray, size: Size) -> ImageArray:
    """(H, W[, 3]) to `size`: a side that shrinks is averaged, so that nothing aliases; one that
    grows is interpolated bilinearly.

    Halving first is OpenCV's fast path and leaves a quarter of the pixels for the rest: together
    less than half the time for a megapixel.
    """
    height, width = size
    while _halves(image, size):
        half = (image.shape[1] // 2, image.shape[0] // 2)
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
    if image.shape[:2] == (height, width):
        return image
    least = (min(width, image.shape[1]), min(height, image.shape[0]))  # (W, H)
    if least != (image.shape[1], image.shape[0]):
        image = np.asarray(cv2.resize(image, least, interpolation=cv2.INTER_AREA), np.uint8)
    if least == (width, height):
        return image
    grown = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, np.uint8)


def _halves(image: ImageArray, size: Size) -> bool:
    """Whether both sides are even and still as large as `size` when halved."""
    return all(
        side % 2 == 0 and side // 2 >= wanted
        for side, wanted in zip(image.shape[:2], size, strict=True)
    )


def _offset(preprocessing: Preprocessing) -> tuple[int, int]:
    return (
        (preprocessing.resize[0] - preprocessing.crop[0]) // 2,
        (preprocessing.resize[1] - preprocessing.crop[1]) // 2,
    )


def _centre(image: ImageArray, size: Size) -> ImageArray:
    top = (image.shape[0] - size[0]) // 2
    left = (image.shape[1] - size[1]) // 2
    return image[top : top + size[0], left : left + size[1]]

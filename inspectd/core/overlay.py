"""Pictures for people: heat over a part, outlines of defects, captioned tiles and sheets.

Pictures go in as (H, W) grey or (H, W, 3) RGB and come out as (H, W, 3) RGB, always as a new
array. Colours are RGB. Nothing here takes part in a verdict.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.core.records import ImageArray, MapArray, MaskArray, Verdict

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

GREEN: Colour = (22, 135, 83)
RED: Colour = (196, 43, 43)
AMBER: Colour = (201, 128, 10)
WHITE: Colour = (255, 255, 255)
INK: Colour = (31, 41, 51)

Mask = MaskArray | npt.NDArray[np.bool_]
"""(H, W), non-zero where defective."""

VERDICT_COLOURS = {Verdict.PASS: GREEN, Verdict.FAIL: RED, Verdict.UNDECIDED: AMBER}

_COLOUR_MAP = cv2.COLORMAP_INFERNO
_DARKEST = 0.25
"""Where on the colour map heat begins; below it, it is too dark to be told from a dark part."""
_OPAQUE = 0.7
"""Opacity of the hottest pixels: the part stays visible below them."""
_FULL_HEAT = 0.5
"""Share of the range from `low` to `high` at which the opacity is reached."""


def as_rgb(image: ImageArray) -> ImageArray:
    """A copy with three channels."""
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)  # (H, W) to (H, W, 3)
    return image.copy()


def heat_overlay(image: ImageArray, anomaly_map: MapArray, low: float, high: float) -> ImageArray:
    """The picture under the colours of its anomaly map.

    Args:
        image: (H, W) or (H, W, 3).
        anomaly_map: (h, w), resized to the picture.
        low: at or below it nothing is laid over the picture.
        high: at or above it the colour is the hottest.

    Raises:
        ValueError: `low` is not below `high`.
    """
    if not low < high:
        raise ValueError(f"low {low} must be below high {high}; pass the range of several maps")
    picture = as_rgb(image).astype(np.float32)
    values = _resized(anomaly_map.astype(np.float32), image.shape[:2], cv2.INTER_LINEAR)
    heat = np.clip((values - low) / (high - low), 0, 1)
    opacity = _OPAQUE * np.clip(heat / _FULL_HEAT, 0, 1)[:, :, None]  # (H, W, 1)
    return np.rint(picture + opacity * (_coloured(heat) - picture)).astype(np.uint8)


def heat_range(
    maps: Sequence[MapArray], pixel_threshold: float | None = None
) -> tuple[float, float]:
    """One `low` and `high` for the overlays of all these maps, so that they compare.

    What nine tenths of an average map stay below is left clear. A pixel threshold is put in the
    middle, where heat becomes fully opaque; without one the hottest spot gets the hottest colour.
    """
    if not maps:
        return 0.0, 1.0
    low = float(np.median([np.percentile(values, 90) for values in maps]))
    if pixel_threshold is not None and low < pixel_threshold:
        return low, 2 * pixel_threshold - low
    high = float(max(np.percentile(values, 99.5) for values in maps))
    return (low, high) if low < high else (low, low + 1.0)


def heat_scale(height: int, width: int) -> ImageArray:
    """(H, W, 3) legend of `heat_overlay`, `low` at the left and `high` at the right, over white."""
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1))  # (H, W)
    return heat_overlay(np.full((height, width), 255, np.uint8), ramp, 0.0, 1.0)


def outline_mask(image: ImageArray, mask: Mask, colour: Colour) -> ImageArray:
    """The picture with the contours of a mask drawn on it; the mask is resized to the picture."""
    drawn = as_rgb(image)
    shape = drawn.shape[:2]
    region = _resized((mask > 0).astype(np.uint8), shape, cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, colour, max(1, round(min(shape) / 160)), cv2.LINE_AA)
    return drawn


def fit(image: ImageArray, size: tuple[int, int], background: Colour = WHITE) -> ImageArray:
    """The whole picture, its proportions kept, centred on a tile of `size` (H, W)."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(1, round(length * scale)) for length in image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = np.full((*size, 3), background, np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    tile[top : top + height, left : left + width] = _resized(as_rgb(image), (height, width), method)
    return tile


def verdict_tile(
    image: ImageArray, mask: Mask | None, caption: str, verdict: Verdict
) -> ImageArray:
    """The picture in a frame of the verdict's colour, its defects outlined, a caption below.

    The picture keeps its size; the tile is larger by the frame and the caption.
    """
    colour = VERDICT_COLOURS[verdict]
    drawn = as_rgb(image) if mask is None else outline_mask(image, mask, colour)
    border = max(2, round(min(drawn.shape[:2]) / 64))
    framed = cv2.copyMakeBorder(
        drawn, border, border, border, border, cv2.BORDER_CONSTANT, value=colour
    )
    bar = _caption_bar(f"{verdict.value.upper()}  {caption}", framed.shape[1], WHITE, colour)
    return np.vstack([framed, bar])


def contact_sheet(
    tiles: Sequence[tuple[str, ImageArray]], columns: int, tile_size: tuple[int, int]
) -> ImageArray:
    """One picture of many, row by row on white, each with its caption below.

    Args:
        tiles: captions and pictures of any size; at least one.
        columns: tiles in a row, at least 1.
        tile_size: (H, W) in pixels of each picture, without its caption.
    """
    if not tiles or columns < 1:
        raise ValueError(f"{len(tiles)} tiles in {columns} columns make no sheet; pass at least 1")
    gap = max(4, tile_size[1] // 32)
    cells = [_cell(caption, image, tile_size, gap) for caption, image in tiles]
    blank = np.full_like(cells[0], 255)
    cells += [blank] * (-len(cells) % columns)
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.vstack(rows)


def jpeg_data_uri(image: ImageArray, quality: int = 85) -> str:
    """The picture as a JPEG in a data URI, to be put into a page."""
    done, encoded = cv2.imencode(
        ".jpg", as_rgb(image)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a picture of shape {image.shape} can't be encoded as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _coloured(heat: np.ndarray) -> ImageArray:
    """(H, W) of 0 to 1 to (H, W, 3) RGB."""
    levels = np.rint((_DARKEST + (1 - _DARKEST) * heat) * 255).astype(np.uint8)
    coloured = np.asarray(cv2.applyColorMap(levels, _COLOUR_MAP), np.uint8)
    return coloured[:, :, ::-1]  # OpenCV's tables are BGR


def _resized(values: np.ndarray, size: tuple[int, ...], method: int) -> np.ndarray:
    """To `size` (H, W)."""
    if values.shape[:2] == size[:2]:
        return values
    return cv2.resize(values, (size[1], size[0]), interpolation=method)  # OpenCV says (W, H)


def _cell(caption: str, image: ImageArray, size: tuple[int, int], gap: int) -> ImageArray:
    """A picture and its caption with white around both."""
    bar = _caption_bar(caption, size[1], INK, WHITE)
    tile = np.vstack([fit(image, size), bar])
    return np.pad(tile, ((gap, 0), (gap, gap), (0, 0)), constant_values=255)


def _caption_bar(text: str, width: int, ink: Colour, paper: Colour) -> ImageArray:
    """One line of text, (H, W, 3); too long a text is cut and ends in two dots."""
    scale = float(np.clip(width / 480, 0.35, 0.9))
    (_, tall), below = cv2.getTextSize("Ag", cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    margin = tall // 2 + 1
    bar = np.full((tall + below + 2 * margin, width, 3), paper, np.uint8)
    cv2.putText(
        bar,
        _shortened(text, scale, width - 2 * margin),
        (margin, margin + tall),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        ink,
        1,
        cv2.LINE_AA,
    )
    return bar


def _shortened(text: str, scale: float, width: int) -> str:
    """As much of the text as fits into `width` pixels."""
    shown = text
    while shown and cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] > width:
        shown = shown.removesuffix("..")[:-1] + ".."
        if shown == "..":
            return ""
    return shown

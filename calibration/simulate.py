"""Simulated defects for a hold-out set that has none: Perlin mask times texture.

The mask is thresholded Perlin noise (Perlin 1985) as in DRAEM (Zavrtanik et al., ICCV 2021) and
PRN's section 3.4 (heterologous anomalies); the texture is procedural, so that nothing need be
downloaded. What a pixel becomes is equation 7 of PRN's form: ``beta * texture + (1 - beta) *
picture`` inside the mask. The mask that is returned keeps only pixels which visibly changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inspectd.core.records import ImageArray, MapArray, MaskArray

VISIBLE = 20
"""Grey levels a pixel must change by to count as defective."""
ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class SimulatedDefect:
    """A good picture with a defect drawn into it."""

    image: ImageArray
    """(H, W, 3) RGB."""
    mask: MaskArray
    """(H, W), 255 where the picture visibly changed."""


def simulate_defect(image: ImageArray, rng: np.random.Generator) -> SimulatedDefect:
    """Draws one defect into a good picture.

    Args:
        image: (H, W, 3) RGB; not changed.
        rng: decides shape, place, texture and opacity.
    """
    part = foreground(image)
    for _ in range(ATTEMPTS):
        shape = _blob(rng, part)
        texture = procedural_texture(rng, image)
        opacity = rng.uniform(0.35, 1.0)
        soft = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), 0.8)[..., None] * opacity
        changed = np.clip(image * (1 - soft) + texture * soft, 0, 255).astype(np.uint8)
        difference = np.abs(changed.astype(np.int16) - image).max(axis=2)
        mask = (difference >= VISIBLE) & shape
        if mask.sum() >= max(25, 0.3 * shape.sum()):
            return SimulatedDefect(changed, np.where(mask, 255, 0).astype(np.uint8))
    return _spot(image, rng)


def foreground(image: ImageArray) -> np.ndarray:
    """(H, W) bool: where the part is, as far as brightness tells it from a plain border.

    Where no plain border exists the whole picture counts.
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), 3).astype(np.float32)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    if border.std() > 15:
        return np.ones(grey.shape, dtype=bool)
    part = np.abs(grey - np.median(border)) > 20
    part = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8))
    return part.astype(bool) if 0.1 < part.mean() < 0.95 else np.ones(grey.shape, dtype=bool)


def perlin(size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> MapArray:
    """(H, W) gradient noise in about [-1, 1] with (vertical, horizontal) `cells`."""
    height, width = size
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    y = np.linspace(0, cells[0], height, endpoint=False, dtype=np.float32)[:, None]
    x = np.linspace(0, cells[1], width, endpoint=False, dtype=np.float32)[None, :]
    row, column = np.broadcast_arrays(y.astype(int), x.astype(int))
    dy, dx = np.broadcast_arrays(y - np.floor(y), x - np.floor(x))

    def corner(down: int, right: int) -> np.ndarray:
        angle = angles[row + down, column + right]
        return np.sin(angle) * (dy - down) + np.cos(angle) * (dx - right)

    fade_y, fade_x = (t**3 * (t * (t * 6 - 15) + 10) for t in (dy, dx))
    top = corner(0, 0) * (1 - fade_x) + corner(0, 1) * fade_x
    bottom = corner(1, 0) * (1 - fade_x) + corner(1, 1) * fade_x
    return ((top * (1 - fade_y) + bottom * fade_y) * np.sqrt(2)).astype(np.float32)


def procedural_texture(rng: np.random.Generator, image: ImageArray) -> np.ndarray:
    """(H, W, 3) float32 texture in grey levels: coloured noise of a random scale and contrast."""
    height, width = image.shape[:2]
    base = image.reshape(-1, 3)[rng.integers(height * width)].astype(np.float32)
    shift = rng.uniform(40, 150) * rng.choice([-1.0, 1.0])
    tint = rng.normal(0, 25, 3) * rng.integers(0, 2)
    cells = 2 ** int(rng.integers(2, 6))
    grain = perlin((height, width), (cells, cells), rng) * rng.uniform(5, 60)
    return (base + shift + tint + grain[..., None]).astype(np.float32)


def _blob(rng: np.random.Generator, part: np.ndarray) -> np.ndarray:
    """(H, W) bool: one connected piece of thresholded Perlin noise on the part."""
    size = part.shape
    cells = (2 ** int(rng.integers(1, 6)), 2 ** int(rng.integers(1, 6)))
    noise = perlin(size, cells, rng)
    high = ((noise > rng.uniform(0.25, 0.55)) & part).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(high)
    areas = stats[1:, cv2.CC_STAT_AREA] / part.size
    usable = np.flatnonzero((areas > 0.0006) & (areas < 0.06)) + 1
    if not len(usable):
        return np.zeros(size, dtype=bool)
    return np.asarray(labels == rng.choice(usable))


def _spot(image: ImageArray, rng: np.random.Generator) -> SimulatedDefect:
    """A plain dark or bright spot in the middle: what is left where noise found no place."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), dtype=np.uint8)
    radius = max(4, min(height, width) // 24)
    cv2.circle(mask, (width // 2, height // 2), radius, 255, -1)
    colour = 255 if image[mask > 0].mean() < 128 else 0
    changed = image.copy()
    changed[mask > 0] = colour
    return SimulatedDefect(changed, mask)

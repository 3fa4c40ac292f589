"""PRN's augmentations: two of seven of colour (Aug1), spatial ones (Aug2), the 8 x 8 shuffle."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.core.records import ImageArray

GRID = 8
"""Cells along either side of a shuffled picture (appendix A.1)."""
_LEVELS = np.arange(256)


def augment_colours(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Two different operations of seven, in random order (Aug1 of figure 5).

    Args:
        image: (H, W, 3) RGB; not changed.
        rng: chooses the operations and their strengths.
    """
    for index in rng.permutation(len(OPERATIONS))[:2]:
        image = OPERATIONS[index](image, rng)
    return image


def equalise(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Every channel's histogram made flat."""
    return np.asarray(cv2.merge([cv2.equalizeHist(one) for one in cv2.split(image)]), np.uint8)


def solarise(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Levels from a threshold on inverted."""
    return _mapped(image, np.where(rng.integers(32, 224) <= _LEVELS, 255 - _LEVELS, _LEVELS))


def posterise(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """One to four bits a channel are kept."""
    dropped = 8 - int(rng.integers(1, 5))
    return _mapped(image, _LEVELS >> dropped << dropped)


def sharpness(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Between blurred and strongly sharpened."""
    strength = float(rng.uniform(-1, 4))
    blurred = cv2.GaussianBlur(image, (0, 0), 1.5)
    return np.asarray(cv2.addWeighted(image, 1 + strength, blurred, -strength, 0), np.uint8)


def autocontrast(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Every channel stretched to the full range, without its outermost 1 to 10 %."""
    cut = rng.uniform(1, 10)
    stretched = [_stretched(np.asarray(one, np.uint8), cut) for one in cv2.split(image)]
    return np.asarray(cv2.merge(stretched), np.uint8)


def invert(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Every level L to 255 - L."""
    return np.asarray(cv2.bitwise_not(image), np.uint8)


def gamma(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Exponents from 1/3 to 3, each factor as likely as its inverse."""
    exponent = np.exp(rng.uniform(-np.log(3), np.log(3)))
    return _mapped(image, 255 * (_LEVELS / 255) ** exponent)


OPERATIONS = (equalise, solarise, posterise, sharpness, autocontrast, invert, gamma)


def moved(
    pivot: tuple[float, float], target: tuple[float, float], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """(2, 3) affine map: rotation and shear about `pivot`, and a shift to `target` (Aug2).

    Args:
        pivot: (row, column) in the seen picture.
        target: (row, column) in the good picture.
        rng: draws an angle of up to half a turn either way and a shear of up to 0.4.
    """
    angle, shear = rng.uniform(-np.pi, np.pi), rng.uniform(-0.4, 0.4)
    sine, cosine = np.sin(angle), np.cos(angle)
    turned = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    start, end = np.array(pivot)[::-1], np.array(target)[::-1]  # OpenCV says (x, y)
    return np.column_stack([turned, end - turned @ start]).astype(np.float32)


def shuffled(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """The picture in `GRID` x `GRID` cells, put together in random order (appendix A.1).

    Sides that aren't multiples of the grid are stretched to one first and cut afterwards.
    """
    height, width = image.shape[:2]
    tall, wide = -(-height // GRID), -(-width // GRID)
    if (tall * GRID, wide * GRID) != (height, width):
        image = np.asarray(cv2.resize(image, (wide * GRID, tall * GRID)), np.uint8)
    cells = image.reshape(GRID, tall, GRID, wide, 3).swapaxes(1, 2)  # (8, 8, h, w, 3)
    mixed = cells.reshape(-1, tall, wide, 3)[rng.permutation(GRID * GRID)]  # (64, h, w, 3)
    whole = mixed.reshape(GRID, GRID, tall, wide, 3).swapaxes(1, 2)  # (8, h, 8, w, 3)
    return whole.reshape(tall * GRID, wide * GRID, 3)[:height, :width]


def _mapped(image: ImageArray, table: npt.NDArray[np.generic]) -> ImageArray:
    return np.asarray(cv2.LUT(image, np.rint(table).astype(np.uint8)), np.uint8)


def _stretched(channel: ImageArray, cut: float) -> ImageArray:
    counts = cv2.calcHist([channel], [0], None, [256], [0, 256]).ravel()
    share = np.cumsum(counts) / channel.size * 100
    low, high = np.searchsorted(share, [cut, 100 - cut])
    return _mapped(channel, np.clip((_LEVELS - low) * (255 / max(1, high - low)), 0, 255))

"""Perlin's gradient noise (Perlin 1985; PRN [37]), interpolated first down, then across.

A gradient's part in a pixel is ``sin(a) * dy + cos(a) * dx``, faded along both sides. Rows are
interpolated on the coarse grid of gradients already, so that only two fields of the full width are
left to be interpolated across. Without a matrix product there is no thread pool and no order of
summation that differs between machines' core counts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from inspectd.core.records import MapArray


class _Steps(NamedTuple):
    """Of every pixel along one side."""

    cell: npt.NDArray[np.intp]
    near: MapArray
    """Fade weight of the corner before it."""
    far: MapArray
    """Of the corner behind it."""
    near_offset: MapArray
    """The weight times the distance to that corner, in cells."""
    far_offset: MapArray


def perlin(size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> MapArray:
    """(H, W) float32 in about [-1, 1], with (vertical, horizontal) `cells`; zero at their corners.

    Args:
        size: (H, W) in pixels.
        cells: along each side, at least 1.
        rng: draws the gradients' directions.
    """
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    sine, cosine = np.sin(angles), np.cos(angles)
    down, across = _steps(size[0], cells[0]), _steps(size[1], cells[1])
    rows = down.cell
    column = np.s_[:, None]
    vertical = sine[rows] * down.near_offset[column] + sine[rows + 1] * down.far_offset[column]
    horizontal = cosine[rows] * down.near[column] + cosine[rows + 1] * down.far[column]
    noise = vertical.take(across.cell, axis=1) * across.near  # (H, cells + 1) to (H, W)
    noise += vertical.take(across.cell + 1, axis=1) * across.far
    noise += horizontal.take(across.cell, axis=1) * across.near_offset
    noise += horizontal.take(across.cell + 1, axis=1) * across.far_offset
    return np.asarray(noise * np.float32(np.sqrt(2)), np.float32)


@lru_cache(maxsize=64)
def _steps(length: int, cells: int) -> _Steps:
    place = np.arange(length) * cells / length
    cell = place.astype(np.intp)
    offset = place - cell
    far = offset**3 * (offset * (offset * 6 - 15) + 10)
    weights = (1 - far, far, offset * (1 - far), (offset - 1) * far)
    near, behind, near_offset, far_offset = (one.astype(np.float32) for one in weights)
    return _Steps(cell, near, behind, near_offset, far_offset)

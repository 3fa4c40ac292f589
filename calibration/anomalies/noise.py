"""Perlin's gradient noise (Perlin 1985; PRN [37]) as two small matrix products.

The noise is bilinear in its gradients: with the fade weights F and the weighted offsets D of the
rows and columns, ``noise = D_y sin(a) F_x' + F_y cos(a) D_x'``, where a are the gradients' angles.
F and D depend on the sizes only and are kept; what is left takes a fraction of a millisecond.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from inspectd.core.records import MapArray


def perlin(size: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> MapArray:
    """(H, W) float32 in about [-1, 1], with (vertical, horizontal) `cells`; zero at their corners.

    Args:
        size: (H, W) in pixels.
        cells: along each side, at least 1.
        rng: draws the gradients' directions.
    """
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    fade_y, offset_y = _weights(size[0], cells[0])  # (H, cells + 1)
    fade_x, offset_x = _weights(size[1], cells[1])  # (W, cells + 1)
    vertical = offset_y @ np.sin(angles) @ fade_x.T  # (H, W)
    horizontal = fade_y @ np.cos(angles) @ offset_x.T  # (H, W)
    return np.asarray((vertical + horizontal) * np.float32(np.sqrt(2)), np.float32)


@lru_cache(maxsize=64)
def _weights(length: int, cells: int) -> tuple[MapArray, MapArray]:
    """Fade weights and offsets times fade weights, each (length, cells + 1)."""
    place = np.arange(length) * cells / length
    cell = place.astype(int)
    offset = place - cell
    far = offset**3 * (offset * (offset * 6 - 15) + 10)
    fade, weighted = np.zeros((2, length, cells + 1), np.float32)
    rows = np.arange(length)
    fade[rows, cell], fade[rows, cell + 1] = 1 - far, far
    weighted[rows, cell], weighted[rows, cell + 1] = offset * (1 - far), (offset - 1) * far
    return fade, weighted

"""Which patches of a picture are learned where only a region of it is inspected.

A patch outside of the region can still raise the map inside: patch scores are upsampled, which
reaches one patch further, and then smoothed. So what lies that near is learned, too; else the seam
between what is known and what is not would shine into the region. All the rest is left out: no
prototype is spent on it, and nothing is taught that no verdict rests on. Prototypes that are whole
maps, as PRN's are, still hold all of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.core.records import MaskArray

Places = npt.NDArray[np.intp]
SIGMAS = 3.0
"""Of the smoothing, beyond which a patch no longer counts."""


def learned_places(region: MaskArray, grid: tuple[int, int], sigma: float) -> Places:
    """Flat indexes of the patches of an (h, w) grid that can raise the map inside of the region.

    Args:
        region: (H, W) of the model's input, non-zero where inspected.
        grid: (h, w) of the patches.
        sigma: of the Gaussian that smooths the map, in pixels of the input.
    """
    stride = max(-(-side // count) for side, count in zip(region.shape, grid, strict=True))
    reach = ceil(SIGMAS * sigma) + stride
    near = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    reached = cv2.dilate((region > 0).astype(np.uint8), near).astype(np.float32)  # (H, W)
    share = cv2.resize(reached, grid[::-1], interpolation=cv2.INTER_AREA)  # (h, w)
    return np.flatnonzero(share > 0)


def all_learned_places(
    regions: Sequence[MaskArray] | None, count: int, grid: tuple[int, int], sigma: float
) -> Iterator[Places]:
    """`learned_places` of each of `count` pictures; all patches where no region is given."""
    everywhere = np.arange(grid[0] * grid[1])
    before: tuple[MaskArray, Places] | None = None
    for index in range(count):
        if regions is None:
            yield everywhere
            continue
        region = regions[index]
        if before is None or before[0] is not region:  # mostly it is the same one
            before = region, learned_places(region, grid, sigma)
        yield before[1]

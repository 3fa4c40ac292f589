"""Large pictures through a small graph: overlapping tiles, one map without seams.

At its own borders a tile's map is wrong: the network saw padding there instead of the picture. So
of the overlap a quarter on each side is left out, and over the rest one tile fades into the next;
the weights of all tiles add up to 1 at every pixel. Where a tile ends with the picture itself it
counts up to its edge, as the map of an untiled picture does.

Tiles begin at multiples of the network's stride, so that each sees the same grid of patches; only
the last of a row or a column may not, as it ends with the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from inspectd.core.preprocess import Tiling
from inspectd.core.records import ImageArray, MapArray, MaskArray

STRIDE = 16
"""Pixels between patches of the coarsest stage that the scorers use."""
BATCH = 8
"""Tiles that are cut at a time: it bounds the memory, whatever the picture's size."""

Window = tuple[slice, slice]
"""Rows and columns of a tile in the picture."""
Weights = npt.NDArray[np.float32]
InferEach = Callable[[Sequence[ImageArray]], Sequence[MapArray]]
"""Pictures of the graph's input size, (H, W, 3) each, to their maps, (H, W)."""


def starts(length: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one side of a picture; neighbours share `overlap` or more."""
    step = tile - overlap
    step = max(1, step - step % STRIDE if step >= STRIDE else step)
    inner = range(0, max(0, length - tile), step)
    return [*inner, length - tile]


def windows(size: tuple[int, int], tiles: Tiling, roi: MaskArray | None = None) -> list[Window]:
    """The tiles of an (H, W) picture in which there is something to inspect, row by row."""
    rows, columns = (_spans(*side, tiles.overlap) for side in zip(size, tiles.size, strict=True))
    every = ((row, column) for row in rows for column in columns)
    return [window for window in every if roi is None or roi[window].any()]


def weights(length: int, tile: int, overlap: int) -> dict[int, Weights]:
    """For each tile's start along one side its (tile,) weights; at each pixel they sum to 1."""
    beginnings = starts(length, tile, overlap)
    margin = overlap // 4
    inner = np.arange(tile, dtype=np.float32) + 0.5 - margin
    fade = np.clip(inner / max(1, overlap - 2 * margin), 0, 1)
    total = np.zeros(length, np.float32)
    found = {}
    for start in beginnings:
        weight = np.ones(tile, np.float32)
        if start > 0:
            weight *= fade
        if start + tile < length:
            weight *= fade[::-1]
        total[start : start + tile] += weight
        found[start] = weight
    return {start: weight / total[start : start + tile] for start, weight in found.items()}


def tiled_map(
    image: ImageArray, tiles: Tiling, roi: MaskArray | None, infer_each: InferEach
) -> MapArray:
    """(H, W) map of an (H, W, 3) picture, put together of its tiles' maps.

    Tiles without a pixel of the (H, W) region are not run; the map is 0 where no tile is.
    """
    height, width = image.shape[:2]
    down = weights(height, tiles.size[0], tiles.overlap)
    across = weights(width, tiles.size[1], tiles.overlap)
    values = np.zeros((height, width), np.float32)
    for some in _batches(windows((height, width), tiles, roi)):
        cut = [np.ascontiguousarray(image[window]) for window in some]
        for (rows, columns), part in zip(some, infer_each(cut), strict=True):
            weight = down[rows.start][:, None] * across[columns.start][None, :]
            values[rows, columns] += part * weight
    return values


def _spans(length: int, tile: int, overlap: int) -> list[slice]:
    return [slice(start, start + tile) for start in starts(length, tile, overlap)]


def _batches(items: Iterable[Window]) -> Iterator[list[Window]]:
    remaining = iter(items)
    while some := list(islice(remaining, BATCH)):
        yield some

"""Pictures too large to be kept by the hundred: reduced for the report, tiled to learn from.

A hold-out picture of 4096 x 4096 and its map take 112 MiB. Their scores are computed on all of it,
then picture and map are reduced to at most `KEPT_SIDE` a side: the picture by averages, map and
mask by the highest value of each block, so that a defect of a few pixels is still there. Pixel
figures of such pictures are therefore of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar, overload

import cv2
import numpy as np
import numpy.typing as npt

from calibration.lazy import Lazily
from calibration.scorers import Labelled
from inspectd.core.preprocess import Tiling
from inspectd.core.records import ImageArray, MaskArray
from inspectd.core.scope import Scope
from inspectd.pipeline.tiles import Window, windows

KEPT_SIDE = 1024
"""Larger pictures are reduced by a whole number to at most that."""
MOST_TILES = 2_000
"""Tiles that are learned from; drawn at random where the good pictures have more."""

Kind = TypeVar("Kind", bound=np.generic)


def factor(size: tuple[int, ...]) -> int:
    """By how much a picture of (H, W) is reduced; 1 where it isn't."""
    return -(-max(size[:2]) // KEPT_SIDE)


def block_maxima(values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """(H, W) reduced by its `factor`: the highest of each block; blocks at the end may be cut."""
    k = factor(values.shape)
    if k == 1:
        return values
    rows = np.maximum.reduceat(values, np.arange(0, values.shape[0], k), axis=0)
    return np.asarray(np.maximum.reduceat(rows, np.arange(0, values.shape[1], k), axis=1))


def shrunk(image: ImageArray) -> ImageArray:
    """(H, W, 3) reduced by its `factor`: the mean of each block."""
    k = factor(image.shape)
    if k == 1:
        return image
    height, width = (-(-side // k) for side in image.shape[:2])
    reduced = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)  # (W, H)
    return np.asarray(reduced, np.uint8)


def inputs_of(
    pictures: Sequence[ImageArray], size: tuple[int, int], scope: Scope, seed: int
) -> Sequence[ImageArray]:
    """What is learned from: prepared (H, W) pictures, or their tiles in which something counts."""
    if scope.tiles is None:
        return pictures
    return TrainingTiles.of(pictures, windows(size, scope.tiles, scope.roi), seed)


def regions_of(inputs: Sequence[ImageArray], scope: Scope) -> Sequence[MaskArray] | None:
    """Of each of `inputs_of` where it is inspected, (H, W); None: everywhere."""
    roi = scope.roi
    if roi is None:
        return None
    if isinstance(inputs, TrainingTiles):
        return Lazily(len(inputs), lambda at: roi[inputs.places[at][1]])
    return Lazily(len(inputs), lambda _: roi)


def labelled_inputs_of(pictures: Sequence[Labelled], scope: Scope, seed: int) -> Sequence[Labelled]:
    """What trainings are stopped by and taught: labelled pictures, or one tile of each.

    Of a defective picture the tile with most of the defect; of others one at random. The defect of
    a picture without a mask may lie elsewhere: such a tile only blurs the figure.
    """
    size, roi = scope.tiles, scope.roi
    if size is None:
        if roi is None:
            return pictures
        return Lazily(len(pictures), lambda at: replace(pictures[at], region=roi))
    return Lazily(len(pictures), lambda at: _tile_of(pictures[at], size, roi, (seed, at)))


def _tile_of(
    one: Labelled, tiles: Tiling, roi: MaskArray | None, seed: tuple[int, int]
) -> Labelled:
    found = windows((one.image.shape[0], one.image.shape[1]), tiles, roi)
    mask = one.mask
    chosen = found[int(np.random.default_rng(seed).integers(len(found)))]
    if mask is not None and mask.any():
        counted = mask if roi is None else np.minimum(mask, roi)
        chosen = max(found, key=lambda window: np.count_nonzero(counted[window]))
    return Labelled(
        one.name,
        one.label,
        np.ascontiguousarray(one.image[chosen]),
        None if mask is None else np.ascontiguousarray(mask[chosen]),
        None if roi is None else np.ascontiguousarray(roi[chosen]),
    )


class TrainingTiles(Sequence[ImageArray]):
    """The tiles of prepared pictures, each (H, W, 3) of the graph's input; cut one at a time."""

    def __init__(
        self, pictures: Sequence[ImageArray], places: Sequence[tuple[int, Window]]
    ) -> None:
        self.pictures = pictures
        self.places = places
        """Which picture, and where in it."""
        self._last: tuple[int, ImageArray] | None = None

    @classmethod
    def of(
        cls, pictures: Sequence[ImageArray], windows: Sequence[Window], seed: int
    ) -> TrainingTiles:
        """Every window of every picture, or `MOST_TILES` of these."""
        every = [(index, window) for index in range(len(pictures)) for window in windows]
        if len(every) > MOST_TILES:
            rng = np.random.default_rng(seed)
            chosen = np.sort(rng.choice(len(every), MOST_TILES, replace=False))
            every = [every[index] for index in chosen]
        return cls(pictures, every)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> ImageArray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageArray]: ...
    def __getitem__(self, index: int | slice) -> ImageArray | Sequence[ImageArray]:
        if isinstance(index, slice):
            return TrainingTiles(self.pictures, self.places[index])
        which, window = self.places[index]
        if self._last is None or self._last[0] != which:
            self._last = which, self.pictures[which]
        return np.ascontiguousarray(self._last[1][window])

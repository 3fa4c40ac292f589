"""Overlapping tiles: where they lie, what they weigh, and that no seam shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd.core.preprocess import Tiling
from inspectd.core.records import ImageArray, MapArray
from inspectd.pipeline.tiles import BATCH, STRIDE, starts, tiled_map, weights, windows

few = settings(max_examples=100, deadline=None)


@st.composite
def sides(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length, tile and overlap of one side."""
    tile = draw(st.integers(32, 80))
    overlap = draw(st.integers(0, tile // 2))
    return draw(st.integers(tile, 300)), tile, overlap


@few
@given(sides())
def test_tiles_cover_a_side_and_overlap(side: tuple[int, int, int]) -> None:
    """From the first pixel to the last, neighbours sharing at least what is asked for."""
    length, tile, overlap = side
    found = starts(*side)
    assert (found[0], found[-1]) == (0, length - tile)
    steps = np.diff(found)
    assert ((steps > 0) & (steps <= tile - overlap)).all()
    if tile - overlap >= STRIDE:
        assert all(start % STRIDE == 0 for start in found[:-1])


@few
@given(sides())
def test_weights_add_up_to_one(side: tuple[int, int, int]) -> None:
    """At every pixel; none is negative, and what borders on another tile weighs nothing."""
    length, tile, overlap = side
    total = np.zeros(length)
    found = weights(*side)
    for start, weight in found.items():
        assert (weight >= 0).all()
        total[start : start + tile] += weight
        if start > 0 and overlap >= 8:
            assert not weight[: overlap // 4].any()
    np.testing.assert_allclose(total, 1, atol=1e-6)


@few
@given(sides(), sides())
def test_a_map_that_tiles_agree_on_is_put_together_exactly(
    rows: tuple[int, int, int], columns: tuple[int, int, int]
) -> None:
    """Where all tiles say the same of a pixel, so does the whole."""
    overlap = min(rows[2], columns[2])
    tiles = Tiling(size=(rows[1], columns[1]), overlap=overlap)
    image = np.random.default_rng(1).integers(0, 256, (rows[0], columns[0], 3), np.uint8)
    values = tiled_map(image, tiles, None, _red)
    np.testing.assert_allclose(values, image[..., 0], atol=1e-3)


def test_tiles_without_anything_to_inspect_are_not_run() -> None:
    """They'd cost time; tiles that touch the region by a pixel are run."""
    tiles = Tiling(size=(32, 32), overlap=0)
    roi = np.zeros((96, 96), np.uint8)
    roi[31, 40] = 255
    assert windows((96, 96), tiles, roi) == [(slice(0, 32), slice(32, 64))]
    assert len(windows((96, 96), tiles)) == 9
    seen: list[int] = []

    def counted(images: Sequence[ImageArray]) -> list[MapArray]:
        seen.append(len(images))
        return _red(images)

    values = tiled_map(np.full((96, 96, 3), 9, np.uint8), tiles, roi, counted)
    assert seen == [1]
    assert (values[31, 40], values[0, 0]) == (9, 0)


def test_tiles_come_a_few_at_a_time() -> None:
    """The memory for tiles and their maps doesn't grow with the picture."""
    seen: list[int] = []

    def counted(images: Sequence[ImageArray]) -> list[MapArray]:
        seen.append(len(images))
        return _red(images)

    tiled_map(np.zeros((160, 160, 3), np.uint8), Tiling(size=(32, 32), overlap=0), None, counted)
    assert sum(seen) == 25
    assert max(seen) == BATCH


def test_a_tiles_wrong_border_leaves_no_step() -> None:
    """A graph that is wrong near its borders, as padding makes it, shows in no row or column."""
    tiles = Tiling(size=(64, 64), overlap=32)

    def padded(images: Sequence[ImageArray]) -> list[MapArray]:
        edge = np.minimum(np.arange(64), np.arange(64)[::-1])
        near = np.minimum(edge[:, None], edge[None, :]) < tiles.overlap // 4
        return [np.where(near, 100, values) for values in _red(images)]

    image = np.full((200, 240, 3), 50, np.uint8)
    values = tiled_map(image, tiles, None, padded)
    inner = values[8:-8, 8:-8]
    np.testing.assert_allclose(inner, 50, atol=1e-3)


def _red(images: Sequence[ImageArray]) -> list[MapArray]:
    return [image[..., 0].astype(np.float32) for image in images]

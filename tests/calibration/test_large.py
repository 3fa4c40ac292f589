"""Large pictures: reduced once they are scored, tiled to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from calibration import large
from calibration.evaluate import Scored, let_go, score_one
from calibration.large import (
    TrainingTiles,
    block_maxima,
    factor,
    inputs_of,
    labelled_inputs_of,
    regions_of,
    shrunk,
)
from calibration.scorers import Labelled
from inspectd.core.preprocess import Tiling
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.core.scope import WHOLE, Scope


class Red:
    """Says of each pixel how red it is."""

    name, rounding = "red", 0.0

    def infer(self, image: ImageArray) -> AnomalyMap:
        """The red channel."""
        values = image[..., 0].astype(np.float32)
        return AnomalyMap(values, float(values.max()))


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures above 16 pixels a side are large."""
    monkeypatch.setattr(large, "KEPT_SIDE", 16)


@pytest.mark.parametrize(
    ("size", "by"), [((1, 1), 1), ((1024, 700), 1), ((1025, 3), 2), ((3, 4096, 3), 4)]
)
def test_only_what_is_large_is_reduced(size: tuple[int, ...], by: int) -> None:
    """By the larger side of (H, W)."""
    assert factor(size) == by


@pytest.mark.usefixtures("_small")
def test_a_single_pixel_survives_the_reduction() -> None:
    """The highest of each block, also of those that the border cuts."""
    values = np.zeros((33, 20), np.float32)
    values[32, 19], values[4, 4] = 7, 3
    reduced = block_maxima(values)
    assert reduced.shape == (11, 7)
    assert (reduced[10, 6], reduced[1, 1], reduced.sum()) == (7, 3, 10)
    assert shrunk(np.zeros((33, 20, 3), np.uint8)).shape == (11, 7, 3)


@pytest.mark.usefixtures("_small")
def test_large_pictures_are_scored_whole_and_kept_small() -> None:
    """The score is of all pixels; golden candidates keep the picture, the others let it go."""
    scored: list[Scored] = []
    for red, label in ((9, "good"), (5, "good"), (200, "spot"), (100, "spot")):
        image = np.zeros((40, 40, 3), np.uint8)
        image[17, 23] = red
        mask = np.where(image[..., 0] > 50, 255, 0).astype(np.uint8)
        scored.append(score_one("p", label, image, mask, WHOLE, Red()))  # type: ignore[arg-type]
        let_go(scored)
    assert [one.score for one in scored] == [9, 5, 200, 100]
    assert all(one.anomaly_map.max() == one.score for one in scored)
    assert {one.anomaly_map.shape for one in scored} == {(14, 14)}
    assert [one.full is None for one in scored] == [True, False, False, True]
    assert scored[1].input.shape == (40, 40, 3)
    assert all(one.mask is not None and one.mask.sum() in (0, 255) for one in scored)


def test_small_pictures_are_kept_as_they_are() -> None:
    """Nothing is copied, nothing let go."""
    image = np.zeros((40, 40, 3), np.uint8)
    scored = [score_one("p", "good", image, None, WHOLE, Red())] * 2  # type: ignore[arg-type]
    let_go(scored)
    assert all(one.input is image for one in scored)


def test_tiles_of_all_pictures_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time, by picture; where there are too many, a draw that the seed decides."""
    pictures = [np.full((64, 96, 3), index, np.uint8) for index in range(3)]
    scope = Scope(tiles=Tiling(size=(32, 32), overlap=0))
    tiles = inputs_of(pictures, (64, 96), scope, seed=0)
    assert isinstance(tiles, TrainingTiles)
    assert [int(tile[0, 0, 0]) for tile in tiles] == [0] * 6 + [1] * 6 + [2] * 6
    assert {tile.shape for tile in tiles} == {(32, 32, 3)}
    assert len(tiles[4:8]) == 4
    monkeypatch.setattr(large, "MOST_TILES", 5)
    drawn = [inputs_of(pictures, (64, 96), scope, seed).places for seed in (1, 1, 2)]  # type: ignore[attr-defined]
    assert len(drawn[0]) == 5
    assert drawn[0] == drawn[1] != drawn[2]


def test_tiles_outside_the_region_are_not_learned_from() -> None:
    """What is never inspected need not be known; without tiles the pictures are passed on."""
    roi = np.zeros((64, 96), np.uint8)
    roi[40:50, 70:80] = 255
    pictures = [np.zeros((64, 96, 3), np.uint8)]
    tiles = inputs_of(pictures, (64, 96), Scope(roi, tiles=Tiling(size=(32, 32), overlap=0)), 0)
    assert len(tiles) == 1
    assert inputs_of(pictures, (64, 96), Scope(roi), 0) is pictures


def test_every_input_has_its_part_of_the_region() -> None:
    """A picture all of it, a tile what lies in it; without a region there is none to tell."""
    roi = np.zeros((64, 96), np.uint8)
    roi[20:40, 20:80] = 255
    pictures = [np.zeros((64, 96, 3), np.uint8)] * 2
    masks = np.zeros((64, 96), np.uint8)
    masks[30:34, 70:76] = 255
    labelled = [Labelled("dent/0.png", "dent", pictures[0], masks)]
    tiles = Tiling(size=(32, 32), overlap=0)
    for scope in (WHOLE, Scope(tiles=tiles)):
        assert regions_of(inputs_of(pictures, (64, 96), scope, 0), scope) is None
        assert labelled_inputs_of(labelled, scope, 0)[0].region is None
    whole = Scope(roi)
    assert [one is roi for one in regions_of(pictures, whole) or ()] == [True, True]
    assert labelled_inputs_of(labelled, whole, 0)[0].region is roi
    tiled = Scope(roi, tiles=tiles)
    inputs = inputs_of(pictures, (64, 96), tiled, 0)
    regions = regions_of(inputs, tiled)
    assert regions is not None
    assert [int((one > 0).sum()) for one in regions][:6] == [144, 384, 192, 96, 256, 128]
    (one,) = labelled_inputs_of(labelled, tiled, 0)
    assert one.mask is not None
    assert one.region is not None
    assert (one.region > 0).sum() == 192  # the tile that has most of the defect

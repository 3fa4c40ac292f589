"""Simulated defects lie where they count."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.anomalies import UNSEEN, AnomalyGenerator
from calibration.placing import LEAST, STYLE, Drawn, place_defect, placed
from inspectd.core.preprocess import Tiling
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.tiles import Window

GOOD = [np.random.default_rng(at).integers(90, 140, (96, 128, 3), np.uint8) for at in range(2)]
IMAGE = GOOD[0]


def _roi(top: int, left: int, height: int, width: int) -> np.ndarray:
    roi = np.zeros(IMAGE.shape[:2], np.uint8)
    roi[top : top + height, left : left + width] = 255
    return roi


def test_on_a_whole_picture_nothing_is_changed() -> None:
    """The generator's own defect, as without a scope."""
    image, mask = place_defect(GOOD, 1, WHOLE, 3)
    drawn = AnomalyGenerator(GOOD, seed=3, style=STYLE).sample_on(1, 1, UNSEEN.kind_of(1))
    np.testing.assert_array_equal(image, drawn.image)
    np.testing.assert_array_equal(mask, drawn.mask)


@pytest.mark.parametrize(
    "scope",
    [
        Scope(_roi(30, 40, 30, 30)),
        Scope(_roi(90, 0, 6, 20)),
        Scope(min_pixels=300),
        Scope(tiles=Tiling(size=(48, 48), overlap=8)),
        Scope(_roi(70, 100, 20, 20), 40, tiles=Tiling(size=(32, 32), overlap=8)),
    ],
    ids=["region", "strip", "area", "tiles", "all"],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_defect_is_inside_and_large_enough(scope: Scope, seed: int) -> None:
    """Only where the mask is may the picture differ, and visibly so somewhere."""
    image, mask = place_defect(GOOD, 0, scope, seed)
    inside = scope.inside if scope.inside is not None else np.ones(IMAGE.shape[:2], bool)
    assert not mask[~inside].any()
    assert np.count_nonzero(mask) >= max(LEAST, scope.min_pixels)
    assert np.array_equal(image[~inside], IMAGE[~inside])
    assert (image != IMAGE)[mask > 0].any()
    if scope.tiles is not None:
        rows, columns = np.nonzero(mask)
        assert np.ptp(rows) < scope.tiles.size[0]
        assert np.ptp(columns) < scope.tiles.size[1]


def test_where_no_drawing_fits_there_is_a_spot() -> None:
    """In the widest place of the region, within it."""

    def elsewhere(window: Window, _: int) -> Drawn:
        mask = np.zeros(IMAGE[window].shape[:2], np.uint8)
        mask[:10, :10] = 255
        return np.zeros_like(IMAGE[window]), mask

    scope = Scope(_roi(50, 60, 30, 30))
    image, mask = placed(IMAGE, np.random.default_rng(0), scope, elsewhere)
    assert mask[65, 75] == 255
    assert not mask[~(scope.roi > 0)].any()  # type: ignore[operator]
    assert (image != IMAGE).any(axis=2).sum() == np.count_nonzero(mask)

"""Which patches are learned where only a region is inspected."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.judging import smoothed
from calibration.regions import all_learned_places, learned_places

SIZE, GRID, SIGMA = (96, 128), (24, 32), 4.0


def _region() -> np.ndarray:
    region = np.zeros(SIZE, np.uint8)
    cv2.circle(region, (90, 60), 14, 255, -1)
    return region


def test_a_patch_that_is_left_out_can_not_raise_the_map_inside() -> None:
    """A thousandth of it comes through at most; of those that are learned most do reach it."""
    region = _region()
    learned = set(learned_places(region, GRID, SIGMA).tolist())
    assert 0 < len(learned) < 0.5 * GRID[0] * GRID[1]
    reached = set()
    for place in range(0, GRID[0] * GRID[1], 3):
        patches = np.zeros(GRID, np.float32)
        patches.flat[place] = 1.0
        raised = smoothed(patches, SIZE, SIGMA)[region > 0].max()
        if place in learned:
            reached |= {place} if raised > 1e-4 else set()
        else:
            assert raised < 1e-3
    assert len(reached) > 0.6 * len([place for place in learned if place % 3 == 0])


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_more_is_learned_where_the_map_is_smoothed_more(sigma: float) -> None:
    """Without smoothing only what lies in the region or beside it."""
    region = np.zeros((64, 64), np.uint8)
    region[32:36, 32:36] = 255
    rows = np.unique(learned_places(region, (16, 16), sigma) // 16)
    reach = 4 + 12 * (sigma > 0)
    assert (rows[0], rows[-1]) == ((32 - reach) // 4, (35 + reach) // 4)


def test_each_picture_has_places_of_its_own() -> None:
    """Without regions all of them, of every picture."""
    left, right = np.zeros((2, 64, 64), np.uint8)
    left[:, :8], right[:, 56:] = 255, 255
    found = list(all_learned_places([left, left, right], 3, (8, 8), 0.0))
    assert [sorted({int(one) % 8 for one in places}) for places in found] == [
        [0, 1],
        [0, 1],
        [6, 7],
    ]
    (everywhere,) = all_learned_places(None, 1, (2, 3), SIGMA)
    np.testing.assert_array_equal(everywhere, np.arange(6))

"""The paper's augmentations."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.anomalies.augment import (
    GRID,
    OPERATIONS,
    augment_colours,
    equalise,
    invert,
    moved,
    posterise,
    shuffled,
)

PICTURE = np.random.default_rng(0).normal(120, 30, (40, 50, 3)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_keep_shape_and_input(operation) -> None:
    """(H, W, 3) uint8 comes out, different, and the picture itself is not touched."""
    kept = PICTURE.copy()
    made = operation(PICTURE, np.random.default_rng(1))
    assert made.shape == PICTURE.shape
    assert made.dtype == np.uint8
    assert (made != PICTURE).any()
    np.testing.assert_array_equal(PICTURE, kept)


def test_operations_do_what_they_are_called() -> None:
    """Inverting twice is nothing, equalising spreads the levels, posterising leaves few."""
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(invert(invert(PICTURE, rng), rng), PICTURE)
    assert equalise(PICTURE, rng).std() > 1.5 * PICTURE.std()
    assert len(np.unique(posterise(PICTURE, rng))) <= 16


def test_two_operations_are_random() -> None:
    """Ten draws give many different pictures."""
    rng = np.random.default_rng(0)
    assert len({augment_colours(PICTURE, rng).tobytes() for _ in range(10)}) >= 8


def test_the_spatial_map_takes_the_pivot_to_the_target() -> None:
    """The pivot lands where it shall, and lengths are neither lost nor multiplied."""
    for seed in range(10):
        map_ = moved((10, 30), (5, 7), np.random.default_rng(seed))
        np.testing.assert_allclose(map_ @ [30, 10, 1], [7, 5], atol=1e-4)
        assert np.linalg.det(map_[:, :2]) == pytest.approx(1, abs=1e-5)


def test_shuffling_moves_whole_cells() -> None:
    """64 cells of one shade each come out as 64 whole cells in another order."""
    shades = np.arange(GRID * GRID, dtype=np.uint8).reshape(GRID, GRID)
    picture = np.repeat(np.kron(shades, np.ones((4, 6), np.uint8))[:, :, None], 3, axis=2)
    mixed = shuffled(picture, np.random.default_rng(0))
    cells = mixed[::4, ::6, 0]
    assert sorted(cells.ravel()) == list(range(GRID * GRID))
    assert (cells != shades).any()
    np.testing.assert_array_equal(np.kron(cells, np.ones((4, 6), np.uint8)), mixed[:, :, 0])


@pytest.mark.parametrize("size", [(61, 45), (8, 8), (224, 250)])
def test_shuffling_keeps_odd_sizes(size: tuple[int, int]) -> None:
    """A picture that 8 doesn't divide keeps its size."""
    assert shuffled(np.zeros((*size, 3), np.uint8), np.random.default_rng(0)).shape == (*size, 3)

"""Simulated defects: visible, honestly masked, repeatable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.simulate import VISIBLE, foreground, perlin, procedural_texture, simulate_defect


def _part(size: tuple[int, int] = (96, 120)) -> np.ndarray:
    """A grey disc with grain on a black belt."""
    image = np.full((*size, 3), 10, np.uint8)
    cv2.circle(image, (size[1] // 2, size[0] // 2), min(size) // 3, (140, 150, 160), -1)
    grain = np.random.default_rng(0).integers(0, 8, (*size, 1), dtype=np.uint8)
    return image + grain


PICTURES = {
    "part": _part(),
    "black": np.zeros((64, 48, 3), np.uint8),
    "white": np.full((64, 48, 3), 255, np.uint8),
    "noise": np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8),
    "small": _part((32, 32)),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("picture", PICTURES)
def test_the_mask_marks_what_visibly_changed(picture: str, seed: int) -> None:
    """Some pixels are marked, each of them changed visibly, and far from the mark none did."""
    image = PICTURES[picture]
    kept = image.copy()
    defect = simulate_defect(image, np.random.default_rng(seed))
    change = np.abs(defect.image.astype(int) - image).max(axis=2)
    assert defect.image.shape == image.shape
    assert defect.image.dtype == defect.mask.dtype == np.uint8
    assert set(np.unique(defect.mask)) == {0, 255}
    assert change[defect.mask > 0].min() >= VISIBLE
    assert 16 <= (defect.mask > 0).sum() <= 0.1 * defect.mask.size
    np.testing.assert_array_equal(image, kept)


def test_a_seed_repeats_and_another_differs() -> None:
    """Equal generators draw equal defects, a generator's next one is another."""
    rng = np.random.default_rng(3)
    first, second = simulate_defect(_part(), rng), simulate_defect(_part(), rng)
    again = simulate_defect(_part(), np.random.default_rng(3))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.mask != second.mask).any()


def test_a_read_only_picture_is_enough() -> None:
    """Pictures from disk are read-only."""
    image = _part()
    image.setflags(write=False)
    assert simulate_defect(image, np.random.default_rng(0)).mask.any()


def test_defects_lie_on_the_part() -> None:
    """On a plain belt no defect is drawn, for none would ever be there."""
    part = foreground(_part())
    for seed in range(10):
        mask = simulate_defect(_part(), np.random.default_rng(seed)).mask
        assert part[mask > 0].all()


def test_foreground_is_the_part() -> None:
    """A disc on a plain belt is told from it."""
    disc = np.zeros((96, 120), np.uint8)
    cv2.circle(disc, (60, 48), 32, 1, -1)
    assert (foreground(_part()) == disc.astype(bool)).mean() > 0.93


@pytest.mark.parametrize("picture", ["black", "white", "noise"])
def test_without_a_plain_border_all_of_it_counts(picture: str) -> None:
    """A texture that fills the picture is foreground everywhere."""
    assert foreground(PICTURES[picture]).all()


@pytest.mark.parametrize(("size", "cells"), [((64, 48), (4, 8)), ((33, 50), (32, 2))])
def test_perlin_noise_is_noise_of_its_range(size: tuple[int, int], cells: tuple[int, int]) -> None:
    """It has the size asked for, values within about 1, and zeros at the grid's corners."""
    noise = perlin(size, cells, np.random.default_rng(0))
    assert noise.shape == size
    assert noise.dtype == np.float32
    assert noise[0, 0] == pytest.approx(0, abs=1e-6)
    assert np.abs(noise).max() <= 1.01
    assert noise.std() > 0.1


def test_perlin_noise_is_smooth() -> None:
    """Neighbouring pixels of a coarse grid differ little."""
    noise = perlin((128, 128), (2, 2), np.random.default_rng(0))
    assert np.abs(np.diff(noise, axis=0)).max() < 0.1
    assert np.abs(np.diff(noise, axis=1)).max() < 0.1


def test_textures_differ_from_the_part() -> None:
    """A texture has the picture's size and a mean away from the pixel it started from."""
    image = np.full((64, 48, 3), 128, np.uint8)
    rng = np.random.default_rng(0)
    means = [procedural_texture(rng, image).mean() for _ in range(20)]
    assert procedural_texture(rng, image).shape == image.shape
    assert min(means) < 100
    assert max(means) > 156

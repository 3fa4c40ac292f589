"""Perlin noise against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.anomalies.noise import perlin


def _by_definition(size: tuple[int, int], angles: np.ndarray) -> np.ndarray:
    """Pixel by pixel: four gradients, four offsets, Perlin's fade."""
    rows, columns = (count - 1 for count in angles.shape)
    noise = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v, u = y * rows / size[0], x * columns / size[1]
            row, column = int(v), int(u)
            v, u = v - row, u - column
            for down in (0, 1):
                for right in (0, 1):
                    angle = angles[row + down, column + right]
                    dot = np.sin(angle) * (v - down) + np.cos(angle) * (u - right)
                    noise[y, x] += dot * _weight(v, down) * _weight(u, right)
    return noise * np.sqrt(2)


def _weight(offset: float, is_far: int) -> float:
    fade = 6 * offset**5 - 15 * offset**4 + 10 * offset**3
    return fade if is_far else 1 - fade


@pytest.mark.parametrize(("size", "cells"), [((16, 24), (4, 2)), ((19, 13), (5, 3))])
def test_it_is_perlins(size: tuple[int, int], cells: tuple[int, int]) -> None:
    """The matrix products equal the definition, also where cells don't divide the size."""
    angles = np.random.default_rng(3).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    noise = perlin(size, cells, np.random.default_rng(3))
    np.testing.assert_allclose(noise, _by_definition(size, angles), atol=1e-5)


@pytest.mark.parametrize(("size", "cells"), [((64, 48), (4, 8)), ((33, 50), (32, 2))])
def test_it_has_its_size_and_range(size: tuple[int, int], cells: tuple[int, int]) -> None:
    """Values lie within about 1, and at the grid's corners are zeros."""
    noise = perlin(size, cells, np.random.default_rng(0))
    assert noise.shape == size
    assert noise.dtype == np.float32
    assert noise[0, 0] == pytest.approx(0, abs=1e-6)
    assert np.abs(noise).max() <= 1.01
    assert noise.std() > 0.1


def test_it_is_smooth() -> None:
    """Neighbouring pixels of a coarse grid differ little."""
    noise = perlin((128, 128), (2, 2), np.random.default_rng(0))
    assert np.abs(np.diff(noise, axis=0)).max() < 0.1
    assert np.abs(np.diff(noise, axis=1)).max() < 0.1

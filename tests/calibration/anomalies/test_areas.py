"""Foreground and target areas."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from calibration.anomalies.areas import _SHAPES, foreground, target_area


def test_foreground_is_the_part(pictures: dict[str, np.ndarray]) -> None:
    """A disc on a plain belt is told from it."""
    disc = np.zeros((96, 120), np.uint8)
    cv2.circle(disc, (60, 48), 32, 1, -1)
    assert (foreground(pictures["part"]) == disc.astype(bool)).mean() > 0.93


@pytest.mark.parametrize("scale", [1, 3])
def test_a_part_that_touches_the_border_is_found(scale: int) -> None:
    """Only the corners need be free, and a hole in the part belongs to it; at any size."""
    image = np.full((120 * scale, 120 * scale, 3), 230, np.uint8)
    cv2.circle(image, (60 * scale, 60 * scale), 62 * scale, (40, 60, 80), -1)
    cv2.circle(image, (60 * scale, 60 * scale), 10 * scale, (230, 230, 230), -1)
    part = foreground(image)
    assert part[60 * scale, 60 * scale]
    assert part[60 * scale, 2 * scale]
    assert not part[2 * scale, 2 * scale]


@pytest.mark.parametrize("name", ["black", "white", "noise"])
def test_without_a_plain_background_all_of_it_counts(
    pictures: dict[str, np.ndarray], name: str
) -> None:
    """A texture that fills the picture is foreground everywhere."""
    assert foreground(pictures[name]).all()


def test_fading_light_makes_no_part() -> None:
    """A plain surface, brighter in the middle, has no edge to end at."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    light = np.clip(180 - 80 * np.hypot(y, x), 90, 255).astype(np.uint8)
    assert foreground(np.repeat(light[:, :, None], 3, axis=2)).all()


def test_a_target_area_lies_on_the_part() -> None:
    """It has the pixel it was drawn about and nothing off the part, however often it is drawn."""
    part = np.zeros((60, 80), bool)
    part[20:40, 30:70] = True
    rng = np.random.default_rng(0)
    for _ in range(50):
        area, place = target_area(part, (0.001, 0.5), rng)
        assert area[place] == 1
        assert set(np.unique(area[~part])) == {0}
        assert area.dtype == np.uint8


@pytest.mark.parametrize("shape", range(len(_SHAPES)))
def test_shapes_have_about_the_area_asked_for(shape: int) -> None:
    """Circle and rectangle hold it, a polygon within a factor of two on average."""
    rng, areas = np.random.default_rng(1), []
    for _ in range(50):
        canvas = np.zeros((200, 200), np.uint8)
        _SHAPES[shape](canvas, (100, 100), 30.0, rng)
        areas.append(canvas.sum())
    assert 0.5 < np.mean(areas) / (np.pi * 30**2) < 1.2

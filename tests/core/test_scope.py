"""What of a picture counts: areas, scales, and what people are told of them."""

from __future__ import annotations

import pytest

from inspectd.core.errors import ConfigError
from inspectd.core.preprocess import Preprocessing, Tiling
from inspectd.core.scope import ScopePart, area_in_pixels, min_pixels, scope_facts

HALF = Preprocessing(resize=(48, 64), crop=(48, 64), source_size=(96, 128))


@pytest.mark.parametrize(
    ("text", "scale", "pixels"),
    [("12px", None, 12), (" 1.5 px ", 0.1, 1.5), ("0.5mm2", 0.1, 50), (".25 mm²", 0.5, 1)],
)
def test_an_area_is_in_source_pixels(text: str, scale: float | None, pixels: float) -> None:
    """Square millimetres are turned into pixels by the scale."""
    assert area_in_pixels(text, scale) == pytest.approx(pixels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("12", "12px or 0.5mm2"),
        ("0px", "above 0"),
        ("-3px", "12px or 0.5mm2"),
        ("nanpx", "12px or 0.5mm2"),
        ("1cm2", "12px or 0.5mm2"),
        ("0.5mm2", "add --mm-per-pixel"),
    ],
)
def test_an_area_that_can_not_be_meant_is_refused(text: str, said: str) -> None:
    """The message says what to write instead."""
    with pytest.raises(ConfigError, match=said):
        area_in_pixels(text, None)


@pytest.mark.parametrize(("area", "pixels"), [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2), (400, 100)])
def test_a_source_area_in_pixels_of_the_map_is_rounded_up(area: float, pixels: int) -> None:
    """A map of half the size has a quarter of the pixels; at least one is asked for."""
    assert min_pixels(area, HALF) == pixels


def test_an_area_needs_pictures_of_one_size() -> None:
    """Otherwise a pixel has no area; without an area nothing is needed."""
    several = HALF.model_copy(update={"source_size": None})
    assert min_pixels(0, several) == 1
    with pytest.raises(ConfigError, match="one size"):
        min_pixels(3, several)


def test_people_are_told_what_is_not_as_ever() -> None:
    """A plain scope says nothing; all else is said with its units."""
    assert scope_facts(ScopePart(), HALF) == {}
    part = ScopePart(
        roi="roi.png", roi_share=0.25, min_area_px=50, mm_per_pixel=0.1, top_pixels=100
    )
    tiled = HALF.model_copy(update={"tiles": Tiling(size=(32, 40), overlap=8)})
    assert scope_facts(part, tiled) == {
        "region of interest": "25 % of the map, see roi.png",
        "minimum area": "50 px = 0.5 mm2 (13 of the map)",
        "scale": "0.1 mm a pixel",
        "score": "mean of the 100 highest pixels",
        "tiles (H x W)": "32 x 40, overlap 8",
    }

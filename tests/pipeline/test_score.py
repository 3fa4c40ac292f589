"""The score that is compared with the threshold: region, least area, highest pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inspectd.core.preprocess import Tiling
from inspectd.core.records import AnomalyMap, ImageArray, MapArray
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.score import examine, image_score, level, without_small

EIGHT = np.ones((3, 3))
"""Neighbours that belong together."""


@dataclass
class Brightness:
    """Says of each pixel how bright it is, and of the picture a number of its own."""

    seen: list[tuple[int, ...]] = field(default_factory=list)
    broken: bool = False

    def infer(self, image: ImageArray) -> AnomalyMap:
        """The red channel."""
        self.seen.append(image.shape)
        values = image[..., 0].astype(np.float32)
        values[0, 0] = np.nan if self.broken else values[0, 0]
        return AnomalyMap(values, -7.0)


@st.composite
def scopes(draw: st.DrawFn) -> tuple[MapArray, Scope]:
    """Maps of up to 9 x 9, with many ties in half of the cases, and a region in half of them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    levels = draw(st.sampled_from([3, 8, 100_000]))
    values = (rng.integers(-levels, levels, size) / levels).astype(np.float32)
    roi = np.where(rng.random(size) < 0.8, 255, 0).astype(np.uint8)
    roi.flat[0] = 255
    has_region = draw(st.booleans())
    return values, Scope(roi if has_region else None, draw(st.integers(1, 12)))


def _slow_level(values: MapArray, scope: Scope) -> float:
    """The definition: of all levels the highest at which a labelled region is large enough."""
    inside = np.ones(values.shape, bool) if scope.roi is None else scope.roi > 0
    for t in np.unique(values[inside])[::-1]:
        labels, count = ndimage.label((values >= t) & inside, EIGHT)
        if any((labels == k).sum() >= scope.min_pixels for k in range(1, count + 1)):
            return float(t)
    return float("nan")


@settings(max_examples=300, deadline=None)
@given(scopes())
def test_the_level_agrees_with_its_definition(case: tuple[MapArray, Scope]) -> None:
    """The bisected level is that of a loop over all levels and regions."""
    np.testing.assert_equal(level(*case), _slow_level(*case))


def test_the_level_of_a_larger_map_agrees_too() -> None:
    """Smooth noise, where many regions compete and the first guess doesn't do."""
    noise = np.random.default_rng(5).normal(size=(60, 70))
    values = ndimage.gaussian_filter(noise, 1.0).astype(np.float32)
    for least in (2, 5, 40, 900):
        assert level(values, Scope(min_pixels=least)) == _slow_level(
            values, Scope(min_pixels=least)
        )


@settings(max_examples=100, deadline=None)
@given(scopes(), st.floats(-1.2, 1.2))
def test_failing_means_that_there_is_a_large_region(
    case: tuple[MapArray, Scope], threshold: float
) -> None:
    """At any threshold: the score reaches it if, and only if, a region that large does."""
    values, scope = case
    inside = np.ones(values.shape, bool) if scope.roi is None else scope.roi > 0
    marked = np.where((values >= np.float64(threshold)) & inside, 255, 0).astype(np.uint8)
    assert (level(values, scope) >= threshold) is bool(
        without_small(marked, scope.min_pixels).any()
    )


def test_by_hand() -> None:
    """A bright pixel alone is none of two; two that touch at a corner are."""
    values = np.array([[9, 0, 0, 0], [0, 0, 5, 0], [0, 0, 0, 6]], np.float32)
    assert [level(values, Scope(min_pixels=n)) for n in (1, 2, 3, 12)] == [9, 5, 0, 0]
    assert math.isnan(level(values, Scope(min_pixels=13)))


def test_only_the_region_counts() -> None:
    """What is outside raises no score and joins no region; the map is at its lowest there."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0], image[4, 4], image[2, 2] = 200, 90, 7
    roi = np.zeros((8, 8), np.uint8)
    roi[2:6, 2:6] = 255
    found = examine(Brightness(), image, Scope(roi))
    assert found.score == 90
    assert found.values[0, 0] == 0
    assert found.values[4, 4] == 90


def test_the_mean_of_the_highest_pixels() -> None:
    """Of the region where there is one; all of it where it is small; a least area replaces it."""
    values = np.array([[9, 0, 0], [4, 2, 0]], np.float32)
    roi = np.array([[0, 0, 255], [255, 255, 0]], np.uint8)
    assert image_score(values, Scope(top_pixels=3)) == 5
    assert image_score(values, Scope(roi, top_pixels=2)) == 3
    assert image_score(values, Scope(roi, top_pixels=50)) == 2
    assert image_score(values, Scope(min_pixels=2, top_pixels=3)) == 4


def test_without_a_scope_the_graphs_own_score_counts() -> None:
    """Map and score are passed on as they came, whatever the mean of the highest pixels is."""
    image = np.full((8, 8, 3), 5, np.uint8)
    for scope in (WHOLE, Scope(top_pixels=9), Scope(mm_per_pixel=0.1)):
        assert examine(Brightness(), image, scope).score == -7


def test_a_map_that_is_no_number_has_no_score() -> None:
    """Even outside the region: the runtime is not to be trusted."""
    roi = np.zeros((8, 8), np.uint8)
    roi[4:, 4:] = 255
    image = np.zeros((8, 8, 3), np.uint8)
    assert math.isnan(examine(Brightness(broken=True), image, Scope(roi)).score)


def test_tiles_are_scored_as_one_map() -> None:
    """The graph sees inputs of its size only; the score is that of the whole map."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[90, 120] = 77
    runtime = Brightness()
    found = examine(runtime, image, Scope(tiles=Tiling(size=(32, 64), overlap=8)))
    assert set(runtime.seen) == {(32, 64, 3)}
    assert found.values.shape == (96, 128)
    assert found.score == 77
    np.testing.assert_allclose(found.values, image[..., 0], atol=1e-4)


@pytest.mark.parametrize("least", [0, 1])
def test_any_area_keeps_the_mask(least: int) -> None:
    """Without a least area nothing is taken out."""
    mask = np.eye(3, dtype=np.uint8) * 255
    assert without_small(mask, least) is mask

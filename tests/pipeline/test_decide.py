"""The decision: pure, never lenient, and always with its proof."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import AnomalyMap, Reason, Threshold, Verdict
from inspectd.core.scope import Scope
from inspectd.pipeline.decide import MAX_REGIONS, decide, defect_mask, find_regions
from inspectd.pipeline.score import level

SIZE = (32, 40)
PLAIN = Preprocessing(resize=SIZE, crop=SIZE)
CROPPED = Preprocessing(resize=(48, 64), crop=SIZE)


def _threshold(
    image: float = 0.5, pixel: float | None = 0.4, review_below: float | None = None
) -> Threshold:
    return Threshold(
        image=image,
        pixel=pixel,
        policy="f1",
        basis="real",
        f1=1.0,
        precision=1.0,
        recall=1.0,
        escapes=0,
        overkill=0,
        n_good=1,
        n_defect=1,
        escape_rate_interval=(0.0, 1.0),
        overkill_rate_interval=(0.0, 1.0),
        review_below=review_below,
    )


def _map(*spots: tuple[int, int, float]) -> AnomalyMap:
    """A map of 0.1 with spots of 3 x 3 at (row, column) with a peak; the score is the maximum."""
    values = np.full(SIZE, 0.1, np.float32)
    for row, column, peak in spots:
        values[row - 1 : row + 2, column - 1 : column + 2] = peak * 0.9
        values[row, column] = peak
    return AnomalyMap(values, float(values.max()))


def test_below_the_threshold_passes() -> None:
    """A pass has its score and threshold, and neither regions nor mask."""
    decision = decide(_map((5, 5, 0.49)), _threshold(), PLAIN, SIZE)
    assert decision.verdict is Verdict.PASS
    assert decision.reason is Reason.BELOW_THRESHOLD
    assert decision.regions == ()
    assert decision.mask is None
    assert decision.margin == pytest.approx(-0.01)


def test_at_the_threshold_fails() -> None:
    """The threshold itself is already a fail."""
    anomaly = AnomalyMap(np.full(SIZE, 0.5, np.float32), 0.5)
    decision = decide(anomaly, _threshold(0.5), PLAIN, SIZE)
    assert decision.verdict is Verdict.FAIL
    assert decision.reason is Reason.ABOVE_THRESHOLD
    assert decision.margin == 0


@pytest.mark.parametrize(
    ("score", "verdict", "reason"),
    [
        (0.49, Verdict.PASS, Reason.BELOW_THRESHOLD),
        (0.5, Verdict.UNDECIDED, Reason.REVIEW),
        (0.69, Verdict.UNDECIDED, Reason.REVIEW),
        (0.7, Verdict.FAIL, Reason.ABOVE_THRESHOLD),
    ],
)
def test_between_two_thresholds_a_person_decides(
    score: float, verdict: Verdict, reason: Reason
) -> None:
    """In the band a part is undecided; its threshold stays the limit of a pass."""
    anomaly = AnomalyMap(_map((5, 5, score)).values, score)
    decision = decide(anomaly, _threshold(review_below=0.7), PLAIN, SIZE)
    assert (decision.verdict, decision.reason) == (verdict, reason)
    assert decision.threshold == 0.5
    assert decision.margin == pytest.approx(score - 0.5)
    assert (decision.mask is None) == (verdict is Verdict.PASS)
    assert bool(decision.regions) == (verdict is not Verdict.PASS)


def test_scores_are_not_clamped() -> None:
    """How far out a part is stays visible, above 1 and below 0."""
    assert decide(_map((5, 5, 7.5)), _threshold(), PLAIN, SIZE).score == 7.5
    low = AnomalyMap(np.full(SIZE, -2, np.float32), -2.0)
    assert decide(low, _threshold(), PLAIN, SIZE).score == -2


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_undecided(score: float) -> None:
    """NaN would compare as a fail and minus infinity as a pass: neither is said."""
    decision = decide(AnomalyMap(_map().values, score), _threshold(), PLAIN, SIZE)
    assert decision.verdict is Verdict.UNDECIDED
    assert decision.reason is Reason.INFERENCE_FAILED
    assert str(score) in decision.detail
    assert decision.score is None
    assert decision.margin is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("score", [0.2, 0.9])
def test_a_map_that_is_not_all_numbers_is_undecided(value: float, score: float) -> None:
    """A maximum may leave a NaN out: such a part is never passed, nor failed."""
    values = _map().values.copy()
    values[3, 3] = value
    decision = decide(AnomalyMap(values, score), _threshold(), PLAIN, SIZE)
    assert decision.verdict is Verdict.UNDECIDED
    assert decision.reason is Reason.INFERENCE_FAILED


def test_each_region_has_its_box_area_and_peak() -> None:
    """Two spots are two regions, the hotter one first, in pixels of the source picture."""
    decision = decide(_map((5, 6, 0.6), (20, 30, 0.9)), _threshold(), PLAIN, (64, 80))
    hot, mild = decision.regions
    assert (hot.top, hot.left, hot.height, hot.width) == (38, 58, 6, 6)
    assert (mild.top, mild.left, mild.height, mild.width) == (8, 10, 6, 6)
    assert hot.area_px == mild.area_px == 36
    assert (hot.peak, mild.peak) == (pytest.approx(0.9), pytest.approx(0.6))


def test_regions_lie_where_the_mask_is() -> None:
    """With a crop's offset and a picture of another size, boxes and mask agree."""
    decision = decide(_map((5, 6, 0.9)), _threshold(), CROPPED, (96, 192))
    (region,) = decision.regions
    assert decision.mask is not None
    assert decision.mask.shape == (96, 192)
    rows, columns = np.nonzero(decision.mask)
    assert (region.top, region.left) == (rows.min(), columns.min())
    assert region.top + region.height == rows.max() + 1
    assert region.left + region.width == columns.max() + 1
    assert region.area_px == len(rows)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    """Regions are 8-connected: a diagonal scratch is one defect."""
    values = np.full(SIZE, 0.1, np.float32)
    np.fill_diagonal(values[:10, :10], 0.9)
    regions = find_regions(defect_mask(values, _threshold()), values, PLAIN, SIZE)
    assert len(regions) == 1
    assert regions[0].area_px == 10


def test_a_message_stays_small() -> None:
    """Of very many regions only those with the highest peaks are reported."""
    values = np.full(SIZE, 0.1, np.float32)
    values[::4, ::4] = np.linspace(0.5, 0.9, 80, dtype=np.float32).reshape(8, 10)
    regions = find_regions(defect_mask(values, _threshold()), values, PLAIN, SIZE)
    assert len(regions) == MAX_REGIONS
    assert min(region.peak for region in regions) > np.sort(values[::4, ::4].ravel())[-33]


@pytest.mark.parametrize("pixel", [None, 0.8])
def test_without_a_useful_pixel_threshold_the_image_threshold_outlines(
    pixel: float | None,
) -> None:
    """Where no pixel threshold is known, or none is reached, the mask is cut at the image's."""
    values = _map((5, 5, 0.6)).values
    np.testing.assert_array_equal(defect_mask(values, _threshold(0.5, pixel)) > 0, values >= 0.5)


values_ = st.floats(-1, 2, width=32)


@settings(max_examples=100, deadline=None)
@given(
    values=hnp.arrays(np.float32, SIZE, elements=values_, fill=values_),
    image=values_,
    pixel=st.none() | values_,
    source=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    preprocessing=st.sampled_from([PLAIN, CROPPED]),
)
def test_a_reject_always_shows_where(
    values: np.ndarray,
    image: float,
    pixel: float | None,
    source: tuple[int, int],
    preprocessing: Preprocessing,
) -> None:
    """Whatever map, thresholds and picture: a fail has a mask and regions inside the picture."""
    anomaly = AnomalyMap(values, float(values.max()))
    decision = decide(anomaly, _threshold(image, pixel), preprocessing, source)
    assert (decision.verdict is Verdict.PASS) == (anomaly.score < image)
    if decision.verdict is Verdict.PASS:
        return
    assert decision.mask is not None
    assert decision.mask.shape == source
    assert decision.mask.any()
    assert decision.regions
    assert decision.regions[0].peak == anomaly.score
    for region in decision.regions:
        assert region.top >= 0 < region.height
        assert region.left >= 0 < region.width
        assert region.top + region.height <= source[0]
        assert region.left + region.width <= source[1]


def test_a_region_below_the_least_area_is_no_defect() -> None:
    """Small regions are in neither mask nor list; a large one at a lower level is shown."""
    values = _map().values
    values[5, 5], values[20:23, 30:33] = 0.9, 0.6
    scope = Scope(min_pixels=4, mm_per_pixel=0.5)
    decision = decide(AnomalyMap(values, level(values, scope)), _threshold(), PLAIN, SIZE, scope)
    assert decision.score == np.float32(0.6)
    assert decision.verdict is Verdict.FAIL
    assert [(region.top, region.left) for region in decision.regions] == [(20, 30)]
    assert decision.regions[0].area_mm2 == decision.regions[0].area_px / 4
    assert decision.mask is not None
    assert decision.mask[5, 5] == 0


def test_a_reject_by_area_shows_where_although_no_region_reaches_the_pixel_threshold() -> None:
    """The single hot pixel hides nothing: the image threshold marks the region that decided."""
    values = _map().values
    values[5, 5], values[20:23, 30:33] = 0.9, 0.6
    scope = Scope(min_pixels=4)
    mask = defect_mask(values, _threshold(0.5, 0.8), scope)
    assert mask.sum() == 9 * 255
    assert mask[21, 31] == 255


def test_nothing_is_marked_outside_the_region_of_interest() -> None:
    """Even where the map is as high there."""
    values = _map((5, 5, 0.9), (20, 30, 0.8)).values
    roi = np.zeros(values.shape, np.uint8)
    roi[16:28, 24:36] = 255
    mask = defect_mask(values, _threshold(0.0, 0.0), Scope(roi))
    np.testing.assert_array_equal(mask, roi)

"""Image and pixel metrics, against scikit-learn and against slow, obvious versions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn import metrics as sk

from calibration import metrics
from calibration.metrics import BoolArray, Confusion, FloatArray
from calibration.thresholds import pixel_f1_threshold
from inspectd.core.errors import DatasetError
from inspectd.core.records import MapArray

few = settings(max_examples=40, deadline=None)

Parts = tuple[FloatArray, BoolArray]
Pixels = tuple[list[MapArray], list[npt.NDArray[np.uint8] | None]]


@st.composite
def parts(draw: st.DrawFn) -> Parts:
    """Up to 40 parts of both classes, with many ties in half of the cases."""
    n = draw(st.integers(2, 40))
    tied = st.integers(-3, 3).map(float)
    free = st.floats(-1e6, 1e6)
    scores = draw(hnp.arrays(np.float64, n, elements=draw(st.sampled_from([tied, free]))))
    is_defect = draw(hnp.arrays(np.bool_, n))
    assume(is_defect.any() and not is_defect.all())
    return scores, is_defect


@st.composite
def pixels(draw: st.DrawFn) -> Pixels:
    """One to four maps of 6 x 5 with random masks, some None, and ties in half of the cases."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([3, 8, 100_000]))
    count = draw(st.integers(1, 4))
    maps = [(rng.integers(0, levels, (6, 5)) / levels).astype(np.float32) for _ in range(count)]
    masks = [(rng.random((6, 5)) < rng.random() / 2).astype(np.uint8) * 255 for _ in range(count)]
    masks[0].flat[:2] = 0, 255
    return maps, [masks[0], *(mask if rng.random() < 0.7 else None for mask in masks[1:])]


def _flat(maps: list[MapArray], masks: list[npt.NDArray[np.uint8] | None]) -> Parts:
    full = [
        np.zeros(m.shape, np.uint8) if k is None else k for m, k in zip(maps, masks, strict=True)
    ]
    return np.concatenate(maps, None).astype(np.float64), np.concatenate(full, None) > 0


def _slow_aupro(
    maps: list[MapArray], masks: list[npt.NDArray[np.uint8] | None], limit: float
) -> float:
    """PRO by its definition: a loop over thresholds, then over components."""
    scores, is_defect = _flat(maps, masks)
    fpr, pro = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        overlaps = []
        for values, mask in zip(maps, masks, strict=True):
            if mask is not None:
                labels, count = ndimage.label(mask, np.ones((3, 3)))
                regions = (labels == k for k in range(1, count + 1))
                overlaps += [np.mean(values[region] >= threshold) for region in regions]
        fpr.append(float(np.mean(scores[~is_defect] >= threshold)))
        pro.append(float(np.mean(overlaps)))
    area = 0.0
    for i in range(1, len(fpr)):  # each straight piece, cut off at the limit
        left, right = fpr[i - 1], min(fpr[i], limit)
        if left < right:
            end = pro[i - 1] + (pro[i] - pro[i - 1]) * (right - left) / (fpr[i] - left)
            area += (right - left) * (pro[i - 1] + end) / 2
    return area / limit


@few
@given(parts())
def test_image_metrics_agree_with_scikit_learn(case: Parts) -> None:
    """AUROC and average precision are scikit-learn's, ties included."""
    scores, is_defect = case
    assert metrics.auroc(*case) == pytest.approx(sk.roc_auc_score(is_defect, scores), abs=1e-12)
    wanted = sk.average_precision_score(is_defect, scores)
    assert metrics.average_precision(*case) == pytest.approx(wanted, abs=1e-12)


@few
@given(parts())
def test_roc_curve_agrees_with_scikit_learn(case: Parts) -> None:
    """The curve has every point that scikit-learn's has."""
    scores, is_defect = case
    fpr, tpr, thresholds = sk.roc_curve(is_defect, scores, drop_intermediate=False)
    curve = metrics.roc_curve(*case)
    np.testing.assert_allclose(curve.fpr, fpr, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@few
@given(parts())
def test_f1_curve_agrees_with_scikit_learn_and_the_confusion(case: Parts) -> None:
    """At each distinct score the curve, the confusion and scikit-learn say the same."""
    scores, is_defect = case
    curve = metrics.precision_recall_f1_curve(*case)
    for i, threshold in enumerate(curve.thresholds):
        fails = scores >= threshold
        counts = metrics.confusion(scores, is_defect, threshold)
        wanted = sk.precision_recall_fscore_support(is_defect, fails, average="binary")[:3]
        assert (curve.precision[i], curve.recall[i], curve.f1[i]) == pytest.approx(wanted)
        assert (counts.precision, counts.recall, counts.f1) == pytest.approx(wanted)
        tn, fp, fn, tp = sk.confusion_matrix(is_defect, fails, labels=[False, True]).ravel()
        assert counts == Confusion(tp=tp, fp=fp, tn=tn, fn=fn)
    assert metrics.best_f1(*case) == curve.f1.max()


def test_auroc_by_hand() -> None:
    """Of four pairs two are right, one is tied and one is wrong: 2.5 / 4."""
    scores, is_defect = np.array([1.0, 3.0, 3.0, 2.0]), np.array([False, False, True, True])
    assert metrics.auroc(scores, is_defect) == 0.625


def test_a_part_fails_at_the_threshold_itself() -> None:
    """A score equal to the threshold fails, good or defective."""
    counts = metrics.confusion(np.array([1.0, 2.0, 2.0, 1.0]), np.array([0, 0, 1, 1]) > 0, 2.0)
    assert counts == Confusion(tp=1, fp=1, tn=1, fn=1)
    assert (counts.escapes, counts.overkill) == (1, 1)
    assert (counts.precision, counts.recall, counts.f1) == (0.5, 0.5, 0.5)


def test_confusion_without_failed_parts_has_ratios_of_zero() -> None:
    """Where nothing fails and nothing is defective, 0 / 0 reads 0."""
    counts = metrics.confusion(np.array([1.0]), np.array([False]), 2.0)
    assert (counts.precision, counts.recall, counts.f1) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.auroc,
        metrics.average_precision,
        metrics.best_f1,
        metrics.roc_curve,
        metrics.precision_recall_f1_curve,
    ],
)
def test_image_metrics_refuse_one_class(metric: Callable[[FloatArray, BoolArray], object]) -> None:
    """Without good or without defective parts, or with NaN, there is an error and no number."""
    scores = np.array([1.0, 2.0])
    with pytest.raises(DatasetError, match="no good part"):
        metric(scores, np.array([True, True]))
    with pytest.raises(DatasetError, match="no defective part"):
        metric(scores, np.array([False, False]))
    with pytest.raises(DatasetError, match="not finite"):
        metric(np.array([1.0, np.nan]), np.array([False, True]))


@few
@given(pixels())
def test_pixel_metrics_agree_with_scikit_learn(case: Pixels) -> None:
    """Pixels of all maps together are ranked as scikit-learn ranks them."""
    scores, is_defect = _flat(*case)
    wanted = sk.roc_auc_score(is_defect, scores)
    assert metrics.pixel_auroc(*case) == pytest.approx(wanted, abs=1e-12)
    wanted = sk.average_precision_score(is_defect, scores)
    assert metrics.pixel_average_precision(*case) == pytest.approx(wanted, abs=1e-12)


@few
@given(pixels(), st.sampled_from([0.05, 0.3, 0.5, 1.0]))
def test_aupro_agrees_with_its_definition(case: Pixels, limit: float) -> None:
    """The sorted PRO is that of a loop over thresholds and components."""
    assert metrics.aupro(*case, limit) == pytest.approx(_slow_aupro(*case, limit), abs=1e-12)


def test_aupro_by_hand() -> None:
    """A found defect of one pixel counts as much as a missed one of four: half."""
    mask, scores = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.float32)
    mask[0, 0] = mask[5:7, 5:7] = 255
    scores[0, 0] = 1.0
    scores[mask == 0] = 0.5
    # PRO rises straight from 0.5 at FPR 0 to 0.5 at 1, as the other defect scores least.
    assert metrics.aupro([scores], [mask]) == pytest.approx(0.5)
    assert metrics.pixel_auroc([scores], [mask]) == pytest.approx(0.2)


def test_aupro_joins_diagonal_neighbours() -> None:
    """Two pixels that touch at a corner are one defect."""
    scores = np.array([[1, 0, 0, -1], [0, -1, 0, 0]], np.float32)
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0]], np.uint8)
    # The defect of two pixels is half found and the other one not: a quarter, and not a third.
    assert metrics.aupro([scores], [mask]) == pytest.approx(0.25)


def test_aupro_of_perfect_and_constant_maps() -> None:
    """A perfect map reaches 1; one that says nothing has the diagonal, limit / 2."""
    mask = np.eye(8, dtype=np.bool_)
    assert metrics.aupro([mask.astype(np.float32)], [mask]) == pytest.approx(1.0)
    assert metrics.aupro([np.ones((8, 8), np.float32)], [mask]) == pytest.approx(0.15)


def test_maps_may_differ_in_size_and_stay_as_they_are() -> None:
    """Sizes need not agree, None is defect-free, and no map is changed."""
    maps = [np.array([[0.2, 0.9]], np.float32), np.array([[0.3], [0.1], [0.0]], np.float32)]
    before = [values.copy() for values in maps]
    assert metrics.pixel_auroc(maps, [np.array([[0, 255]], np.uint8), None]) == 1.0
    assert all(np.array_equal(a, b) for a, b in zip(maps, before, strict=True))


@pytest.mark.parametrize(
    "metric", [metrics.pixel_auroc, metrics.pixel_average_precision, metrics.aupro]
)
def test_pixel_metrics_refuse_what_is_undefined(metric: Callable[..., float]) -> None:
    """One class alone, NaN, and a mask of another size are errors that say so."""
    values, mask = np.array([[0.0, 1.0]], np.float32), np.array([[0, 255]], np.uint8)
    with pytest.raises(DatasetError, match="no defective pixel"):
        metric([values, values], [None, np.zeros((1, 2), np.uint8)])
    with pytest.raises(DatasetError, match="no good pixel"):
        metric([values], [np.full((1, 2), 255, np.uint8)])
    with pytest.raises(DatasetError, match="not finite"):
        metric([values * np.nan], [mask])
    with pytest.raises(DatasetError, match="resize"):
        metric([values], [mask.T])


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1])
def test_aupro_refuses_an_impossible_limit(limit: float) -> None:
    """A limit is a fraction above 0."""
    with pytest.raises(ValueError, match="fraction"):
        metrics.aupro([np.zeros((1, 1), np.float32)], [None], limit)


def test_precision_recall_and_f1_by_hand() -> None:
    """Down the scores 4 (bad), 3 (good), 2 (bad), 1 (good): counted at each cut."""
    scores, is_defect = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 1]) > 0
    curve = metrics.precision_recall_f1_curve(scores, is_defect)
    assert curve.thresholds.tolist() == [4, 3, 2, 1]
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve.recall.tolist() == pytest.approx([1 / 2, 1 / 2, 1, 1])
    assert metrics.best_f1(scores, is_defect) == pytest.approx(4 / 5)
    assert metrics.average_precision(scores, is_defect) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    roc = metrics.roc_curve(scores, is_defect)
    assert roc.fpr.tolist() == [0, 0, 1 / 2, 1 / 2, 1]
    assert roc.tpr.tolist() == [0, 1 / 2, 1 / 2, 1, 1]


def test_pixel_average_precision_by_hand() -> None:
    """Of two maps together: found first, third and fifth of five pixels."""
    maps = [np.array([[0.9, 0.8, 0.1]], np.float32), np.array([[0.7, 0.5]], np.float32)]
    masks = [np.array([[255, 0, 255]], np.uint8), np.array([[255, 0]], np.uint8)]
    wanted = (1 + 2 / 3 + 3 / 5) / 3
    assert metrics.pixel_average_precision(maps, masks) == pytest.approx(wanted)


@few
@given(pixels())
def test_the_pixel_threshold_has_the_f1_that_scikit_learn_finds_best(case: Pixels) -> None:
    """No threshold of scikit-learn's curve has a higher F1 over all pixels."""
    scores, is_defect = _flat(*case)
    assume(np.ptp(scores) > 0)
    cut = pixel_f1_threshold(*case)
    precision, recall, _ = sk.precision_recall_curve(is_defect, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert sk.f1_score(is_defect, scores >= np.float32(cut)) == pytest.approx(best)


@few
@given(pixels(), st.integers(0, 4))
def test_a_region_of_interest_leaves_the_rest_out(case: Pixels, row: int) -> None:
    """Rows above it count neither as clean nor as defective: as if they had been cut off."""
    maps, masks = case
    roi = np.full((6, 5), 255, np.uint8)
    roi[:row] = 0
    cut = [m[row:] for m in maps], [None if k is None else k[row:] for k in masks]
    found = metrics.has_defective_pixel(masks, roi)
    assert found == any(k is not None and k.any() for k in cut[1])
    assume(found and not all(k is not None and k.all() for k in cut[1]))
    assert metrics.pixel_auroc(maps, masks, roi) == metrics.pixel_auroc(*cut)
    assert metrics.pixel_average_precision(maps, masks, roi) == metrics.pixel_average_precision(
        *cut
    )
    assert metrics.aupro(maps, masks, roi=roi) == pytest.approx(_slow_aupro(*cut, 0.3), abs=1e-12)


def test_without_a_defective_pixel_inside_there_is_no_pixel_threshold() -> None:
    """What lies outside the region is no evidence."""
    mask, roi = np.eye(4, dtype=np.uint8), np.zeros((4, 4), np.uint8)
    roi[0, 1:] = 255
    values = [np.arange(16, dtype=np.float32).reshape(4, 4)]
    assert pixel_f1_threshold(values, [mask], roi) is None
    assert pixel_f1_threshold(values, [mask]) is not None

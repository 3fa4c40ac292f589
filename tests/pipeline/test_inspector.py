"""The inspector: every picture gets a decision, and a revision that errs never decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from inspectd.core.bundle import Bundle
from inspectd.core.errors import BundleError, InferenceError
from inspectd.core.preprocess import Preprocessing
from inspectd.core.records import AnomalyMap, ImageArray, Reason, Verdict
from inspectd.pipeline.decide import undecided
from inspectd.pipeline.inspector import Inspector, is_reject

GOOD = np.full((48, 64, 3), 0, np.uint8)
BAD = np.full((48, 64, 3), 40, np.uint8)
SCORES = {0: 0.2, 40: 0.8, 80: 0.4}
"""Brightness of a picture to its score; 0 and 40 are the golden pictures'."""


class BrightnessRuntime:
    """Scores a picture by its brightness; one of 255 makes it fail."""

    name = "brightness"
    rounding = 0.0

    def __init__(self, scores: dict[int, float] | None = None) -> None:
        self.scores = scores or SCORES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def infer(self, image: ImageArray) -> AnomalyMap:
        """A flat map of the brightness' score."""
        level = int(image[0, 0, 0])
        if level == 255:
            raise InferenceError("brightness: blinded")
        score = self.scores[level]
        values = np.full(image.shape[:2], 0.0 if np.isnan(score) else score, np.float32)
        return AnomalyMap(values, score)


@pytest.fixture
def bundle(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> Bundle:
    """Pictures are (48, 64), inputs (32, 40); the threshold is 0.5."""
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def inspector(bundle: Bundle) -> Inspector:
    """An inspector on a runtime that looks at brightness."""
    return Inspector(bundle, BrightnessRuntime())


def test_good_passes_and_bad_fails(inspector: Inspector) -> None:
    """The decision is the bundle's threshold on the runtime's score."""
    good, _ = inspector.inspect(GOOD)
    bad, _ = inspector.inspect(BAD)
    assert (good.verdict, good.score, good.threshold) == (Verdict.PASS, 0.2, 0.5)
    assert (bad.verdict, bad.score) == (Verdict.FAIL, 0.8)
    assert bad.mask is not None
    assert bad.mask.shape == (48, 64)


def test_each_stage_is_timed(inspector: Inspector) -> None:
    """A decided part has the milliseconds of all three stages, none negative."""
    _, timings = inspector.inspect(GOOD)
    assert list(timings) == ["preprocess", "infer", "decide"]
    assert all(0 <= ms < 1000 for ms in timings.values())


def test_grey_pictures_are_inspected_too(inspector: Inspector) -> None:
    """A monochrome camera's (H, W) is as good as (H, W, 3)."""
    decision, _ = inspector.inspect(BAD[..., 0])
    assert decision.verdict is Verdict.FAIL


UNDECIDABLE = [
    (np.zeros((48, 65, 3), np.uint8), Reason.WRONG_SIZE, "48 x 65"),
    (np.zeros((64, 48), np.uint8), Reason.WRONG_SIZE, "64 x 48"),
    (np.zeros((48, 64, 4), np.uint8), Reason.UNREADABLE_IMAGE, "(48, 64, 4)"),
    (np.zeros((48, 64), np.uint16), Reason.UNREADABLE_IMAGE, "uint16"),
    (np.zeros((0, 0), np.uint8), Reason.UNREADABLE_IMAGE, "(0, 0)"),
    (np.full((48, 64, 3), 255, np.uint8), Reason.INFERENCE_FAILED, "blinded"),
]


@pytest.mark.parametrize(("image", "reason", "detail"), UNDECIDABLE)
def test_what_can_not_be_decided_is_undecided(
    inspector: Inspector, image: np.ndarray, reason: Reason, detail: str
) -> None:
    """The reason is said, nothing is raised, and the next part is inspected as ever."""
    decision, _ = inspector.inspect(image)
    assert decision.verdict is Verdict.UNDECIDED
    assert decision.reason is reason
    assert detail in decision.detail
    assert is_reject(decision)
    assert inspector.inspect(GOOD)[0].verdict is Verdict.PASS


def test_a_nan_score_is_undecided(bundle: Bundle) -> None:
    """A runtime that computes NaN neither passes nor fails a part."""
    decision, _ = Inspector(bundle, BrightnessRuntime({0: float("nan")})).inspect(GOOD)
    assert decision.verdict is Verdict.UNDECIDED
    assert decision.reason is Reason.INFERENCE_FAILED


def test_only_a_pass_is_no_reject(inspector: Inspector) -> None:
    """Fail and undecided divert the part."""
    assert not is_reject(inspector.inspect(GOOD)[0])
    assert is_reject(inspector.inspect(BAD)[0])
    assert is_reject(undecided(Reason.FRAME_LOST))


def test_golden_pictures_that_reproduce_verify(bundle: Bundle) -> None:
    """The largest difference is returned; it is within the manifest's tolerance."""
    runtime = BrightnessRuntime({0: 0.2 + 4e-4, 40: 0.8 - 7e-4})
    assert Inspector(bundle, runtime).verify() == pytest.approx(7e-4)


@pytest.mark.parametrize(
    ("scores", "named"),
    [
        ({0: 0.202, 40: 0.8}, "golden/00.png scores 0.20200"),
        ({0: 0.2, 40: 0.798}, "golden/01.png scores 0.79800"),
        ({0: float("nan"), 40: 0.8}, "golden/00.png scores nan"),
        ({0: 0.2, 40: float("nan")}, "golden/01.png scores nan"),
        ({0: 0.2, 40: float("inf")}, "golden/01.png scores inf"),
    ],
)
def test_a_golden_picture_that_differs_is_refused(
    bundle: Bundle, scores: dict[int, float], named: str
) -> None:
    """The refusal names the picture, the runtime, both scores and the remedy."""
    with pytest.raises(BundleError, match=rf"{named} on brightness instead of .* choose another"):
        Inspector(bundle, BrightnessRuntime(scores)).verify()


def test_a_verdict_that_flips_is_refused(
    tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    """Within the tolerance a golden picture may not change sides either."""
    bundle = make_bundle(tmp_path / "bundle", image_threshold=0.8)
    with pytest.raises(BundleError, match=r"golden/01\.png scores 0\.79995"):
        Inspector(bundle, BrightnessRuntime({0: 0.2, 40: 0.79995})).verify()


def test_a_golden_picture_may_not_leave_the_review_band(bundle: Bundle) -> None:
    """The upper threshold is checked as the lower one is."""
    threshold = bundle.manifest.threshold.model_copy(update={"review_below": 0.8})
    banded = replace(bundle, manifest=bundle.manifest.model_copy(update={"threshold": threshold}))
    assert Inspector(banded, BrightnessRuntime()).verify() == 0.0
    with pytest.raises(BundleError, match=r"golden/01\.png scores 0\.79995"):
        Inspector(banded, BrightnessRuntime({0: 0.2, 40: 0.79995})).verify()


def test_a_bundle_without_golden_pictures_is_refused(
    tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    """Nothing reproduced is nothing proved."""
    bundle = make_bundle(tmp_path / "bundle", golden_scores=())
    with pytest.raises(BundleError, match="no golden picture"):
        Inspector(bundle, BrightnessRuntime()).verify()


class CoolingRuntime(BrightnessRuntime):
    """One that must be kept warm; it counts, and fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.warmed = 0
        self.is_lost = False

    def keep_warm(self) -> None:
        """See `Warmable`."""
        if self.is_lost:
            raise InferenceError("lost")
        self.warmed += 1


def test_an_idle_runtime_is_kept_warm(bundle: Bundle) -> None:
    """One that cools is; one that doesn't is left alone."""
    runtime = CoolingRuntime()
    Inspector(bundle, runtime).keep_warm()
    assert runtime.warmed == 1
    Inspector(bundle, BrightnessRuntime()).keep_warm()


def test_a_runtime_lost_while_idle_is_found_out(bundle: Bundle) -> None:
    """Its failures count like those on parts, so that a fallback takes over before the next."""
    runtime = CoolingRuntime()
    inspector = Inspector(bundle, runtime)
    runtime.is_lost = True
    for _ in range(3):
        inspector.keep_warm()
    assert inspector.failures == 3
    inspector.inspect(GOOD)
    assert inspector.failures == 0


class SharedRuntime(BrightnessRuntime):
    """One that other cameras use, too, and that takes three pictures at once."""

    largest_batch = 3

    def __init__(self) -> None:
        super().__init__()
        self.dues: list[int] = []
        self.sizes: list[int] = []
        self.error = 0.0
        """By which the last of a batch is off."""

    def infer_by(self, image: ImageArray, due_ns: int) -> AnomalyMap:
        """See `Sharing`."""
        self.dues.append(due_ns)
        return self.infer(image)

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """See `Batched`."""
        self.sizes.append(len(images))
        *rest, last = (self.infer(image) for image in images)
        return [*rest, replace(last, score=last.score + self.error)]


def test_a_shared_runtime_hears_when_a_part_is_due(bundle: Bundle) -> None:
    """Only where it belongs to a part; a runtime of its own isn't asked for the like."""
    runtime = SharedRuntime()
    inspector = Inspector(bundle, runtime)
    assert inspector.inspect(GOOD, 77)[0].verdict is Verdict.PASS
    inspector.inspect(GOOD)
    assert runtime.dues == [77]
    assert Inspector(bundle, BrightnessRuntime()).inspect(GOOD, 77)[0].verdict is Verdict.PASS


def test_golden_pictures_are_proven_in_every_batch_size(bundle: Bundle) -> None:
    """A batch has kernels of its own: a picture that is off in one is as bad as one alone."""
    runtime = SharedRuntime()
    assert Inspector(bundle, runtime).verify() == 0.0
    assert runtime.sizes == [2, 3]
    runtime.error = 0.01
    with pytest.raises(BundleError, match="must not decide here"):
        Inspector(bundle, runtime).verify()


class TilesRuntime(SharedRuntime):
    """Batches of three add something to the map of the last."""

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """See `Batched`."""
        self.sizes.append(len(images))
        *rest, last = (self.infer(image) for image in images)
        off = self.error if len(images) == 3 else 0.0
        return [*rest, replace(last, values=last.values + np.float32(off))]


def test_tiles_are_proven_in_every_batch_size(bundle: Bundle, tmp_path: Path) -> None:
    """With tiles too: on the line those of several cameras may share an inference."""
    manifest = bundle.manifest
    part = manifest.preprocessing.model_dump() | {"tiles": {"size": (32, 32), "overlap": 8}}
    tiled = replace(
        bundle,
        manifest=manifest.model_copy(update={"preprocessing": Preprocessing.model_validate(part)}),
    )
    runtime = TilesRuntime()
    assert Inspector(tiled, runtime).verify() == pytest.approx(0.0, abs=1e-6)
    assert runtime.sizes[-2:] == [2, 3]
    runtime.error = 0.01
    inspector = Inspector(tiled, runtime)
    with pytest.raises(BundleError, match=r"3 tiles\s+run at once; set \[batching\] max_batch = 1"):
        inspector.verify()

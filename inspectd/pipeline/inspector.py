"""Inspects one picture: preprocess, infer, decide, each stage timed.

No thread, no queue, no I/O: the daemon calls it in its inspector thread, `evaluate` in a loop.
"""

from __future__ import annotations

from time import perf_counter_ns

from inspectd.core.bundle import Bundle
from inspectd.core.contracts import Runtime, Warmable
from inspectd.core.errors import BundleError, ImageError, ImageSizeError, InferenceError
from inspectd.core.preprocess import prepare
from inspectd.core.records import AnomalyMap, Decision, ImageArray, Reason, Verdict
from inspectd.pipeline.decide import decide, undecided
from inspectd.pipeline.score import examine

Timings = dict[str, float]
"""Stage name to milliseconds."""


class Inspector:
    """One product revision on one runtime. The runtime must be entered already."""

    def __init__(self, bundle: Bundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self._threshold = bundle.threshold
        self._preprocessing = bundle.manifest.preprocessing
        self._scope = bundle.scope()
        self.failures = 0
        """Times in a row that the runtime failed."""

    def inspect(self, image: ImageArray) -> tuple[Decision, Timings]:
        """Decides on (H, W) or (H, W, 3); what can't be decided is `undecided`, never raised."""
        started = perf_counter_ns()
        timings: Timings = {}
        try:
            prepared = prepare(image, self._preprocessing)
            started = _lap(timings, "preprocess", started)
            anomaly = examine(self.runtime, prepared, self._scope)
            started = _lap(timings, "infer", started)
        except ImageSizeError as error:
            return undecided(Reason.WRONG_SIZE, str(error)), timings
        except ImageError as error:
            return undecided(Reason.UNREADABLE_IMAGE, str(error)), timings
        except InferenceError as error:
            self.failures += 1
            return undecided(Reason.INFERENCE_FAILED, str(error)), timings
        self.failures = 0
        source = (image.shape[0], image.shape[1])
        decision = decide(anomaly, self._threshold, self._preprocessing, source, self._scope)
        _lap(timings, "decide", started)
        return decision, timings

    def keep_warm(self) -> None:
        """Called while there is no part; a failure counts like that on a part."""
        if not isinstance(self.runtime, Warmable):
            return
        try:
            self.runtime.keep_warm()
        except InferenceError:
            self.failures += 1

    def verify(self) -> float:
        """Runs the golden pictures, which also warms up; returns the largest score difference.

        Raises:
            BundleError: a score or a verdict isn't reproduced, or there is no golden picture.
        """
        worst = 0.0
        checked = 0
        allowed = self.bundle.manifest.golden_tolerance + self.runtime.rounding
        for golden, image in self.bundle.golden_images():
            anomaly = examine(self.runtime, image, self._scope)
            difference = abs(anomaly.score - golden.score)
            same = difference <= allowed  # NaN never is
            worst = max(worst, difference)
            checked += 1
            if not same or self._flips(anomaly, golden.score):
                raise BundleError(
                    self.bundle.path,
                    f"{golden.file} scores {anomaly.score:.5f} on {self.runtime.name} instead of "
                    f"{golden.score:.5f}; this revision must not decide here: choose another "
                    "runtime or calibrate on this machine",
                )
        if checked == 0:
            raise BundleError(self.bundle.path, "has no golden picture; calibrate anew")
        return worst

    def _flips(self, anomaly: AnomalyMap, expected: float) -> bool:
        """Whether the verdict differs, but for a picture that rounding alone may move across."""
        limits = (self._threshold.image, self._threshold.review_below)
        return any(
            (anomaly.score < limit) != (expected < limit)
            for limit in limits
            if limit is not None and abs(expected - limit) >= self.runtime.rounding
        )


def _lap(timings: Timings, stage: str, started: int) -> int:
    now = perf_counter_ns()
    timings[stage] = (now - started) / 1e6
    return now


def is_reject(decision: Decision) -> bool:
    """Whether the line must divert the part: everything but a pass."""
    return decision.verdict is not Verdict.PASS

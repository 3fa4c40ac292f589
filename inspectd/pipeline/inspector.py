"""Inspects one picture: preprocess, infer, decide, each stage timed.

No thread, no queue, no I/O: the daemon calls it in its inspector thread, `evaluate` in a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from time import perf_counter_ns

import numpy as np

from inspectd.core.batches import sizes
from inspectd.core.bundle import Bundle, GoldenPart
from inspectd.core.contracts import Batched, Runtime, Sharing, Warmable
from inspectd.core.errors import BundleError, ImageError, ImageSizeError, InferenceError
from inspectd.core.preprocess import Tiling, prepare
from inspectd.core.records import AnomalyMap, Decision, ImageArray, MapArray, Reason, Verdict
from inspectd.pipeline.decide import decide, undecided
from inspectd.pipeline.score import examine, scored
from inspectd.pipeline.tiles import windows

Timings = dict[str, float]
"""Stage name to milliseconds."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A shared runtime that is told when the verdict must be out."""

    runtime: Sharing
    due_ns: int
    """`time.monotonic_ns()`."""

    def infer(self, image: ImageArray) -> AnomalyMap:
        """See `Sharing.infer_by`."""
        return self.runtime.infer_by(image, self.due_ns)


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

    def inspect(self, image: ImageArray, due_ns: int | None = None) -> tuple[Decision, Timings]:
        """Decides on (H, W) or (H, W, 3); what can't be decided is `undecided`, never raised.

        `due_ns`: when its part's verdict must be out, `time.monotonic_ns()`; a runtime that others
        share then knows how long it may wait for their pictures.
        """
        started = perf_counter_ns()
        timings: Timings = {}
        try:
            prepared = prepare(image, self._preprocessing)
            started = _lap(timings, "preprocess", started)
            anomaly = self._examine(prepared, due_ns)
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

        Where the runtime takes batches they run in every batch size, too: each has kernels of its
        own. Of tiled pictures that are some tiles, whose maps are compared with those of one tile
        at a time.

        Raises:
            BundleError: a score or a verdict isn't reproduced, or there is no golden picture.
        """
        pictures = list(self.bundle.golden_images())
        if not pictures:
            raise BundleError(self.bundle.path, "has no golden picture; calibrate anew")
        worst = max(self._require(golden, self._examine(image, None)) for golden, image in pictures)
        if not isinstance(self.runtime, Batched):
            return worst
        if self._scope.tiles is not None:
            return max(worst, self._require_tiles(self.runtime, pictures[0][1], self._scope.tiles))
        for size in sizes(self.runtime.largest_batch)[1:]:
            batch = list(islice(cycle(pictures), size))
            found = self.runtime.infer_batch([image for _, image in batch])
            for (golden, _), anomaly in zip(batch, found, strict=True):
                worst = max(worst, self._require(golden, scored(anomaly, self._scope)))
        return worst

    def _require_tiles(self, runtime: Batched, image: ImageArray, tiles: Tiling) -> float:
        """By how much a tile's map differs in some batch, which must not be too much."""
        if runtime.largest_batch == 1:
            return 0.0
        size = (image.shape[0], image.shape[1])
        places = islice(cycle(windows(size, tiles, self._scope.roi)), runtime.largest_batch)
        cut = [np.ascontiguousarray(image[place]) for place in places]
        alone = [self.runtime.infer(one).values for one in cut]
        worst = 0.0
        for count in sizes(runtime.largest_batch)[1:]:
            found = runtime.infer_batch(cut[:count])
            for one, anomaly in zip(alone[:count], found, strict=True):
                worst = max(worst, self._require_alike(one, anomaly.values, count))
        return worst

    def _require_alike(self, alone: MapArray, together: MapArray, count: int) -> float:
        difference = float(np.abs(alone - together).max())
        if not difference <= self.bundle.manifest.golden_tolerance + self.runtime.rounding:  # NaN
            raise BundleError(
                self.bundle.path,
                f"a tile's map on {self.runtime.name} is {difference:.5f} off where {count} tiles "
                "run at once; set [batching] max_batch = 1, or choose another runtime",
            )
        return difference

    def _examine(self, image: ImageArray, due_ns: int | None) -> AnomalyMap:
        """By the scope; pictures of a shared runtime wait no longer than until `due_ns`."""
        if due_ns is not None and isinstance(self.runtime, Sharing):
            return examine(_Due(self.runtime, due_ns), image, self._scope)
        return examine(self.runtime, image, self._scope)

    def _require(self, golden: GoldenPart, anomaly: AnomalyMap) -> float:
        """By how much a golden picture's score differs, which must not be too much."""
        allowed = self.bundle.manifest.golden_tolerance + self.runtime.rounding
        difference = abs(anomaly.score - golden.score)
        same = difference <= allowed  # NaN never is
        if not same or self._flips(anomaly, golden.score):
            raise BundleError(
                self.bundle.path,
                f"{golden.file} scores {anomaly.score:.5f} on {self.runtime.name} instead of "
                f"{golden.score:.5f}; this revision must not decide here: choose another "
                "runtime or calibrate on this machine",
            )
        return difference

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

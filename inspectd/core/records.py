"""The records that cross the stages of an inspection: frozen, slotted, units in the docstrings.

A part's way: a camera emits a `Frame` (or a `Loss`), the ledger gives it a `Ticket`, the inspector
makes an `AnomalyMap` of it, the decision a `Decision`, and all of it together is an `Inspection`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

ImageArray = npt.NDArray[np.uint8]
"""(H, W) grey or (H, W, 3) RGB."""
MapArray = npt.NDArray[np.float32]
"""(H, W) anomaly scores."""
MaskArray = npt.NDArray[np.uint8]
"""(H, W), 255 where defective, else 0."""


class Verdict(StrEnum):
    """What the line is told; OPC 40001-101 calls them OK, NotOK and NotDecidable."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    UNDECIDED = "undecided"


class Reason(StrEnum):
    """Why a part got its verdict."""

    BELOW_THRESHOLD = "below_threshold"
    ABOVE_THRESHOLD = "above_threshold"
    REVIEW = "review"
    """In the review band: a person decides, and until then the part is no pass."""
    UNREADABLE_IMAGE = "unreadable_image"
    WRONG_SIZE = "wrong_size"
    FRAME_LOST = "frame_lost"
    INCOMPLETE = "incomplete_frame"
    CAMERA_LOST = "camera_lost"
    OVERRUN = "overrun"
    INFERENCE_FAILED = "inference_failed"
    RESTARTED = "restarted"
    STOPPED = "stopped"
    LATE = "late"


@dataclass(frozen=True, slots=True)
class Trigger:
    """One part in front of the camera, whether or not a picture of it came."""

    camera: str
    part_id: str
    frame_id: int
    """The camera's own counter."""
    captured_at: datetime
    """UTC, with zone."""
    captured_ns: int
    """`time.monotonic_ns()` at the trigger."""
    trigger_count: int | None = None
    """The camera's counter of triggers, where it has one."""
    encoder: int | None = None
    """Ticks of the conveyor's encoder, where there is one."""
    device_ns: int | None = None
    """The camera's clock in nanoseconds, where it has one."""
    exposure_us: float | None = None
    """Exposure time in microseconds, where the camera tells it with the frame."""
    line_status: int | None = None
    """The camera's input and output lines at this frame, a bit each, where it tells them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of one part."""

    trigger: Trigger
    image: ImageArray
    """(H, W) or (H, W, 3) RGB, owned and read-only."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A trigger whose picture didn't come or can't be used."""

    trigger: Trigger
    reason: Reason
    detail: str = ""
    is_past: bool = False
    """The part passed at a time that isn't known: its verdict is late whatever the clock says."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a camera has to tell people beside the parts."""

    kind: str
    """Of the alarm: `camera_lost`, `camera_returned`, `missed_trigger`, `surplus_frame` ..."""
    text: str
    camera_up: bool
    """Whether the camera delivers."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A trigger that is in the ledger: from here on it is answered exactly once."""

    seq: int
    """Without gaps over the station's life, restarts included."""
    result_id: str
    """UUID; the same in every copy of this verdict."""
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class AnomalyMap:
    """What a scorer says of one picture."""

    values: MapArray
    """(H, W) float32 at the model's input resolution; higher is more anomalous; not clamped."""
    score: float
    """Of the whole picture; not clamped."""


@dataclass(frozen=True, slots=True)
class Region:
    """One connected defect."""

    top: int
    left: int
    height: int
    width: int
    """Box in pixels of the mask."""
    area_px: int
    """Pixels of the mask."""
    peak: float
    """Highest anomaly score inside."""
    area_mm2: float | None = None
    """Where the scale is known."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where pass ends and fail begins, and how that was found."""

    image: float
    """A part fails if its score is at or above it."""
    pixel: float | None
    """A pixel is defective if its score is at or above it; None where it couldn't be found."""
    policy: str
    basis: str
    """`real` or `simulated`: which defects it rests on."""
    f1: float
    precision: float
    recall: float
    escapes: int
    """Defective parts of the hold-out set that would pass."""
    overkill: int
    """Good parts of the hold-out set that would fail."""
    n_good: int
    n_defect: int
    escape_rate_interval: tuple[float, float]
    """Wilson, 95 %."""
    overkill_rate_interval: tuple[float, float]
    """Wilson, 95 %."""
    review_below: float | None = None
    """Top of the review band: from `image` to below it a part is undecided, and from it on fails;
    None without a band. The counts above are of `image`: a part in the band doesn't pass."""
    review_good: int = 0
    """Good parts of the hold-out set in the band."""
    review_defect: int = 0
    """Defective ones."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one part and its evidence."""

    verdict: Verdict
    reason: Reason
    detail: str = ""
    score: float | None = None
    threshold: float | None = None
    regions: tuple[Region, ...] = ()
    mask: MaskArray | None = None
    """(H, W) of the source picture, 255 where defective; None where there is no defect."""

    @property
    def margin(self) -> float | None:
        """Score minus threshold: negative passes."""
        if self.score is None or self.threshold is None:
            return None
        return self.score - self.threshold


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that belongs to one part."""

    ticket: Ticket
    decision: Decision
    product_id: str
    revision: str
    timings_ms: dict[str, float] = field(default_factory=dict)
    """Stage name to milliseconds."""
    is_simulated: bool = False

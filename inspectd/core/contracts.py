"""What a camera, a runtime and a publisher must be: the plug-in points of the line.

Each is a context manager: entering acquires, leaving restores the earlier state.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from inspectd.core.records import AnomalyMap, Frame, ImageArray, Loss, Notice


class EndOfStream:
    """A camera's last event: it has no more parts and says so."""


class _Resource(Protocol):
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Camera(_Resource, Protocol):
    """A source of parts. Every trigger comes out exactly once, as a frame or as a loss."""

    name: str

    def next_event(self, timeout_s: float) -> Frame | Loss | Notice | EndOfStream | None:
        """The next part, or None if none came within `timeout_s` seconds.

        A camera that can find itself again tells its loss by a `Notice` and goes on answering.

        Raises:
            CameraError: the camera is lost; leave the context and enter it anew.
        """
        ...


class Runtime(_Resource, Protocol):
    """Runs a bundle's graph. Entering loads and compiles it."""

    name: str
    """What runs where, for logs and `state`: `openvino-2026.4 fp32 CPU`."""
    rounding: float
    """How far its precision may move a score from fp32's; 0 for fp32."""

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one prepared picture, (H, W, 3) uint8 RGB.

        Raises:
            InferenceError: the runtime failed on it; the next picture may go well.
        """
        ...


@runtime_checkable
class Warmable(Protocol):
    """A runtime that cools down while the line idles: its next inference would be a slow one."""

    def keep_warm(self) -> None:
        """Works a little; called now and then by the thread that infers, while it has no part.

        Raises:
            InferenceError: the runtime is broken, which is so found out before the next part.
        """
        ...


@runtime_checkable
class Batched(Protocol):
    """A runtime that scores several pictures in one go."""

    largest_batch: int
    """Pictures; 1 where it was opened for no more."""

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Scores 1 to `largest_batch` prepared pictures, each as `Runtime.infer` would.

        Raises:
            InferenceError: it failed; which picture is to blame isn't known.
        """
        ...


@runtime_checkable
class Sharing(Protocol):
    """A runtime that waits a little for other cameras' pictures, if it is told for how long."""

    def infer_by(self, image: ImageArray, due_ns: int) -> AnomalyMap:
        """As `Runtime.infer`; the part's verdict must be out at `due_ns`, `time.monotonic_ns()`.

        Raises:
            InferenceError: see `Runtime.infer`.
        """
        ...


@runtime_checkable
class MustProve(Protocol):
    """A runtime that may only decide after `inspectd verify` has compared it with the reference."""

    proof_command: str
    """What to type for it; empty where this one needs no proof."""

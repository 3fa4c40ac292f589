"""A GenICam camera through harvesters: `Camera` over a child process and a ring.

What happens where: `inspectd.acquisition`. Here the child's messages and the passing time become
parts and notices; a lost camera is told, its parts are answered, and it is found again without
anybody's help.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Self

from inspectd.acquisition.counting import (
    ByCount,
    ByFrameId,
    BySchedule,
    Counting,
    LastPart,
    Missed,
    Outcome,
    Restart,
    Seen,
    Surplus,
    Trigger,
)
from inspectd.acquisition.host import Host
from inspectd.acquisition.messages import Bad, Count, Gone, Message, Picture, Ready, Refused
from inspectd.core.config import GenicamSection
from inspectd.core.contracts import EndOfStream
from inspectd.core.errors import CameraError
from inspectd.core.records import Frame, ImageArray, Loss, Notice, Reason
from inspectd.core.records import Trigger as PartTrigger

NOTICE_EVERY_S = 1.0
"""Alarms of one kind come at most this often; the next one says how many it stands for."""
MOST_AT_ONCE = 256
"""Messages that are heard before what is due: a picture that waits isn't taken for missing."""
MISSED = (Reason.FRAME_LOST, Reason.INCOMPLETE, Reason.OVERRUN)

Event = Frame | Loss | Notice


class GenicamCamera:
    """See the module; entering waits until the camera streams."""

    def __init__(self, section: GenicamSection, after: LastPart | None = None) -> None:
        """`after` is the last part of an earlier run, behind which numbers go on."""
        self.name = section.name
        self._section = section
        self._host = Host(section)
        self._after = after
        self._counting = counting_for(section)
        self._events: deque[Event] = deque()
        self._notices = _Notices()
        self._is_up = False
        self._has_streamed = False
        self._refusal = ""

    def __enter__(self) -> Self:
        self._counting = counting_for(self._section)
        if self._after is not None:
            self._counting.resume(self._after)
            self._after = None  # of an earlier run, not of this one
        self._has_streamed = False
        self._host.start()
        deadline = monotonic() + self._section.open_timeout_s
        try:
            while not self._is_up:
                if monotonic() > deadline:
                    raise CameraError(
                        f"camera {self.name}: {self._host.detail}; `inspectd camera list` shows "
                        "what can be reached"
                    )
                self._step(deadline)
        except BaseException:
            self._host.stop()
            raise
        while self._events and isinstance(self._events[0], Notice):
            self._events.popleft()  # that it is there is no news at the start
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._host.stop()
        self._is_up = False
        self._events.clear()

    @property
    def pid(self) -> int | None:
        """Of the process that holds the camera now."""
        return self._host.pid

    def next_event(self, timeout_s: float) -> Frame | Loss | Notice | EndOfStream | None:
        """See `Camera.next_event`."""
        deadline = monotonic() + timeout_s
        while not self._events:
            self._step(deadline)
            if not self._events and monotonic() >= deadline:
                return None
        return self._events.popleft()

    def _step(self, deadline: float) -> None:
        """Waits for a message or for what is due, until the deadline at the latest."""
        due = self._counting.due()
        until = deadline if due is None else min(deadline, due)
        message = self._host.receive(max(0.0, until - monotonic()))
        for _ in range(MOST_AT_ONCE):
            if message is not None:
                self._hear(message)
            due = self._counting.due()
            if message is None or due is None or due > monotonic():
                break
            message = self._host.receive(0.0)
        self._heed(self._counting.tick(monotonic()))

    def _hear(self, message: Message) -> None:
        now = monotonic()
        if isinstance(message, Picture):
            if self._host.ring is None:
                raise AssertionError("a picture comes after `Ready`, which brings the ring")
            image = self._host.ring.picture(message.slot, message.shape)  # freed if nobody keeps it
            self._heed(self._counting.picture(message), image)
        elif isinstance(message, Bad):
            self._heed(self._counting.bad(message))
        elif isinstance(message, Count):
            self._heed(self._counting.counted(now, message))
        elif isinstance(message, Ready):
            self._is_up = self._has_streamed = True
            self._tell("camera_returned", f"{message.camera} streams")
            self._heed(self._counting.streaming(now, message.rate, message.count))
        elif isinstance(message, Refused) and not self._has_streamed:
            raise CameraError(f"camera {self.name}: {message.detail}")
        elif isinstance(message, Gone | Refused):
            was_up, self._is_up = self._is_up, False
            if was_up:
                self._tell("camera_lost", message.detail)
                self._heed(self._counting.lost(now))
            elif isinstance(message, Refused) and message.detail != self._refusal:
                self._tell("camera_lost", message.detail)  # why it doesn't come back
            self._refusal = message.detail

    def _heed(self, outcomes: list[Outcome], image: ImageArray | None = None) -> None:
        """Outcomes as parts, notices and commands to the camera."""
        for outcome in outcomes:
            if isinstance(outcome, Seen):
                if image is None:
                    raise AssertionError("only a picture makes a part seen")
                self._events.append(self._frame(outcome, image))
            elif isinstance(outcome, Missed):
                trigger = self._trigger(outcome)
                self._events.append(Loss(trigger, outcome.reason, outcome.detail, outcome.is_past))
                if outcome.reason in MISSED:
                    self._tell("missed_trigger", f"part {outcome.number}: {outcome.detail}")
            elif isinstance(outcome, Surplus):
                self._tell("surplus_frame", outcome.detail)
            elif isinstance(outcome, Trigger):
                self._host.send(f"trigger {outcome.number}")
            elif isinstance(outcome, Restart):
                self._host.send("restart")

    def _frame(self, seen: Seen, image: ImageArray) -> Frame:
        picture = seen.picture
        return Frame(
            PartTrigger(
                camera=self.name,
                part_id=f"{self.name}-{seen.number}",
                frame_id=picture.frame_id,
                captured_at=_utc(picture.captured_ns),
                captured_ns=picture.captured_ns,
                trigger_count=picture.count,
                encoder=picture.encoder,
                device_ns=picture.device_ns,
                exposure_us=picture.exposure_us,
                line_status=picture.lines,
            ),
            image,
        )

    def _trigger(self, missed: Missed) -> PartTrigger:
        at = missed.captured_ns or monotonic_ns()
        return PartTrigger(
            camera=self.name,
            part_id=f"{self.name}-{missed.number}",
            frame_id=missed.frame_id or 0,
            captured_at=_utc(at),
            captured_ns=at,
            trigger_count=missed.count,
        )

    def _tell(self, kind: str, text: str) -> None:
        told = self._notices.worth(kind, text)
        if told is not None:
            self._events.append(Notice(kind, told, self._is_up))


class _Notices:
    """Thins notices out: a flood of one kind becomes one a second."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def worth(self, kind: str, text: str) -> str | None:
        """The text to tell now, or None."""
        now = monotonic()
        if kind in ("missed_trigger", "surplus_frame"):
            if now - self._last.get(kind, -NOTICE_EVERY_S) < NOTICE_EVERY_S:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
                return None
            self._last[kind] = now
        held_back = self._held_back.pop(kind, 0)
        return f"{text} (and {held_back} more before)" if held_back else text


def counting_for(section: GenicamSection) -> Counting:
    """How this camera's parts are counted."""
    timeout_s = section.frame_timeout_ms / 1000
    if section.trigger == "software":
        return BySchedule(section.rate, timeout_s)
    if section.trigger_counter:
        return ByCount(timeout_s, section.expected_rate)
    return ByFrameId(section.expected_rate, section.trigger == "free-run")


def _utc(at_ns: int) -> datetime:
    """UTC of an instant of the monotonic clock."""
    return datetime.now(UTC) - timedelta(microseconds=(monotonic_ns() - at_ns) / 1000)

"""Every part exactly once: frames, counters and silence in, frames and losses out. Pure.

Three ways of knowing that a part passed, by what the camera can tell:

- `ByCount`: the camera counts triggers and stamps each frame with the count. Nothing is guessed:
  frame n answers trigger n; a trigger whose frame doesn't come within the timeout is lost, and a
  frame that comes after that is surplus.
- `ByFrameId`: frame ids tell what was lost on the way; a trigger that made no frame can't be seen.
- `BySchedule`: the daemon triggers by software, one part at a time. After a timeout the stream is
  restarted, so that a late frame can never be taken for the next part's.

While a camera is away, parts are expected at the line's rate and answered as losses; what the
camera counted meanwhile is reconciled with them when it is back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inspectd.acquisition.messages import Bad, Count, Picture
from inspectd.core.records import Reason

BLOCK_ID_MAX = 65_535
"""GigE Vision 1.x counts frames 1 to 65,535 and begins again at 1."""
NEAR_WRAP = 1_000
NOTICED_S = 2.0
"""A camera's loss is noticed within this."""
MAX_GAP = 100_000
"""A larger gap is a counter that was set, not so many parts."""
MAX_UNATTENDED = 10_000
"""The same, of what passed while no daemon ran."""
FIRST_IDS = 100
"""A stream counts its frames from 0 or 1: a first id up to here says how many are missing."""
LATE = 256
"""Losses that are remembered: their frames may still come, and are surplus then."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A part with its picture."""

    number: int
    picture: Picture


@dataclass(frozen=True, slots=True)
class Missed:
    """A part without a usable picture."""

    number: int
    reason: Reason
    detail: str
    frame_id: int | None = None
    captured_ns: int | None = None
    count: int | None = None
    """The camera's count of its trigger, where it is known."""
    is_past: bool = False
    """It passed at a time that isn't known, and is long gone."""


@dataclass(frozen=True, slots=True)
class LastPart:
    """Where an earlier run of the daemon stopped."""

    number: int
    count: int | None = None
    """The camera's count at the last part that it counted; None where what passed since the end of
    that run isn't to be answered."""
    guessed: int = 0
    """Parts behind that one which were answered without the camera's count."""


@dataclass(frozen=True, slots=True)
class Surplus:
    """A frame that no part belongs to: it is not answered, and people are told."""

    detail: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """The camera is to be triggered by software now."""

    number: int
    """Of the part; the frame comes back with it."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The stream is to be restarted: what is on its way must not be taken for another part's."""


Outcome = Seen | Missed | Surplus | Trigger | Restart


class Counting(Protocol):
    """What the camera of the line asks; all times are `time.monotonic()` seconds."""

    def resume(self, last: LastPart) -> None:
        """Numbers go on behind an earlier run's; before anything else."""
        ...

    def streaming(self, now: float, rate: float | None, count: int | None) -> list[Outcome]:
        """The camera streams, for the first time or again."""
        ...

    def lost(self, now: float) -> list[Outcome]:
        """The camera is away."""
        ...

    def picture(self, picture: Picture) -> list[Outcome]:
        """A frame came."""
        ...

    def bad(self, bad: Bad) -> list[Outcome]:
        """A frame came that can't be used."""
        ...

    def counted(self, now: float, count: Count) -> list[Outcome]:
        """The camera's counter was read."""
        ...

    def tick(self, now: float) -> list[Outcome]:
        """Time has passed."""
        ...

    def due(self) -> float | None:
        """When `tick` has something to do next."""
        ...


class _Absence:
    """Parts that pass unseen while the camera is away, at the line's rate."""

    def __init__(self, rate: float | None) -> None:
        self._period = 1 / rate if rate else None
        self._next: float | None = None
        self._last_part = 0.0

    def saw(self, part_ns: int | None) -> None:
        """A part was seen, at `time.monotonic_ns()`: the next ones keep its beat."""
        if part_ns is not None:
            self._last_part = part_ns / 1e9

    def begin(self, now: float) -> None:
        """The camera is found to be gone: parts since the last one that was seen count too."""
        if self._next is not None or self._period is None:
            return
        is_moving = now - self._last_part < NOTICED_S + self._period
        self._next = (self._last_part if is_moving else now) + self._period

    def end(self) -> None:
        """It is back."""
        self._next = None

    def passed(self, now: float) -> int:
        """Parts that passed since this was asked last."""
        count = 0
        while self._next is not None and self._period is not None and self._next <= now:
            self._next += self._period
            count += 1
        return count

    @property
    def due(self) -> float | None:
        """When the next one passes."""
        return self._next


UNATTENDED = (Reason.RESTARTED, "it passed while the daemon was away")
CAMERA_AWAY = (Reason.CAMERA_LOST, "it passed while the camera was away")


class ByCount:
    """See the module."""

    def __init__(self, timeout_s: float, expected_rate: float | None) -> None:
        self._timeout_s = timeout_s
        self._absence = _Absence(expected_rate)
        self._answered: int | None = None
        """The camera's count of the last part that was answered."""
        self._guessed = 0
        """Parts answered while the camera was away: its count will say whether they were real."""
        self._offset = 0
        """Part number minus the camera's count: it starts anew when its power was cut."""
        self._waiting: list[tuple[float, int]] = []
        """When a count is overdue, and the count; in order."""
        self._late: deque[int] = deque(maxlen=LATE)
        """Counts that were answered without their frame."""
        self._first = 0
        """Parts of earlier runs."""
        self._away = UNATTENDED

    def resume(self, last: LastPart) -> None:
        """See `Counting`; what the camera has counted since `last.count` is missed."""
        self._first = last.number
        if last.count is not None:
            self._answered, self._guessed = last.count, last.guessed
            self._offset = last.number - last.guessed - last.count

    def streaming(self, now: float, rate: float | None, count: int | None) -> list[Outcome]:
        """See `Counting`."""
        self._absence.end()
        self._waiting.clear()
        self._late.clear()
        count = count or 0
        away, self._away = self._away, CAMERA_AWAY
        if self._answered is None:
            self._answered = count
            self._offset = self._first - count
            return []
        guessed, self._guessed = self._guessed, 0
        last, before = self._answered + self._offset, self._answered
        if count < before:  # its power was cut: it counts from 0 again
            before = 0
        unseen = count - before
        if unseen > (MAX_UNATTENDED if away is UNATTENDED else MAX_GAP):
            unseen = 0
        # where fewer came than the rate let expect, numbers go on behind those answered
        self._offset = last + max(guessed, unseen) - count
        self._answered = count
        return [
            Missed(last + part, *away, count=before + part, is_past=True)
            for part in range(guessed + 1, unseen + 1)
        ]

    def lost(self, now: float) -> list[Outcome]:
        """See `Counting`."""
        self._absence.begin(now)
        if not self._waiting:
            return []
        last = self._waiting[-1][1]
        self._waiting.clear()
        return self._missing(last, Reason.CAMERA_LOST, "the camera was lost before its frame came")

    def picture(self, picture: Picture) -> list[Outcome]:
        """See `Counting`."""
        self._absence.saw(picture.captured_ns)
        if picture.count is None:
            return self._next_bad(Reason.FRAME_LOST, "the frame has no count of triggers", picture)
        if self._is_answered(picture.count):
            return [Surplus(f"a frame of trigger {picture.count} came after that was answered")]
        found = self._before(picture.count)
        self._answered = picture.count
        return [*found, Seen(picture.count + self._offset, picture)]

    def bad(self, bad: Bad) -> list[Outcome]:
        """See `Counting`."""
        self._absence.saw(bad.captured_ns)
        if bad.count is None:
            return self._next_bad(Reason(bad.reason), bad.detail, bad)
        if self._is_answered(bad.count):
            return [Surplus(f"a frame of trigger {bad.count} came after that was answered")]
        found = self._before(bad.count)
        self._answered = bad.count
        return [*found, _missed(bad.count + self._offset, bad)]

    def counted(self, now: float, count: Count) -> list[Outcome]:
        """See `Counting`."""
        if self._answered is not None and 0 < count.count - self._answered <= MAX_GAP:
            self._absence.saw(int(now * 1e9))
            self._waiting.append((now + self._timeout_s, count.count))
        return []

    def tick(self, now: float) -> list[Outcome]:
        """See `Counting`."""
        found: list[Outcome] = []
        while self._waiting and self._waiting[0][0] <= now:
            count = self._waiting.pop(0)[1]
            found += self._missing(count, Reason.FRAME_LOST, "no frame came of its trigger in time")
        for _ in range(self._absence.passed(now)):
            self._guessed += 1
            number = (self._answered or 0) + self._offset + self._guessed
            found.append(Missed(number, Reason.CAMERA_LOST, "the camera is away"))
        return found

    def due(self) -> float | None:
        """See `Counting`."""
        times = [self._waiting[0][0]] if self._waiting else []
        if self._absence.due is not None:
            times.append(self._absence.due)
        return min(times, default=None)

    def _is_answered(self, count: int) -> bool:
        return count == self._answered or count in self._late

    def _before(self, count: int) -> list[Outcome]:
        """Losses between the last answered count and this one, which a frame has."""
        last = self._answered or 0
        if last < count <= last + MAX_GAP:
            return self._missing(count - 1, Reason.FRAME_LOST, "no frame came of its trigger")
        # the counter was reset, or wrapped, or the value is garbage: numbers go on
        polled = self._waiting[-1][1] if self._waiting and count < last else last
        found = self._missing(polled, Reason.FRAME_LOST, "no frame came of its trigger")
        self._waiting.clear()
        self._late.clear()
        self._offset += (self._answered or 0) + 1 - count
        return found

    def _missing(self, until: int, reason: Reason, detail: str) -> list[Outcome]:
        """All counts behind the last answered one, up to `until`, are answered now."""
        counts = range((self._answered or 0) + 1, until + 1)
        self._late.extend(counts)
        self._answered = max(self._answered or 0, until)
        return [Missed(count + self._offset, reason, detail, count=count) for count in counts]

    def _next_bad(self, reason: Reason, detail: str, of: Picture | Bad) -> list[Outcome]:
        """A frame that doesn't say which trigger it is of: it takes the next place."""
        self._answered = (self._answered or 0) + 1
        self._late.append(self._answered)
        number = self._answered + self._offset
        return [Missed(number, reason, detail, of.frame_id, of.captured_ns, self._answered)]


class ByFrameId:
    """See the module."""

    def __init__(self, expected_rate: float | None, is_free_running: bool) -> None:
        self._expected_rate = expected_rate
        self._is_free_running = is_free_running
        self._absence = _Absence(expected_rate)
        self._last_id: int | None = None
        self._unnumbered = 0
        """Frames since then that came without an id."""
        self._late: deque[int] = deque(maxlen=LATE)
        """Ids that were answered without their frame."""
        self._number = 0

    def resume(self, last: LastPart) -> None:
        """See `Counting`."""
        self._number = last.number

    def streaming(self, now: float, rate: float | None, count: int | None) -> list[Outcome]:
        """See `Counting`."""
        self._absence.end()
        if self._is_free_running and self._expected_rate is None:
            self._absence = _Absence(rate)
        self._last_id, self._unnumbered = None, 0
        self._late.clear()
        return []

    def lost(self, now: float) -> list[Outcome]:
        """See `Counting`."""
        self._absence.begin(now)
        return []

    def picture(self, picture: Picture) -> list[Outcome]:
        """See `Counting`."""
        self._absence.saw(picture.captured_ns)
        if picture.frame_id in self._late:
            return [Surplus(f"frame {picture.frame_id} came after its part was answered")]
        found = self._gap(picture.frame_id)
        self._number += 1
        return [*found, Seen(self._number, picture)]

    def bad(self, bad: Bad) -> list[Outcome]:
        """See `Counting`."""
        self._absence.saw(bad.captured_ns)
        found: list[Outcome] = []
        if bad.frame_id is None:
            self._unnumbered += 1
        elif bad.frame_id in self._late:
            return [Surplus(f"frame {bad.frame_id} came after its part was answered")]
        else:
            found = self._gap(bad.frame_id)
        self._number += 1
        return [*found, _missed(self._number, bad)]

    def counted(self, now: float, count: Count) -> list[Outcome]:
        """See `Counting`."""
        return []

    def tick(self, now: float) -> list[Outcome]:
        """See `Counting`."""
        return [
            self._next(Reason.CAMERA_LOST, "the camera is away")
            for _ in range(self._absence.passed(now))
        ]

    def due(self) -> float | None:
        """See `Counting`."""
        return self._absence.due

    def _gap(self, frame_id: int) -> list[Outcome]:
        """Losses between the last frame and this one."""
        last, self._last_id = self._last_id, frame_id
        unnumbered, self._unnumbered = self._unnumbered, 0
        missing = _ids_before(frame_id) if last is None else _ids_between(last, frame_id)
        if missing is None:
            self._late.clear()
            return [
                Surplus(f"frame id {frame_id} came after {last}: the camera began to count anew")
            ]
        self._late.extend(missing)
        lost = missing[unnumbered:]  # which ids the unnumbered ones had isn't known
        return [self._next(Reason.FRAME_LOST, "its frame id is missing") for _ in lost]

    def _next(self, reason: Reason, detail: str) -> Missed:
        self._number += 1
        return Missed(self._number, reason, detail)


class BySchedule:
    """See the module."""

    def __init__(self, rate: float, timeout_s: float) -> None:
        self._period = 1 / rate
        self._timeout_s = timeout_s
        self._next: float | None = None
        self._number = 0
        self._pending: tuple[int, float] | None = None
        """Number of the part that is being taken, and when it counts as lost."""
        self._is_up = False

    def resume(self, last: LastPart) -> None:
        """See `Counting`."""
        self._number = last.number

    def streaming(self, now: float, rate: float | None, count: int | None) -> list[Outcome]:
        """See `Counting`."""
        self._is_up = True
        if self._next is None:
            self._next = now
        return []

    def lost(self, now: float) -> list[Outcome]:
        """See `Counting`."""
        self._is_up = False
        return self._give_up(Reason.CAMERA_LOST, "the camera was lost before its frame came")

    def picture(self, picture: Picture) -> list[Outcome]:
        """See `Counting`."""
        if self._pending is None or self._pending[0] != picture.part:
            return [Surplus(f"frame {picture.frame_id} came without a trigger, or too late")]
        (number, _), self._pending = self._pending, None
        return [Seen(number, picture)]

    def bad(self, bad: Bad) -> list[Outcome]:
        """See `Counting`."""
        if self._pending is None or self._pending[0] != bad.part:
            return [Surplus(f"a frame came without a trigger, or too late ({bad.detail})")]
        (number, _), self._pending = self._pending, None
        return [_missed(number, bad)]

    def counted(self, now: float, count: Count) -> list[Outcome]:
        """See `Counting`."""
        return []

    def tick(self, now: float) -> list[Outcome]:
        """See `Counting`."""
        found: list[Outcome] = []
        if self._pending is not None and self._pending[1] <= now:
            found += self._give_up(Reason.FRAME_LOST, "no frame came of its trigger in time")
            found.append(Restart())
        while self._next is not None and self._next <= now:
            self._next += self._period
            found += self._take(now)
        return found

    def due(self) -> float | None:
        """See `Counting`."""
        pending = None if self._pending is None else self._pending[1]
        return min((t for t in (self._next, pending) if t is not None), default=None)

    def _take(self, now: float) -> list[Outcome]:
        self._number += 1
        if not self._is_up:
            return [Missed(self._number, Reason.CAMERA_LOST, "the camera is away")]
        if self._pending is not None:
            busy = "the camera was still busy with the part before"
            return [Missed(self._number, Reason.OVERRUN, busy)]
        self._pending = (self._number, now + self._timeout_s)
        return [Trigger(self._number)]

    def _give_up(self, reason: Reason, detail: str) -> list[Outcome]:
        if self._pending is None:
            return []
        (number, _), self._pending = self._pending, None
        return [Missed(number, reason, detail)]


def _missed(number: int, bad: Bad) -> Missed:
    return Missed(number, Reason(bad.reason), bad.detail, bad.frame_id, bad.captured_ns, bad.count)


def _ids_before(first: int) -> Sequence[int]:
    """Ids missing before a stream's first frame, as far as it can be known."""
    return range(1, first) if first <= FIRST_IDS else ()


def _ids_between(last: int, current: int) -> Sequence[int] | None:
    """Ids missing between two frames; None where the camera began anew."""
    if last < current <= last + MAX_GAP:
        return range(last + 1, current)
    if BLOCK_ID_MAX - NEAR_WRAP < last <= BLOCK_ID_MAX and 0 <= current < NEAR_WRAP:
        first = min(current, 1)  # 0 is used by cameras that count modulo 65,536
        return [*range(last + 1, BLOCK_ID_MAX + 1), *range(first, current)]
    return None

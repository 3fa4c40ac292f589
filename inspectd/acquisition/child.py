"""The process that talks to one camera: ``python -m inspectd.acquisition.child SOCKET LIFELINE``.

It waits for the camera, configures it, and streams until the camera is lost (status 3), the
configuration is refused (4) or the daemon says stop (0). It never repairs anything: what goes wrong
ends it, and the daemon starts a fresh one, which is the state that a producer is best tested in.

When the daemon dies, the kernel ends this process through the lifeline, a pipe whose end raises
SIGIO here: that needs no thread, and works while a producer holds the interpreter's lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from time import monotonic, monotonic_ns, sleep

from inspectd.acquisition import device as devices
from inspectd.acquisition.features import apply_feature, apply_features, find, read
from inspectd.acquisition.messages import (
    MAX_BYTES,
    Alive,
    Bad,
    Count,
    Gone,
    Message,
    Picture,
    Ready,
    Refused,
    pack,
)
from inspectd.acquisition.pixels import decode, shape_of
from inspectd.acquisition.ring import RingWriter
from inspectd.core.config import GenicamSection
from inspectd.core.errors import CameraError, ImageError
from inspectd.core.records import Reason

FETCH_S = 0.002
"""Longest wait in a producer before commands are looked at."""
ALIVE_S = 0.2
HEARTBEAT_S = 0.4
COUNT_S = 0.1
STALLED_S, STALLED_FRAMES = 1.5, 5
"""A camera in free run that sends nothing for so long, in seconds and in frames, is lost."""
SEARCH_S = (0.05, 0.1, 0.2, 0.4)
"""Pauses between looking for a camera that isn't there."""
GONE, REFUSED = 3, 4
"""Exit statuses."""


class Daemon:
    """The other end of the socket; its end is ours."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def tell(self, message: Message, *handles: int) -> None:
        """Sends one message, with open files."""
        try:
            socket.send_fds(self._channel, [pack(message)], list(handles))
        except OSError:
            os._exit(0)  # nobody is left to tell

    def words(self) -> Iterator[str]:
        """Commands that have come, without waiting."""
        while True:
            try:
                packet = self._channel.recv(MAX_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                os._exit(0)
            yield packet.decode() or "stop"
            if not packet:
                return


def main() -> None:
    """Runs one camera until its end."""
    channel, lifeline = (int(text) for text in sys.argv[1:3])
    _die_with(lifeline)
    logging.disable(logging.CRITICAL)  # what harvesters tells, it tells by exceptions too
    with socket.socket(fileno=channel) as link:
        section = GenicamSection.model_validate_json(link.recv(MAX_BYTES))
        daemon = Daemon(link)
        daemon.tell(Alive("opening"))
        try:
            _settle(section)
            _run(section, daemon)
        except CameraError as error:
            daemon.tell(Refused(str(error)))
            os._exit(REFUSED)
        except Exception as error:  # noqa: BLE001 - whatever a producer did, the daemon hears of it
            daemon.tell(Gone(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"))
            os._exit(GONE)  # a producer that failed may also fail, or hang, at an orderly end


def _die_with(lifeline: int) -> None:
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    with suppress(BlockingIOError):
        os.set_blocking(lifeline, False)
        if os.read(lifeline, 1) == b"":  # it died before we could ask to be told
            os._exit(0)


def _settle(section: GenicamSection) -> None:
    """CPU cores and priority, as configured.

    Raises:
        CameraError: the system doesn't allow it.
    """
    try:
        if section.cpu_affinity:
            os.sched_setaffinity(0, section.cpu_affinity)
        if section.realtime_priority:
            param = os.sched_param(section.realtime_priority)
            os.sched_setscheduler(0, os.SCHED_FIFO, param)
    except OSError as error:
        raise CameraError(
            f"cpu_affinity or realtime_priority isn't allowed here ({error.strerror}); grant "
            "CAP_SYS_NICE (LimitRTPRIO=99, RestrictRealtime=no in the unit) or remove the setting"
        ) from error


def _run(section: GenicamSection, daemon: Daemon) -> None:
    with devices.harvester(devices.producers(section.cti)) as found:
        index = _awaited(section, found, daemon)
        if index is None:
            return
        name = devices.entries(found)[index]
        daemon.tell(Alive("opening", name.serial))
        with devices.Device(found, index) as camera:
            stream = _Stream(section, camera, daemon)
            stream.configure()
            stream.start(f"{name.vendor} {name.model} {name.serial}".strip())
            stream.run()


def _awaited(section: GenicamSection, found: object, daemon: Daemon) -> int | None:
    """Index of the camera as soon as it is there; None at a stop."""
    attempt = 0
    while True:
        seen = devices.entries(found)
        index = devices.chosen(seen, section.serial, section.user_id)
        if index is not None:
            return index
        wanted = section.serial or section.user_id or "any camera"
        visible = ", ".join(f"{entry.serial} {entry.user_id}".strip() for entry in seen)
        daemon.tell(Alive("waiting", f"{wanted} isn't there; visible: {visible or 'none'}"))
        if "stop" in daemon.words():
            return None
        sleep(SEARCH_S[min(attempt, len(SEARCH_S) - 1)])
        attempt += 1
        found.update()  # type: ignore[attr-defined]


class _Stream:
    """A configured camera and the ring it fills."""

    def __init__(self, section: GenicamSection, camera: devices.Device, daemon: Daemon) -> None:
        self._section = section
        self._camera = camera
        self._daemon = daemon
        self._ring: RingWriter | None = None
        self._triggered_ns = 0
        self._part: int | None = None
        """What the last software trigger was for."""
        self._polled: int | None = None
        self._stalls_at = inf
        """`monotonic()` at which a free-running camera has been silent for too long."""
        self._patience_s = inf

    def configure(self) -> None:
        """User set, then trigger, then features, each read back."""
        section, nodes = self._section, self._camera.nodes
        only_trigger = ("TriggerSelector", "FrameStart")  # of a camera without a selector
        has_several = find(nodes, only_trigger[0]) is not None
        written = section.written_features()
        apply_features(nodes, [pair for pair in written if has_several or pair != only_trigger])
        if section.chunks:
            self._camera.enable_chunks(section.trigger_counter)
        if section.trigger_counter:  # the features may have selected another one
            apply_feature(nodes, "CounterSelector", section.trigger_counter)

    def start(self, name: str) -> None:
        """Makes the ring for the pictures that will come, starts, and says so."""
        nodes = self._camera.nodes
        try:
            shape = shape_of(nodes.Width.value, nodes.Height.value, nodes.PixelFormat.value)
        except ImageError as error:
            raise CameraError(str(error)) from error
        size = 1
        for side in shape:
            size *= side
        self._ring = RingWriter(self._section.ring, -(-size // 64) * 64)
        count = self._count()  # before the start: what passes from here on is answered
        self._camera.start(self._section.buffers, self._section.buffer_handling)
        rate = read(nodes, "AcquisitionFrameRate")
        ready = Ready(
            camera=name,
            slots=self._ring.slots,
            slot_bytes=self._ring.slot_bytes,
            rate=float(rate) if isinstance(rate, int | float) else None,
            count=count,
        )
        self._polled = ready.count
        if self._section.trigger == "free-run" and ready.rate:
            self._patience_s = max(STALLED_S, STALLED_FRAMES / ready.rate)
            self._stalls_at = monotonic() + self._patience_s
        self._daemon.tell(ready, self._ring.handle)
        os.close(self._ring.handle)

    def run(self) -> None:
        """Until the daemon says stop, or an exception."""
        due = dict.fromkeys((self._say_alive, self._ask_camera, self._poll_count), 0.0)
        every = {
            self._say_alive: ALIVE_S,
            self._ask_camera: HEARTBEAT_S,
            self._poll_count: COUNT_S,
        }
        while True:
            for word in self._daemon.words():
                if word == "stop":
                    return
                if word.startswith("trigger "):
                    self._part = int(word.split()[1])
                    self._triggered_ns = monotonic_ns()
                    self._camera.trigger()
                elif word == "restart":
                    self._part = None
                    self._camera.stop()
                    self._camera.start(self._section.buffers, self._section.buffer_handling)
            shot = self._camera.fetch(FETCH_S)
            for _ in range(self._camera.incomplete()):
                detail = "the camera's frame came incomplete"
                self._daemon.tell(Bad(Reason.INCOMPLETE, detail, part=self._take_part()))
            now = monotonic()
            if shot is not None:
                self._stalls_at = now + self._patience_s
                self._hand_over(shot)
            for duty, when in due.items():
                if now >= when:
                    due[duty] = now + every[duty]
                    duty()

    def _hand_over(self, shot: devices.Shot) -> None:
        """Decodes a frame into the ring; what can't be is told with its reason."""
        if self._ring is None:
            raise AssertionError("`start` makes the ring")
        exposure = shot.chunks.get("ExposureTime")
        captured_ns = self._triggered_ns or monotonic_ns() - int((exposure or 0) * 1000)
        counter = self._section.trigger_counter
        count = (
            int(shot.chunks["CounterValue"]) if counter and "CounterValue" in shot.chunks else None
        )
        part = self._take_part()

        def bad(reason: Reason, detail: str) -> None:
            self._daemon.tell(Bad(reason, detail, shot.frame_id, count, captured_ns, part))

        try:
            shape = shape_of(shot.width, shot.height, shot.pixel_format)
        except ImageError as error:
            return bad(Reason.UNREADABLE_IMAGE, str(error))
        size = shape[0] * shape[1] * (shape[2] if len(shape) == 3 else 1)
        if size > self._ring.slot_bytes:
            return bad(Reason.WRONG_SIZE, f"{shape} doesn't fit what the camera was set to")
        slot = self._ring.claim()
        if slot is None:
            return bad(Reason.OVERRUN, f"{self._ring.slots} pictures wait in the ring already")
        try:
            decode(
                shot.data,
                shot.width,
                shot.height,
                shot.pixel_format,
                line_pitch=shot.line_pitch,
                out=self._ring.picture(slot, shape),
            )
        except ImageError as error:
            self._ring.release(slot)
            return bad(Reason.UNREADABLE_IMAGE, str(error))
        finally:
            self._camera.give_back()
        encoder, lines = shot.chunks.get("EncoderValue"), shot.chunks.get("LineStatusAll")
        self._daemon.tell(
            Picture(
                slot=slot,
                shape=shape,
                frame_id=shot.frame_id,
                captured_ns=captured_ns,
                device_ns=shot.device_ns,
                count=count,
                encoder=None if encoder is None else int(encoder),
                exposure_us=exposure,
                lines=None if lines is None else int(lines),
                part=part,
            )
        )
        return None

    def _take_part(self) -> int | None:
        """The part that was triggered last, once: a second frame belongs to none."""
        part, self._part = self._part, None
        return part

    def _say_alive(self) -> None:
        self._daemon.tell(Alive("streaming"))

    def _ask_camera(self) -> None:
        if monotonic() > self._stalls_at:
            raise TimeoutError(f"free run, but no frame came for {self._patience_s:.1f} s")
        self._camera.is_answering()

    def _poll_count(self) -> None:
        count = self._count()
        if count is not None and count != self._polled:
            self._polled = count
            self._daemon.tell(Count(count))

    def _count(self) -> int | None:
        if not self._section.trigger_counter:
            return None
        value = read(self._camera.nodes, "CounterValue")
        return int(value) if isinstance(value, int) else None


if __name__ == "__main__":
    main()

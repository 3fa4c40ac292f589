"""The inspection line: two threads between a camera and the book of answers.

The pump takes events from the camera, gives each trigger its row in the ledger, enters it into the
book (`inspectd.daemon.answers`) and puts it in a queue. Only so many frames may wait there; one
more gives its picture up and waits as `undecided` (overrun), as a lost frame does, so that verdicts
come in the order of the parts. The inspector thread takes parts and decides.

A changeover takes effect between two triggers: a part is inspected with the product that was active
when it passed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, Full, Queue
from time import monotonic, monotonic_ns

import structlog

from inspectd.core.contracts import Camera, EndOfStream
from inspectd.core.errors import CameraError, InspectdError
from inspectd.core.records import Decision, Frame, Loss, Notice, Reason, Ticket
from inspectd.daemon.answers import Alarm, Answers, Part, Setup
from inspectd.pipeline.decide import undecided

log = structlog.get_logger()

CAMERA_RETRY_S = (0.2, 0.5, 1.0, 2.0)
TICK_S = 0.2
MAX_UNDECIDED = 1_000
"""Parts that may wait beside the frames, with their answer known; more are left to the timer."""
REST_S = 1.0
"""At the stop, to take what the camera has seen already."""
MAX_SWITCHES = 8
"""Changeovers that may wait for the inspector."""
STUCK_S = 10.0
"""Inspection of one part for longer than this is no progress."""
CAMERA_STUCK_S = 120.0
"""The same for a camera that neither gives a part nor says that it has none."""


class Line:
    """The running line; `start` and `stop` once each. `answers` must be entered already."""

    def __init__(
        self,
        camera: Camera,
        setup: Setup,
        answers: Answers,
        alarm: Alarm,
        *,
        queue: int,
    ) -> None:
        self._camera = camera
        self._setup = setup
        self._answers = answers
        self._alarm = alarm
        self._jobs: Queue[Part | Setup] = Queue(queue + MAX_UNDECIDED + MAX_SWITCHES)
        self._room = threading.BoundedSemaphore(queue)
        self._queue = queue
        self._taking = threading.Lock()
        """Held while a part is entered and while a product changes: one part has one product."""
        self._stopping = threading.Event()
        self._draining = threading.Event()
        self._pump = threading.Thread(target=self._run_pump, name="pump", daemon=True)
        self._worker = threading.Thread(target=self._run_worker, name="inspector", daemon=True)
        self._busy_since: float | None = None
        self._beat = monotonic()
        self.ended = threading.Event()
        """Set when the camera has no more parts, or a thread died."""
        self.failure: BaseException | None = None
        """What killed a thread, if one died."""
        self.camera_up = True
        self.is_paused = False
        """Set where parts are to be answered `undecided` without a look at them."""
        self.is_simulated = False
        """Marks the verdicts of the parts to come as simulated."""

    @property
    def setup(self) -> Setup:
        """What parts are triggered for now."""
        return self._setup

    def start(self, unanswered: Iterable[Ticket] = ()) -> None:
        """Answers what an earlier run left open, then takes parts. The camera must be entered."""
        for ticket in unanswered:
            restarted = undecided(Reason.RESTARTED, "the daemon ended before it decided")
            # Its trigger's clock may have been another boot's: it is late whatever the clock says.
            part = Part(ticket, restarted, self._setup, self.is_simulated, deadline_ns=0)
            self._answers.expect(part)
            self._answers.answer(part, restarted, {})
        self._worker.start()
        self._pump.start()

    def stop(self, drain_s: float) -> None:
        """Takes no more parts, finishes the waiting ones within `drain_s`, answers the rest."""
        deadline = monotonic() + drain_s
        self._stopping.set()
        self._pump.join(max(0.0, deadline - monotonic()))
        self._draining.set()
        self._worker.join(max(0.0, deadline - monotonic()))
        self._answers.answer_rest(undecided(Reason.STOPPED, "the daemon was stopped"))
        if self._worker.is_alive():  # what it uses can't be closed under it
            log.error("inspector_stuck", remedy="the process ends without it")
            return
        setups = [job for job in self._left_over() if isinstance(job, Setup)]
        for setup in (*setups, self._setup):
            setup.lifetime.close()

    def change_over(self, setup: Setup) -> None:
        """Inspects with another setup from the next trigger on; the old one is closed after its
        last part.

        Raises:
            InspectdError: too many earlier ones wait for an inspector that is stuck.
        """
        with self._taking:
            try:
                self._jobs.put_nowait(self._setup)
            except Full:
                raise InspectdError("the product can't change: the inspector is stuck") from None
            self._setup = setup
        log.info("product_changed", product=setup.product, revision=setup.revision)

    @property
    def is_busy(self) -> bool:
        """Whether the inspector didn't come to its end: what it uses mustn't be closed."""
        return self._worker.is_alive()

    def stuck(self) -> str | None:
        """Which part of the line makes no progress, in words; None while all is well."""
        since, deadline_s = self._busy_since, self._setup.deadline_ms / 1000
        if since is not None and monotonic() - since > max(STUCK_S, 2 * deadline_s):
            return "the inspector has been busy with one part for too long"
        if self._pump.is_alive() and monotonic() - self._beat > CAMERA_STUCK_S:
            return "the camera neither gives parts nor returns"
        return None

    def _run_pump(self) -> None:
        try:
            attempt = 0
            while not self._stopping.is_set():
                self._beat = monotonic()
                try:
                    event = self._camera.next_event(TICK_S)
                except CameraError as error:
                    attempt = self._reopen_camera(error, attempt)
                    continue
                if isinstance(event, EndOfStream):
                    log.info("camera_stream_ended", camera=self._camera.name)
                    return
                if isinstance(event, Notice):
                    self._heed(event)
                elif event is not None:
                    attempt = 0
                    with self._taking:
                        self._take(event)
            self._take_rest()
        except BaseException as error:  # noqa: BLE001 - it ends the daemon, with its trace logged
            self._die("pump", error)
        finally:
            self._stopping.set()
            self.ended.set()

    def _take_rest(self) -> None:
        """At the stop: parts that the camera knows of already."""
        until = monotonic() + REST_S
        with suppress(CameraError):
            while self.camera_up and monotonic() < until:
                event = self._camera.next_event(0.0)
                if event is None or isinstance(event, EndOfStream):
                    return
                if not isinstance(event, Notice):
                    with self._taking:
                        self._take(event)

    def _reopen_camera(self, error: CameraError, attempt: int) -> int:
        """Closes and opens a lost camera, with growing pauses, until it is back or the stop.

        Returns:
            How often it was tried, for the next time.
        """
        self.camera_up = False
        self._alarm("camera_lost", str(error), camera=self._camera.name)
        self._camera.__exit__(None, None, None)
        while not self._stopping.wait(CAMERA_RETRY_S[min(attempt, len(CAMERA_RETRY_S) - 1)]):
            attempt += 1
            self._beat = monotonic()
            try:
                self._camera.__enter__()
            except CameraError as still:
                log.warning("camera_unavailable", camera=self._camera.name, error=str(still))
            else:
                self.camera_up = True
                log.info("camera_returned", camera=self._camera.name)
                break
        return attempt

    def _heed(self, notice: Notice) -> None:
        """A camera that helps itself tells what it met."""
        self.camera_up = notice.camera_up
        self._alarm(notice.kind, notice.text, camera=self._camera.name)

    def _take(self, event: Frame | Loss) -> None:
        ticket = self._answers.ticket(event.trigger)
        work: Frame | Decision
        is_past = False
        if isinstance(event, Loss):
            work, is_past = undecided(event.reason, event.detail), event.is_past
        elif self.is_paused:
            work = undecided(Reason.STOPPED, "the station was stopped by a command")
        elif self._room.acquire(blocking=False):
            work = event
        else:
            work = undecided(Reason.OVERRUN, f"{self._queue} parts were waiting already")
        setup = self._setup
        deadline_ns = ticket.trigger.captured_ns + setup.deadline_ms * 1_000_000
        part = Part(ticket, work, setup, self.is_simulated, 0 if is_past else deadline_ns)
        self._answers.expect(part)
        try:
            self._jobs.put_nowait(part)
        except Full:  # the inspector is stuck: the timer answers the part when its turn comes
            self._leave_queue(part)

    def _run_worker(self) -> None:
        try:
            while not (self._draining.is_set() and self._jobs.empty()):
                try:
                    job = self._jobs.get(timeout=TICK_S)
                except Empty:
                    self._setup.inspector.keep_warm()
                    continue
                if isinstance(job, Setup):
                    self._close(job)  # no part of it is left
                else:
                    self._leave_queue(job)
                    self._handle(job)
        except BaseException as error:  # noqa: BLE001 - it ends the daemon, with its trace logged
            self._die("inspector", error)

    def _close(self, setup: Setup) -> None:
        self._busy_since = monotonic()  # a runtime may hang here as well
        try:
            setup.lifetime.close()
        finally:
            self._busy_since = None

    def _handle(self, part: Part) -> None:
        if not self._answers.expects(part):  # its time was up, and the next part's is running
            return
        if isinstance(part.work, Frame):
            self._inspect(part, part.work)
        else:
            self._answers.answer(part, part.work, {})

    def _inspect(self, part: Part, frame: Frame) -> None:
        self._busy_since = monotonic()
        waited_ms = (monotonic_ns() - part.ticket.trigger.captured_ns) / 1e6
        try:
            decision, timings = part.setup.inspector.inspect(frame.image, part.deadline_ns)
        except BaseException as error:
            failed = undecided(Reason.INFERENCE_FAILED, f"{type(error).__name__}: {error}")
            self._answers.answer(part, failed, {})
            raise
        finally:
            self._busy_since = None
        self._answers.answer(part, decision, {"wait": waited_ms, **timings})

    def _leave_queue(self, part: Part) -> None:
        """A frame that leaves the queue makes room for another."""
        if isinstance(part.work, Frame):
            self._room.release()

    def _left_over(self) -> Iterable[Part | Setup]:
        while not self._jobs.empty():
            yield self._jobs.get_nowait()

    def _die(self, thread: str, error: BaseException) -> None:
        log.error("thread_died", thread=thread, exc_info=error)
        self.failure = error
        self._stopping.set()
        self.ended.set()

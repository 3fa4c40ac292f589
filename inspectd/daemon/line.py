"""The inspection line: two threads between a camera and the publisher.

The pump takes events from the camera, gives each trigger its row in the ledger, and puts it in a
queue. Only so many frames may wait there; one more gives its picture up and waits as `undecided`
(overrun), as a lost frame does, so that verdicts come in the order of the parts. The inspector
thread takes parts, decides and hands the letter over. Every trigger that got a row gets exactly one
letter, whatever happens to its frame; that is `_answer`, and nothing else sends one.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Empty, Full, Queue
from time import monotonic, monotonic_ns, perf_counter_ns
from typing import Protocol

import cv2
import structlog

from inspectd.core.contracts import Camera, EndOfStream
from inspectd.core.errors import CameraError, LedgerError
from inspectd.core.records import (
    Decision,
    Frame,
    Inspection,
    Loss,
    MaskArray,
    Notice,
    Reason,
    Ticket,
    Trigger,
)
from inspectd.ledger import Ledger, Letter
from inspectd.pipeline.decide import undecided
from inspectd.pipeline.inspector import Inspector, Timings
from inspectd.publishers.messages import result_message, verdict_message

log = structlog.get_logger()

CAMERA_RETRY_S = (0.2, 0.5, 1.0, 2.0)
TICK_S = 0.2
MAX_UNDECIDED = 1_000
"""Parts that may wait beside the frames, with their answer known; more are answered at once."""


class Outlet(Protocol):
    """Where letters and alarms go; the MQTT publisher is one."""

    def publish(self, letter: Letter) -> None:
        """Sends as soon as possible; never blocks."""
        ...

    def alarm(self, kind: str, text: str, **facts: object) -> None:
        """Tells people."""
        ...


@dataclass(frozen=True, slots=True)
class Setup:
    """What the line runs with; replaced as a whole at a changeover."""

    inspector: Inspector
    deadline_ms: int
    lifetime: ExitStack
    """Closes the runtime when this setup is no longer used."""

    @property
    def product(self) -> str:
        """Product id."""
        return self.inspector.bundle.manifest.product

    @property
    def revision(self) -> str:
        """Product revision."""
        return self.inspector.bundle.manifest.revision


@dataclass(frozen=True, slots=True)
class _Job:
    ticket: Ticket
    work: Frame | Decision
    """What is to be inspected, or what is known already."""


class Line:
    """The running line; `start` and `stop` once each."""

    def __init__(
        self,
        camera: Camera,
        setup: Setup,
        ledger: Ledger,
        outlet: Outlet,
        *,
        queue: int,
        mask_topic: str,
        is_simulated: bool,
    ) -> None:
        self._camera = camera
        self._setup = setup
        self._ledger = ledger
        self._outlet = outlet
        self._mask_topic = mask_topic
        self._is_simulated = is_simulated
        self._jobs: Queue[_Job] = Queue(queue + MAX_UNDECIDED)
        self._room = threading.BoundedSemaphore(queue)
        self._queue = queue
        self._next_setup: Setup | None = None
        self._swap = threading.Lock()
        self._stopping = threading.Event()
        self._draining = threading.Event()
        self._pump = threading.Thread(target=self._run_pump, name="pump", daemon=True)
        self._worker = threading.Thread(target=self._run_worker, name="inspector", daemon=True)
        self._busy_since: float | None = None
        self.ended = threading.Event()
        """Set when the camera has no more parts, or a thread died."""
        self.failure: BaseException | None = None
        """What killed a thread, if one died."""
        self.camera_up = True
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()

    @property
    def setup(self) -> Setup:
        """What runs now."""
        return self._setup

    @property
    def counts(self) -> dict[str, int]:
        """Verdicts by their word."""
        with self._counting:
            return dict(self._counts)

    def start(self, unanswered: Iterable[Ticket] = ()) -> None:
        """Answers what an earlier run left open, then takes parts. The camera must be entered."""
        for ticket in unanswered:
            restarted = undecided(Reason.RESTARTED, "the daemon ended before it decided")
            # Its trigger's clock may have been another boot's: it is late whatever the clock says.
            self._answer(ticket, restarted, {}, deadline_ns=0)
        self._worker.start()
        self._pump.start()

    def stop(self, drain_s: float) -> None:
        """Takes no more parts, finishes the waiting ones within `drain_s`, answers the rest."""
        deadline = monotonic() + drain_s
        self._stopping.set()
        self._pump.join(max(0.0, deadline - monotonic()))
        self._draining.set()
        self._worker.join(max(0.0, deadline - monotonic()))
        if self._worker.is_alive():
            log.error("inspector_stuck", remedy="its part is answered at the next start")
        while (job := self._waiting()) is not None:
            stopped = undecided(Reason.STOPPED, "the daemon was stopped")
            self._answer(job.ticket, stopped if isinstance(job.work, Frame) else job.work, {})
        with self._swap:
            waiting, self._next_setup = self._next_setup, None
        for setup in (waiting, self._setup):
            if setup is not None:
                setup.lifetime.close()

    def change_over(self, setup: Setup) -> None:
        """Inspects with another setup from the next part on; the old one is closed then."""
        with self._swap:
            replaced, self._next_setup = self._next_setup, setup
        if replaced is not None:
            replaced.lifetime.close()

    def is_stuck(self, limit_s: float) -> bool:
        """Whether one part has been under inspection for longer than `limit_s`."""
        since = self._busy_since
        return since is not None and monotonic() - since > limit_s

    def _run_pump(self) -> None:
        try:
            attempt = 0
            while not self._stopping.is_set():
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
                    self._take(event)
        except BaseException as error:  # noqa: BLE001 - it ends the daemon, with its trace logged
            self._die("pump", error)
        finally:
            self._stopping.set()
            self.ended.set()

    def _reopen_camera(self, error: CameraError, attempt: int) -> int:
        """Closes and opens a lost camera, with growing pauses, until it is back or the stop.

        Returns:
            How often it was tried, for the next time.
        """
        self.camera_up = False
        log.error("camera_lost", camera=self._camera.name, error=str(error))
        self._outlet.alarm("camera_lost", str(error), camera=self._camera.name)
        self._camera.__exit__(None, None, None)
        while not self._stopping.wait(CAMERA_RETRY_S[min(attempt, len(CAMERA_RETRY_S) - 1)]):
            attempt += 1
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
        log.warning(notice.kind, camera=self._camera.name, detail=notice.text)
        self._outlet.alarm(notice.kind, notice.text, camera=self._camera.name)

    def _take(self, event: Frame | Loss) -> None:
        ticket = self._ticket(event.trigger)
        work: Frame | Decision
        if isinstance(event, Loss):
            work = undecided(event.reason, event.detail)
        elif self._room.acquire(blocking=False):
            work = event
        else:
            work = undecided(Reason.OVERRUN, f"{self._queue} parts were waiting already")
        try:
            self._jobs.put_nowait(_Job(ticket, work))
        except Full:
            if isinstance(work, Frame):
                self._room.release()
            self._answer(ticket, undecided(Reason.OVERRUN, "the inspector is stuck"), {})

    def _ticket(self, trigger: Trigger) -> Ticket:
        try:
            return self._ledger.open_part(trigger)
        except LedgerError as error:
            self._ledger_alarm(error)
            return self._ledger.spare_ticket(trigger)

    def _run_worker(self) -> None:
        try:
            while not (self._draining.is_set() and self._jobs.empty()):
                job = self._waiting(TICK_S)
                self._adopt_setup()
                if job is None:
                    continue
                if isinstance(job.work, Frame):
                    self._inspect(job.ticket, job.work)
                else:
                    self._answer(job.ticket, job.work, {})
        except BaseException as error:  # noqa: BLE001 - it ends the daemon, with its trace logged
            self._die("inspector", error)

    def _inspect(self, ticket: Ticket, frame: Frame) -> None:
        self._busy_since = monotonic()
        waited_ms = (monotonic_ns() - ticket.trigger.captured_ns) / 1e6
        try:
            decision, timings = self._setup.inspector.inspect(frame.image)
        except BaseException as error:
            failed = undecided(Reason.INFERENCE_FAILED, f"{type(error).__name__}: {error}")
            self._answer(ticket, failed, {})
            raise
        finally:
            self._busy_since = None
        self._answer(ticket, decision, {"wait": waited_ms, **timings})

    def _adopt_setup(self) -> None:
        """Between two parts: takes over a setup that is waiting."""
        with self._swap:
            waiting, self._next_setup = self._next_setup, None
        if waiting is not None:
            old, self._setup = self._setup, waiting
            old.lifetime.close()
            log.info("product_changed", product=waiting.product, revision=waiting.revision)

    def _answer(
        self,
        ticket: Ticket,
        decision: Decision,
        timings: Timings,
        deadline_ns: int | None = None,
    ) -> None:
        """The one place where a part gets its verdict: to the ledger, then on its way."""
        started = perf_counter_ns()
        setup = self._setup
        mask = None if decision.mask is None else encode_mask(decision.mask)
        timings["encode"] = (perf_counter_ns() - started) / 1e6
        inspection = Inspection(
            ticket, decision, setup.product, setup.revision, timings, self._is_simulated
        )
        letter = Letter(
            seq=ticket.seq,
            result_id=ticket.result_id,
            verdict=verdict_message(inspection, setup.deadline_ms, self._mask_topic),
            result=result_message(inspection),
            mask=mask,
            deadline_ns=ticket.trigger.captured_ns + setup.deadline_ms * 1_000_000
            if deadline_ns is None
            else deadline_ns,
        )
        try:
            self._ledger.decide(letter)
        except LedgerError as error:
            self._ledger_alarm(error)
        self._outlet.publish(letter)
        with self._counting:
            self._counts[decision.verdict.value] += 1
        log.debug(
            "part_inspected",
            part_id=ticket.trigger.part_id,
            result_id=ticket.result_id,
            verdict=decision.verdict.value,
            reason=decision.reason.value,
            score=decision.score,
        )

    def _waiting(self, timeout_s: float = 0.0) -> _Job | None:
        """The next part, if one comes in time; a frame that is taken makes room for another."""
        try:
            job = self._jobs.get(timeout=timeout_s) if timeout_s else self._jobs.get_nowait()
        except Empty:
            return None
        if isinstance(job.work, Frame):
            self._room.release()
        return job

    def _ledger_alarm(self, error: LedgerError) -> None:
        log.error("ledger_failed", error=str(error))
        self._outlet.alarm("ledger_failed", str(error))

    def _die(self, thread: str, error: BaseException) -> None:
        log.error("thread_died", thread=thread, exc_info=error)
        self.failure = error
        self._stopping.set()
        self.ended.set()


def encode_mask(mask: MaskArray) -> bytes:
    """(H, W) mask as PNG, fast rather than small: it is nearly empty."""
    ok, data = cv2.imencode(
        ".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not ok:
        raise AssertionError("OpenCV can't encode a (H, W) uint8 array as PNG")
    return bytes(data)

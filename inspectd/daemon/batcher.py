"""Makes batches of the pictures that several threads have at once.

There is no thread here: of the inspector threads that wait with a picture, the first to find the
engine free and the time come (`inspectd.daemon.batches`) runs the batch for all of them. So a lane
alone runs in its own thread with nothing in between, and a runtime that hangs is seen as ever:
every thread that waits for it is busy with one part for too long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic_ns
from typing import Protocol

import numpy as np
import structlog

from inspectd.core.batches import sizes
from inspectd.core.contracts import Batched, Runtime, Warmable
from inspectd.core.errors import InferenceError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.daemon.batches import Costs, Limits, Waiting, chosen, pause_ns

log = structlog.get_logger()

AWAKE_NS = 2_000_000_000
"""A lane that had no part for so long isn't waited for."""
UNHURRIED_NS = 1_000_000_000
"""When a picture is due that belongs to no part."""
WARM_NS = 100_000_000
"""Within that long after a batch the engine is warm."""
WARM_UPS = 2
"""Batches of each size at the opening: the first sets things up, the second is measured."""


class BatchRuntime(Runtime, Batched, Protocol):
    """A runtime that takes batches."""


@dataclass(eq=False, slots=True)
class _Job:
    """A picture on its way through a batch."""

    image: ImageArray
    wish: Waiting
    outcome: AnomalyMap | InferenceError | None = None
    is_done: bool = False


class Batcher:
    """Makes batches of the pictures that several threads have at once."""

    def __init__(self, runtime: BatchRuntime, limits: Limits) -> None:
        """`runtime` must be entered already."""
        self._runtime = runtime
        self._limits = limits
        self._costs = Costs()
        self._changed = threading.Condition()
        """Guards the rest; notified when a picture comes, a batch ends or a lane leaves."""
        self._waiting: list[_Job] = []
        self._is_busy = False
        self._last_ns = 0
        """When the engine last ended its work."""
        self._awake: dict[object, int] = {}
        """Lane to when it last sent a part."""

    def warm_up(self, size: tuple[int, int]) -> None:
        """Runs and measures every batch size with black pictures of (H, W)."""
        picture = np.zeros((*size, 3), np.uint8)
        for count in sizes(self._limits.largest):
            for _ in range(WARM_UPS):
                started = monotonic_ns()
                self._infer([picture] * count)
            self._costs.note(count, monotonic_ns() - started)

    def infer(self, lane: object, image: ImageArray, due_ns: int | None) -> AnomalyMap:
        """Scores a picture, alone or with others; `due_ns` is None where it belongs to no part.

        Raises:
            InferenceError: the runtime failed on this picture.
        """
        now = monotonic_ns()
        job = _Job(image, Waiting(now, now + UNHURRIED_NS if due_ns is None else due_ns))
        with self._changed:
            if due_ns is not None:
                self._awake[lane] = now
            self._waiting.append(job)
            self._changed.notify_all()
        while batch := self._next(job):
            self._run(batch)
        if isinstance(job.outcome, AnomalyMap):
            return job.outcome
        raise job.outcome or InferenceError("its batch had no result")

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Scores several pictures as one batch of their own.

        Raises:
            InferenceError: the runtime failed on it.
        """
        with self._changed:
            while self._is_busy:
                self._changed.wait()
            self._is_busy = True
        with self._working():
            return self._infer(images)

    def keep_warm(self) -> None:
        """Lets the engine work a little, unless it does, did just now or is about to."""
        if not isinstance(self._runtime, Warmable):
            return
        with self._changed:
            is_warm = monotonic_ns() - self._last_ns < WARM_NS
            if self._is_busy or self._waiting or is_warm:
                return
            self._is_busy = True
        with self._working():
            self._runtime.keep_warm()

    def leave(self, lane: object) -> None:
        """A lane that isn't to be waited for any more."""
        with self._changed:
            self._awake.pop(lane, None)
            self._changed.notify_all()

    def _next(self, job: _Job) -> list[_Job]:
        """The batch that the calling thread is to run; none once its own picture is done."""
        with self._changed:
            while not job.is_done:
                pause = None if self._is_busy else self._pause_ns()
                if pause == 0:
                    return self._take()
                self._changed.wait(None if pause is None else pause / 1e9)
        return []

    def _pause_ns(self) -> int:
        now = monotonic_ns()
        senders = sum(now - last < AWAKE_NS for last in self._awake.values())
        full = min(max(senders, len(self._waiting)), self._limits.largest)
        return pause_ns(
            [job.wish for job in self._waiting],
            now,
            senders=senders,
            limits=self._limits,
            cost_ns=self._costs.worst_ns(full),
        )

    def _take(self) -> list[_Job]:
        places = chosen([job.wish for job in self._waiting], self._limits.largest)
        batch = [self._waiting[place] for place in places]
        self._waiting = [job for job in self._waiting if job not in batch]
        self._is_busy = True
        return batch

    def _run(self, batch: list[_Job]) -> None:
        with self._working(batch):
            self._score(batch)

    def _score(self, batch: list[_Job]) -> None:
        """Where a batch fails, each of its pictures is tried alone: one may be to blame."""
        started = monotonic_ns()
        try:
            found = self._infer([job.image for job in batch])
        except InferenceError as error:
            if len(batch) == 1:
                batch[0].outcome = error
                return
            log.warning("batch_failed", size=len(batch), error=str(error))
            for job in batch:
                self._score([job])
            return
        took = monotonic_ns() - started
        self._costs.note(len(batch), took)
        for job, anomaly in zip(batch, found, strict=True):
            job.outcome = anomaly
        waited = started - min(job.wish.since_ns for job in batch)
        log.debug("batch_inferred", size=len(batch), took_ms=took / 1e6, waited_ms=waited / 1e6)

    def _infer(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """A picture alone takes the runtime's own way for one."""
        if len(images) == 1:
            return [self._runtime.infer(images[0])]
        return self._runtime.infer_batch(images)

    @contextmanager
    def _working(self, batch: Sequence[_Job] = ()) -> Iterator[None]:
        """The caller has the engine; whatever happens, nobody waits for it or its batch after."""
        try:
            yield
        finally:
            with self._changed:
                for job in batch:
                    job.is_done = True
                self._is_busy = False
                self._last_ns = monotonic_ns()
                self._changed.notify_all()

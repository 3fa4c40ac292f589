"""One camera's whole way to the broker: ledger, publisher, product, camera and line.

A station has one lane for each camera. They share nothing but the process: each has its own
topics, its own count of parts, its own ledger and its own connection, so that what happens to one
camera or product leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import structlog

from inspectd import __version__
from inspectd.cameras import open_camera
from inspectd.core import config
from inspectd.core.config import Settings, load_product_settings
from inspectd.core.errors import InspectdError, LedgerError
from inspectd.core.store import ProductStore
from inspectd.daemon.line import Line, Setup
from inspectd.ledger import Ledger
from inspectd.pipeline.inspector import Inspector
from inspectd.publishers.mqtt import MqttPublisher, Topics
from inspectd.runtimes import open_runtime

log = structlog.get_logger()

STUCK_S = 10.0
"""Inspection of one part for longer than this is no progress."""
TRIM_EVERY_S = 60.0


class Lane:
    """See the module. Entering opens everything; `start` lets parts come; leaving closes."""

    def __init__(
        self,
        file: Path,
        root: Path,
        settings: Settings,
        lane: config.Lane,
        on_link: Callable[[], None],
    ) -> None:
        self._file = file
        self._root = root
        self._settings = settings
        self._lane = lane
        self._on_link = on_link
        self._topics = Topics(lane.station.base)
        self._announced: dict[str, object] = {}
        self._last_trim = monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Opens all of it.

        Raises:
            InspectdError: it can't start; nothing was answered wrongly.
        """
        settings, station = self._settings, self._lane.station
        path = self._root / "ledger" / f"{station.line}-{station.station}.sqlite3"
        with ExitStack() as stack:
            self.ledger = stack.enter_context(Ledger(path, settings.ledger.durability))
            self._unanswered = self.ledger.recover()  # before the publisher looks what to send
            self.publisher = stack.enter_context(
                MqttPublisher(
                    self._lane.mqtt,
                    self._topics,
                    self.ledger,
                    flush_s=settings.drain_s,
                    on_link=lambda up: self._on_link(),
                )
            )
            self._announce("Preoperational", None)
            try:
                self.line = self._open_line(stack)
            except InspectdError:
                self._announce("Error", None)
                raise
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def name(self) -> str:
        """The camera's."""
        return self._lane.camera.name

    @property
    def product(self) -> str:
        """The product that the configuration asks for."""
        return self._lane.product

    @property
    def has_failed(self) -> bool:
        """Whether a thread of it died."""
        return self.line.failure is not None or self.publisher.failure is not None

    @property
    def is_running(self) -> bool:
        """Whether there may be more parts."""
        return not self.line.ended.is_set() and self.publisher.is_alive

    @property
    def is_progressing(self) -> bool:
        """Whether the inspector moves; idle is progress."""
        return not self.line.is_stuck(STUCK_S)

    def start(self) -> None:
        """Answers what an earlier run left open, then takes parts."""
        self.line.start(self._unanswered)
        self._announce("ContinuousExecution", self.line)

    def stop(self) -> None:
        """Finishes the waiting parts; the publisher flushes when the lane is left."""
        self.line.stop(self._settings.drain_s)
        self._announce("Error" if self.has_failed else "Halted", self.line)
        log.info("line_stopped", camera=self.name, **self.line.counts)

    def look_after(self) -> None:
        """Now and then: tells a changed state, trims the ledger."""
        self._announce("ContinuousExecution", self.line)
        if monotonic() - self._last_trim > TRIM_EVERY_S:
            self._last_trim = monotonic()
            self._trim()

    def prepare(self, settings: Settings, product: str) -> Setup:
        """Opens, checks and warms up a product's active revision.

        Raises:
            InspectdError: it can't be used.
        """
        bundle = ProductStore(self._root / "products").open(product)
        own = load_product_settings(self._file, product)
        lifetime = ExitStack()
        try:
            runtime = lifetime.enter_context(
                open_runtime(bundle.graph, settings.runtime, settings.threads)
            )
            inspector = Inspector(bundle, runtime)
            worst = inspector.verify()
        except BaseException:
            lifetime.close()
            raise
        log.info(
            "product_prepared",
            product=product,
            revision=bundle.manifest.revision,
            runtime=runtime.name,
            golden_difference=worst,
        )
        return Setup(inspector, own.deadline_ms, lifetime)

    def describe(self) -> str:
        """For `systemctl status`."""
        setup = self.line.setup
        counts = ", ".join(f"{count} {word}" for word, count in sorted(self.line.counts.items()))
        broker = "broker online" if self.publisher.is_online else "broker unreachable"
        camera = "" if self.line.camera_up else "; camera lost"
        return f"{setup.product} {setup.revision}: {counts or 'no part yet'}; {broker}{camera}"

    def _open_line(self, stack: ExitStack) -> Line:
        """The line with everything that it needs, not yet started."""
        setup = self.prepare(self._settings, self.product)
        stack.callback(setup.lifetime.close)  # where the line doesn't come to do it
        camera = stack.enter_context(open_camera(self._lane.camera))
        log.info(
            "line_opened",
            product=setup.product,
            revision=setup.revision,
            runtime=setup.inspector.runtime.name,
            camera=camera.name,
            version=__version__,
        )
        return Line(
            camera,
            setup,
            self.ledger,
            self.publisher,
            queue=self._settings.queue,
            mask_topic=self._topics.of("mask"),
            is_simulated=self._settings.simulation,
        )

    def _trim(self) -> None:
        section = self._settings.ledger
        try:
            lost = self.ledger.trim(section.max_rows, section.max_undelivered)
        except LedgerError as error:
            log.error("ledger_failed", error=str(error))
            return
        if lost:
            log.error("verdicts_given_up", count=lost)
            self.publisher.alarm("verdicts_given_up", f"{lost} undelivered verdicts were dropped")

    def _announce(self, state: str, line: Line | None) -> None:
        """Publishes the state where it has changed."""
        setup = None if line is None else line.setup
        facts: dict[str, object] = {
            "schema": "inspectd/state/1",
            "state": state,
            "product_id": self.product if setup is None else setup.product,
            "revision": None if setup is None else setup.revision,
            "threshold": None if setup is None else setup.inspector.bundle.threshold.image,
            "runtime": None if setup is None else setup.inspector.runtime.name,
            "camera": None if line is None else "up" if line.camera_up else "lost",
            "is_simulated": self._settings.simulation,
            "version": __version__,
        }
        if facts != self._announced:
            self._announced = facts
            since = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.publisher.set_state({**facts, "since": since})

"""The daemon: opens everything in order, runs the line, closes it in reverse.

The main thread owns the life cycle and nothing else: it waits for signals, feeds systemd's
watchdog from the line's progress, and prepares the next setup on SIGHUP.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from types import FrameType

import structlog

from inspectd import __version__
from inspectd.cameras import open_camera
from inspectd.core.config import Settings, load_product_settings, load_settings
from inspectd.core.errors import InspectdError, LedgerError
from inspectd.core.paths import state_dir
from inspectd.core.store import ProductStore
from inspectd.daemon.line import Line, Setup
from inspectd.daemon.notify import Notifier, watchdog_interval_s
from inspectd.ledger import Ledger
from inspectd.pipeline.inspector import Inspector
from inspectd.publishers.mqtt import MqttPublisher, Topics
from inspectd.runtimes import open_runtime

log = structlog.get_logger()

TICK_S = 0.5
STUCK_S = 10.0
"""Inspection of one part for longer than this is no progress."""
TRIM_EVERY_S = 60.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Station:
    """One configured station."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._settings = load_settings(config)
        self._root = self._settings.state_dir or state_dir()
        self._topics = Topics(self._settings.station.base)
        self._notifier = Notifier()
        self._signals: SimpleQueue[int] = SimpleQueue()
        self._announced: dict[str, object] = {}

    def run(self) -> int:
        """Runs until a signal, the camera's end or a failure; returns the exit status.

        Raises:
            InspectdError: the station can't start; nothing was answered wrongly.
        """
        settings = self._settings
        with ExitStack() as stack:
            stack.enter_context(_Handlers(self._signals))
            ledger = stack.enter_context(Ledger(self._ledger_path(), settings.ledger.durability))
            unanswered = ledger.recover()  # before the publisher looks for what to send
            publisher = stack.enter_context(
                MqttPublisher(
                    settings.mqtt,
                    self._topics,
                    ledger,
                    flush_s=settings.drain_s,
                    on_link=lambda up: self._signals.put(0),
                )
            )
            self._announce(publisher, "Preoperational")
            try:
                line = self._open_line(stack, ledger, publisher)
            except InspectdError:
                self._announce(publisher, "Error")
                raise
            line.start(unanswered)
            self._announce(publisher, "ContinuousExecution", line)
            self._notifier.ready(self._status(line, publisher))
            try:
                self._supervise(line, publisher, ledger)
            finally:
                self._notifier.stopping()
                line.stop(settings.drain_s)
                has_failed = line.failure is not None or publisher.failure is not None
                self._announce(publisher, "Error" if has_failed else "Halted", line)
        log.info("line_stopped", **line.counts)
        return 0 if line.failure is None and publisher.failure is None else 1

    def _open_line(self, stack: ExitStack, ledger: Ledger, publisher: MqttPublisher) -> Line:
        """The line with everything that it needs, not yet started."""
        settings = self._settings
        setup = self._prepare(settings)
        stack.callback(setup.lifetime.close)  # where the line doesn't come to do it
        camera = stack.enter_context(open_camera(settings.camera))
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
            ledger,
            publisher,
            queue=settings.queue,
            mask_topic=self._topics.of("mask"),
            is_simulated=settings.simulation,
        )

    def _ledger_path(self) -> Path:
        station = self._settings.station
        return self._root / "ledger" / f"{station.line}-{station.station}.sqlite3"

    def _prepare(self, settings: Settings) -> Setup:
        """Opens, checks and warms up the product's active revision."""
        bundle = ProductStore(self._root / "products").open(settings.product)
        product = load_product_settings(self._config, settings.product)
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
            product=settings.product,
            revision=bundle.manifest.revision,
            runtime=runtime.name,
            golden_difference=worst,
        )
        return Setup(inspector, product.deadline_ms, lifetime)

    def _supervise(self, line: Line, publisher: MqttPublisher, ledger: Ledger) -> None:
        """Until a stop signal or the line's end: watchdog, status, reload, trim."""
        last_trim = monotonic()
        while not line.ended.is_set() and publisher.is_alive:
            number = self._next_signal()
            if number in STOP_SIGNALS:
                log.info("stop_requested", signal=signal.Signals(number).name)
                return
            if number == signal.SIGHUP:
                self._reload(line, publisher)
            self._announce(publisher, "ContinuousExecution", line)
            self._feed_watchdog(line)
            self._notifier.status(self._status(line, publisher))
            if monotonic() - last_trim > TRIM_EVERY_S:
                last_trim = monotonic()
                self._trim(ledger, publisher)

    def _feed_watchdog(self, line: Line) -> None:
        if watchdog_interval_s() is not None and not line.is_stuck(STUCK_S):
            self._notifier.alive()

    def _next_signal(self) -> int | None:
        try:
            return self._signals.get(timeout=TICK_S)
        except Empty:
            return None

    def _reload(self, line: Line, publisher: MqttPublisher) -> None:
        """SIGHUP: reads the configuration again; product and runtime change between two parts."""
        try:
            fresh = load_settings(self._config)
            setup = self._prepare_beside(line, fresh)
        except (InspectdError, OSError) as error:
            log.error("reload_failed", error=str(error), remains=line.setup.revision)
            publisher.alarm("reload_failed", str(error))
            return
        fixed = {"product", "runtime", "threads"}
        if fresh.model_dump(exclude=fixed) != self._settings.model_dump(exclude=fixed):
            log.warning(
                "restart_needed", reason="only product, runtime and threads change on SIGHUP"
            )
        self._settings = fresh
        line.change_over(setup)

    def _prepare_beside(self, line: Line, settings: Settings) -> Setup:
        """Prepares a setup in its own thread: the line runs on, and the watchdog is fed for it."""
        with ThreadPoolExecutor(1, "changeover") as pool:
            future = pool.submit(self._prepare, settings)
            while wait([future], TICK_S).not_done:
                self._feed_watchdog(line)
            return future.result()

    def _trim(self, ledger: Ledger, publisher: MqttPublisher) -> None:
        section = self._settings.ledger
        try:
            lost = ledger.trim(section.max_rows, section.max_undelivered)
        except LedgerError as error:
            log.error("ledger_failed", error=str(error))
            return
        if lost:
            log.error("verdicts_given_up", count=lost)
            publisher.alarm("verdicts_given_up", f"{lost} undelivered verdicts were dropped")

    def _announce(self, publisher: MqttPublisher, state: str, line: Line | None = None) -> None:
        """Publishes the state where it has changed."""
        setup = None if line is None else line.setup
        facts: dict[str, object] = {
            "schema": "inspectd/state/1",
            "state": state,
            "product_id": self._settings.product if setup is None else setup.product,
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
            publisher.set_state({**facts, "since": since})

    def _status(self, line: Line, publisher: MqttPublisher) -> str:
        counts = ", ".join(f"{count} {word}" for word, count in sorted(line.counts.items()))
        broker = "broker online" if publisher.is_online else "broker unreachable"
        return f"{line.setup.product} {line.setup.revision}: {counts or 'no part yet'}; {broker}"


class _Handlers:
    """Puts signals into a queue while the context lasts, and restores the handlers after."""

    def __init__(self, signals: SimpleQueue[int]) -> None:
        self._signals = signals
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Handlers:
        for number in (*STOP_SIGNALS, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.put(number)

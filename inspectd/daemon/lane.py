"""One camera's whole way to the broker: ledger, publisher, product, camera and line.

A station has one lane for each camera. They share nothing but the process: each has its own
topics, its own count of parts, its own ledger and its own connection, so that what happens to one
camera or product leaves the others alone.

What commands set (product, stopped, simulation) is a fact in the ledger and outlives a restart: a
crash must not change what the line inspects. `inspectd.daemon.operator` obeys them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from inspectd import __version__
from inspectd.acquisition.counting import LastPart
from inspectd.cameras import open_camera
from inspectd.core import config
from inspectd.core.config import Settings
from inspectd.core.contracts import Batched
from inspectd.core.errors import InspectdError, LedgerError
from inspectd.core.paths import ledger_file
from inspectd.core.store import ProductStore
from inspectd.daemon.alarms import Alarms
from inspectd.daemon.answers import Answers, Setup
from inspectd.daemon.changeover import Changeover, Choice, prepare
from inspectd.daemon.housekeeping import Housekeeping
from inspectd.daemon.line import Line
from inspectd.daemon.sharing import Engines
from inspectd.ledger import Ledger
from inspectd.publishers.connection import Received
from inspectd.publishers.messages import Topics
from inspectd.publishers.mqtt import MqttPublisher

log = structlog.get_logger()

MAX_FAILURES = 5
"""Failures of the runtime in a row, after which it is given up."""
PRODUCT, PAUSED, SIMULATED = "product", "paused", "simulated"
"""Facts in the ledger."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A product that waits to be activated."""

    choice: Choice
    """With its revision."""
    setup: Setup


class Lane:
    """See the module. Entering opens everything; `start` lets parts come; leaving closes."""

    def __init__(
        self,
        file: Path,
        root: Path,
        settings: Settings,
        lane: config.Lane,
        post: Callable[[Callable[[], None]], None],
        engines: Engines,
    ) -> None:
        """`post` has something called in the main thread, in which all else of this is called.

        `engines` are those of all the lanes.
        """
        self._file = file
        self._store = ProductStore(root / "products")
        self._settings = settings
        self._lane = lane
        self._post = post
        self._path = ledger_file(root, lane.station.line, lane.station.station)
        self._announced: dict[str, object] = {}
        self._line: Line | None = None
        self._gave_up: str | None = None
        self._stack = ExitStack()
        self.topics = Topics(lane.station.base)
        self._engines = engines
        self.changeover = Changeover(self._prepare, post)
        self.prepared: Prepared | None = None
        """Beside what runs."""
        self.on_command: Callable[[Received], None] | None = None
        """Called in the publisher's thread; to be set before entering, as the next."""
        self.forgets_commands = False
        """Whether what commands set in earlier runs counts no more."""

    def __enter__(self) -> Self:
        """Opens all of it.

        Raises:
            InspectdError: it can't start; nothing was answered wrongly.
        """
        settings = self._settings
        with ExitStack() as stack:
            self.ledger = stack.enter_context(Ledger(self._path, settings.ledger.durability))
            self._unanswered = self.ledger.recover()  # before the publisher looks what to send
            self.publisher = stack.enter_context(
                MqttPublisher(
                    self._lane.mqtt,
                    self.topics,
                    self.ledger,
                    flush_s=settings.drain_s,
                    on_link=lambda up: self._post(lambda: None),
                    on_command=self.on_command if self._lane.mqtt.commands else None,
                )
            )
            self.alarms = Alarms(self.publisher.alarm)
            self._housekeeping = Housekeeping(self.ledger, settings.ledger, self.alarms)
            self.announce("Preoperational")
            try:
                self._line = self._open_line(stack)
            except InspectdError:
                self.announce("Error")
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
    def line(self) -> Line:
        """What runs while the context lasts."""
        if self._line is None:
            raise AssertionError("entering makes the line")
        return self._line

    @property
    def is_fixed_simulated(self) -> bool:
        """Whether the configuration says that all is simulated."""
        return self._settings.simulation

    @property
    def root(self) -> str:
        """First levels of every station's topics."""
        return self._lane.station.root

    @property
    def is_running(self) -> bool:
        """Whether there may be more parts."""
        return not self.line.ended.is_set() and self.publisher.is_alive

    def trouble(self) -> str | None:
        """Why the daemon has to end, for systemd to start it anew; None while all is well."""
        failures = (self.line.failure, self.publisher.failure, self.answers.failure)
        if any(failure is not None for failure in failures):
            return "a thread died"
        if self.publisher.is_stuck:
            return "the publisher makes no progress"
        return self.line.stuck() or self._gave_up

    def start(self) -> None:
        """Answers what an earlier run left open, then takes parts."""
        self.line.start(self._unanswered)
        self.announce()

    def stop(self, *, in_order: bool) -> None:
        """Finishes the waiting parts; the publisher flushes when the lane is left.

        `in_order`: this is the end that somebody wanted, and what passes from now on is owed no
        answer.
        """
        in_order = in_order and self.trouble() is None
        self.line.stop(self._settings.drain_s)
        if in_order:
            self._noting(self.ledger.end_run)
        self.announce("Halted" if in_order else "Error")
        log.info("line_stopped", camera=self.name, **self.answers.counts)

    def look_after(self) -> None:
        """Now and then: tells a changed state, keeps the ledger and the runtime in bounds."""
        self.announce()
        self._housekeeping()
        if self.line.setup.inspector.failures >= MAX_FAILURES and self._gave_up is None:
            self._fall_back()

    def choice(self, product: str, revision: str | None = None) -> Choice:
        """A product's revision, by default the one that is active, on the configured runtime.

        Raises:
            ProductError: there is none.
        """
        settings, revision = self._settings, revision or self._store.current(product)
        return Choice(product, revision, settings.runtime, settings.threads, settings.fallback)

    def activate(self, setup: Setup) -> None:
        """Inspects with it from the next trigger on.

        Raises:
            InspectdError: it can't change now; all stays as it is.
        """
        try:
            fresh = config.load_product_settings(self._file, setup.product)
            self.line.change_over(replace(setup, deadline_ms=fresh.deadline_ms))
        except InspectdError:
            setup.lifetime.close()
            raise
        self.announce()

    def adopt(self, outcome: Setup | InspectdError) -> None:
        """What came of a preparation: activates it.

        Raises:
            InspectdError: it failed, or the product can't change now; all stays as it is.
        """
        if isinstance(outcome, InspectdError):
            raise outcome
        self.activate(outcome)

    def reload(self, settings: Settings, lane: config.Lane) -> None:
        """SIGHUP: the configuration counts again, whatever commands chose before.

        It counts once its product runs; until then, and where that fails, all stays as it is.
        """

        def then(outcome: Setup | InspectdError) -> None:
            try:
                self.adopt(outcome)
            except InspectdError as error:
                self.tell_failed_reload(error)
                return
            self._settings = settings
            self._lane = replace(self._lane, product=lane.product)
            self.remember(PRODUCT, None)
            self.announce()

        choice = Choice(lane.product, None, settings.runtime, settings.threads, settings.fallback)
        self.changeover.insist(choice, then)

    def tell_failed_reload(self, error: Exception) -> None:
        """The old product stays in charge."""
        self.alarms("reload_failed", str(error), remains=self.line.setup.revision)

    def remember(self, name: str, value: str | None) -> None:
        """Keeps a fact over restarts, where the disk allows it."""
        self._noting(lambda: self.ledger.remember(name, value))

    def remember_choice(self, setup: Setup) -> None:
        """A command's choice holds until the next one, a SIGHUP or another product in the file."""
        chosen = {"product": setup.product, "revision": setup.revision, "over": self._lane.product}
        self.remember(PRODUCT, json.dumps(chosen))

    def _noting(self, note: Callable[[], None]) -> None:
        try:
            note()
        except LedgerError as error:
            self.alarms("ledger_failed", str(error))

    def describe(self) -> str:
        """For `systemctl status`."""
        setup, counts = self.line.setup, sorted(self.answers.counts.items())
        words = [", ".join(f"{count} {word}" for word, count in counts) or "no part yet"]
        words.append("broker online" if self.publisher.is_online else "broker unreachable")
        if not self.line.camera_up:
            words.append("camera lost")
        if self.line.is_paused:
            words.append("stopped by a command")
        if self.line.is_simulated:
            words.append("simulated")
        return f"{setup.product} {setup.revision}: {'; '.join(words)}"

    def announce(self, state: str | None = None) -> None:
        """Publishes the state where it has changed; by default that of a line that runs."""
        line = self._line
        setup = None if line is None else line.setup
        if state is None:
            state = "Ready" if line is not None and line.is_paused else "ContinuousExecution"
        facts: dict[str, object] = {
            "schema": "inspectd/state/1",
            "state": state,
            "product_id": self._lane.product if setup is None else setup.product,
            "revision": None if setup is None else setup.revision,
            "threshold": None if setup is None else setup.inspector.bundle.threshold.image,
            "runtime": None if setup is None else setup.inspector.runtime.name,
            "largest_batch": None if setup is None else _largest_batch(setup),
            "deadline_ms": None if setup is None else setup.deadline_ms,
            "prepared": self.prepared
            and f"{self.prepared.choice.product} {self.prepared.choice.revision}",
            "camera": None if line is None else "up" if line.camera_up else "lost",
            "alarms": len(self.alarms.unconfirmed),
            "is_simulated": self._settings.simulation if line is None else line.is_simulated,
            "version": __version__,
        }
        if facts != self._announced:
            self._announced = facts
            since = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.publisher.set_state({**facts, "since": since})

    def _prepare(self, choice: Choice) -> Setup:
        return prepare(choice, self._store, self._file, self._engines.open)

    def _open_line(self, stack: ExitStack) -> Line:
        """The line with everything that it needs, not yet started."""
        if self.forgets_commands:
            for name in (PRODUCT, PAUSED, SIMULATED):
                self.remember(name, None)
        setup = self._prepare(self._chosen())
        stack.callback(self._close, setup)  # where the line doesn't come to do it
        self.answers = stack.enter_context(
            Answers(self.ledger, self.publisher, self.alarms, self.topics.of("mask"))
        )
        camera = stack.enter_context(open_camera(self._lane.camera, self._last_part()))
        line = Line(camera, setup, self.answers, self.alarms, queue=self._settings.queue)
        line.is_paused = self.ledger.recall(PAUSED) is not None
        line.is_simulated = self._settings.simulation or self.ledger.recall(SIMULATED) is not None
        log.info(
            "line_opened",
            product=setup.product,
            revision=setup.revision,
            runtime=setup.inspector.runtime.name,
            camera=camera.name,
            version=__version__,
        )
        return line

    def _close(self, setup: Setup) -> None:
        """What is open at the end, unless an inspector that is stuck still uses it."""
        if self.prepared is not None:
            self.prepared.setup.lifetime.close()
        if self._line is None or not self._line.is_busy:
            setup.lifetime.close()

    def _chosen(self) -> Choice:
        """What a command chose, if the configuration is still the one that it was chosen over."""
        kept = json.loads(self.ledger.recall(PRODUCT) or "{}")
        if kept.get("over") != self._lane.product:
            return self.choice(self._lane.product)
        log.info("command_remembered", product=kept["product"], revision=kept["revision"])
        return self.choice(kept["product"], kept["revision"])

    def _last_part(self) -> LastPart | None:
        """Where an earlier run stopped; after a crash, what passed since is to be answered."""
        newest = self.ledger.last_part(self.name)
        if newest is None:
            return None
        number = _number(newest.trigger.part_id)
        counted = self.ledger.last_part(self.name, counted=True)
        if counted is None or self.ledger.ended_in_order:
            return LastPart(number)
        guessed = max(0, number - _number(counted.trigger.part_id))
        return LastPart(number, counted.trigger.trigger_count, guessed)

    def _fall_back(self) -> None:
        """The runtime failed on part after part: another one takes over, or the daemon ends."""
        if self.changeover.running is not None:
            return
        setup, fallback = self.line.setup, self._settings.fallback
        failed = f"{setup.inspector.runtime.name} failed on {MAX_FAILURES} parts in a row"
        if not fallback or self._settings.runtime == fallback:
            self._gave_up = failed
            self.alarms("runtime_failed", f"{failed}; the daemon ends, to be started anew")
            return
        self._settings = self._settings.model_copy(update={"runtime": fallback})

        def then(outcome: Setup | InspectdError) -> None:
            try:
                self.adopt(outcome)
            except InspectdError as error:
                self._gave_up = f"{failed}; {fallback} can't take over: {error}"

        self.changeover.begin(self.choice(setup.product, setup.revision), then)
        self.alarms("runtime_failed", f"{failed}; {fallback} takes over")


def _largest_batch(setup: Setup) -> int:
    runtime = setup.inspector.runtime
    return runtime.largest_batch if isinstance(runtime, Batched) else 1


def _number(part_id: str) -> int:
    """``camera-17`` is part 17; a folder's parts have no number."""
    digits = part_id.rsplit("-", 1)[-1]
    return int(digits) if digits.isdecimal() and len(digits) < 18 else 0

"""The daemon: opens a lane for each camera, runs them, closes them in reverse.

The main thread owns the life cycle and nothing else: it waits for signals, feeds systemd's
watchdog from the lanes' progress, and prepares the next setups on SIGHUP.
"""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

import structlog

from inspectd.core.config import Settings, load_settings
from inspectd.core.errors import InspectdError
from inspectd.core.paths import state_dir
from inspectd.daemon.lane import Lane
from inspectd.daemon.line import Setup
from inspectd.daemon.notify import Notifier, watchdog_interval_s

log = structlog.get_logger()

TICK_S = 0.5
SWITCH_S = 0.001
"""How long a thread may keep Python's lock from another that waits. Python's own 5 ms are more than
all that a part costs beside inference."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
CHANGEABLE = {"product", "runtime", "threads"}
"""What SIGHUP changes without a restart."""


class Station:
    """One configured station."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._settings = load_settings(config)
        self._notifier = Notifier()
        self._signals: SimpleQueue[int] = SimpleQueue()

    def run(self) -> int:
        """Runs until a signal, the cameras' end or a failure; returns the exit status.

        Raises:
            InspectdError: the station can't start; nothing was answered wrongly.
        """
        root = self._settings.state_dir or state_dir()
        sys.setswitchinterval(SWITCH_S)
        with ExitStack() as stack:
            stack.enter_context(_Handlers(self._signals))
            lanes = [
                stack.enter_context(
                    Lane(self._config, root, self._settings, lane, lambda: self._signals.put(0))
                )
                for lane in self._settings.lanes
            ]
            for lane in lanes:
                lane.start()
            self._notifier.ready(_status(lanes))
            try:
                self._supervise(lanes)
            finally:
                self._notifier.stopping()
                _stop(lanes)
        return 1 if any(lane.has_failed for lane in lanes) else 0

    def _supervise(self, lanes: list[Lane]) -> None:
        """Until a stop signal, a failure or the last lane's end: watchdog, status, reload."""
        while any(lane.is_running for lane in lanes) and not any(lane.has_failed for lane in lanes):
            number = self._next_signal()
            if number in STOP_SIGNALS:
                log.info("stop_requested", signal=signal.Signals(number).name)
                return
            if number == signal.SIGHUP:
                self._reload(lanes)
            for lane in lanes:
                lane.look_after()
            self._feed_watchdog(lanes)
            self._notifier.status(_status(lanes))

    def _feed_watchdog(self, lanes: list[Lane]) -> None:
        if watchdog_interval_s() is not None and all(lane.is_progressing for lane in lanes):
            self._notifier.alive()

    def _next_signal(self) -> int | None:
        try:
            return self._signals.get(timeout=TICK_S)
        except Empty:
            return None

    def _reload(self, lanes: list[Lane]) -> None:
        """SIGHUP: reads the configuration again; product and runtime change between two parts."""
        try:
            fresh = load_settings(self._config)
        except (InspectdError, OSError) as error:
            for lane in lanes:
                _tell_failed_reload(lane, error)
            return
        if _fixed(fresh) != _fixed(self._settings):
            log.warning(
                "restart_needed", reason="only product, runtime and threads change on SIGHUP"
            )
        products = [lane.product for lane in fresh.lanes]
        if len(products) != len(lanes):
            return
        self._settings = fresh
        for lane, product in zip(lanes, products, strict=True):
            try:
                setup = self._prepare_beside(lanes, lane, product)
            except (InspectdError, OSError) as error:
                _tell_failed_reload(lane, error)
            else:
                lane.line.change_over(setup)

    def _prepare_beside(self, lanes: list[Lane], lane: Lane, product: str) -> Setup:
        """Prepares a setup in its own thread: the line runs on, and the watchdog is fed for it."""
        with ThreadPoolExecutor(1, "changeover") as pool:
            future = pool.submit(lane.prepare, self._settings, product)
            while wait([future], TICK_S).not_done:
                self._feed_watchdog(lanes)
            return future.result()


def _stop(lanes: list[Lane]) -> None:
    """All at once: each has the whole time to drain."""
    with ThreadPoolExecutor(len(lanes), "stop") as pool:
        list(pool.map(Lane.stop, lanes))


def _fixed(settings: Settings) -> dict[str, object]:
    """What a restart is needed for."""
    content = settings.model_dump(exclude=CHANGEABLE)
    for camera in (content["camera"], *content["cameras"]):
        if camera is not None:
            camera.pop("product")
    return content


def _tell_failed_reload(lane: Lane, error: Exception) -> None:
    log.error("reload_failed", error=str(error), remains=lane.line.setup.revision)
    lane.publisher.alarm("reload_failed", str(error))


def _status(lanes: list[Lane]) -> str:
    """For `systemctl status`."""
    if len(lanes) == 1:
        return lanes[0].describe()
    return " | ".join(f"{lane.name}: {lane.describe()}" for lane in lanes)


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

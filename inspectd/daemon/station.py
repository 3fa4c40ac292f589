"""The daemon: opens a lane for each camera, runs them, closes them in reverse.

The main thread owns the life cycle and nothing else. It takes what is posted to it (signals,
commands, finished preparations), one thing after the other and none that takes long, looks after
the lanes, and feeds systemd's watchdog for as long as they make progress. A lane in trouble ends
the daemon with a failure, after every part in it was answered; systemd starts it anew.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

import structlog

from inspectd.core.config import Settings, load_settings
from inspectd.core.errors import InspectdError
from inspectd.core.paths import state_dir
from inspectd.daemon.lane import Lane
from inspectd.daemon.notify import Notifier, watchdog_interval_s
from inspectd.daemon.operator import Operator
from inspectd.daemon.sharing import Engines

log = structlog.get_logger()

TICK_S = 0.5
SWITCH_S = 0.001
"""How long a thread may keep Python's lock from another that waits. Python's own 5 ms are more than
all that a part costs beside inference."""
LEAVE_S = 15.0
"""Beyond the time to drain parts and to flush messages, before the process ends as it is."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
CHANGEABLE = {"product", "runtime", "threads", "fallback"}
"""What SIGHUP changes without a restart."""


class Station:
    """One configured station."""

    def __init__(self, config: Path, *, forgets_commands: bool = False) -> None:
        """`forgets_commands`: product, stop and simulation are as configured, whatever was set."""
        self._config = config
        self._settings = load_settings(config)
        self._forgets_commands = forgets_commands
        self._notifier = Notifier()
        self._posted: SimpleQueue[int | Callable[[], None]] = SimpleQueue()

    def run(self) -> int:
        """Runs until a signal, the cameras' end or a failure; returns the exit status.

        Raises:
            InspectdError: the station can't start; nothing was answered wrongly.
        """
        sys.setswitchinterval(SWITCH_S)
        with ExitStack() as stack:
            stack.enter_context(_Handlers(self._posted))
            lanes = [stack.enter_context(lane) for lane in self._lanes()]
            for lane in lanes:
                lane.start()
            self._notifier.ready(_status(lanes))
            in_order = False
            try:
                self._supervise(lanes)
                in_order = _trouble(lanes) is None
            finally:
                self._notifier.stopping()
                self._limit_the_end()
                _stop(lanes, in_order=in_order)
        return 0 if in_order else 1

    def _limit_the_end(self) -> None:
        """However stuck a disk, a camera or a runtime is, the process ends."""
        limit = threading.Timer(2 * self._settings.drain_s + LEAVE_S, os._exit, (1,))
        limit.daemon = True
        limit.start()

    def _lanes(self) -> list[Lane]:
        root = self._settings.state_dir or state_dir()
        engines = Engines(self._settings.batching)
        lanes = []
        for section in self._settings.lanes:
            lane = Lane(self._config, root, self._settings, section, self._posted.put, engines)
            lane.on_command = Operator(lane, self._posted.put).hear
            lane.forgets_commands = self._forgets_commands
            lanes.append(lane)
        return lanes

    def _supervise(self, lanes: list[Lane]) -> None:
        """Until a stop signal, trouble or the last lane's end: watchdog, status, what is posted."""
        while any(lane.is_running for lane in lanes):
            if (trouble := _trouble(lanes)) is not None:
                log.error("daemon_in_trouble", reason=trouble, remedy="systemd starts it anew")
                return
            posted = self._next_posted()
            if posted in STOP_SIGNALS:
                log.info("stop_requested", signal=signal.Signals(posted).name)
                return
            if posted == signal.SIGHUP:
                self._reload(lanes)
            elif callable(posted):
                posted()
            for lane in lanes:
                lane.look_after()
            if watchdog_interval_s() is not None and _trouble(lanes) is None:
                self._notifier.alive()
            self._notifier.status(_status(lanes))

    def _next_posted(self) -> int | Callable[[], None] | None:
        try:
            return self._posted.get(timeout=TICK_S)
        except Empty:
            return None

    def _reload(self, lanes: list[Lane]) -> None:
        """SIGHUP: reads the configuration again; product and runtime change between two parts."""
        try:
            fresh = load_settings(self._config)
        except (InspectdError, OSError) as error:
            for lane in lanes:
                lane.tell_failed_reload(error)
            return
        if _fixed(fresh) != _fixed(self._settings):
            log.warning("restart_needed", reason=f"only {sorted(CHANGEABLE)} change on SIGHUP")
        by_name = {lane.camera.name: lane for lane in fresh.lanes}
        if set(by_name) != {lane.name for lane in lanes}:
            return
        self._settings = fresh
        for lane in lanes:
            lane.reload(fresh, by_name[lane.name])


def _trouble(lanes: list[Lane]) -> str | None:
    found = (lane.trouble() for lane in lanes)
    return next((trouble for trouble in found if trouble is not None), None)


def _stop(lanes: list[Lane], *, in_order: bool) -> None:
    """All at once: each has the whole time to drain."""
    with ThreadPoolExecutor(len(lanes), "stop") as pool:
        list(pool.map(lambda lane: lane.stop(in_order=in_order), lanes))


def _fixed(settings: Settings) -> dict[str, object]:
    """What a restart is needed for."""
    content = settings.model_dump(exclude=CHANGEABLE)
    for camera in (content["camera"], *content["cameras"]):
        if camera is not None:
            camera.pop("product")
    return content


def _status(lanes: list[Lane]) -> str:
    """For `systemctl status`."""
    if len(lanes) == 1:
        return lanes[0].describe()
    return " | ".join(f"{lane.name}: {lane.describe()}" for lane in lanes)


class _Handlers:
    """Posts signals to the main thread while the context lasts, and restores the handlers after."""

    def __init__(self, posted: SimpleQueue[int | Callable[[], None]]) -> None:
        self._posted = posted
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Handlers:
        for number in (*STOP_SIGNALS, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._posted.put(number)

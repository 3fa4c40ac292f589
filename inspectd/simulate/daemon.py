"""The daemon as its own process, and a supervisor that does for it what systemd would.

The supervisor has no thread: `look_after` is called often, starts a daemon that ended, kills one
whose watchdog wasn't fed, and measures.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from inspectd.core.errors import InspectdError
from inspectd.simulate.account import Sample
from inspectd.simulate.process import Child, children_of, open_descriptors, resident_bytes

START_S = 60.0
"""How long the first start may take."""
MAX_DATAGRAM = 4096


class Daemon:
    """Entering starts it the first time, without waiting; leaving stops it for good."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        restart_s: float,
        watchdog_s: float,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="inspectd-simulate-")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = str(Path(self._folder.name) / "notify")  # a socket's path must be short
        self._socket.bind(address)
        self._socket.setblocking(False)
        own = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}
        self._child = Child(command, log, {**environment, **own})
        self._restart_s = restart_s
        self._watchdog_s = watchdog_s
        self._restart_at: float | None = None
        self._fed_at = monotonic()
        self._is_expected_to_end = False
        self._wanted = False
        self.is_ready = False
        self.starts = 0
        self.deaths = 0
        """Ends that nobody asked for, the watchdog's kills among them."""

    def __enter__(self) -> Self:
        self._wanted = True
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._socket.close()
        self._folder.cleanup()

    @property
    def pid(self) -> int | None:
        """None where it doesn't run."""
        return self._child.pid

    @property
    def camera_pid(self) -> int | None:
        """Of the process that holds the camera."""
        pid = self._child.pid
        return next(iter(children_of(pid)), None) if pid is not None else None

    def look_after(self) -> None:
        """Restarts it where it ended, kills it where it hangs; call it often."""
        self._read_notes()
        if not self._wanted:
            return
        now = monotonic()
        if self._child.is_alive:
            if now - self._fed_at > self._watchdog_s:
                self.deaths += 1
                self._is_expected_to_end = True
                self._child.kill()
            return
        self.is_ready = False
        if self._restart_at is None:
            self.deaths += not self._is_expected_to_end
            self._restart_at = now + self._restart_s
        elif now >= self._restart_at:
            self._start()

    def kill(self) -> None:
        """SIGKILL; it is restarted by `look_after`."""
        self._is_expected_to_end = True
        self.is_ready = False
        self._child.kill()

    def reload(self) -> None:
        """SIGHUP."""
        self._child.signal(signal.SIGHUP)

    def stop(self) -> int | None:
        """SIGTERM, and no restart; returns the exit status."""
        self._wanted = False
        self._child.end()
        return self._child.exit_status

    def require_alive(self) -> None:
        """For the first start.

        Raises:
            InspectdError: it ended.
        """
        if not self._child.is_alive:
            raise InspectdError(
                f"the daemon ended with {self._child.exit_status}:\n{self._child.last_lines(8)}"
            )

    def limit_files(self, most: int) -> None:
        """No file of its may grow beyond so many bytes (RLIMIT_FSIZE): a disk is full for it."""
        if (pid := self._child.pid) is not None:
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, hard))

    def measure(self, at_s: float) -> Sample | None:
        """Memory and descriptors now; None where it doesn't run."""
        pid = self._child.pid
        memory = resident_bytes(pid) if pid is not None else None
        descriptors = open_descriptors(pid) if pid is not None else None
        if pid is None or memory is None or descriptors is None:
            return None
        camera = self.camera_pid
        of_camera = resident_bytes(camera) if camera is not None else None
        return Sample(at_s, self.starts, memory / 2**20, descriptors, (of_camera or 0) / 2**20)

    def _start(self) -> None:
        self._restart_at = None
        self._is_expected_to_end = False
        self._fed_at = monotonic()
        self._child.start()
        self.starts += 1

    def _read_notes(self) -> None:
        while True:
            try:
                note = self._socket.recv(MAX_DATAGRAM)
            except BlockingIOError:
                return
            self._fed_at = monotonic()
            if b"READY=1" in note and self._child.is_alive:
                self.is_ready = True


def python_command(config: Path) -> list[str]:
    """The daemon of this very installation."""
    return [sys.executable, "-m", "inspectd", "run", "--config", str(config)]


def own_path() -> dict[str, str]:
    """So that a daemon started elsewhere is of the same source tree as this process."""
    root = str(Path(__file__).resolve().parents[2])
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": root if not before else f"{root}{os.pathsep}{before}"}

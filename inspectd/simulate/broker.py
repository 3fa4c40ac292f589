"""The broker: mosquitto, the embedded one, or one that runs elsewhere.

mosquitto keeps its queues on disk, and saves them whenever they changed: what is queued for a
subscriber outlives a SIGKILL. What it had acknowledged and not yet saved is gone with it. The disk
is memory where there is such a one: saving that often must not hold verdicts up.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from inspectd.core.config import MqttSection
from inspectd.core.errors import InspectdError
from inspectd.simulate.process import Child

START_S = 20.0
MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh directory in it
SYSTEM_PATH = "/usr/sbin:/sbin"


class Broker:
    """One of ours; entering starts it and waits until it listens."""

    def __init__(self, folder: Path, kind: str, address: str | None = None) -> None:
        """`address`: an IPv4 of this machine beside the loopback's that it listens on too."""
        self.port = _free_port()
        self.host = "127.0.0.1"
        self.version = "5" if kind == "mosquitto" else "3.1.1"
        self._store = tempfile.TemporaryDirectory(
            prefix="inspectd-simulate-", dir=MEMORY if os.access(MEMORY, os.W_OK) else folder
        )
        if kind == "mosquitto":
            command = _mosquitto(folder, Path(self._store.name).resolve(), self.port, address)
        else:
            command = [sys.executable, "-m", "inspectd.demo.broker", str(self.port)]
        self._child = Child(command, folder / "broker.log")

    def __enter__(self) -> Self:
        self._child.start()
        limit = monotonic() + START_S
        while not self._listens():
            if monotonic() > limit or not self._child.is_alive:
                self.__exit__(None, None, None)
                raise InspectdError(f"the broker doesn't start: {self._child.last_lines()}")
            sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._child.end()
        self._store.cleanup()

    def section(self, keepalive_s: int) -> MqttSection:
        """For a client on this machine."""
        return MqttSection(
            host=self.host,
            port=self.port,
            version="5" if self.version == "5" else "3.1.1",
            keepalive_s=keepalive_s,
        )

    def kill(self) -> None:
        """Ends it without a goodbye."""
        self._child.kill()

    def restart(self) -> None:
        """After `kill`; doesn't wait until it listens."""
        if not self._child.is_alive:
            self._child.start()

    def pause(self) -> None:
        """Its sockets stay open, and it answers nothing."""
        self._child.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        self._child.signal(signal.SIGCONT)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((self.host, self.port)) == 0


def _mosquitto(folder: Path, store: Path, port: int, address: str | None) -> list[str]:
    binary = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if binary is None:
        raise InspectdError(
            'mosquitto isn\'t installed; sudo apt-get install mosquitto, or broker = "embedded"'
        )
    lines = [
        f"listener {port} 127.0.0.1",
        *([f"listener {port} {address}"] if address else []),
        "allow_anonymous true",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "persistence true",
        f"persistence_location {store}/",
        "autosave_on_changes true",
        "autosave_interval 1",
        "log_type error",
        "log_type warning",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # it would change to a user who can't write here
    config = folder / "mosquitto.conf"
    config.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return [binary, "-c", str(config)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

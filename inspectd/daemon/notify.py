"""systemd's notification protocol (sd_notify(3)): readiness, status, watchdog; silent elsewhere."""

from __future__ import annotations

import os
import socket

SEND_TIMEOUT_S = 1.0


class Notifier:
    """Sends to ``$NOTIFY_SOCKET``; does nothing where systemd didn't start us."""

    def __init__(self, address: str | None = None) -> None:
        path = os.environ.get("NOTIFY_SOCKET") if address is None else address
        self._address = path.replace("@", "\0", 1) if path and path.startswith("@") else path

    def ready(self, status: str) -> None:
        """Camera, model and warm-up are done."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """The inspection loop makes progress."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """No more parts are taken."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(SEND_TIMEOUT_S)  # a receiver that doesn't read fills its queue
                sock.sendto(message.encode(), self._address)
        except OSError:
            return  # systemd is gone or restarts: it will ask again, the line goes on


def watchdog_interval_s() -> float | None:
    """Half of what systemd asks for, None where it doesn't watch."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    return int(microseconds) / 2e6 if microseconds and microseconds.isdigit() else None

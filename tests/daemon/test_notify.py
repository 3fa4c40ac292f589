"""systemd hears of readiness, progress and the end; a deaf one stops nothing."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from inspectd.daemon.notify import Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where systemd would listen, in both notations."""
    return f"@test-{uuid.uuid4().hex}" if request.param == "abstract" else str(tmp_path / "n")


@pytest.fixture
def listener(address: str) -> Iterator[socket.socket]:
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        sock.settimeout(5.0)
        yield sock


def test_each_word_is_one_datagram(address: str, listener: socket.socket) -> None:
    """In the notation of sd_notify(3)."""
    notifier = Notifier(address)
    notifier.ready("all is well")
    notifier.alive()
    notifier.status("grün")
    notifier.stopping()
    heard = [listener.recv(4096).decode() for _ in range(4)]
    assert heard == [
        "READY=1\nSTATUS=all is well",
        "WATCHDOG=1",
        "STATUS=grün",
        "STOPPING=1\nSTATUS=stopping",
    ]


def test_the_address_comes_from_the_environment(
    address: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As systemd gives it."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    Notifier().alive()
    assert listener.recv(4096) == b"WATCHDOG=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address, or nobody behind it."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("unheard")
    Notifier("/nowhere/at/all").ready("unheard")


def test_a_deaf_listener_stops_nothing(address: str, listener: socket.socket) -> None:
    """Its queue is full and nobody reads: the line goes on after a moment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sock.sendto(b"noise", listener.getsockname())
    started = monotonic()
    Notifier(address).alive()
    assert monotonic() - started < 5.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("30000000", 15.0), ("", None), ("soon", None), (None, None)]
)
def test_the_watchdog_is_fed_in_half_its_time(
    text: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None where systemd doesn't watch."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if text is not None:
        monkeypatch.setenv("WATCHDOG_USEC", text)
    assert watchdog_interval_s() == seconds

"""The daemon's side of a child: patience, pauses and ends, with children that are scripts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic

import psutil
import pytest

from inspectd.acquisition import host as module
from inspectd.acquisition.host import Host
from inspectd.acquisition.messages import Alive, Gone, Message, Ready, Refused
from inspectd.core.config import GenicamSection

SECTION = GenicamSection(type="genicam", serial="A1")
PRELUDE = """
import os, socket, sys, time
sys.path.insert(0, {root!r})
from inspectd.acquisition.messages import *
link = socket.socket(fileno=int(sys.argv[3]))
def tell(message, *files):
    socket.send_fds(link, [pack(message)], list(files))
def ready():
    file = os.memfd_create("inspectd-ring")
    os.ftruncate(file, 8192)
    tell(Ready("fake", 2, 64, None, None), file)
link.recv(65536)
"""
Start = Callable[[str], Host]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a host whose children run a script."""
    hosts: list[Host] = []
    monkeypatch.setattr(module, "STOP_S", 0.3)

    def make(script: str) -> Host:
        path = tmp_path / "child.py"
        path.write_text(PRELUDE.format(root=str(Path(__file__).parents[2])) + script)
        shim = tmp_path / "python"
        shim.write_text(f'#!/bin/sh\nexec {sys.executable} {path} "$1" "$2" "$3" "$4"\n')
        shim.chmod(0o755)
        monkeypatch.setattr(module.sys, "executable", str(shim))
        host = Host(SECTION)
        hosts.append(host)
        host.start()
        return host

    yield make
    for host in hosts:
        host.stop()
        assert host.pid is None
    assert not [child for child in psutil.Process().children() if child.status() != "zombie"]


def hear(host: Host, wanted: type[Message], patience_s: float = 5.0) -> Message:
    """The next message of this kind."""
    deadline = monotonic() + patience_s
    while monotonic() < deadline:
        message = host.receive(0.05)
        if isinstance(message, wanted):
            return message
    pytest.fail(f"no {wanted.__name__} came")


def test_a_child_says_that_it_is_ready(start: Start) -> None:
    """The ring comes with it, and its file isn't kept open."""
    host = start("ready()\ntime.sleep(60)")
    assert isinstance(hear(host, Ready), Ready)
    assert host.ring is not None


def test_a_wait_is_as_long_as_asked(start: Start) -> None:
    """No wait at all is none, though the child will say something soon."""
    host = start("ready()\nfor _ in range(100):\n    time.sleep(0.1)\n    tell(Alive('streaming'))")
    hear(host, Ready)
    for timeout_s in (0.0, 1e-9, 0.02):
        started = monotonic()
        host.receive(timeout_s)
        assert monotonic() - started < timeout_s + 0.05


def test_a_silent_child_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the patience of its phase."""
    monkeypatch.setitem(module.SILENCE_S, "streaming", 0.2)
    host = start("ready()\ntime.sleep(60)")
    hear(host, Ready)
    process = psutil.Process(host.pid)
    started = monotonic()
    message = hear(host, Gone)
    assert monotonic() - started < 1.0
    assert isinstance(message, Gone)
    assert "killed" in message.detail
    process.wait(2.0)


@pytest.mark.parametrize(
    "script",
    ["sys.exit(3)", "raise SystemExit", "ready()\nos._exit(1)", "os.kill(os.getpid(), 11)"],
)
def test_a_child_that_ends_is_followed_by_another(start: Start, script: str) -> None:
    """However it ends, and whatever it said before."""
    host = start(script)
    first = host.pid
    hear(host, Gone)
    deadline = monotonic() + 3.0
    while host.pid in (None, first):
        assert monotonic() < deadline
        host.receive(0.05)


def test_pauses_grow_to_a_bound(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that fails again and again, even right after it streamed, isn't tried in a loop."""
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.1, 0.3))
    host = start("ready()\ntell(Gone('at once'))\ntime.sleep(60)")
    gone = []
    while len(gone) < 6:
        hear(host, Gone)
        gone.append(monotonic())
    apart = [later - earlier for earlier, later in pairwise(gone)]
    assert min(apart[2:]) >= 0.3
    assert max(apart[2:]) < 2.0


def test_a_steady_child_is_forgiven(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while of streaming the next loss is followed at once."""
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 60.0))
    monkeypatch.setattr(module, "STEADY_S", 0.2)
    host = start("ready()\ntime.sleep(0.3)\ntell(Alive('streaming'))\ntell(Gone('later'))")
    for _ in range(3):
        hear(host, Gone)


def test_a_refusal_is_told_with_its_reason(start: Start) -> None:
    """And remembered, for people who ask later."""
    host = start("tell(Refused('feature X'))\ntime.sleep(60)")
    assert hear(host, Refused) == Refused("feature X")
    assert host.detail == "feature X"


def test_stopping_waits_for_an_orderly_end(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child gets the word first."""
    monkeypatch.setattr(module, "STOP_S", 5.0)
    said = tmp_path / "said"
    script = "tell(Alive('opening'))\nword = link.recv(99)\n"
    script += f"open({str(said)!r}, 'wb').write(word)"
    host = start(script)
    hear(host, Alive)
    host.stop()
    assert said.read_bytes() == b"stop"


def test_stopping_kills_a_deaf_child(start: Start) -> None:
    """Within its deadline."""
    host = start("tell(Alive('opening'))\ntime.sleep(60)")
    hear(host, Alive)
    started = monotonic()
    host.stop()
    assert monotonic() - started < 1.0


def test_a_command_to_nobody_is_harmless(start: Start) -> None:
    """The child has just died, or there is none."""
    host = start("sys.exit(0)")
    hear(host, Gone)
    host.send("trigger 1")
    host.stop()
    host.send("trigger 2")

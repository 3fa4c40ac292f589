"""Between daemon and broker: a network namespace of the daemon's own, or a relay; both can be cut.

The namespace is the real thing (a cable pulled, packets that vanish) and needs root. The relay
falls silent: connections stay open or are accepted, and nothing comes through.
"""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

from inspectd.core.errors import InspectdError

POLL_S = 0.2
CHUNK = 65_536
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Network(Protocol):
    """A way from the daemon to the broker; entered before both start."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @property
    def address(self) -> str | None:
        """Where the broker is to listen besides the loopback interface."""
        ...

    def route(self, host: str, port: int) -> tuple[str, int]:
        """Where the daemon finds the broker that is there for us."""
        ...

    def command(self, words: list[str]) -> list[str]:
        """The daemon's command, as it has to be started."""
        ...

    def cut(self) -> None:
        """From now on nothing comes through."""
        ...

    def join(self) -> None:
        """It does again."""
        ...


class Direct:
    """No network that could be cut."""

    address: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def route(self, host: str, port: int) -> tuple[str, int]:
        """See `Network`."""
        return host, port

    def command(self, words: list[str]) -> list[str]:
        """See `Network`."""
        return words

    def cut(self) -> None:
        """See `Network`."""
        raise AssertionError("a scenario that cuts the network has one")

    def join(self) -> None:
        """See `Network`."""


class Namespace:
    """A veth pair: one end here, the other in the daemon's namespace."""

    def __init__(self) -> None:
        number = os.getpid() % 16_384
        self._name = f"inspectd-{os.getpid()}"
        self._here, self._there = f"is{number}h", f"is{number}d"
        third, fourth = divmod(number * 4, 256)
        self.address: str | None = f"10.213.{third}.{fourth + 1}"
        self._daemon = f"10.213.{third}.{fourth + 2}"

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        try:
            peer = ("peer", "name", self._there, "netns", self._name)
            _ip("link", "add", self._here, "type", "veth", *peer)
            _ip("addr", "add", f"{self.address}/30", "dev", self._here)
            _ip("link", "set", self._here, "up")
            inside = ("-n", self._name)
            _ip(*inside, "addr", "add", f"{self._daemon}/30", "dev", self._there)
            _ip(*inside, "link", "set", self._there, "up")
            _ip(*inside, "link", "set", "lo", "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(InspectdError):
            _ip("link", "del", self._here)
        with suppress(InspectdError):
            _ip("netns", "del", self._name)

    def route(self, host: str, port: int) -> tuple[str, int]:
        """See `Network`."""
        return self.address or host, port

    def command(self, words: list[str]) -> list[str]:
        """See `Network`: nsenter becomes the command, so that its process id stays."""
        return ["nsenter", f"--net=/run/netns/{self._name}", "--", *words]

    def cut(self) -> None:
        """See `Network`."""
        _ip("link", "set", self._here, "down")

    def join(self) -> None:
        """See `Network`."""
        _ip("link", "set", self._here, "up")


class Relay:
    """A TCP relay in this process."""

    address: str | None = None

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._target = ("", 0)
        self._silent = threading.Event()
        self._stop = threading.Event()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for sock in (*self._peers, self._server):
            sock.close()
        self._selector.close()

    def route(self, host: str, port: int) -> tuple[str, int]:
        """See `Network`."""
        self._target = (host, port)
        own = self._server.getsockname()
        return str(own[0]), int(own[1])

    def command(self, words: list[str]) -> list[str]:
        """See `Network`."""
        return words

    def cut(self) -> None:
        """See `Network`."""
        self._silent.set()

    def join(self) -> None:
        """See `Network`."""
        self._silent.clear()

    def _run(self) -> None:
        self._selector.register(self._server, selectors.EVENT_READ)
        while not self._stop.is_set():
            ready = self._selector.select(POLL_S)
            if self._silent.is_set():
                self._stop.wait(POLL_S / 10)  # what is ready stays so
                continue
            for key, _ in ready:
                if key.fileobj is self._server:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._peers:
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._server.accept()
        try:
            broker = socket.create_connection(self._target, timeout=POLL_S)
        except OSError:
            client.close()
            return
        for one, other in ((client, broker), (broker, client)):
            one.settimeout(5.0)  # for writing to one that doesn't read
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        target = self._peers[source]
        try:
            data = source.recv(CHUNK)
            target.sendall(data)
        except OSError:
            data = b""
        if not data:
            for sock in (source, target):
                self._selector.unregister(sock)
                self._peers.pop(sock)
                sock.close()


def network_for(wanted: str) -> Network:
    """What network-cut can cut here.

    Raises:
        InspectdError: a namespace is wanted and can't be had.
    """
    problem = namespace_problem()
    if wanted == "relay" or (wanted == "auto" and problem is not None):
        return Relay()
    if problem is not None:
        raise InspectdError(f'network = "namespace": {problem}; or set network = "relay"')
    return Namespace()


def namespace_problem() -> str | None:
    """Why there can be no network namespace; None where there can."""
    if os.geteuid() != 0:
        return "it needs root"
    missing = [name for name in ("ip", "nsenter") if shutil.which(name, path=_SEARCH) is None]
    if missing:
        return f"{missing[0]} isn't installed; sudo apt-get install iproute2 util-linux"
    return None


def _ip(*words: str) -> None:
    binary = shutil.which("ip", path=_SEARCH) or "ip"
    ended = subprocess.run([binary, *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise InspectdError(f"ip {' '.join(words)}: {ended.stderr.strip()}")

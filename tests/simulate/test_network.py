"""The relay: it passes on, falls silent, and passes on again what came meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspectd.core.errors import InspectdError
from inspectd.simulate.network import Namespace, Relay, namespace_problem, network_for

INTERFACES = Path("/sys/class/net")


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Somebody to talk to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_a_relay_passes_on_and_falls_silent(server: socket.socket) -> None:
    """Nothing is lost by the silence, and an end is passed on too."""
    with Relay() as relay:
        address = relay.route(*server.getsockname()[:2])
        with socket.create_connection(address) as client:
            broker, _ = server.accept()
            with broker:
                client.sendall(b"one")
                assert broker.recv(10) == b"one"
                relay.cut()
                client.sendall(b"two")
                broker.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    broker.recv(10)
                relay.join()
                broker.settimeout(10)
                assert broker.recv(10) == b"two"
                broker.sendall(b"three")
                client.settimeout(10)
                assert client.recv(10) == b"three"
            assert client.recv(10) == b""


def test_a_relay_without_a_broker_hangs_up(server: socket.socket) -> None:
    """As a connection that is refused ends."""
    address = server.getsockname()[:2]
    server.close()
    with Relay() as relay, socket.create_connection(relay.route(*address)) as client:
        client.settimeout(10)
        assert client.recv(10) == b""


@pytest.mark.skipif(namespace_problem() is not None, reason=str(namespace_problem()))
def test_a_namespace_leaves_nothing_behind() -> None:
    """Its interfaces and its name go with it; cut, it lets nothing through."""
    before = set(INTERFACES.iterdir())
    with Namespace() as network:
        assert network.address is not None
        with socket.create_server((network.address, 0)) as listening:
            assert network.route("127.0.0.1", 5) == (network.address, 5)
            assert listening.getsockname()[0] == network.address
        network.cut()
        network.join()
    assert set(INTERFACES.iterdir()) == before


def test_without_root_there_is_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes it; `namespace` says what is missing."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    relay = network_for("auto")
    assert isinstance(relay, Relay)
    with relay:
        pass
    with pytest.raises(InspectdError, match="root"):
        network_for("namespace")

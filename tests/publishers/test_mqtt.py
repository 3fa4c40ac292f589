"""The publisher against brokers that misbehave in ways a real one can't be made to.

`tests/system` has a real mosquitto; here a few lines of MQTT 3.1.1 accept and stay silent.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, monotonic_ns, sleep

import pytest

from inspectd.core.config import MqttSection
from inspectd.core.errors import LedgerError
from inspectd.core.records import Trigger
from inspectd.ledger import Ledger, Letter
from inspectd.publishers import mqtt as module
from inspectd.publishers.connection import (
    Acknowledged,
    Connected,
    Connection,
    Disconnected,
    Event,
    Subscription,
    Unsubscribed,
)
from inspectd.publishers.mqtt import MqttPublisher, Topics, _Heard, client_id

CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ = 0x10, b"\x20\x02\x00\x00", 0x30, 0x40, 0xC0
SUBSCRIBE, SUBACK_HEAD, REFUSED = 0x80, b"\x90\x03", b"\x80"
PATIENCE_S = 20.0


def wait_until(condition: object) -> None:
    """Fails if it never holds."""
    assert callable(condition)
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.005)


class TinyBroker:
    """Takes every client, acknowledges while `acknowledges` is set, refuses subscriptions."""

    def __init__(self) -> None:
        self.acknowledges = threading.Event()
        self.reads = threading.Event()
        self.reads.set()
        self.published: list[tuple[str, bytes]] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, name="tiny-broker")]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def close(self) -> None:
        """Ends everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reads.set()
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def verdicts(self) -> list[dict[str, object]]:
        """Contents of what came on the verdict's topic."""
        return [json.loads(body) for topic, body in list(self.published) if topic == "base/verdict"]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(sock)
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock.makefile("rb") as stream:
                while head := stream.read(1):
                    self.reads.wait(PATIENCE_S)
                    self._answer(sock, head[0] & 0xF0, head[0], stream.read(_length(stream)))
        except (OSError, ValueError):
            return

    def _answer(self, sock: socket.socket, kind: int, head: int, body: bytes) -> None:
        if kind == CONNECT:
            sock.sendall(CONNACK)
        elif kind == PINGREQ:
            sock.sendall(b"\xd0\x00")
        elif kind == SUBSCRIBE:
            sock.sendall(SUBACK_HEAD + body[:2] + REFUSED)
        elif kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            self.published.append((body[2:end].decode(), body[end + 2 :]))
            if self.acknowledges.is_set():
                sock.sendall(bytes((PUBACK, 2)) + body[end : end + 2])


def _length(stream: object) -> int:
    """MQTT's variable length."""
    total, shift = 0, 0
    while True:
        byte = stream.read(1)[0]  # type: ignore[attr-defined]
        total |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return total


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    """A broker that acknowledges."""
    tiny = TinyBroker()
    tiny.acknowledges.set()
    yield tiny
    tiny.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger."""
    with Ledger(tmp_path / "line.sqlite3") as opened:
        yield opened


def section(broker: TinyBroker, **more: object) -> MqttSection:
    """Settings that lead to the broker."""
    return MqttSection.model_validate(
        {"host": "127.0.0.1", "port": broker.port, "version": "3.1.1", "keepalive_s": 1, **more}
    )


def decided(ledger: Ledger, mask: bytes | None = None, late_in_s: float = 60.0) -> Letter:
    """A part that is in the ledger with its verdict."""
    ticket = ledger.open_part(Trigger("camera", "part", 1, datetime.now(UTC), 1))
    content = json.dumps({"seq": ticket.seq, "result_id": ticket.result_id, "late": False})
    deadline = monotonic_ns() + int(late_in_s * 1e9)
    letter = Letter(ticket.seq, ticket.result_id, content, content, mask, deadline)
    ledger.decide(letter)
    return letter


def test_a_broker_that_never_acknowledges_is_left(broker: TinyBroker, ledger: Ledger) -> None:
    """Its pings are answered, so only silence tells; what it had is sent to the next one."""
    broker.acknowledges.clear()
    with MqttPublisher(section(broker), Topics("base"), ledger) as publisher:
        wait_until(lambda: publisher.is_online)
        publisher.publish(decided(ledger))
        wait_until(lambda: broker.connections >= 2)
        broker.acknowledges.set()
        wait_until(lambda: publisher.delivered == 1)
    assert ledger.waiting() == 0
    said = broker.verdicts()
    assert {verdict["seq"] for verdict in said} == {1}
    assert (said[0]["late"], said[-1]["late"]) == (False, True)


def test_a_verdict_beyond_its_deadline_says_so(broker: TinyBroker, ledger: Ledger) -> None:
    """Also where the broker was there all the time."""
    with MqttPublisher(section(broker), Topics("base"), ledger) as publisher:
        wait_until(lambda: publisher.is_online)
        publisher.publish(decided(ledger, late_in_s=-1.0))
        publisher.publish(decided(ledger))
        wait_until(lambda: publisher.delivered == 2)
    assert [verdict["late"] for verdict in broker.verdicts()] == [True, False]


def test_leaving_a_broker_that_does_not_read(broker: TinyBroker, ledger: Ledger) -> None:
    """With more on the way than the network holds, the end comes in bounded time."""
    settings = section(broker, keepalive_s=3600)
    publisher = MqttPublisher(settings, Topics("base"), ledger, flush_s=0.5)
    with publisher:
        wait_until(lambda: publisher.is_online)
        broker.reads.clear()
        for _ in range(6):
            publisher.publish(decided(ledger, mask=bytes(4 << 20)))
        wait_until(lambda: broker.connections == 1)
        started = monotonic()
    assert monotonic() - started < 8.0
    assert not publisher.is_alive
    assert ledger.waiting() == 6


def test_live_letters_do_not_wait_behind_the_backlog(broker: TinyBroker, ledger: Ledger) -> None:
    """A fresh verdict overtakes hundreds of old ones, and all arrive once."""
    old = [decided(ledger) for _ in range(300)]
    ledger.postpone([letter.result_id for letter in old])
    with MqttPublisher(section(broker), Topics("base"), ledger) as publisher:
        wait_until(lambda: len(broker.verdicts()) > 5)
        publisher.publish(decided(ledger))
        wait_until(lambda: publisher.delivered == 301)
    seqs = [verdict["seq"] for verdict in broker.verdicts()]
    assert sorted(map(int, map(str, seqs))) == list(range(1, 302))
    assert seqs.index(301) < 290
    assert [seq for seq in seqs if seq != 301] == list(range(1, 301))


def test_more_than_memory_holds_goes_to_the_ledger(
    broker: TinyBroker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network is slow letters wait on disk, and none is forgotten there."""
    monkeypatch.setattr(module, "MAX_INBOX", 3)
    with MqttPublisher(section(broker), Topics("base"), ledger) as publisher:
        wait_until(lambda: publisher.is_online)
        broker.acknowledges.clear()
        for _ in range(60):
            publisher.publish(decided(ledger))
        broker.acknowledges.set()
        wait_until(lambda: publisher.delivered == 60)
    assert {verdict["seq"] for verdict in broker.verdicts()} == set(range(1, 61))


class FullLedger(Ledger):
    """A disk that fills up after the parts were opened."""

    is_full = False

    def postpone(self, result_ids: object) -> set[str]:
        """See `Ledger`."""
        if self.is_full:
            raise LedgerError("disk full")
        return super().postpone(result_ids)  # type: ignore[arg-type]

    def deliver(self, result_ids: object) -> None:
        """See `Ledger`."""
        if self.is_full:
            raise LedgerError("disk full")
        super().deliver(result_ids)  # type: ignore[arg-type]


def test_a_full_disk_and_no_broker(broker: TinyBroker, tmp_path: Path) -> None:
    """Memory keeps the verdicts until the broker is back; the ledger hears of it when it can."""
    broker.acknowledges.clear()
    with (
        FullLedger(tmp_path / "line.sqlite3") as ledger,
        MqttPublisher(section(broker), Topics("base"), ledger) as publisher,
    ):
        letters = [decided(ledger) for _ in range(5)]
        ledger.is_full = True
        for letter in letters:
            publisher.publish(letter)
        wait_until(lambda: broker.connections >= 2)
        broker.acknowledges.set()
        wait_until(lambda: publisher.delivered == 5)
        assert ledger.waiting() == 5
        ledger.is_full = False
        publisher.publish(decided(ledger))
        wait_until(lambda: ledger.waiting() == 0)
    assert {verdict["seq"] for verdict in broker.verdicts()} == set(range(1, 7))


def test_a_dead_thread_is_seen(
    broker: TinyBroker, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw ends the publisher, and says so to who looks after it."""

    def break_down(*_: object) -> None:
        raise ZeroDivisionError

    with MqttPublisher(section(broker), Topics("base"), ledger) as publisher:
        wait_until(lambda: publisher.is_online)
        monkeypatch.setattr(publisher, "_take", break_down)
        publisher.publish(decided(ledger))
        wait_until(lambda: not publisher.is_alive)
    assert isinstance(publisher.failure, ZeroDivisionError)
    assert not publisher.is_online
    assert ledger.waiting() == 1


def test_an_answer_of_an_earlier_connection_counts_nothing(
    broker: TinyBroker, ledger: Ledger
) -> None:
    """Message ids begin anew with each connection: a stray acknowledgement would lose a verdict."""
    broker.acknowledges.clear()
    publisher = MqttPublisher(section(broker, keepalive_s=60), Topics("base"), ledger, flush_s=0.2)
    with publisher:
        wait_until(lambda: publisher.is_online)
        publisher.publish(decided(ledger))
        wait_until(lambda: len(broker.verdicts()) == 1)
        for mid in range(1, 10):
            publisher._inbox.put(_Heard(0, Acknowledged(mid, None)))
        publisher._inbox.put(_Heard(0, Disconnected("long ago")))
        wait_until(publisher._inbox.empty)
        assert publisher.is_online
        assert publisher.delivered == 0
    assert ledger.waiting() == 1


def test_a_refused_subscription_is_told(broker: TinyBroker) -> None:
    """Who may not hear the verdicts must not take it for silence."""
    events: SimpleQueue[Event] = SimpleQueue()
    with Connection(section(broker), "", events.put, subscriptions=(Subscription("base/verdict"),)):
        assert isinstance(events.get(timeout=PATIENCE_S), Connected)
        event = events.get(timeout=PATIENCE_S)
    assert isinstance(event, Unsubscribed)
    assert "subscription" in event.reason


def test_client_ids_are_the_stations_own() -> None:
    """Short names stand as they are; long ones differ even where their ends don't."""
    assert client_id("a/b") == "a-b"
    ends = "/" + "x" * 100
    first, second = client_id("one" + ends), client_id("two" + ends)
    assert first != second
    assert len(first) == len(second) == 64

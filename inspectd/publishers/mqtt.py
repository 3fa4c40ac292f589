"""Publishes verdicts over MQTT, live ones first, and never loses one.

One thread owns the connection and all delivery state; everything reaches it through one inbox
(letters from the inspector, acknowledgements and losses from paho), so there is nothing to lock.

A letter is in exactly one place: on its way (`LIVE` in the ledger, here in flight) or in the
backlog. When the connection is lost, what was in flight goes to the backlog; when it is back,
the backlog is sent in its own order, marked `late`, in the gaps that live verdicts leave. Where
the ledger can't take a letter (a full disk), memory holds it, within bounds.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf
from queue import Empty, SimpleQueue
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Any, Self

import structlog

from inspectd.core.config import MqttSection
from inspectd.core.errors import LedgerError, PublishError
from inspectd.ledger import Ledger, Letter
from inspectd.publishers.backlog import AT_ONCE, Backlog, late
from inspectd.publishers.connection import (
    Acknowledged,
    Connected,
    Connection,
    Disconnected,
    Event,
    Message,
    Received,
    Subscription,
    Unsubscribed,
)
from inspectd.publishers.flight import Flight
from inspectd.publishers.messages import MAX_VERDICT_BYTES, Topics

log = structlog.get_logger()

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between attempts to connect; the last one repeats, each with jitter."""
CONNACK_TIMEOUT_S = 10.0
LEAVE_S = 10.0
"""Beyond the time to flush: how long the end waits for a thread that is stuck in the network."""
MAX_INBOX = 2_000
"""Live letters that may wait in memory; more go to the ledger's backlog."""
MAX_ALARMS = 100
STUCK_S = 60.0
"""A turn of the thread that takes longer is no progress."""
MAX_HEARD_BYTES = 16 * 1024
"""Of a packet that is sent to us: commands are small."""
MAX_OUTGOING = 50
"""Messages that wait for the broker's window; a reply beyond is dropped, verdicts aren't."""
MAX_CLIENT_ID = 64
PACKET_BYTES = 64
"""Allowed for what a packet holds besides topic and payload."""
TICK_S = 0.5
"""How often the thread looks around when nothing happens."""
VERDICT_EXPIRY_S = 60
"""MQTT 5: how long the broker keeps a verdict for a subscriber that is away."""


class _Stop:
    """Inbox: finish what is possible and end."""


class _Backlogged:
    """Inbox: there is something new in the backlog."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """Inbox: an event of a connection, which may be gone by now."""

    link: int
    event: Event


class MqttPublisher:
    """The publisher's thread; entering starts it, leaving flushes and ends it.

    Entering doesn't wait for the broker: the line starts without it and catches up.
    """

    def __init__(
        self,
        settings: MqttSection,
        topics: Topics,
        ledger: Ledger,
        *,
        flush_s: float = 5.0,
        on_link: Callable[[bool], None] = lambda up: None,
        on_command: Callable[[Received], None] | None = None,
    ) -> None:
        """`on_link` hears that the broker came or went, `on_command` what comes on ``cmd/+``; both
        are called in the publisher's thread.
        """
        self._settings = settings
        self._topics = topics
        self._ledger = ledger
        self._flush_s = flush_s
        self._on_link = on_link
        self._on_command = on_command
        self._client_id = settings.client_id or client_id(topics.base)
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._connection: Connection | None = None
        self._link = 0
        self._stack = ExitStack()
        self._flight = Flight()
        self._outgoing: deque[tuple[str | None, Message]] = deque()
        self._live: deque[Letter] = deque()
        self._backlog = Backlog(ledger)
        self._alarms: deque[str] = deque(maxlen=MAX_ALARMS)
        self._state: str | None = None
        self._window = 1
        self._max_packet: int | None = None
        self._attempt = 0
        self._next_attempt = 0.0
        self._connack_by = 0.0
        self._answered_at = 0.0
        self._online = False
        self._turned_at = monotonic()
        self.delivered = 0
        """Letters acknowledged by the broker since the start."""
        self.failure: BaseException | None = None
        """What killed the thread, if it died."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inbox.put(_Stop())
        self._thread.join(self._flush_s + LEAVE_S)
        if self._thread.is_alive():
            log.error("publisher_stuck", remedy="what it didn't send is sent at the next start")

    @property
    def is_online(self) -> bool:
        """Whether the broker takes messages at the moment."""
        return self._online

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def is_stuck(self) -> bool:
        """Whether the thread makes no progress."""
        return self.is_alive and monotonic() - self._turned_at > STUCK_S

    def publish(self, letter: Letter) -> None:
        """Sends a decided part's messages as soon as possible; never blocks, never fails.

        If too many letters wait in memory this one goes to the backlog; if the ledger can't be
        written either, its verdict waits all the same, without record and mask.
        """
        if self._inbox.qsize() > MAX_INBOX:
            try:
                if not self._ledger.postpone([letter.result_id]):
                    self._inbox.put(_Backlogged())
                    return
            except LedgerError as error:
                log.error("ledger_failed", error=str(error))
            letter = replace(letter, result=None, mask=None)
        self._inbox.put(letter)

    def alarm(self, content: dict[str, object]) -> None:
        """Publishes an alarm, now or when the broker is back; the oldest of many are dropped."""
        self._inbox.put(json.dumps(content, default=str))

    def send(self, message: Message) -> None:
        """Publishes something that only matters now; dropped where there is no broker."""
        self._inbox.put(message)

    def set_state(self, state: dict[str, object]) -> None:
        """Publishes the station's state, retained; the newest one counts."""
        self._inbox.put(state)

    def _run(self) -> None:
        try:
            while not self._step():
                pass
            self._finish()
        except BaseException as error:
            self.failure = error
            log.error("thread_died", thread="publisher", exc_info=True)
        finally:
            self._drop_connection()

    def _step(self) -> bool:
        """One turn: connect if due, handle the inbox, send backlog. True at the end."""
        self._turned_at = monotonic()
        if self._connection is None and monotonic() >= self._next_attempt:
            self._connect()
            self._turned_at = monotonic()
        self._check_answers()
        if self._backlog.is_rewind_due:
            self._rewind_backlog()
        pause = 0.0 if self._may_send_backlog() else TICK_S
        for event in self._events(pause):
            if isinstance(event, _Stop):
                return True
            self._handle(event)
        if self._may_send_backlog():
            self._send_backlog()
        return False

    def _events(self, pause_s: float) -> Iterator[Any]:
        """All that is in the inbox; waits up to `pause_s` for the first."""
        try:
            yield self._inbox.get(timeout=pause_s) if pause_s else self._inbox.get_nowait()
            while True:
                yield self._inbox.get_nowait()
        except Empty:
            return

    def _handle(self, item: object) -> None:
        match item:
            case Letter():
                self._take(item)
            case _Heard():
                # One of an earlier connection would be taken for an answer to this one.
                if item.link == self._link and self._connection is not None:
                    self._hear(item.event)
            case _Backlogged():
                self._backlog.has_grown()
            case Message():
                if self._online and len(self._outgoing) < MAX_OUTGOING:
                    self._dispatch(item)
            case str():
                self._alarms.append(item)
                self._send_alarms()
            case dict():
                self._state = json.dumps(item, default=str)
                self._send_state()

    def _hear(self, event: Event) -> None:
        match event:
            case Acknowledged():
                self._acknowledge(event)
            case Connected():
                self._greet(event)
            case Disconnected():
                self._lose(event.reason)
            case Received():
                if self._on_command is not None:
                    self._on_command(event)
            case Unsubscribed():
                log.warning("commands_refused", reason=event.reason, topic=self._topics.of("cmd"))

    def _take(self, letter: Letter) -> None:
        if len(self._live) < MAX_INBOX:
            self._live.append(letter)
        else:
            self._backlog.put([letter])
            self._backlog.has_grown()
        self._send_live()

    def _connect(self) -> None:
        self._turned_at = inf  # finding a broker's name may take minutes, and holds nobody up
        self._link += 1
        link = self._link
        will = self._availability("offline")
        commands = Subscription(self._topics.of("cmd", "+"), takes_retained=False)
        try:
            self._connection = self._stack.enter_context(
                Connection(
                    self._settings,
                    self._client_id,
                    lambda event: self._inbox.put(_Heard(link, event)),
                    will=will,
                    subscriptions=() if self._on_command is None else (commands,),
                    max_packet=MAX_HEARD_BYTES,
                )
            )
        except PublishError as error:
            self._retry_later(str(error))
            return
        self._connack_by = monotonic() + CONNACK_TIMEOUT_S

    def _check_answers(self) -> None:
        """A broker that says nothing is lost, even where the network is well."""
        if self._connection is None:
            return
        now = monotonic()
        if not self._online and now > self._connack_by:
            self._lose("the broker didn't answer CONNECT in time")
        elif self._online and len(self._flight) and now > self._answered_at + self._patience_s:
            self._lose(f"the broker acknowledged nothing for {self._patience_s} s")

    @property
    def _patience_s(self) -> float:
        return 2.0 * self._settings.keepalive_s

    def _greet(self, event: Connected) -> None:
        needed = MAX_VERDICT_BYTES + len(self._topics.of("verdict").encode()) + PACKET_BYTES
        if event.max_packet is not None and event.max_packet < needed:
            self._lose(
                f"the broker takes packets of {event.max_packet} bytes only; a verdict may need "
                f"{needed}: raise its limit (mosquitto: max_packet_size)"
            )
            return
        self._window, self._max_packet = event.window, event.max_packet
        self._online, self._attempt = True, 0
        self._rewind_backlog()
        log.info("broker_connected", host=self._settings.host, port=self._settings.port)
        self._on_link(True)
        self._dispatch(self._availability("online"))
        self._send_state()
        self._send_alarms()

    def _rewind_backlog(self) -> None:
        if not self._flight.letters:
            self._backlog.rewind()

    def _lose(self, reason: str) -> None:
        """The connection is gone: what was in flight joins the backlog."""
        if self._connection is None:
            return
        self._drop_connection()
        letters = [*self._flight.letters, *self._live]
        self._flight = Flight()
        self._outgoing.clear()
        self._live.clear()
        self._backlog.put(letters)
        self._retry_later(reason)

    def _drop_connection(self) -> None:
        was_online, self._online = self._online, False
        self._connection = None
        self._stack.close()
        if was_online:
            self._on_link(False)

    def _retry_later(self, reason: str) -> None:
        pause = BACKOFF_S[min(self._attempt, len(BACKOFF_S) - 1)]
        pause *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, so that stations don't flock
        self._attempt += 1
        self._next_attempt = monotonic() + pause
        log.warning("broker_unavailable", reason=reason, retry_in_s=round(pause, 1))

    def _send_live(self) -> None:
        """Begins what is fresh, in order, as far as the broker's window allows."""
        if not self._online:
            self._backlog.put(list(self._live))
            self._live.clear()
        while self._live and self._online and not self._outgoing and self._has_room:
            letter = self._live.popleft()
            if letter.deadline_ns is not None and monotonic_ns() > letter.deadline_ns:
                letter = late(letter)
            self._send(letter)

    @property
    def _has_room(self) -> bool:
        """Whether what is sent now leaves now: what waits for the broker may become late."""
        return len(self._flight) < self._window

    def _send(self, letter: Letter) -> None:
        """Verdict, record and mask, in this order."""
        messages = list(self._messages(letter))
        self._flight.begin(letter, len(messages))
        self._outgoing.extend((letter.result_id, message) for message in messages)
        self._pump()
        log.debug("verdict_published", result_id=letter.result_id, monotonic_ns=monotonic_ns())

    def _dispatch(self, message: Message) -> None:
        self._outgoing.extend((None, fitting) for fitting in self._if_it_fits(message))
        self._pump()

    def _pump(self) -> None:
        """Sends messages in order, as many as the broker takes unacknowledged."""
        while self._outgoing and self._connection and len(self._flight) < self._window:
            result_id, message = self._outgoing.popleft()
            try:
                mid = self._connection.publish(message)
            except PublishError as error:
                self._lose(str(error))
                return
            if not len(self._flight):
                self._answered_at = monotonic()
            self._flight.add(mid, result_id)

    def _messages(self, letter: Letter) -> Iterator[Message]:
        yield Message(self._topics.of("verdict"), letter.verdict, expiry_s=VERDICT_EXPIRY_S)
        if letter.result is not None and self._settings.send_result:
            yield from self._if_it_fits(Message(self._topics.of("result"), letter.result))
        if letter.mask is not None and self._settings.send_mask:
            topic = self._topics.of("mask", letter.result_id)
            yield from self._if_it_fits(Message(topic, letter.mask, content_type="image/png"))

    def _if_it_fits(self, message: Message) -> Iterator[Message]:
        payload = message.payload
        payload_bytes = len(payload.encode() if isinstance(payload, str) else payload)
        size = payload_bytes + len(message.topic.encode()) + PACKET_BYTES
        if self._max_packet is not None and size > self._max_packet:
            log.warning("message_too_large", topic=message.topic, size=size, most=self._max_packet)
            return
        yield message

    def _acknowledge(self, event: Acknowledged) -> None:
        self._answered_at = monotonic()
        if event.problem is not None:
            remedy = "check the broker's ACL and its limits on size"
            log.error("publish_refused", reason=event.problem, remedy=remedy)
        sent = self._flight.acknowledge(event.mid, event.problem)
        self._pump()
        self._send_live()
        if sent is None:
            return
        if sent.is_refused:
            self._backlog.put([sent.letter])
            self._backlog.rewind_later()
            return
        self.delivered += 1
        self._backlog.note_delivered(sent.letter.result_id)

    def _may_send_backlog(self) -> bool:
        room = len(self._flight) < max(1, self._window // 2) and not self._outgoing
        return self._online and bool(self._backlog) and room and not self._live

    def _send_backlog(self) -> None:
        """A few letters of the backlog, those in memory first."""
        for _ in range(AT_ONCE):
            orphan = self._backlog.take_orphan() if self._online else None
            if orphan is not None:
                self._send(orphan)
        for letter in self._backlog.look() if self._online else ():
            if not self._online:
                return
            self._backlog.passed(letter)
            self._send(letter)

    def _send_state(self) -> None:
        if self._online and self._state is not None:
            self._dispatch(Message(self._topics.of("state"), self._state, retain=True))

    def _send_alarms(self) -> None:
        while self._online and self._alarms:
            self._dispatch(Message(self._topics.of("alarm"), self._alarms.popleft()))

    def _availability(self, word: str) -> Message:
        topic = self._topics.of("availability")
        return Message(topic, word, retain=True, content_type="text/plain")

    def _finish(self) -> None:
        """Within `flush_s`: lets acknowledgements come in, then says goodbye."""
        deadline = monotonic() + self._flush_s
        while self._connection is not None and monotonic() < deadline and self._unsettled():
            self._check_answers()
            for event in self._events(0.05):
                self._handle(event)
            if self._may_send_backlog():
                self._send_backlog()
        if self._online:
            self._dispatch(self._availability("stopped"))
        while self._online and (self._outgoing or self._flight) and monotonic() < deadline + 1.0:
            for event in self._events(0.05):
                self._handle(event)
        self._backlog.put([*self._flight.letters, *self._live])
        self._backlog.close()

    def _unsettled(self) -> bool:
        waiting = self._live or self._flight.letters or self._backlog
        return bool(waiting) or not self._inbox.empty()


def client_id(base: str) -> str:
    """At most 64 characters that are this station's own."""
    name = base.replace("/", "-")
    if len(name) <= MAX_CLIENT_ID:
        return name
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    return f"{digest}{name[len(digest) - MAX_CLIENT_ID :]}"

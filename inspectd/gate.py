"""A reject gate: what a PLC does with verdicts, written down as code.

`GateKeeper` is the rule and does no I/O: only a fresh `pass` of a station that is `online` lets a
part through; `fail`, `undecided` and a gap in `seq` all mean reject. A repeated `result_id` is
the same verdict again and moves nothing. A late verdict is for the record: its part has gone by,
and was rejected for want of a verdict. Late is what says so itself, and what arrives after its
`deadline_ms`: the broker may have held it up. (A gate whose clock is ahead of the station's
rejects too much, never too little; one that is more than 100 ms behind rejects all.) A simulated
verdict is of a picture, not of the part in front of the gate: a reject, unless the gate is itself
part of the simulation.

``deploy/plc/`` says it to controls engineers; its ``vectors.json`` holds this file to it.

`watch` connects the rule to a broker.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Event
from time import monotonic
from typing import Any

from inspectd.core.config import MqttSection
from inspectd.core.errors import PublishError
from inspectd.publishers.connection import (
    Connected,
    Connection,
    Disconnected,
    Received,
    Subscription,
    Unsubscribed,
)
from inspectd.publishers.messages import SCHEMA

REMEMBERED = 100_000
"""Result ids kept to recognise a repeated verdict."""
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_GAP = 10_000
"""Missing parts counted one by one; a larger jump is another ledger."""
MAX_AHEAD_MS = 100
"""A verdict that comes longer before its trigger is of a station whose clock is wrong."""
RETRY_S = 0.5
LEVEL = "verdict"
WANTED = {
    "schema": str,
    "seq": int,
    "result_id": str,
    "verdict": str,
    "late": bool,
    "captured_at": str,
    "deadline_ms": int,
    "is_simulated": bool,
}
"""What a gate needs of a verdict; the rest is for people and for the records."""


@dataclass(frozen=True, slots=True)
class Action:
    """What the gate does about one message."""

    rejects: bool
    """Whether the part in front of the gate is diverted."""
    why: str
    """`pass`, `fail`, `undecided`, `gap`, `late`, `simulated`, `duplicate`, `malformed` ..."""
    verdict: dict[str, Any] | None = None
    """The message, where it was one."""
    latency_ms: float | None = None
    """From the trigger to now; needs clocks that agree."""


class GateKeeper:
    """The rule; feed it messages in the order they arrive."""

    def __init__(self, accepts_simulated: bool = False) -> None:
        self._accepts_simulated = accepts_simulated
        self.counts: Counter[str] = Counter()
        """Actions by their `why`."""
        self.available = False
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._last_seq: int | None = None

    def availability(self, payload: str) -> Action | None:
        """The station came or went; anything but `online` closes the gate."""
        was, self.available = self.available, payload == "online"
        if self.available == was:
            return None
        return self._act(
            Action(not self.available, "available" if self.available else "unavailable")
        )

    def verdict(self, payload: bytes, retained: bool, now: datetime) -> list[Action]:
        """Actions for one verdict message: first for parts that are missing before it."""
        message = _parsed(payload)
        if message is None:
            return [self._act(Action(True, "malformed"))]
        if retained:
            return [self._act(Action(False, "retained", message))]
        latency = (now - datetime.fromisoformat(message["captured_at"])).total_seconds() * 1e3
        if self._is_repeated(message["result_id"]):
            return [self._act(Action(False, "duplicate", message, latency))]
        gaps = [self._act(Action(True, "gap")) for _ in range(self._missing(message["seq"]))]
        if message["late"] or latency > message["deadline_ms"]:
            return [*gaps, self._act(Action(True, "late", message, latency))]
        if latency < -MAX_AHEAD_MS:  # how long the broker held it up can't be told
            return [*gaps, self._act(Action(True, "clock", message, latency))]
        if not self.available:
            return [*gaps, self._act(Action(True, "unavailable", message, latency))]
        if message["is_simulated"] and not self._accepts_simulated:
            return [*gaps, self._act(Action(True, "simulated", message, latency))]
        rejects = message["verdict"] != "pass"
        return [*gaps, self._act(Action(rejects, message["verdict"], message, latency))]

    def _missing(self, seq: int) -> int:
        """Parts between the last verdict and this one; the first verdict sets the count.

        A verdict from the backlog may carry a lower number: its part was missed already.
        """
        last = seq - 1 if self._last_seq is None else self._last_seq
        self._last_seq = max(last, seq)
        return max(0, min(seq - last - 1, MAX_GAP))

    def _is_repeated(self, result_id: str) -> bool:
        if result_id in self._seen:
            return True
        self._seen[result_id] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _act(self, action: Action) -> Action:
        self.counts[action.why] += 1
        return action


def watch(
    settings: MqttSection,
    base: str,
    keeper: GateKeeper,
    stop: Event,
    on_trouble: Callable[[str], None],
    client_id: str = "",
) -> Iterator[Action]:
    """Subscribes to a station and yields what the gate does, until `stop` is set.

    A lost broker closes the gate (`unavailable`) and is tried again; `on_trouble` hears of it.
    """
    while not stop.is_set():
        events: SimpleQueue[Any] = SimpleQueue()
        with ExitStack() as stack:
            try:
                topics = (Subscription(f"{base}/{LEVEL}"), Subscription(f"{base}/availability"))
                stack.enter_context(
                    Connection(
                        settings,
                        client_id,
                        events.put,
                        subscriptions=topics,
                        max_packet=MAX_PAYLOAD_BYTES,
                    )
                )
            except PublishError as error:
                on_trouble(str(error))
                stop.wait(RETRY_S)
                continue
            yield from _until_lost(events, base, keeper, stop, on_trouble)
        if (action := keeper.availability("offline")) is not None:
            yield action
        stop.wait(0 if stop.is_set() else RETRY_S)


def _until_lost(
    events: SimpleQueue[Any],
    base: str,
    keeper: GateKeeper,
    stop: Event,
    on_trouble: Callable[[str], None],
) -> Iterator[Action]:
    answered_by = monotonic() + 10.0
    while not stop.is_set():
        try:
            event = events.get(timeout=0.1)
        except Empty:
            if answered_by and monotonic() > answered_by:
                on_trouble("the broker didn't answer CONNECT in time")
                return
            continue
        match event:
            case Connected():
                answered_by = 0.0
            case Disconnected() | Unsubscribed():
                on_trouble(event.reason)
                return
            case Received() if event.topic == f"{base}/{LEVEL}":
                yield from keeper.verdict(event.payload, event.retained, datetime.now(UTC))
            case Received():
                action = keeper.availability(event.payload.decode("utf-8", "replace"))
                if action is not None:
                    yield action


def _parsed(payload: bytes) -> dict[str, Any] | None:
    """The message if it has all that a gate needs, of the right kinds."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return None
    try:
        message = json.loads(payload)
        if not all(type(message[key]) is kind for key, kind in WANTED.items()):
            return None
        if message["schema"] != SCHEMA:
            return None
        if datetime.fromisoformat(message["captured_at"]).tzinfo is None:
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return message if message["verdict"] in ("pass", "fail", "undecided") else None

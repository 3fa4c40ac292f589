"""Sends a station a command and waits for its reply; `inspectd.daemon.operator` answers."""

from __future__ import annotations

import json
import uuid
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from inspectd.core.config import MqttSection
from inspectd.core.errors import CommandError, PublishError
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

CONNECT_S = 10.0
MAX_REPLY_BYTES = 64 * 1024


def ask(
    settings: MqttSection, base: str, verb: str, content: dict[str, Any], timeout_s: float
) -> dict[str, Any]:
    """Publishes a command on ``<base>/cmd/<verb>`` and returns the reply's content.

    Raises:
        PublishError: the broker can't be reached, or doesn't let us publish or listen.
        CommandError: no reply came within `timeout_s` seconds.
    """
    events: SimpleQueue[Event] = SimpleQueue()
    name = f"command-{uuid.uuid4().hex[:12]}"
    topic = f"{base}/reply/{name}" if settings.version == "5" else f"{base}/reply"
    command = Message(
        f"{base}/cmd/{verb}",
        json.dumps({**content, "id": name}),
        correlation=name.encode(),
        response_topic=topic,
        expiry_s=max(1, round(timeout_s)),
    )
    replies = (Subscription(topic),)
    with Connection(
        settings, name, events.put, subscriptions=replies, max_packet=MAX_REPLY_BYTES
    ) as link:
        deadline, sent = monotonic() + CONNECT_S, False
        while (left := deadline - monotonic()) > 0:
            try:
                event = events.get(timeout=left)
            except Empty:
                break
            match event:
                case Connected():
                    link.publish(command)
                    deadline, sent = monotonic() + timeout_s, True
                case Disconnected(reason=reason) | Unsubscribed(reason=reason):
                    raise PublishError(f"{topic}: {reason}")
                case Acknowledged(problem=str() as problem):
                    raise PublishError(f"{command.topic}: {problem}; check the broker's ACL")
                case Received(payload=payload):
                    if (reply := _reply(payload, name)) is not None:
                        return reply
    where = f"{settings.host}:{settings.port}"
    if not sent:
        raise PublishError(f"{where}: the broker didn't answer CONNECT in time")
    raise CommandError(
        f"no reply to {verb} within {timeout_s:g} s; is the station online (`mosquitto_sub -t "
        f"{base}/availability`), and may it read {base}/cmd/# and you write it (ACL)?"
    )


def _reply(payload: bytes, name: str) -> dict[str, Any] | None:
    """Ours, of what came."""
    try:
        content = json.loads(payload)
    except ValueError:
        return None
    return content if isinstance(content, dict) and content.get("id") == name else None

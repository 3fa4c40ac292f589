"""Who listens: a recorder that keeps every answer, and the reject gate, each with its connection.

The recorder's session is persistent: what the broker holds for it while it is away comes after.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from queue import SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from inspectd.core.config import MqttSection
from inspectd.gate import GateKeeper, watch
from inspectd.simulate.account import Answer, Stages

SESSION_S = 3600
RETRY_S = (0.1, 0.3)
"""Shortest and longest pause between two attempts to connect: it is to be there before the daemon
is, which waits longer."""
REPLY = "simulate/reply"


class Recorder:
    """Every verdict once with the time it came, and the stages' timings; sends commands too."""

    def __init__(self, settings: MqttSection, base: str, client_id: str) -> None:
        self._settings = settings
        self._base = base
        self._reply = f"{REPLY}/{client_id}"
        self._known: set[str] = set()
        self.answers: list[Answer] = []
        """In the order of arrival."""
        self.stages = Stages()
        self.repeated = 0
        """Verdicts that came again under the same result id."""
        self.counts: set[int] = set()
        """Trigger counts that were answered."""
        self.uncounted = 0
        """Answers without one."""
        self.last_new = monotonic()
        self.broken = 0
        """Messages that weren't what they should be."""
        self.replies: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
        """Verb and answer of the commands that were sent."""
        self._is_v5 = settings.version == "5"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5 if self._is_v5 else mqtt.MQTTv311,
            clean_session=None if self._is_v5 else False,
        )
        self._client.reconnect_delay_set(*RETRY_S)  # type: ignore[arg-type]  # fractions work
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._subscribed = threading.Event()
        self._client.on_subscribe = lambda *_: self._subscribed.set()

    def __enter__(self) -> Self:
        how: dict[str, Any] = {}
        if self._is_v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            how = {"clean_start": False, "properties": properties}
        self._client.connect(
            self._settings.host, self._settings.port, self._settings.keepalive_s, **how
        )
        self._client.loop_start()
        self._subscribed.wait(10.0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def command(self, verb: str, content: dict[str, Any]) -> None:
        """Sends ``cmd/<verb>``; the answer comes to `replies`, which needs MQTT 5."""
        properties = None
        if self._is_v5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = self._reply
            properties.CorrelationData = verb.encode()
        payload = json.dumps(content)
        self._client.publish(f"{self._base}/cmd/{verb}", payload, 1, properties=properties)

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        for topic in (f"{self._base}/verdict", f"{self._base}/result", self._reply):
            client.subscribe(topic, qos=1)

    def _on_message(self, _: mqtt.Client, __: Any, message: mqtt.MQTTMessage) -> None:
        now = monotonic()
        try:
            content = json.loads(message.payload)
            if message.topic == self._reply:
                correlation = getattr(message.properties, "CorrelationData", b"")
                self.replies.put((correlation.decode(), content))
            elif message.topic.endswith("/verdict"):
                self._verdict(content, now)
            elif not content["late"]:
                self.stages.note(content["timings_ms"])
        except (ValueError, KeyError, TypeError):
            self.broken += 1

    def _verdict(self, content: dict[str, Any], now: float) -> None:
        result_id = content["result_id"]
        if result_id in self._known:
            self.repeated += 1
            return
        count = content["trigger_count"]
        answer = Answer(
            result_id=result_id,
            seq=content["seq"],
            count=count,
            verdict=content["verdict"],
            reason=content["reason"],
            is_late=content["late"],
            product=content["product_id"],
            at_s=now,
        )
        self._known.add(result_id)
        self.answers.append(answer)
        if count is None:
            self.uncounted += 1
        else:
            self.counts.add(count)
        self.last_new = now


class Gate:
    """The reject gate; it lets a part through only for a fresh `pass`."""

    def __init__(self, settings: MqttSection, base: str, client_id: str) -> None:
        self._keeper = make_keeper()
        self.passed: dict[str, float] = {}
        """Result ids that opened it, and when."""
        self._stop = threading.Event()

        def run() -> None:
            for action in watch(settings, base, self._keeper, self._stop, _ignore, client_id):
                if action.verdict is not None and not action.rejects and action.why == "pass":
                    self.passed[action.verdict["result_id"]] = monotonic()

        self._thread = threading.Thread(target=run, name="gate", daemon=True)

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

    @property
    def counts(self) -> Counter[str]:
        """What it did, by why."""
        return Counter(self._keeper.counts)


def make_keeper() -> GateKeeper:
    """The rule that the gate follows; the one place where it is made."""
    return GateKeeper(accepts_simulated=True)


_ignore: Callable[[str], None] = lambda _: None  # noqa: E731 - an unreachable broker is no news

"""One connection to an MQTT broker: a thin shell around paho that turns callbacks into events.

A connection lives from `connect` to the first loss and is then thrown away: reconnecting is its
owner's decision, and paho's own queue of unsent messages can't send an old verdict as a fresh one.

`on_event` is called from paho's thread, at times with paho's locks held: it must only put the
event somewhere, best into a `SimpleQueue`, whose `put` takes no lock to deadlock on.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic_ns
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from inspectd.core.config import MqttSection
from inspectd.core.errors import BrokerRefusedError, PublishError

CONNECT_TIMEOUT_S = 5.0
GOODBYE_S = 1.0
"""How long leaving waits for a broker that doesn't read."""
WINDOW = 20
"""Most unacknowledged messages at a time; what mosquitto takes unless told otherwise."""
PROTOCOLS = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}
REFUSALS = {
    "Not authorized": "check username, password and the broker's ACL",
    "Bad user name or password": "check [mqtt] username and password (credential mqtt_password)",
    "Client identifier not valid": "set another [mqtt] client_id",
    "Unsupported protocol version": 'set [mqtt] version = "3.1.1"',
    "Banned": "ask the broker's administrator",
}


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish."""

    topic: str
    payload: str | bytes
    qos: int = 1
    retain: bool = False
    content_type: str = "application/json"
    expiry_s: int | None = None
    """MQTT 5: the broker drops it if nobody took it by then."""
    correlation: bytes | None = None
    """MQTT 5: what a reply is to, as the sender named it."""
    response_topic: str | None = None
    """MQTT 5: where the reply is wanted."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to listen to."""

    topic: str
    takes_retained: bool = True
    """False: the broker sends no retained message on subscribing, and marks those of others, so
    that they can be ignored (MQTT 3.1.1 can do neither and marks those that it sends)."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker accepted us."""

    window: int
    """Unacknowledged messages that the broker takes at a time; to be kept by who publishes."""
    max_packet: int | None
    """Bytes of the largest packet that the broker takes, if it says so."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone; the object is of no more use."""

    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker answered a message of QoS 1."""

    mid: int
    problem: str | None
    """Why the broker didn't take it, None where it did."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message from the broker."""

    topic: str
    payload: bytes
    retained: bool
    received_ns: int
    """`time.monotonic_ns()`."""
    response_topic: str | None = None
    """MQTT 5: where the sender wants the reply."""
    correlation: bytes | None = None
    """MQTT 5: to be sent with the reply."""


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """The broker doesn't let us listen; the connection stands."""

    reason: str


Event = Connected | Disconnected | Acknowledged | Received | Unsubscribed


class Connection:
    """A connection in the making or made; leaving the context ends it."""

    def __init__(
        self,
        settings: MqttSection,
        client_id: str,
        on_event: Callable[[Event], None],
        *,
        will: Message | None = None,
        subscriptions: tuple[Subscription, ...] = (),
        max_packet: int | None = None,
    ) -> None:
        """`max_packet`: bytes of a packet that the broker may send us (MQTT 5); of a payload beyond
        it, which 3.1.1 can't prevent, `Received` has one byte more than that.
        """
        self._settings = settings
        self._on_event = on_event
        self._subscriptions = subscriptions
        self._max_packet = max_packet
        self._gone = threading.Event()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=PROTOCOLS[settings.version],
            reconnect_on_failure=False,
            clean_session=None if settings.version == "5" else True,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.max_inflight_messages_set(WINDOW)
        if settings.username is not None:
            secret = settings.password.get_secret_value() if settings.password else None
            self._client.username_pw_set(settings.username, secret)
        if settings.tls:
            self._client.tls_set_context(tls_context(settings))
        if will is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_socket_open = self._on_socket_open

    def __enter__(self) -> Self:
        """Opens the socket; whether the broker accepts comes as `Connected` or `Disconnected`.

        Raises:
            PublishError: the broker can't be reached.
        """
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            self._client.connect(
                self._settings.host,
                self._settings.port,
                self._settings.keepalive_s,
                properties=self._connect_properties(),
            )
        except ssl.SSLError as error:
            raise PublishError(
                f"{where}: no trusted TLS connection ({error}); check [mqtt] ca_file and host"
            ) from error
        except (OSError, ValueError) as error:
            raise PublishError(
                f"{where}: no broker answers ({error}); check [mqtt] host and port, and that the "
                "broker runs"
            ) from error
        self._client.loop_start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sock = self._client.socket()
        with suppress(OSError, ValueError):  # the socket may be closed by now
            self._client.disconnect()
        if sock is not None:
            # A broker that doesn't read holds the goodbye up, and paho would wait for it.
            self._gone.wait(GOODBYE_S)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]
        with suppress(AttributeError):  # paho forgets its thread while it is about to join it
            self._client.loop_stop()

    def publish(self, message: Message) -> int:
        """Hands a message over and returns the id that `Acknowledged` will carry.

        Raises:
            PublishError: the connection is gone, or the message can't be sent at all.
        """
        try:
            info = self._client.publish(
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                self._properties(message),
            )
        except (ValueError, OSError) as error:
            raise PublishError(f"{message.topic}: can't be published ({error})") from error
        if info.rc != mqtt.MQTT_ERR_SUCCESS:
            raise PublishError(f"{message.topic}: {mqtt.error_string(info.rc)}")
        return info.mid

    def _connect_properties(self) -> Properties | None:
        if self._settings.version != "5" or self._max_packet is None:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = self._max_packet
        return properties

    def _properties(self, message: Message) -> Properties | None:
        if self._settings.version != "5":
            return None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = message.content_type
        properties.PayloadFormatIndicator = int(isinstance(message.payload, str))
        if message.expiry_s is not None:
            properties.MessageExpiryInterval = message.expiry_s
        if message.correlation is not None:
            properties.CorrelationData = message.correlation
        if message.response_topic is not None:
            properties.ResponseTopic = message.response_topic
        return properties

    def _on_connect(
        self, client: mqtt.Client, _: Any, __: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._on_event(Disconnected(refusal(str(reason))))
            return
        window = min(getattr(properties, "ReceiveMaximum", WINDOW), WINDOW)
        for wanted in self._subscriptions:
            if self._settings.version == "5":
                takes = wanted.takes_retained
                options = SubscribeOptions(
                    qos=1, retainAsPublished=not takes, retainHandling=0 if takes else 2
                )
                client.subscribe(wanted.topic, options=options)
            else:
                client.subscribe(wanted.topic, qos=1)
        self._on_event(Connected(window, getattr(properties, "MaximumPacketSize", None)))

    def _on_disconnect(
        self, client: mqtt.Client, _: Any, __: Any, reason: ReasonCode, ___: Any
    ) -> None:
        self._gone.set()
        self._on_event(Disconnected(str(reason)))

    def _on_publish(self, client: mqtt.Client, _: Any, mid: int, reason: Any, __: Any) -> None:
        failed = bool(getattr(reason, "is_failure", False))
        self._on_event(Acknowledged(mid, str(reason) if failed else None))

    def _on_subscribe(
        self, client: mqtt.Client, _: Any, __: int, reasons: list[ReasonCode], ___: Any
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                self._on_event(Unsubscribed(f"a subscription: {refusal(str(reason))}"))

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        properties = message.properties
        end = None if self._max_packet is None else self._max_packet + 1
        self._on_event(
            Received(
                message.topic,
                bytes(message.payload[:end]),
                message.retain,
                monotonic_ns(),
                getattr(properties, "ResponseTopic", None),
                getattr(properties, "CorrelationData", None),
            )
        )

    def _on_socket_open(self, client: mqtt.Client, _: Any, sock: Any) -> None:
        # Without it the kernel may hold a small verdict back until the last packet is answered.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def tls_context(settings: MqttSection) -> ssl.SSLContext:
    """TLS 1.2 or newer with certificate and host name checked.

    Raises:
        BrokerRefusedError: a certificate or key file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(
            str(file)
            for file in (settings.ca_file, settings.cert_file, settings.key_file)
            if file is not None
        )
        raise BrokerRefusedError(
            f"TLS files can't be used ({error}): {files}; check that they exist, belong together "
            "and may be read by this user"
        ) from error
    return context


def refusal(reason: str) -> str:
    """A broker's reason with the remedy."""
    remedy = REFUSALS.get(reason)
    return f"the broker refused: {reason}" + (f"; {remedy}" if remedy else "")

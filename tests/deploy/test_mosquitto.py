"""The shipped broker configuration, in a real mosquitto: who gets in, and who may do what."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

PATIENCE_S = 20.0
BASE = "inspectd/v1/site/area/line/station1"
USERS = ("station1", "plc1", "mes", "operator1", "station2")
LEVELS = ("availability", "state", "verdict", "result", "mask/1", "alarm", "heatmap/1")
OTHER = "inspectd/v1/site/area/line/station2"


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Client:
    """One user's connection, MQTT 5."""

    def __init__(self, port: int, user: str, ca: Path | None = None, session: str = "") -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._answers: dict[int, str] = {}
        self._up, self._subscribed = threading.Event(), threading.Event()
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            protocol=mqtt.MQTTv5,
            client_id=session or f"{user}-{uuid.uuid4().hex[:8]}",
            reconnect_on_failure=False,
        )
        self.client.username_pw_set(user, f"secret-of-{user}")
        if ca is not None:
            self.client.tls_set(ca_certs=str(ca), tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self.client.on_connect = lambda *a: None if a[3].is_failure else self._up.set()
        self.client.on_subscribe = lambda *a: self._subscribed.set()
        self.client.on_message = lambda c, u, m: self.heard.append((m.topic, m.payload))
        self.client.on_publish = self._on_publish
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if session else 0
        self.client.connect("localhost", port, clean_start=not session, properties=properties)
        self.client.loop_start()

    def close(self) -> None:
        """Says goodbye."""
        self.client.disconnect()
        self.client.loop_stop()

    def is_accepted(self) -> bool:
        """Whether the broker let it in."""
        return self._up.wait(PATIENCE_S)

    def subscribe(self, topic: str) -> None:
        """Returns once the broker has answered."""
        assert self.is_accepted()
        self._subscribed.clear()
        self.client.subscribe(topic, qos=1)
        assert self._subscribed.wait(PATIENCE_S)

    def may_publish(self, topic: str, payload: str = "x") -> bool:
        """Publishes; what the broker said."""
        assert self.is_accepted()
        info = self.client.publish(topic, payload, qos=1)
        info.wait_for_publish(PATIENCE_S)
        until(lambda: info.mid in self._answers)
        answer = self._answers[info.mid]
        assert answer in ("Success", "No matching subscribers", "Not authorized"), answer
        return answer != "Not authorized"

    def _on_publish(
        self, client: mqtt.Client, user: object, mid: int, code: object, _: object
    ) -> None:
        self._answers[mid] = str(code)


def until(condition: Callable[[], object]) -> None:
    """Waits for it."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    """What /etc/mosquitto would hold: users, ACL and certificates."""
    place, openssl = tmp_path_factory.mktemp("mosquitto"), program("openssl")
    passwords = place / "inspectd.passwords"
    passwords.touch(0o600)
    for user in USERS:
        subprocess.run(
            [program("mosquitto_passwd"), "-b", passwords, user, f"secret-of-{user}"], check=True
        )
    certs = place / "certs"
    certs.mkdir()
    new = "req -x509 -newkey rsa:2048 -nodes -days 2 -addext subjectAltName=DNS:localhost"
    names = "-subj /CN=localhost -keyout broker.key -out broker.pem"
    subprocess.run(
        [openssl, *new.split(), *names.split()], cwd=certs, check=True, capture_output=True
    )
    (certs / "ca.pem").write_bytes((certs / "broker.pem").read_bytes())
    return place


@pytest.fixture(scope="module")
def ports(folder: Path, tree: Path, program: Callable[[str], str]) -> Iterator[tuple[int, int]]:
    """mosquitto with the shipped files; its ports with and without TLS."""
    shipped = tree / "deploy" / "mosquitto"
    (folder / "inspectd.acl").write_text((shipped / "inspectd.acl").read_text())
    secure, plain = free_port(), free_port()
    text = (shipped / "inspectd.conf").read_text()
    assert "listener 8883\n" in text
    text = text.replace("listener 8883", f"listener {secure}").replace("1883 ", f"{plain} ")
    text = text.replace("/etc/mosquitto/", f"{folder}/")
    if os.geteuid() == 0:
        text += "user root\n"  # it would change to a user who can't read the test's files
    (folder / "mosquitto.conf").write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program("mosquitto"), "-c", folder / "mosquitto.conf"], stdout=log, stderr=log
        )
    try:
        for port in (secure, plain):
            until(lambda port=port: process.poll() is not None or _listens(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield secure, plain
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def connect(ports: tuple[int, int]) -> Iterator[Callable[..., Client]]:
    """A user's connection."""
    with ExitStack() as stack:

        def make(user: str, **how: str) -> Client:
            client = Client(ports[1], user, **how)
            stack.callback(client.close)
            return client

        yield make


def test_tls_and_password(ports: tuple[int, int], folder: Path) -> None:
    """The plant's listener wants both; nobody comes in without a name."""
    client = Client(ports[0], "mes", folder / "certs" / "ca.pem")
    assert client.is_accepted()
    client.close()
    refused: list[str] = []
    stranger = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    stranger.on_connect = lambda *a: refused.append(str(a[3]))
    stranger.connect("localhost", ports[1])
    stranger.loop_start()
    until(lambda: refused)
    stranger.loop_stop()
    assert refused == ["Not authorized"]


def test_only_the_station_speaks_as_the_station(connect: Callable[..., Client]) -> None:
    """Its own topics and replies; not another's, and no command to itself."""
    station = connect("station1")
    for level in LEVELS:
        assert station.may_publish(f"{BASE}/{level}"), level
    assert station.may_publish(f"{BASE}/reply/7")
    assert not station.may_publish(f"{OTHER}/verdict")
    assert not station.may_publish(f"{BASE}/cmd/activate")
    for user in ("plc1", "mes", "operator1", "station2"):
        other = connect(user)
        for level in LEVELS:
            assert not other.may_publish(f"{BASE}/{level}"), (user, level)
        assert not other.may_publish(f"{BASE}/reply/7")


def test_only_the_operator_commands(connect: Callable[..., Client]) -> None:
    """And the station hears it; the PLC, the MES and another station may not."""
    station = connect("station1")
    station.subscribe(f"{BASE}/cmd/+")
    assert connect("operator1").may_publish(f"{BASE}/cmd/activate", "r0002")
    for user in ("plc1", "mes", "station2"):
        assert not connect(user).may_publish(f"{BASE}/cmd/activate"), user
    until(lambda: station.heard == [(f"{BASE}/cmd/activate", b"r0002")])


@pytest.mark.parametrize(
    ("user", "reads"),
    [
        ("plc1", {"availability", "state", "verdict"}),
        ("mes", {"availability", "state", "verdict", "result", "mask/1", "alarm"}),
        ("operator1", {"availability", "state", "alarm"}),
        ("station2", set()),
    ],
)
def test_each_reads_its_own(connect: Callable[..., Client], user: str, reads: set[str]) -> None:
    """However much it subscribes to."""
    reader, station = connect(user), connect("station1")
    reader.subscribe("#")
    mark = uuid.uuid4().hex
    for level in sorted(LEVELS):
        assert station.may_publish(f"{BASE}/{level}", mark)
    for level in reads:
        until(lambda level=level: (f"{BASE}/{level}", mark.encode()) in reader.heard)
    sleep(0.2)
    assert {topic for topic, _ in reader.heard} == {f"{BASE}/{level}" for level in reads}


def test_a_reply_reaches_who_asked(connect: Callable[..., Client]) -> None:
    """The operator's response topic is the operator's alone."""
    operator, curious, station = connect("operator1"), connect("mes"), connect("station1")
    operator.subscribe(f"{BASE}/reply/#")
    curious.subscribe(f"{BASE}/reply/#")
    assert station.may_publish(f"{BASE}/reply/7", "done")
    until(lambda: operator.heard == [(f"{BASE}/reply/7", b"done")])
    assert curious.heard == []


def test_the_mes_misses_nothing(connect: Callable[..., Client]) -> None:
    """What came while it was away waits in its session; the PLC has none."""
    mes = connect("mes", session="mes")
    mes.subscribe(f"{BASE}/result")
    mes.close()
    assert connect("station1").may_publish(f"{BASE}/result", "kept")
    again = connect("mes", session="mes")
    until(lambda: again.heard == [(f"{BASE}/result", b"kept")])

"""A real mosquitto, a subscriber that keeps everything, and the daemon as its own process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from inspectd.core.bundle import write_manifest
from inspectd.core.images import list_images, read_image
from inspectd.core.store import ProductStore
from inspectd.demo.parts import simulated_camera_problem
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

PATIENCE_S = 40.0
"""How long something is waited for that takes a second on an idle machine."""
POLL_S = 0.02
BASE = "inspectd/v1/site/area/line/station"
SERIAL = "SYSTEM1"
HAS_CAMERA = simulated_camera_problem() is None
USER, PASSWORD = "station", "pass-word-of-the-test"


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Returns once the condition holds, fails after the timeout."""
    deadline = monotonic() + timeout_s
    while not condition():
        if monotonic() > deadline:
            pytest.fail(f"waited {timeout_s} s in vain for {what}")
        sleep(POLL_S)


@pytest.fixture(scope="session")
def wait() -> Callable[[Callable[[], object]], None]:
    """`wait_until` for test modules."""
    return lambda condition: wait_until(condition, "what the test says")


def free_port() -> int:
    """A port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- broker -----------------------------------------------------------------------------------


class Broker:
    """A mosquitto process on a port of its own, which it keeps over restarts."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        self._log = folder / f"mosquitto-{self.port}.log"
        base = [f"listener {self.port} 127.0.0.1", "persistence false"]
        base += ["set_tcp_nodelay true", "log_type all"]
        if os.geteuid() == 0:
            base.append("user root")  # it would change to a user who can't read the test's files
        if not any(line.startswith("allow_anonymous") for line in lines):
            base.append("allow_anonymous true")
        self._config.write_text("\n".join([*base, *lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> Self:
        """Starts it and waits until it listens."""
        binary = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if binary is None:
            pytest.fail("mosquitto isn't installed; `make test` says how")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "-c", str(self._config)], stdout=log, stderr=log
            )
        wait_until(self._listens, f"mosquitto to listen: {self._log.read_text()}")
        return self

    def has_subscriber(self, count: int) -> bool:
        """Whether so many subscriptions were ever made."""
        return self._log.read_text().count("Received SUBSCRIBE") >= count

    def kill(self) -> None:
        """Ends it without a goodbye; harmless if it doesn't run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Its sockets stay open, and it answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"mosquitto ended: {self._log.read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


MakeBroker = Callable[..., Broker]


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[MakeBroker]:
    """A broker with more lines of configuration, not started yet."""
    with ExitStack() as stack:
        yield lambda *lines: stack.enter_context(Broker(tmp_path, *lines))


@pytest.fixture
def broker(make_broker: MakeBroker) -> Broker:
    """A broker that takes everybody."""
    return make_broker().start()


@pytest.fixture
def password_broker(make_broker: MakeBroker, tmp_path: Path) -> Broker:
    """A broker that wants `USER` and `PASSWORD`."""
    file = tmp_path / "passwords"
    file.touch(0o600)
    subprocess.run(["mosquitto_passwd", "-b", file, USER, PASSWORD], check=True)
    return make_broker("allow_anonymous false", f"password_file {file}").start()


# --- certificates -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, a server for ``localhost``, a server for elsewhere, a client."""

    folder: Path

    def file(self, name: str) -> Path:
        """``ca.pem``, ``server.pem``, ``server.key`` ..."""
        return self.folder / name

    def listener(self, server: str = "server", *, asks_client: bool = False) -> tuple[str, ...]:
        """Lines of mosquitto's configuration."""
        return (
            f"cafile {self.file('ca.pem')}",
            f"certfile {self.file(f'{server}.pem')}",
            f"keyfile {self.file(f'{server}.key')}",
            f"require_certificate {str(asks_client).lower()}",
        )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made with the openssl command."""
    folder = tmp_path_factory.mktemp("certificates")
    for authority in ("ca", "other-ca"):
        _openssl(folder, "req -x509 -newkey rsa:2048 -nodes -days 2", authority, authority)
    for name, host in (("server", "localhost"), ("elsewhere", "elsewhere.test"), ("client", "me")):
        _openssl(folder, "req -newkey rsa:2048 -nodes", name, host, suffix="csr")
        extension = folder / f"{name}.ext"
        extension.write_text(f"subjectAltName=DNS:{host}\n")
        subprocess.run(
            [
                *("openssl", "x509", "-req", "-days", "2", "-in", f"{name}.csr", "-out"),
                *(f"{name}.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
                *("-extfile", extension.name),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return Certificates(folder)


def _openssl(folder: Path, command: str, name: str, subject: str, suffix: str = "pem") -> None:
    output = f"-keyout {name}.key -out {name}.{suffix} -subj /CN={subject}"
    subprocess.run(
        ["openssl", *command.split(), *output.split()], cwd=folder, check=True, capture_output=True
    )


# --- subscriber -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A message as it came."""

    topic: str
    payload: bytes
    retain: bool
    qos: int
    properties: Any

    @property
    def json(self) -> dict[str, Any]:
        """The payload, parsed as strictly as a PLC would."""

        def refuse(word: str) -> float:
            raise ValueError(f"{word} is not JSON")

        content = json.loads(self.payload, parse_constant=refuse)
        assert isinstance(content, dict)
        return content


class Collector:
    """Subscribes to everything below the station and keeps it; survives restarts of the broker."""

    def __init__(self, port: int, version: int = mqtt.MQTTv5, base: str = BASE) -> None:
        self._base = base
        self._records: list[Record] = []
        self._subscribed = threading.Event()
        self._port = port
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = lambda *_: self._subscribed.clear()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_message = self._on_message
        self.client.reconnect_delay_set(0.05, 0.05)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        self.client.connect("127.0.0.1", self._port, keepalive=60)
        self.client.loop_start()
        self.wait_subscribed()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def wait_subscribed(self) -> None:
        """Until the broker sends us everything."""
        wait_until(self._subscribed.is_set, "the subscription")

    def records(self, *levels: str) -> list[Record]:
        """What came under a topic of the station, in order."""
        topic = "/".join((self._base, *levels))
        return [record for record in list(self._records) if record.topic == topic]

    def below(self, level: str) -> list[Record]:
        """What came below a level of the station, in order."""
        prefix = f"{self._base}/{level}/"
        return [record for record in list(self._records) if record.topic.startswith(prefix)]

    def verdicts(self) -> list[dict[str, Any]]:
        """Contents of all verdicts, in order."""
        return [record.json for record in self.records("verdict")]

    def wait_verdicts(self, count: int) -> list[dict[str, Any]]:
        """Waits for so many different results; returns all verdicts that came until then."""
        wait_until(
            lambda: len({verdict["result_id"] for verdict in self.verdicts()}) >= count,
            f"{count} verdicts",
        )
        return self.verdicts()

    def wait_records(self, level: str) -> None:
        """Waits for something under a topic of the station."""
        wait_until(lambda: self.records(level), f"something on {level}")

    def wait_for(self, level: str, payload: bytes) -> None:
        """Waits for a payload as the newest of a topic."""
        wait_until(
            lambda: [r.payload for r in self.records(level)][-1:] == [payload],
            f"{payload!r} on {level}",
        )

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe(f"{self._base}/#", qos=1)

    def _on_message(self, client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        self._records.append(
            Record(
                message.topic,
                bytes(message.payload),
                message.retain,
                message.qos,
                message.properties,
            )
        )


MakeCollector = Callable[..., Collector]


@pytest.fixture
def collect() -> Iterator[MakeCollector]:
    """Starts a collector at a broker."""
    with ExitStack() as stack:
        yield lambda broker, **how: stack.enter_context(Collector(broker.port, **how))


# --- station ----------------------------------------------------------------------------------


class NotifySocket:
    """What systemd's side of ``$NOTIFY_SOCKET`` hears."""

    def __init__(self) -> None:
        self.address = f"@inspectd-test-{uuid.uuid4().hex}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address.replace("@", "\0", 1))
        self._messages: list[str] = []
        self._thread = threading.Thread(target=self._listen, name="notify-listener")
        self._thread.start()

    def heard(self, line: str) -> bool:
        """Whether a line like ``READY=1`` came."""
        return any(line in message.splitlines() for message in list(self._messages))

    def close(self) -> None:
        """Ends the listener."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"END", self.address.replace("@", "\0", 1))
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while (message := self._socket.recv(4096)) != b"END":
            self._messages.append(message.decode())


@dataclass
class Station:
    """``inspectd run`` on a copy of the tiny product; restartable."""

    folder: Path
    sections: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    """In front of the interpreter, such as ``prlimit``."""
    process: subprocess.Popen[bytes] | None = None
    notify: NotifySocket | None = None
    stderr: Path | None = None
    """Where the log goes instead of a file of the test."""

    @property
    def config(self) -> Path:
        """Its TOML file."""
        return self.folder / "inspectd.toml"

    @property
    def store(self) -> ProductStore:
        """Its products, free to be changed."""
        return ProductStore(self.folder / "state" / "products")

    @property
    def ledger(self) -> Path:
        """Its ledger."""
        return self.folder / "state" / "ledger" / "line-station.sqlite3"

    @property
    def pictures(self) -> Path:
        """What its camera replays."""
        return self.folder / "pictures"

    def write_config(self) -> None:
        """From `sections`."""
        self.config.write_text(as_toml(self.sections))

    def start(self) -> Self:
        """Starts the daemon and waits until it is ready."""
        self.launch()
        wait_until(self._is_ready, "READY=1")
        return self

    def launch(self) -> Self:
        """Starts the daemon without waiting."""
        self.close()
        self.write_config()
        self.notify = NotifySocket()
        with (self.stderr or self._log).open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.command,
                    *(sys.executable, "-m", "inspectd", "run", "--config", str(self.config)),
                ],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "NOTIFY_SOCKET": self.notify.address,
                    "WATCHDOG_USEC": "30000000",
                    **self.environment,
                },
            )
        return self

    def signal(self, number: int) -> None:
        """Sends the daemon a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Waits for the daemon's end; the exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """It does nothing until `resume`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends whatever runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if self.notify is not None:
            self.notify.close()
            self.notify = None

    def log_text(self) -> str:
        """All that it ever wrote."""
        return self._log.read_text()

    def log(self, event: str) -> list[dict[str, Any]]:
        """Log lines of one event."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line[:1] == "{"]
        return [line for line in lines if line["event"] == event]

    def wait_log(self, event: str, count: int = 1) -> dict[str, Any]:
        """Waits for the n-th log line of an event."""
        wait_until(lambda: len(self.log(event)) >= count, f"{count} x {event} in the log")
        return self.log(event)[count - 1]

    def rows(self, where: str = "1") -> int:
        """Parts in the ledger, or those of them that a condition holds for."""
        ledger = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)
        try:
            query = f"SELECT count(*) FROM part WHERE {where}"  # noqa: S608 - the test's own
            return int(ledger.execute(query).fetchone()[0])
        finally:
            ledger.close()

    def wait_rows(self, count: int) -> None:
        """Waits until so many parts were triggered."""
        wait_until(lambda: self.rows() >= count, f"{count} parts in the ledger")

    def wait_delivered(self, count: int) -> None:
        """Waits until the broker has so many verdicts."""
        wait_until(lambda: self.rows("state = 3") >= count, f"{count} delivered verdicts")

    @property
    def _log(self) -> Path:
        return self.folder / "daemon.log"

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.notify is not None
        if self.process.poll() is not None:
            pytest.fail(f"the daemon ended with {self.process.poll()}: {self.log_text()}")
        return self.notify.heard("READY=1")


def as_toml(sections: dict[str, Any]) -> str:
    """Values first, then one table per section."""
    plain = [f"{k} = {_value(v)}" for k, v in sections.items() if not isinstance(v, dict)]
    for name, values in sections.items():
        if isinstance(values, dict):
            plain += [f"[{name}]", *(f"{k} = {_value(v)}" for k, v in values.items())]
    return "\n".join([*plain, ""])


def _value(value: Any) -> str:
    """As TOML writes it: JSON, but for tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


MakeStation = Callable[..., Station]


@pytest.fixture(scope="session")
def add_product() -> Callable[[ProductStore, str], None]:
    """``add_product(store, "other")``: a copy of the tiny product under another name."""

    def add(store: ProductStore, name: str) -> None:
        revision = store.current("tiny")
        manifest = store.open("tiny").manifest
        with store.staging(name) as staged:
            shutil.copytree(store.path("tiny", revision), staged, dirs_exist_ok=True)
            write_manifest(staged, manifest.model_copy(update={"product": name}))
            store.commit(name, staged, revision)
        store.activate(name, revision)

    return add


@pytest.fixture
def make_station(
    tiny_store: ProductStore, tiny_data: Path, tmp_path: Path
) -> Iterator[MakeStation]:
    """``make_station(broker, parts=10, rate=50, camera={...}, mqtt={...}, queue=100)``."""
    with ExitStack() as stack:

        def make(broker: Broker, **how: Any) -> Station:
            station = build_station(tmp_path / "station", tiny_store, tiny_data, broker, **how)
            stack.callback(station.close)
            return station

        yield make


def build_station(
    folder: Path,
    store: ProductStore,
    data: Path,
    broker: Broker,
    *,
    parts: int = 10,
    rate: float = 50.0,
    **more: Any,
) -> Station:
    """A station in its own folder, not started yet.

    With ``camera={"loop": True}`` it has the simulated GenICam camera, triggered by software for
    as long as the daemon runs (where there are harvesters and a compiler). Otherwise a folder is
    replayed that ends after `parts`, so that a test can say which parts there were.
    """
    shutil.copytree(store.root, folder / "state" / "products", symlinks=True)
    station = Station(folder, _sections(folder, broker, rate, more))
    fill(station.pictures, data, parts)
    if station.sections["camera"].get("loop") and HAS_CAMERA:
        _put_up_camera(station, rate)
    return station


def _put_up_camera(station: Station, rate: float) -> None:
    """The station's pictures in front of a simulated camera."""
    images = [read_image(path) for path in list_images(station.pictures)]
    height, width = images[0].shape[:2]
    with Rig(station.folder / "rig", [DeviceSpec(SERIAL, "", width, height)]) as rig:
        rig.load(SERIAL, images)
        station.environment |= rig.environment()
    station.sections["camera"] = {
        "type": "genicam",
        "cti": [str(producer_path())],
        "serial": SERIAL,
        "trigger": "software",
        "rate": rate,
        "features": [{"PixelFormat": "RGB8"}, {"ExposureTime": 100}],
    }


@dataclass(frozen=True)
class Conversation:
    """A whole run, from the first part to the camera's end, as a subscriber sees it."""

    version: str
    """Of MQTT."""
    parts: int
    heard: Collector
    """What came while the station ran; closed by now."""
    remains: Collector
    """What a subscriber gets who comes afterwards; closed by now."""
    exit_status: int


@pytest.fixture(scope="session", params=["5", "3.1.1"])
def conversation(
    request: pytest.FixtureRequest,
    tiny_store: ProductStore,
    tiny_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Conversation:
    """12 parts, good and defective by turns, on either version of MQTT."""
    folder = tmp_path_factory.mktemp("conversation")
    version = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}[request.param]
    with Broker(folder).start() as broker:
        mqtt_section = {"version": request.param}
        station = build_station(
            folder / "station",
            tiny_store,
            tiny_data,
            broker,
            parts=12,
            mqtt=mqtt_section,
        )
        with Collector(broker.port, version) as heard:
            try:
                status = station.start().wait()
            finally:
                station.close()
            heard.wait_verdicts(12)
            heard.wait_for("availability", b"stopped")
        with Collector(broker.port, version) as remains:
            remains.wait_for("availability", b"stopped")
            wait_until(lambda: remains.records("state"), "the retained state")
    return Conversation(request.param, 12, heard, remains, status)


def _sections(folder: Path, broker: Broker, rate: float, more: dict[str, Any]) -> dict[str, Any]:
    camera = {"path": "pictures", "rate": rate, **more.pop("camera", {})}
    mqtt_section = {"host": "localhost", "port": broker.port, **more.pop("mqtt", {})}
    plain = {
        "product": "tiny",
        "runtime": "onnxruntime",
        "threads": 1,
        "queue": 100,
        "state_dir": str(folder / "state"),
    }
    return {**plain, **more, "camera": camera, "mqtt": mqtt_section}


def fill(folder: Path, data: Path, parts: int) -> None:
    """So many pictures, ``part-0001`` and up: good ones and defective ones by turns."""
    folder.mkdir(exist_ok=True)
    good = sorted((data / "holdout" / "good").iterdir())
    bad = sorted((data / "holdout" / "chip").iterdir())
    for number in range(1, parts + 1):
        source = (good if number % 2 else bad)[number // 2 % len(good if number % 2 else bad)]
        shutil.copy(source, folder / f"part-{number:04d}{source.suffix}")

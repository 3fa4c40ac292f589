"""The demonstration: a rendered product, calibrated, and inspected by the real daemon.

Everything that a line has is here as its own process: a broker, ``inspectd run`` with a
camera, and (in this process) a reject gate that only sees what comes over MQTT. The camera is the
simulated GenICam one, before which this process lets the parts pass. The truth about a part is in
its file's name, which only the account at the end looks at.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np

from inspectd.core.bundle import REPORT, Bundle
from inspectd.core.config import MqttSection
from inspectd.core.errors import ConfigError, InspectdError
from inspectd.core.images import read_image
from inspectd.core.overlay import contact_sheet, verdict_tile
from inspectd.core.records import ImageArray, Verdict
from inspectd.core.store import ProductStore
from inspectd.demo.parts import START_DELAY_S, Conveyor, Folder, Source
from inspectd.demo.product import render_dataset, render_line, truth_of
from inspectd.demo.report import LineSummary, render_line_report
from inspectd.gate import Action, GateKeeper, watch
from inspectd.publishers.connection import Connection, Received, Subscription

Report = Callable[[str, int, int], None]

PRODUCT = "demo-flange"
TRAIN, GOOD, PER_DEFECT = 60, 40, 10
"""Pictures to learn from, and of the hold-out set."""
SIZE = 256
"""Side of the model's input in pixels."""
PATIENCE_S = 30.0
"""How long after the last part an answer is waited for."""
OVERLAYS = 12


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """What the user asks for."""

    folder: Path
    """Everything is written below it."""
    parts: int
    rate: float
    """Parts per second."""
    broker: str | None
    """``HOST:PORT``; None starts an embedded one."""
    backbone: str
    seed: int
    runtime: str
    camera: str
    """`simulated` or `folder`."""
    unplugged: bool
    """Whether the simulated camera loses its cable in the middle of the run."""


@dataclass(slots=True)
class Account:
    """What the gate saw, beside what is true."""

    triggers: int
    name_of: Callable[[Mapping[str, Any]], str | None]
    """File stem of the part that a verdict is about."""
    answers: dict[str, Action] = field(default_factory=dict)
    """Part's name to the first answer."""
    repeated: int = 0
    """Answers beyond the first of a part."""
    last: list[tuple[str, Action]] = field(default_factory=list)
    """The newest answers with their parts' names, for a live view."""

    def note(self, action: Action) -> None:
        """Takes in one action of the gate."""
        if action.verdict is None:
            return
        name = self.name_of(action.verdict)
        if name is None or name in self.answers:
            self.repeated += 1
            return
        self.answers[name] = action
        self.last = [*self.last[-7:], (name, action)]

    def summary(self) -> LineSummary:
        """The figures so far."""
        verdicts = {part: a.verdict["verdict"] for part, a in self.answers.items() if a.verdict}
        latencies = self.latencies_ms() or [0.0]
        return LineSummary(
            triggers=self.triggers,
            answered=len(verdicts),
            unanswered=self.triggers - len(verdicts),
            duplicates=self.repeated,
            passed=_count(verdicts, Verdict.PASS),
            failed=_count(verdicts, Verdict.FAIL),
            undecided=_count(verdicts, Verdict.UNDECIDED),
            escapes=sum(v == "pass" and truth_of(p) is not None for p, v in verdicts.items()),
            overkill=sum(v == "fail" and truth_of(p) is None for p, v in verdicts.items()),
            latency_ms_p50=round(float(np.percentile(latencies, 50)), 1),
            latency_ms_p99=round(float(np.percentile(latencies, 99)), 1),
        )

    def latencies_ms(self) -> list[float]:
        """From trigger to verdict received, in the order of arrival."""
        return [a.latency_ms for a in self.answers.values() if a.latency_ms is not None]


def prepare_product(request: DemoRequest, report: Report) -> Bundle:
    """Renders the product's pictures and calibrates it."""
    import torch

    from calibration.backbones import load_backbone
    from calibration.calibrate import Request, calibrate
    from calibration.scorers import scorer_named

    pictures = request.folder / "pictures"
    for old in (pictures, *(request.folder / name for name in ("line", "state", "rig"))):
        shutil.rmtree(old, ignore_errors=True)
    render_dataset(
        pictures,
        seed=request.seed,
        n_train=TRAIN,
        n_good=GOOD,
        n_per_defect=PER_DEFECT,
        report=lambda done, total: report("rendering pictures to learn from", done, total),
    )
    render_line(
        request.folder / "line",
        seed=request.seed + 1,
        n_parts=request.parts,
        report=lambda done, total: report("rendering the parts of the line", done, total),
    )
    torch.set_num_threads(os.cpu_count() or 1)
    wish = Request(
        product=PRODUCT,
        images=pictures,
        holdout=pictures / "holdout",
        resize=(SIZE, SIZE),
        crop=(SIZE, SIZE),
        seed=request.seed,
        runtime=request.runtime,
    )
    store = ProductStore(request.folder / "state" / "products")
    backbone = load_backbone(
        request.backbone, lambda done, total: report("fetching weights", done, total)
    )
    return calibrate(wish, scorer_named("protoad"), backbone, store, report)


@contextmanager
def broker_for(request: DemoRequest) -> Iterator[MqttSection]:
    """The broker to talk to: the one that was named, or an embedded one while the context lasts.

    Raises:
        ConfigError: the name isn't HOST:PORT.
        InspectdError: the embedded broker doesn't start.
    """
    if request.broker is not None:
        host, _, port = request.broker.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"--broker: {request.broker!r} is not HOST:PORT")
        yield MqttSection(host=host, port=int(port), version="3.1.1")
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port_number = int(probe.getsockname()[1])
    with _child(request, "broker", "-m", "inspectd.demo.broker", str(port_number)) as child:
        _wait_for_port(port_number, child, request.folder / "broker.log")
        yield MqttSection(host="127.0.0.1", port=port_number, version="3.1.1")


def run_line(
    request: DemoRequest, mqtt: MqttSection, on_change: Callable[[Account], None]
) -> tuple[Account, dict[str, bytes]]:
    """Runs daemon and gate until every part is answered or patience ends.

    Returns:
        The account, and the defect masks (PNG) that came over MQTT by result id.
    """
    station = f"demo-{os.getpid()}"
    base = f"inspectd/v1/site/area/line/{station}"
    stop, keeper = threading.Event(), GateKeeper(accepts_simulated=True)
    heard: SimpleQueue[Any] = SimpleQueue()
    with ExitStack() as stack:
        source = stack.enter_context(source_of(request))
        config = write_config(request, mqtt, station, source)
        account = Account(request.parts, source.name_of)
        topics = (Subscription(f"{base}/mask/+"), Subscription(f"{base}/state"))
        stack.enter_context(Connection(mqtt, f"{station}-mes", heard.put, subscriptions=topics))
        inbox: SimpleQueue[Action] = SimpleQueue()

        def watch_gate() -> None:
            for action in watch(mqtt, base, keeper, stop, lambda _: None, f"{station}-gate"):
                inbox.put(action)

        gate = threading.Thread(target=watch_gate, name="gate")
        gate.start()
        stack.callback(gate.join)
        stack.callback(stop.set)
        arguments = ("-m", "inspectd", "run", "--config", str(config))
        daemon = stack.enter_context(
            _child(request, "daemon", *arguments, environment=source.environment())
        )
        _await_line(heard, daemon)
        source.start()
        limit = monotonic() + START_DELAY_S + request.parts / request.rate + PATIENCE_S
        while len(account.answers) < request.parts and monotonic() < limit:
            _take(inbox, account)
            on_change(account)
            if daemon.poll() is not None and inbox.empty():
                sleep(0.5)
                _take(inbox, account)
                break
        daemon.terminate()
        daemon.wait(timeout=PATIENCE_S)
        sleep(0.5)  # a repeated verdict or a late mask would come now
        _take(inbox, account)
        on_change(account)
    if not account.answers:
        raise InspectdError(
            f"the daemon gave no verdict; its log is {request.folder / 'daemon.log'}"
        )
    return account, _masks(heard)


def write_results(
    request: DemoRequest,
    bundle: Bundle,
    mqtt: MqttSection,
    account: Account,
    masks: dict[str, bytes],
) -> tuple[Path, Path]:
    """Writes the report and the picture of overlays; returns both paths."""
    tiles = overlay_tiles(request.folder / "line", account, masks)
    sheet = request.folder / "overlays.png"
    picture = contact_sheet(tiles, columns=4, tile_size=(320, 320))
    cv2.imwrite(str(sheet), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    shutil.copy(bundle.path / REPORT, request.folder / "calibration.html")
    page = render_line_report(
        account.summary(),
        account.latencies_ms(),
        tiles,
        calibration_report="calibration.html",
        broker=f"{mqtt.host}:{mqtt.port}" + ("" if request.broker else " (embedded amqtt)"),
        runtime=bundle.manifest.tools.get("runtime", request.runtime),
        created_at=datetime.now(UTC),
    )
    path = request.folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path, sheet


def overlay_tiles(
    line: Path, account: Account, masks: dict[str, bytes]
) -> list[tuple[str, ImageArray]]:
    """Failed parts with the mask that the MES received, escapes and overkill first."""
    ranked = sorted(account.answers.items(), key=lambda item: _interest(*item))
    tiles = []
    for part_id, action in ranked[:OVERLAYS]:
        message = action.verdict or {}
        image = read_image(line / f"{part_id}.png")
        data = masks.get(message["result_id"])
        picture = None
        if data is not None:
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        mask = None if picture is None else picture.astype(np.uint8)
        truth = truth_of(part_id) or "good"
        score = message.get("score")
        figure = "" if score is None else f"score {score:.3f}"
        tile = verdict_tile(image, mask, figure, Verdict(message["verdict"]))
        tiles.append((f"{part_id.split('-')[0]}, in truth {truth}", tile))
    return tiles


def source_of(request: DemoRequest) -> Source:
    """Where the parts come from."""
    pictures = request.folder / "line"
    if request.camera == "folder":
        return Folder(pictures, request.rate)
    return Conveyor(pictures, request.folder / "rig", request.rate, unplugged=request.unplugged)


def write_config(request: DemoRequest, mqtt: MqttSection, station: str, source: Source) -> Path:
    """The daemon's configuration, as a user would write it."""
    folder = request.folder.resolve()
    path = folder / "inspectd.toml"
    path.write_text(
        f"""# Written by `inspectd demo`; try it again with: inspectd run --config {path.name}
product = {json.dumps(PRODUCT)}
state_dir = {json.dumps(str(folder / "state"))}
runtime = {json.dumps(request.runtime)}
simulation = true

[station]
station = {json.dumps(station)}

{source.configuration()}
[mqtt]
host = {json.dumps(mqtt.host)}
port = {mqtt.port}
version = {json.dumps(mqtt.version)}
""",
        encoding="utf-8",
    )
    return path


def _interest(part_id: str, action: Action) -> tuple[int, str]:
    """What a reader wants to see first: escapes, overkill, undecided, fails; the rest last."""
    verdict = (action.verdict or {}).get("verdict")
    is_bad = truth_of(part_id) is not None
    order = {
        (True, "pass"): 0,
        (False, "fail"): 1,
        (True, "fail"): 2,
        (False, "undecided"): 3,
        (True, "undecided"): 3,
    }
    return order.get((is_bad, str(verdict)), 4), part_id


@contextmanager
def _child(
    request: DemoRequest, name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with its output in ``<folder>/<name>.log``; ended with the context."""
    with (request.folder / f"{name}.log").open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(timeout=15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _wait_for_port(port: int, child: subprocess.Popen[bytes], log: Path) -> None:
    limit = monotonic() + 20
    while monotonic() < limit and child.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        sleep(0.1)
    raise InspectdError(
        f"the embedded broker doesn't start (see {log}); is amqtt installed? pip install "
        "'inspectd[demo]', or name a broker with --broker HOST:PORT"
    )


def _take(inbox: SimpleQueue[Action], account: Account) -> None:
    """All that came, waiting a moment for the first."""
    try:
        account.note(inbox.get(timeout=0.1))
        while True:
            account.note(inbox.get_nowait())
    except Empty:
        return


def _await_line(heard: SimpleQueue[Any], daemon: subprocess.Popen[bytes]) -> None:
    """Until the daemon says that it takes parts, ends, or patience does."""
    limit = monotonic() + PATIENCE_S
    while monotonic() < limit and daemon.poll() is None:
        try:
            event = heard.get(timeout=0.1)
        except Empty:
            continue
        if isinstance(event, Received) and b'"ContinuousExecution"' in event.payload:
            return


def _masks(events: SimpleQueue[Any]) -> dict[str, bytes]:
    found = {}
    while not events.empty():
        event = events.get()
        if isinstance(event, Received) and "/mask/" in event.topic:
            found[event.topic.rsplit("/", 1)[1]] = event.payload
    return found


def _count(verdicts: dict[str, str], verdict: Verdict) -> int:
    return sum(word == verdict.value for word in verdicts.values())

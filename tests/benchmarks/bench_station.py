"""What the benchmarks of the line share: a product, a mosquitto, and the daemon as a process."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

import cv2

from inspectd.core.config import MqttSection, StationSection
from inspectd.core.store import ProductStore
from inspectd.publishers.connection import Connected, Connection, Subscription

PRODUCT = "bench"
LOG = "daemon.log"


@dataclass(frozen=True)
class Bench:
    """A broker, and a subscription to everything that the station says."""

    folder: Path
    mqtt: MqttSection
    base: str
    events: SimpleQueue[Any]


def make_product(folder: Path, *, side: int, backbone: str, input_size: int, parts: int) -> None:
    """Renders pictures of `side` x `side`, calibrates, and fills the camera's folder."""
    from calibration.backbones import load_backbone
    from calibration.calibrate import Request, calibrate
    from calibration.scorers import scorer_named
    from inspectd.demo.product import render_dataset, render_line

    pictures = folder / "pictures"
    render_dataset(pictures, seed=0, n_train=40, n_good=20, n_per_defect=5, size=(side, side))
    render_line(folder / "line", seed=1, n_parts=parts, size=(side, side))
    for picture in list((folder / "line").iterdir()):
        # Decoding PNG takes longer than all that is measured here; a camera doesn't.
        cv2.imwrite(str(picture.with_suffix(".bmp")), cv2.imread(str(picture)))
        picture.unlink()
    request = Request(
        product=PRODUCT,
        images=pictures,
        holdout=pictures / "holdout",
        resize=(input_size, input_size),
        crop=(input_size, input_size),
        seed=0,
        runtime="onnxruntime",
    )
    store = ProductStore(folder / "state" / "products")
    calibrate(
        request,
        scorer_named("protoad", max_prototypes=2_000),
        load_backbone(backbone),
        store,
        lambda *_: None,
    )


@contextmanager
def bench_in(folder: Path, levels: tuple[str, ...]) -> Iterator[Bench]:
    """A mosquitto on a free port, and a subscriber to some levels of the station."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    user = "user root\n" if os.geteuid() == 0 else ""
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n{user}")
    binary = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin") or "mosquitto"
    broker = subprocess.Popen([binary, "-c", config], stderr=subprocess.DEVNULL)
    try:
        mqtt = MqttSection(host="127.0.0.1", port=port)
        base = StationSection().base
        events: SimpleQueue[Any] = SimpleQueue()
        deadline = monotonic() + 10
        while socket.socket().connect_ex(("127.0.0.1", port)) and monotonic() < deadline:
            sleep(0.05)
        topics = tuple(Subscription(f"{base}/{level}") for level in levels)
        with Connection(mqtt, "", events.put, subscriptions=topics):
            assert isinstance(events.get(timeout=10), Connected)
            yield Bench(folder, mqtt, base, events)
    finally:
        broker.terminate()
        broker.wait()


@contextmanager
def daemon(
    bench: Bench,
    runtime: str,
    rate: float,
    log_level: str = "warning",
    *,
    camera: str | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """``inspectd run``, looping over the camera's folder; terminated with the context.

    Its log is `daemon.log` in the bench's folder. `camera` is another section ``[camera]``.
    """
    folder_camera = f"path = {json.dumps(str(bench.folder / 'line'))}\nrate = {rate}\nloop = true\n"
    config = bench.folder / "inspectd.toml"
    config.write_text(
        f"product = {json.dumps(PRODUCT)}\nruntime = {json.dumps(runtime)}\n"
        f"state_dir = {json.dumps(str(bench.folder / 'state'))}\n"
        f"log_level = {json.dumps(log_level)}\n"
        f"[camera]\n{folder_camera if camera is None else camera}"
        f"[mqtt]\nhost = {json.dumps(bench.mqtt.host)}\nport = {bench.mqtt.port}\n"
    )
    command = [sys.executable, "-m", "inspectd", "run", "-c", str(config)]
    with (bench.folder / LOG).open("wb") as log:
        variables = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, stderr=log, env=variables)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)

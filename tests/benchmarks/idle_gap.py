"""The first part after an idle gap, beside parts at the line's pace.

Run by hand: ``python tests/benchmarks/idle_gap.py``. A real daemon behind the simulated camera, a
real mosquitto, all on this machine. After some parts at 20/s the line stands still for 10 s, a
single part passes, and so on; latency runs from the edge on the trigger line to the verdict at a
subscriber in this process. The aim: the first part takes at most 1.5 times the median.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from queue import Empty
from time import monotonic_ns, sleep

import numpy as np
from bench_station import Bench, bench_in, daemon, make_product

from inspectd.core.images import list_images, read_image
from inspectd.publishers.connection import Received
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

SERIAL = "GAP1"
PACE_S = 0.05
WARM_UP = 20


def part(bench: Bench, rig: Rig) -> float:
    """One part; milliseconds from its edge to its verdict."""
    started = monotonic_ns()
    rig.trigger(SERIAL)
    while True:
        try:
            event = bench.events.get(timeout=30)
        except Empty:
            raise SystemExit("the daemon fell silent") from None
        if isinstance(event, Received) and event.topic.endswith("/verdict"):
            if json.loads(event.payload)["verdict"] == "undecided":
                raise SystemExit("a part was undecided")
            return (event.received_ns - started) / 1e6


def paced(bench: Bench, rig: Rig, parts: int) -> list[float]:
    """So many parts at the line's pace."""
    found = []
    for _ in range(parts):
        latency = part(bench, rig)
        found.append(latency)
        sleep(max(0.0, PACE_S - latency / 1000))
    return found


def await_ready(bench: Bench) -> None:
    """Until the station says that it runs."""
    while True:
        event = bench.events.get(timeout=60)
        if isinstance(event, Received) and b'"ContinuousExecution"' in event.payload:
            return


def main() -> None:
    """Prints a row per runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gaps", type=int, default=12)
    parser.add_argument("--gap", type=float, default=10.0, help="seconds")
    parser.add_argument("--backbone", default="filterbank")
    parser.add_argument("--input-size", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = arguments.input_size
        make_product(folder, side=size, backbone=arguments.backbone, input_size=size, parts=20)
        images = [read_image(path) for path in list_images(folder / "line")]
        for runtime in ("onnxruntime", "openvino"):
            with (
                Rig(folder / f"rig-{runtime}", [DeviceSpec(SERIAL, "", size, size)]) as rig,
                bench_in(folder, ("verdict", "state")) as bench,
            ):
                rig.load(SERIAL, images)
                camera = (
                    f'type = "genicam"\ncti = [{json.dumps(str(producer_path()))}]\n'
                    f'serial = "{SERIAL}"\ntrigger = "line"\ntrigger_counter = "Counter0"\n'
                    'features = {PixelFormat = "RGB8", ExposureTime = 100}\n'
                )
                with daemon(bench, runtime, 20, camera=camera, environment=rig.environment()):
                    await_ready(bench)
                    paced(bench, rig, WARM_UP)
                    steady, first = [], []
                    for _ in range(arguments.gaps):
                        steady += paced(bench, rig, 20)
                        sleep(arguments.gap)
                        first.append(part(bench, rig))
                    median = float(np.median(steady))
                    print(
                        f"{runtime}: at 20/s median {median:.1f} ms, p99 "
                        f"{np.percentile(steady, 99):.1f}; first after {arguments.gap:g} s: median "
                        f"{np.median(first):.1f} ({np.median(first) / median:.2f} times), worst "
                        f"{max(first):.1f} ({max(first) / median:.2f} times), n={len(first)}"
                    )


if __name__ == "__main__":
    main()

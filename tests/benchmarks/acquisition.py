"""Frames lost, latency and what acquisition costs the daemon, at the rates of real cameras.

``python tests/benchmarks/acquisition.py [--seconds 60]``: the virtual camera streams freely, and
the thread that consumes it reads each picture once. Beside it runs nothing, or a thread that
multiplies matrices (numpy lets go of the interpreter's lock, as an inference runtime does), or one
of pure Python, which holds the lock for 5 ms at a time; its speed shows what acquisition leaves.
Latency runs from the camera's time stamp of the frame's readiness (the end of its exposure) to the
consumer's hands on the picture: both clocks are the machine's monotonic one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

import numpy as np

from inspectd.cameras.genicam import GenicamCamera
from inspectd.core.config import GenicamSection
from inspectd.core.records import Frame, Loss, Notice
from inspectd.daemon.station import SWITCH_S
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

CASES = ((2448, 2048, 50.0), (1920, 1080, 150.0))
"""Width, height, frames per second."""
EXPOSURE_US = 500.0
BASE_S = 5.0
MATRIX = np.ones((512, 512), np.float32)


@dataclass
class Found:
    """What a run measured."""

    asked: int = 0
    received: int = 0
    losses: dict[str, int] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    rounds_per_s: float = 0.0
    """Of the thread beside it."""


def python_round() -> None:
    """A tenth of a millisecond of pure Python."""
    total = 0
    for number in range(2000):
        total += number * number % 7


def numpy_round() -> None:
    """Some milliseconds in a library."""
    np.dot(MATRIX, MATRIX)


class Busy:
    """A thread that works and counts its rounds."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._stop = threading.Event()
        self._rounds = 0
        self._thread = threading.Thread(target=self._run)
        self._began = 0.0

    def __enter__(self) -> Busy:
        self._began = monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def rate(self) -> float:
        """Rounds per second since the start."""
        return self._rounds / (monotonic() - self._began)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._work()
            self._rounds += 1


def alone(work: Callable[[], None]) -> float:
    """Rounds per second without acquisition."""
    with Busy(work) as busy:
        sleep(BASE_S)
        return busy.rate()


def consume(camera: GenicamCamera, clock_offset_ns: int, seconds: float, found: Found) -> None:
    """Takes what comes for so long; the first second doesn't count."""
    warm, end = monotonic() + 1.0, monotonic() + 1.0 + seconds
    first = last = 0
    while monotonic() < end:
        event = camera.next_event(0.1)
        now = monotonic_ns()
        if event is None or isinstance(event, Notice) or monotonic() < warm:
            continue
        if isinstance(event, Loss):
            found.losses[event.reason] = found.losses.get(event.reason, 0) + 1
            continue
        assert isinstance(event, Frame)
        found.received += 1
        last = event.trigger.frame_id
        first = first or last
        ready_ns = (event.trigger.device_ns or 0) + clock_offset_ns + int(EXPOSURE_US * 1000)
        found.latencies_ms.append((now - ready_ns) / 1e6)
        np.max(event.image)  # reads every byte, as whoever inspects it
    found.asked = last - first + 1


def run(
    width: int, height: int, rate: float, seconds: float, work: Callable[[], None] | None
) -> Found:
    """One case; the clock's offset is known, for the virtual camera counts from its power-up."""
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder), [DeviceSpec("A1", width=width, height=height)])
        os.environ.update(rig.environment())
        offset = int(rig._records()[0].powered_at)
        noise = np.random.default_rng(0).integers(0, 255, (4, height, width), np.uint8)
        rig.load("A1", list(noise))
        section = GenicamSection.model_validate(
            {
                "type": "genicam",
                "cti": [producer_path()],
                "serial": "A1",
                "trigger": "free-run",
                "features": {"ExposureTime": EXPOSURE_US, "AcquisitionFrameRate": rate},
            }
        )
        with GenicamCamera(section) as camera, rig:
            if work is None:
                consume(camera, offset, seconds, found)
                return found
            with Busy(work) as busy:
                consume(camera, offset, seconds, found)
                found.rounds_per_s = busy.rate()
    return found


def report(title: str, found: Found, base: float) -> None:
    """In a few lines."""
    p50, p99, most = np.percentile(found.latencies_ms, [50, 99, 100])
    lost = found.asked - found.received
    print(f"{title}: {found.asked} frames asked, {found.received} received, {lost} lost")
    print(f"  latency ms: median {p50:.2f}, p99 {p99:.2f}, most {most:.2f}; losses {found.losses}")
    if base:
        print(
            f"  its speed beside it: {found.rounds_per_s / base:.0%} of {base:.0f} rounds/s alone"
        )


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of the six runs")
    given = parser.parse_args()
    sys.setswitchinterval(SWITCH_S)  # as the daemon does
    load = os.getloadavg()
    print(f"{os.cpu_count()} cores, load before: {load[0]:.2f} {load[1]:.2f} {load[2]:.2f}")
    for width, height, rate in CASES:
        title = f"{width}x{height} Mono8 at {rate:.0f}/s"
        report(title, run(width, height, rate, given.seconds, None), 0.0)
        for work in (numpy_round, python_round):
            before = alone(work)
            found = run(width, height, rate, given.seconds, work)
            report(f"{title}, {work.__name__}", found, (before + alone(work)) / 2)
    print(f"load after: {os.getloadavg()[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The conveyor: parts as edges on the camera's trigger line, at a steady pace or in a burst."""

from __future__ import annotations

import threading
from array import array
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Self

from inspectd.core.records import ImageArray
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

SERIAL = "SIMULATE1"
EXPOSURE_US = 200.0


class Conveyor:
    """Entering makes the camera; `start` lets parts pass; leaving stops them."""

    def __init__(self, folder: Path, images: list[ImageArray], parts: int, rate: float) -> None:
        self.parts = parts
        self._folder = folder
        self._images = images
        self._period = 1.0 / rate
        self._passed = array("d")
        self._bursts: SimpleQueue[tuple[int, float]] = SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conveyor", daemon=True)
        self.ended = threading.Event()
        self.power_ups: list[tuple[float, int]] = []
        """When the camera got its power again, and the edges until then: its count began anew."""

    def __enter__(self) -> Self:
        """Makes the camera and puts the pictures before it.

        Raises:
            CameraError: there is no compiler for the simulated camera.
        """
        height, width = self._images[0].shape[:2]
        self.rig = Rig(self._folder, [DeviceSpec(SERIAL, "simulate", width, height)])
        self.rig.load(SERIAL, self._images)
        self._images = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self.rig.close()

    @property
    def passed(self) -> int:
        """Parts so far."""
        return len(self._passed)

    def passed_at(self) -> array[float]:
        """Monotonic seconds of each part; a copy."""
        return array("d", self._passed)

    def configuration(self, expected_rate: float) -> str:
        """The daemon's section `[camera]`."""
        return (
            f'[camera]\ntype = "genicam"\ncti = ["{producer_path()}"]\nserial = "{SERIAL}"\n'
            f'trigger = "line"\ntrigger_counter = "Counter0"\nexpected_rate = {expected_rate}\n'
            f'[camera.features]\nPixelFormat = "RGB8"\nExposureTime = {EXPOSURE_US}\n'
        )

    def start(self) -> None:
        """Parts may pass."""
        self._thread.start()

    def stop(self) -> None:
        """No more parts pass."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def burst(self, count: int, rate: float | None) -> None:
        """So many of the parts come at this rate, or all at once; then the pace is as before."""
        self._bursts.put((count, 1.0 / rate if rate else 0.0))

    def command(self, text: str) -> None:
        """What `inspectd.simcam.commands` knows."""
        self.rig.command(SERIAL, text)

    def plug(self) -> None:
        """Gives the camera its power back."""
        self.power_ups.append((monotonic(), self.rig.status(SERIAL).edges))
        self.command("plug")

    def _run(self) -> None:
        due = monotonic()
        try:
            while self.passed < self.parts:
                if self._stop.wait(max(0.0, due - monotonic())):
                    return
                self._pass(1)
                due += self._period
                if due < monotonic():  # held up; it doesn't catch up in a burst
                    due = monotonic()
                due = self._burst(due)
        finally:
            self.ended.set()

    def _burst(self, due: float) -> float:
        try:
            count, period = self._bursts.get_nowait()
        except Empty:
            return due
        count = min(count, self.parts - self.passed)
        if not period:
            self._pass(count)
            return due
        for number in range(count):
            if self._stop.wait(max(0.0, due + number * period - monotonic())):
                return due
            self._pass(1)
        return monotonic() + self._period

    def _pass(self, count: int) -> None:
        if count > 0:
            self._passed.extend([monotonic()] * count)
            self.rig.trigger(SERIAL, count)

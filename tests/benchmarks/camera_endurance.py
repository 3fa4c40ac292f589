"""Hundreds of lost cameras and killed processes: is every trigger answered, does anything leak?

``python tests/benchmarks/camera_endurance.py [--cycles 200] [--kills 20]``; about 6 minutes. The
camera is the virtual one. Each round takes a picture, takes the camera's power away (or kills its
process), waits for the notice, gives it back, and waits until it streams.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

import psutil

from inspectd.cameras.genicam import GenicamCamera
from inspectd.core.config import GenicamSection
from inspectd.core.records import Frame, Loss, Notice
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

PATIENCE_S = 20.0
STEADY_S = 0.8
"""Of streaming before the next outage: a camera that fails at once is given longer pauses."""
SECTION = {
    "type": "genicam",
    "serial": "A1",
    "trigger": "line",
    "trigger_counter": "Counter0",
    "features": {"ExposureTime": 500.0},
}


@dataclass
class Tally:
    """What came."""

    numbers: list[int] = field(default_factory=list)
    seen: int = 0
    lost: int = 0
    wrong: int = 0
    """Pictures of another part than their name says."""
    noticed_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)


class Round:
    """The camera and what is asked of it."""

    def __init__(self, rig: Rig, camera: GenicamCamera) -> None:
        self.tally = Tally()
        self.asked = 0
        self._rig = rig
        self._camera = camera

    def take(self) -> None:
        """One part, photographed."""
        self.pass_by(1)
        wanted = self.tally.seen + 1
        self._until(lambda _: self.tally.seen >= wanted)

    def pass_by(self, parts: int) -> None:
        """Parts, which may be missed."""
        self._rig.trigger("A1", parts)
        self.asked += parts

    def unplug(self) -> None:
        """Takes the power away and gives it back."""
        self.tally.noticed_s.append(self._until_told("camera_lost", ("unplug",)))
        self.tally.back_s.append(self._until_told("camera_returned", ("plug",)))

    def cut(self) -> None:
        """As `unplug`, with parts that pass meanwhile: the camera counts on."""
        self.tally.noticed_s.append(self._until_told("camera_lost", ("cut",)))
        self.pass_by(2)
        self.tally.back_s.append(self._until_told("camera_returned", ("join",)))

    def kill(self) -> None:
        """Ends its process without a word."""
        os.kill(self._camera.pid or 0, signal.SIGKILL)
        self.tally.noticed_s.append(self._until_told("camera_lost", ()))
        self.tally.back_s.append(self._until_told("camera_returned", ()))

    def rest(self, seconds: float) -> None:
        """What else comes."""
        deadline = monotonic() + seconds
        while monotonic() < deadline:
            self._hear()

    def _until_told(self, kind: str, commands: tuple[str, ...]) -> float:
        for command in commands:
            self._rig.command("A1", command)
        started = monotonic()
        self._until(lambda event: isinstance(event, Notice) and event.kind == kind)
        return monotonic() - started

    def _until(self, happened: object) -> None:
        deadline = monotonic() + PATIENCE_S
        while not happened(self._hear()):  # type: ignore[operator]
            if monotonic() > deadline:
                sys.exit(f"it didn't happen within {PATIENCE_S} s: {self.tally}")

    def _hear(self) -> object:
        event = self._camera.next_event(0.05)
        if isinstance(event, Frame | Loss):
            self.tally.numbers.append(int(event.trigger.part_id.rsplit("-")[-1]))
        if isinstance(event, Frame):
            shown = int.from_bytes(event.image.reshape(-1)[:8].tobytes(), "little")
            self.tally.seen += 1
            self.tally.wrong += shown != self.tally.numbers[-1]
            return None  # lets go of the picture
        self.tally.lost += isinstance(event, Loss)
        return event


def held() -> tuple[int, int, int]:
    """Processes below this one, open files, and mapped rings."""
    gc.collect()
    children = len(psutil.Process().children(recursive=True))
    maps = Path("/proc/self/maps").read_text()
    return children, len(list(Path("/proc/self/fd").iterdir())), maps.count("memfd:inspectd-ring")


def resident() -> float:
    """MB of this process."""
    return psutil.Process().memory_info().rss / 1e6


def main() -> int:
    """Runs it and prints what was found; the exit status says whether all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200, help="times without power or cable")
    parser.add_argument("--kills", type=int, default=20, help="processes killed")
    given = parser.parse_args()
    kill_every = max(1, given.cycles // max(1, given.kills))
    kills = 0
    started = monotonic()
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), [DeviceSpec("A1")]) as rig:
        os.environ.update(rig.environment())
        section = GenicamSection.model_validate({**SECTION, "cti": [producer_path()]})
        before = held()
        with GenicamCamera(section) as camera:
            rounds = Round(rig, camera)
            for cycle in range(given.cycles):
                rounds.take()
                rounds.rest(STEADY_S)
                rounds.cut() if cycle % 4 == 3 else rounds.unplug()
                if cycle % kill_every == kill_every - 1 and kills < given.kills:
                    rounds.take()
                    rounds.kill()
                    kills += 1
                if cycle == 9:
                    rounds.rest(1.2)
                    early, early_mb = held(), resident()
                if cycle % 20 == 19:
                    took = monotonic() - started
                    print(f"{cycle + 1:4} cycles, {kills} kills, {took:.0f} s: {resident():.1f} MB")
            rounds.take()
            rounds.rest(1.2)
            late, late_mb = held(), resident()
        after = held()
    tally = rounds.tally
    answered = tally.numbers == list(range(1, rounds.asked + 1))
    print(f"{given.cycles} outages and {kills} killed processes in {monotonic() - started:.0f} s")
    print(f"{rounds.asked} triggers: {tally.seen} pictures, {tally.lost} losses")
    print(f"every trigger answered once, in order: {answered}; wrong pictures: {tally.wrong}")
    for name, times in (("noticed", tally.noticed_s), ("streams again", tally.back_s)):
        print(f"{name}: median {median(times):.2f} s, most {max(times):.2f} s")
    print(f"processes, files, rings: {before} before, {early} early, {late} late, {after} after")
    print(f"memory: {early_mb:.1f} MB early, {late_mb:.1f} MB late")
    flat = late_mb - early_mb < 5
    quick = max(tally.noticed_s) < 2 and max(tally.back_s) < 3
    clean = early == late and before == after
    well = answered and not tally.wrong and flat and clean and quick
    print("all is well" if well else f"NOT WELL: flat {flat}, clean {clean}, quick {quick}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

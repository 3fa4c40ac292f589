"""A virtual camera, what it is configured with, and the watch over what a test leaves behind."""

from __future__ import annotations

import gc
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from inspectd.cameras.genicam import GenicamCamera
from inspectd.core.config import GenicamSection
from inspectd.core.records import Frame, Loss, Notice
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import VARIABLE, DeviceSpec, Rig

SERIAL = "A1"
SIDES = {"width": 64, "height": 48}
ENDS_S = 10.0
"""Seconds that a killed child may take to vanish."""

Event = Frame | Loss | Notice
MakeSection = Callable[..., GenicamSection]


class Watch:
    """Fetches what a camera tells."""

    def __init__(self, camera: GenicamCamera) -> None:
        self.camera = camera
        self.events: list[Event] = []
        """All that came so far."""
        self.keeps = False
        """Keep the pictures themselves, each in its place in the ring, instead of copies."""

    @property
    def parts(self) -> list[Frame | Loss]:
        """Without the notices."""
        return [event for event in self.events if not isinstance(event, Notice)]

    @property
    def losses(self) -> list[tuple[str, str]]:
        """Part and reason."""
        found = [event for event in self.events if isinstance(event, Loss)]
        return [(loss.trigger.part_id.rsplit("-")[-1], loss.reason.value) for loss in found]

    @property
    def notices(self) -> list[str]:
        """Their kinds."""
        return [event.kind for event in self.events if isinstance(event, Notice)]

    def next(self, patience_s: float = 3.0) -> Event:
        """The next event of any kind; it must come."""
        deadline = monotonic() + patience_s
        while monotonic() < deadline:
            event = self._fetch(0.05)
            if event is not None:
                return event
        pytest.fail(f"nothing came; until then: {self.events}")

    def frame(self, patience_s: float = 3.0) -> Frame:
        """The next part; it must have a picture."""
        while True:
            event = self.next(patience_s)
            if not isinstance(event, Notice):
                assert isinstance(event, Frame), event
                return event

    def seen(self, patience_s: float = 3.0) -> Frame:
        """The next part that has a picture, behind those that are lost."""
        while not isinstance(event := self.next(patience_s), Frame):
            pass
        return event

    def loss(self, patience_s: float = 3.0) -> Loss:
        """The next part; it must be a loss."""
        while True:
            event = self.next(patience_s)
            if not isinstance(event, Notice):
                assert isinstance(event, Loss), event
                return event

    def until(self, kind: str, patience_s: float) -> Notice:
        """Everything up to a notice of this kind, which must come in time."""
        deadline = monotonic() + patience_s
        while monotonic() < deadline:
            event = self._fetch(0.02)
            if isinstance(event, Notice) and event.kind == kind:
                return event
        pytest.fail(f"no {kind} within {patience_s} s; until then: {self.events}")

    def rest(self, seconds: float) -> list[Event]:
        """What comes within so many seconds."""
        before, deadline = len(self.events), monotonic() + seconds
        while monotonic() < deadline:
            self._fetch(0.02)
        return self.events[before:]

    def _fetch(self, timeout_s: float) -> Event | None:
        event = self.camera.next_event(timeout_s)
        assert event is None or isinstance(event, Frame | Loss | Notice)
        if isinstance(event, Frame) and not self.keeps:
            event = replace(event, image=event.image.copy())
        if event is not None:
            self.events.append(event)
        return event


def number(frame: Frame) -> int:
    """The part that a generated picture shows, Mono8."""
    return int.from_bytes(frame.image.reshape(-1)[:8].tobytes(), "little")


def part(event: Frame | Loss) -> int:
    """The number in its name."""
    return int(event.trigger.part_id.rsplit("-")[-1])


@pytest.fixture(scope="session")
def gentl() -> Any:
    """The binding; a test that needs it is skipped where it isn't installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's types have no module
        pytest.importorskip("harvesters.core")
        return pytest.importorskip("genicam.gentl")


@pytest.fixture(scope="session")
def cti(gentl: Any) -> Path:
    """Our own producer."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    return producer_path()


@pytest.fixture
def rig(tmp_path: Path, cti: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Two small cameras, which this process's children see."""
    specs = [DeviceSpec(SERIAL, "left", **SIDES), DeviceSpec("B2", "right", **SIDES)]
    with Rig(tmp_path / "rig", specs) as made:
        monkeypatch.setenv(VARIABLE, made.environment()[VARIABLE])
        yield made


@pytest.fixture
def section(cti: Path) -> MakeSection:
    """The configuration of camera A1, with a short exposure."""

    def make(**fields: Any) -> GenicamSection:
        features = {"ExposureTime": 500.0, **fields.pop("features", {})}
        given = {"type": "genicam", "cti": [cti], "serial": SERIAL, "features": features, **fields}
        return GenicamSection.model_validate(given)

    return make


@pytest.fixture
def watched(rig: Rig, section: MakeSection, nothing_left: None) -> Iterator[Callable[..., Watch]]:
    """Opens a camera of the rig; it is closed after the test."""
    opened: list[GenicamCamera] = []

    def make(**fields: Any) -> Watch:
        camera = GenicamCamera(section(**fields))
        camera.__enter__()
        opened.append(camera)
        return Watch(camera)

    yield make
    for camera in opened:
        camera.__exit__(None, None, None)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a process, an open file or shared memory behind."""
    gc.collect()
    children, files = _children(), _files()
    yield
    deadline = monotonic() + ENDS_S
    while monotonic() < deadline:
        gc.collect()  # a failed test's frames are kept by its trace, a passed one's are gone
        if not (_children() - children) and not (_files() - files) and not rings():
            return
        sleep(0.05)
    left = [f"processes {_children() - children}", f"files {_files() - files}", f"rings {rings()}"]
    pytest.fail(f"the test left behind: {', '.join(left)}")


def rings() -> int:
    """Mapped rings of this process."""
    return Path("/proc/self/maps").read_text().count("memfd:inspectd-ring")


def _children() -> set[int]:
    """Zombies too."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def _files() -> Counter[str]:
    """What the open files are, each as often as it is open."""
    found: Counter[str] = Counter()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the listing's own
            continue
        found[target] += 1
    return found

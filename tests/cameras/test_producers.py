"""Producers that nobody here wrote: `GenicamCamera` works with what they have.

``viky.cti`` comes with the genicam wheel that is installed. ``TLSimu.cti``, EMVA's own simulator,
was in the wheel of 1.5.0, which is fetched once into ``~/.cache/inspectd-tests``.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from inspectd.cameras.genicam import GenicamCamera
from inspectd.core.config import GenicamSection
from inspectd.core.records import Frame

from .conftest import Watch, part

CACHE = Path.home() / ".cache" / "inspectd-tests"
WHEEL = "genicam==1.5.0"
FETCH_S = 60


@pytest.fixture(scope="session")
def viky(gentl: Any) -> Path:
    """A third party's simulator: three free-running cameras."""
    spec = importlib.util.find_spec("genicam")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "viky.cti"
    if not path.exists():
        pytest.skip("this genicam wheel has no viky.cti")
    return path


@pytest.fixture(scope="session")
def tlsimu(gentl: Any) -> Path:
    """EMVA's simulator: four cameras with a software trigger."""
    if platform.system() != "Linux":
        pytest.skip("TLSimu.cti is taken from the wheel for Linux")
    folder = CACHE / f"genicam-1.5.0-{platform.machine()}"
    if not list(folder.rglob("TLSimu.cti")):
        _fetch(folder)
    found = list(folder.rglob("TLSimu.cti"))
    if not found:
        pytest.skip(f"{WHEEL} for this machine has no TLSimu.cti")
    return found[0]


def _fetch(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--quiet"]
    try:
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--dest", str(folder)],
            capture_output=True,
            text=True,
            timeout=FETCH_S,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{WHEEL} couldn't be downloaded within {FETCH_S} s")
    if done.returncode != 0:
        pytest.skip(f"{WHEEL} couldn't be downloaded: {done.stderr.strip()[-200:]}")
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)


def camera(cti: Path, **fields: Any) -> GenicamCamera:
    """Neither producer has user sets."""
    given = {"type": "genicam", "cti": [cti], "user_set": "", **fields}
    return GenicamCamera(GenicamSection.model_validate(given))


def assert_kept(frames: list[Frame], shape: tuple[int, ...]) -> None:
    """What every camera promises; frames that a producer itself dropped are parts, too."""
    triggers = [frame.trigger for frame in frames]
    assert len({part(frame) - frame.trigger.frame_id for frame in frames}) == 1
    assert all(a.frame_id < b.frame_id for a, b in pairwise(triggers))
    assert all(a.captured_ns <= b.captured_ns for a, b in pairwise(triggers))
    assert {frame.image.shape for frame in frames} == {shape}
    assert all(frame.image.any() for frame in frames)


@pytest.mark.parametrize(
    ("serial", "pixel_format", "shape"),
    [("0", "RGBa8", (300, 400, 3)), ("2", "Mono8", (300, 400))],
)
def test_viky_runs_freely(
    viky: Path, nothing_left: None, serial: str, pixel_format: str, shape: tuple[int, ...]
) -> None:
    """Without trigger, exposure, timestamp or any chunk that we know."""
    features = {
        "PixelFormat": pixel_format,
        "Width": 400,
        "Height": 300,
        "AcquisitionFrameRate": 100.0,
    }
    with camera(viky, serial=serial, trigger="free-run", features=features) as opened:
        watch = Watch(opened)
        frames = [watch.seen() for _ in range(20)]
    assert_kept(frames, shape)
    trigger = frames[0].trigger
    assert (trigger.device_ns, trigger.exposure_us, trigger.trigger_count) == (None, None, None)


def test_viky_refuses_what_it_has_not(viky: Path, nothing_left: None) -> None:
    """A trigger, for one: the message names the feature."""
    with pytest.raises(Exception, match="no feature TriggerMode"):
        camera(viky, serial="1", trigger="software").__enter__()


@pytest.mark.parametrize(
    ("serial", "shape"),
    [("SN_InterfaceA_0", (512, 512)), ("SN_InterfaceB_1", (572, 768, 3))],
    ids=["grey", "colour"],
)
def test_tlsimu_is_triggered_by_software(
    tlsimu: Path, nothing_left: None, serial: str, shape: tuple[int, ...]
) -> None:
    """It has one trigger and no selector, and words of its own for the buffer handling."""
    with camera(tlsimu, serial=serial, trigger="software", rate=10) as opened:
        watch = Watch(opened)
        frames = [watch.seen() for _ in range(10)]
    assert_kept(frames, shape)
    waits = sorted(b.trigger.captured_ns - a.trigger.captured_ns for a, b in pairwise(frames))
    assert waits[len(waits) // 2] / 1e9 == pytest.approx(0.1, abs=0.05)


def test_tlsimu_runs_freely(tlsimu: Path, nothing_left: None) -> None:
    """Without an AcquisitionFrameRate, as fast as it likes."""
    with camera(tlsimu, serial="SN_InterfaceA_0", trigger="free-run") as opened:
        watch = Watch(opened)
        frames = [watch.seen() for _ in range(20)]
    assert_kept(frames, (512, 512))


def test_tlsimu_is_replaced_when_its_process_dies(tlsimu: Path, nothing_left: None) -> None:
    """As with any other producer."""
    with camera(tlsimu, serial="SN_InterfaceB_0", trigger="software", rate=20) as opened:
        watch = Watch(opened)
        watch.seen()
        assert opened.pid is not None
        Path(f"/proc/{opened.pid}").stat()
        subprocess.run(["kill", "-9", str(opened.pid)], check=True)
        watch.until("camera_lost", 2.0)
        watch.until("camera_returned", 3.0)
        watch.seen()

"""Enumerating, opening and streaming, as harvesters sees it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from inspectd.simcam.rig import VARIABLE, DeviceSpec, Rig

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (48, 64), np.uint8)
COLOUR = RNG.integers(0, 256, (48, 64, 3), np.uint8)

HOLD = """
import sys
from harvesters.core import Harvester
harvester = Harvester()
harvester.add_file(sys.argv[1])
harvester.update()
camera = harvester.create({"serial_number": "CAM1"})
camera.start()
print("open", flush=True)
camera.fetch()
sys.stdin.read()
"""


def luma(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) to (H, W), as the camera does it."""
    red, green, blue = (image[..., band].astype(np.uint32) for band in range(3))
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


def mosaic(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) to (H, W): R G in even lines, G B in odd ones."""
    out = image[..., 1].copy()
    out[::2, ::2] = image[::2, ::2, 0]
    out[1::2, 1::2] = image[1::2, 1::2, 2]
    return out


def twelve(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """8 to 12 bit."""
    wide = grey.astype(np.uint16)
    return wide * 16 + (wide >> 4)


def test_the_list_tells_what_a_host_selects_by(rig: Rig, harvester: Any) -> None:
    """Serial number, user id, vendor, model, and that it is free."""
    with harvester() as made:
        (info,) = made.device_info_list
        assert (info.serial_number, info.user_defined_name) == ("CAM1", "station-1")
        assert (info.vendor, info.model, info.id_) == ("inspectd", "SimCam", "simcam:CAM1")
        assert info.access_status == 1  # READWRITE


def test_several_cameras_in_one_rig(
    tmp_path: Path, harvester: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own size, in the order of the rig."""
    specs = [DeviceSpec("A", width=64, height=48), DeviceSpec("B", "b", 32, 16)]
    with Rig(tmp_path / "rig", specs) as rig, harvester_of(rig, harvester, monkeypatch) as made:
        assert [info.serial_number for info in made.device_info_list] == ["A", "B"]
        cameras = [made.create({"serial_number": spec.serial}) for spec in specs]
        sizes = [camera.remote_device.node_map.Width.value for camera in cameras]
        assert sizes == [64, 32]
        for camera in cameras:
            camera.start()
            with camera.fetch(timeout=3) as buffer:
                assert buffer.payload.components[0].width == sizes[cameras.index(camera)]
            camera.destroy()


def harvester_of(rig: Rig, harvester: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that sees this rig."""
    monkeypatch.setenv(VARIABLE, rig.environment()[VARIABLE])
    return harvester()


def test_without_a_rig_there_is_one_camera(harvester: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs by itself, so that any viewer shows something that moves."""
    monkeypatch.delenv(VARIABLE, raising=False)
    with harvester() as made:
        camera = made.create(0)
        camera.start()
        pictures = []
        for _ in range(2):
            with camera.fetch(timeout=3) as buffer:
                pictures.append(buffer.payload.components[0].data.copy())
        camera.destroy()
        assert pictures[0].size == 640 * 480
        assert (pictures[0] != pictures[1]).any()


def test_a_directory_that_is_no_rig_shows_no_camera(
    tmp_path: Path, harvester: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """The remedy is on standard error."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with harvester() as made:
        assert made.device_info_list == []
    assert "make it with inspectd.simcam.rig.Rig" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("pixel_format", "source", "wanted"),
    [
        ("Mono8", GREY, GREY),
        ("Mono8", COLOUR, luma(COLOUR)),
        ("Mono12p", GREY, twelve(GREY)),
        ("Mono12p", COLOUR, twelve(luma(COLOUR))),
        ("BayerRG8", COLOUR, mosaic(COLOUR)),
        ("BayerRG8", GREY, GREY),
        ("RGB8", COLOUR, COLOUR),
        ("RGB8", GREY, np.repeat(GREY[..., None], 3, axis=2)),
    ],
)
def test_every_pixel_is_the_sources(
    rig: Rig, open_camera: Any, pixel_format: str, source: Any, wanted: Any
) -> None:
    """In every pixel format, from grey and from colour pictures."""
    rig.load("CAM1", [source])
    with open_camera() as host:
        host.set(PixelFormat=pixel_format, AcquisitionFrameRate=500.0)
        host.acquirer.start()
        assert np.array_equal(host.fetch().image, wanted)


def test_a_region_is_cut_out(rig: Rig, open_camera: Any) -> None:
    """At its offsets; the sensor limits it."""
    rig.load("CAM1", [GREY])
    with open_camera() as host:
        host.set(Width=32, Height=16, OffsetX=8, OffsetY=10)
        assert (host.nodes.Width.max, host.nodes.OffsetX.max) == (56, 32)
        host.acquirer.start()
        assert np.array_equal(host.fetch().image, GREY[10:26, 8:40])


def test_frames_come_at_the_rate_asked_for(rig: Rig, open_camera: Any) -> None:
    """Their timestamps are a period apart and their identifiers one."""
    with open_camera() as host:
        host.set(AcquisitionFrameRate=200.0)
        host.acquirer.num_buffers = 64
        host.acquirer.start()
        shots = [host.fetch() for _ in range(20)]
        assert [shot.frame_id for shot in shots] == list(range(1, 21))
        assert [shot.number for shot in shots] == list(range(1, 21))
        periods = np.diff([shot.timestamp_ns for shot in shots])
        assert np.all(periods == 5_000_000)


def test_the_frame_identifier_starts_over_with_the_acquisition(rig: Rig, open_camera: Any) -> None:
    """At 1."""
    with open_camera() as host:
        for _ in range(2):
            host.acquirer.start()
            assert host.fetch().frame_id == 1
            host.acquirer.stop()


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("OldestFirst", [1, 2, 3, 4]),
        ("OldestFirstOverwrite", [5, 6, 7, 8]),
        ("NewestOnly", [8]),
    ],
)
def test_a_slow_host_loses_frames_as_the_mode_says(
    rig: Rig, open_camera: Any, until: Callable[..., None], mode: str, wanted: list[int]
) -> None:
    """Eight frames, four buffers; the sensor never waits and each loss is counted."""
    with open_camera() as host:
        host.stream.node_map.StreamBufferHandlingMode.value = mode
        host.acquirer.num_buffers = 4
        host.await_triggers()
        rig.trigger("CAM1", 8)
        counts = host.stream.node_map
        lost = 8 - len(wanted)
        until(
            lambda: rig.status("CAM1").triggers == 8 and counts.StreamLostFrameCount.value == lost
        )
        assert [shot.frame_id for shot in fetched(host)] == wanted
        assert rig.status("CAM1").dropped == lost
        assert counts.StreamDeliveredFrameCount.value == len(wanted)
        assert host.stream.num_underrun == lost


def fetched(host: Any) -> Iterator[Any]:
    """Whatever lies ready."""
    while (shot := host.try_fetch(0.05)) is not None:
        yield shot


def test_a_camera_is_opened_by_one_process_until_it_dies(
    rig: Rig, cti: Path, harvester: Any, gentl: Any
) -> None:
    """Busy while it lives, even though it is killed; its settings stay with the camera."""
    command = [sys.executable, "-W", "ignore", "-c", HOLD, str(cti)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        assert rig.status("CAM1").opened_by == holder.pid
        with harvester() as made:
            assert made.device_info_list[0].access_status == 4  # BUSY
            with pytest.raises(gentl.AccessDeniedException):
                made.create({"serial_number": "CAM1"})
            rig.command("CAM1", "freeze on")
            holder.kill()
            holder.wait()
            assert rig.status("CAM1").opened_by is None
            assert made.device_info_list[0].access_status == 1  # READWRITE
            rig.command("CAM1", "freeze off")
            made.create({"serial_number": "CAM1"}).destroy()

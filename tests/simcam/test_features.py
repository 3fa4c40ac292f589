"""The camera's features: limits, locks, user sets and chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inspectd.simcam.rig import VARIABLE, DeviceSpec, Rig


def test_identity_and_limits_are_readable(rig: Rig, open_camera: Any) -> None:
    """Names, units and ranges as a recipe's checks want them."""
    rig.command("CAM1", "temperature 71")
    with open_camera() as host:
        nodes = host.nodes
        assert (nodes.DeviceVendorName.value, nodes.DeviceModelName.value) == ("inspectd", "SimCam")
        assert (nodes.DeviceSerialNumber.value, nodes.DeviceUserID.value) == ("CAM1", "station-1")
        assert nodes.DeviceTemperature.value == 71.0
        exposure = nodes.ExposureTime
        assert (exposure.min, exposure.max, exposure.unit) == (10.0, 1_000_000.0, "us")
        assert (nodes.Width.inc, nodes.Height.inc) == (4, 2)
        assert nodes.TriggerSource.symbolics == ("Software", "Line0", "Encoder0")
        assert nodes.PixelFormat.symbolics == ("Mono8", "Mono12p", "BayerRG8", "RGB8")


@pytest.mark.parametrize(
    ("feature", "value"),
    [
        ("AcquisitionFrameRate", 33.5),
        ("ExposureTime", 250.5),
        ("Gain", 6.0),
        ("TriggerDelay", 40.0),
        ("TriggerActivation", "FallingEdge"),
        ("LineDebouncerTime", 12.5),
        ("TriggerDivider", 7),
        ("DeviceUserID", "bench"),
        ("UserSetDefault", "UserSet1"),
    ],
)
def test_what_is_written_is_read_back(rig: Rig, open_camera: Any, feature: str, value: Any) -> None:
    """Also by the next process: the camera keeps it while it has power."""
    for written in (True, False):
        with open_camera() as host:
            if written:
                host.set(**{feature: value})
            assert getattr(host.nodes, feature).value == value


@pytest.mark.parametrize(
    ("feature", "value"),
    [("Width", 68), ("Width", 18), ("ExposureTime", 1.0), ("PixelFormat", "Mono16")],
)
def test_what_does_not_fit_is_refused(rig: Rig, open_camera: Any, feature: str, value: Any) -> None:
    """And the old value stays."""
    from genicam.genapi import GenericException

    with open_camera() as host:
        before = getattr(host.nodes, feature).value
        with pytest.raises(GenericException):
            host.set(**{feature: value})
        assert getattr(host.nodes, feature).value == before


def test_the_pictures_size_is_locked_while_acquiring(rig: Rig, open_camera: Any) -> None:
    """The exposure is not."""
    from genicam.genapi import GenericException

    with open_camera() as host:
        host.acquirer.start()
        with pytest.raises(GenericException):
            host.set(Width=32)
        host.set(ExposureTime=500.0)
        host.acquirer.stop()
        host.set(Width=32)


def test_a_user_set_brings_its_settings_back(rig: Rig, open_camera: Any) -> None:
    """Default those of the factory, UserSet1 what was saved; Default can't be overwritten."""
    from genicam.genapi import GenericException as ApiError
    from genicam.gentl import GenericException as TlError

    with open_camera() as host:
        host.set(ExposureTime=300.0, Width=32, UserSetSelector="UserSet1")
        host.nodes.UserSetSave.execute()
        host.set(ExposureTime=400.0, UserSetSelector="Default")
        with pytest.raises((ApiError, TlError)):
            host.nodes.UserSetSave.execute()
        host.nodes.UserSetLoad.execute()
        assert (host.nodes.ExposureTime.value, host.nodes.Width.value) == (1000.0, 64)
        host.set(UserSetSelector="UserSet1")
        host.nodes.UserSetLoad.execute()
        assert (host.nodes.ExposureTime.value, host.nodes.Width.value) == (300.0, 32)


@pytest.mark.parametrize("tl_type", ["Custom", "GEV"])
def test_chunks_tell_about_their_frame(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, open_camera: Any, tl_type: str
) -> None:
    """Through the producer's list of chunks, and through GigE Vision's layout in the buffer."""
    spec = DeviceSpec("CAM1", width=64, height=48, tl_type=tl_type)
    with Rig(tmp_path / "rig", [spec]) as rig:
        monkeypatch.setenv(VARIABLE, rig.environment()[VARIABLE])
        with open_camera() as host:
            host.enable_chunks()
            host.await_triggers()
            rig.encoder("CAM1", 42)
            host.set(ExposureTime=123.0)
            for count in (1, 2, 3):
                rig.trigger("CAM1")
                shot = host.fetch()
                assert shot.chunks == {
                    "FrameID": count,
                    "Timestamp": shot.timestamp_ns,
                    "ExposureTime": 123.0,
                    "LineStatusAll": 1,
                    "CounterValue": count,
                    "EncoderValue": 42,
                }
                assert shot.frame_id == count
            host.acquirer.stop()


def test_chunks_follow_the_picture_as_gige_vision_has_them(rig: Rig, open_camera: Any) -> None:
    """Data, identifier, length; big endian; the picture itself is the first."""
    with open_camera() as host:
        host.set(ChunkModeActive=True, ChunkSelector="FrameID", ChunkEnable=True)
        assert host.nodes.PayloadSize.value == 64 * 48 + 8 + 16
        host.acquirer.start()
        buffer = host.acquirer.fetch(timeout=3, is_raw=True)
        tail = np.frombuffer(buffer.raw_buffer, np.uint8)[64 * 48 : buffer.size_filled].tobytes()
        frame_id = buffer.frame_id.to_bytes(8, "little")
        wanted = bytes.fromhex("00000001 00000c00") + frame_id + bytes.fromhex("10000001 00000008")
        assert tail == wanted
        assert buffer.payload_type == 4  # CHUNK_DATA
        buffer.parent.queue_buffer(buffer)


def test_counters_count(rig: Rig, open_camera: Any) -> None:
    """Counter0 triggers, Counter1 the frames of this acquisition, Counter2 encoder ticks."""
    with open_camera() as host:
        host.await_triggers()
        rig.trigger("CAM1", 2)
        rig.encoder("CAM1", 9)
        host.fetch()
        host.fetch()
        values = {}
        for counter in host.nodes.CounterSelector.symbolics:
            host.set(CounterSelector=counter)
            values[host.nodes.CounterEventSource.value] = host.nodes.CounterValue.value
        assert values == {"FrameTrigger": 2, "FrameStart": 2, "Encoder0": 9}

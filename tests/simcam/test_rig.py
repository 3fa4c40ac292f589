"""The Python side of the rig, without a host."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from inspectd.core.errors import CameraError
from inspectd.simcam import control
from inspectd.simcam.rig import DeviceSpec, Rig


def test_edges_are_parts(rig: Rig) -> None:
    """However many come at once, and with or without power."""
    assert rig.trigger("CAM1") == 1
    assert rig.trigger("CAM1", 5000) == 5001
    rig.command("CAM1", "unplug")
    assert rig.command("CAM1", "line 2") == "5003 parts"


def test_the_state_outlives_the_rig(rig: Rig) -> None:
    """Another process, or a later one, finds it as it was left."""
    rig.trigger("CAM1", 3)
    rig.close()
    with pytest.raises(CameraError, match="closed"):
        rig.status("CAM1")
    with Rig.attach(rig.directory) as again:
        assert again.status("CAM1").parts == 3
    with Rig(rig.directory, [DeviceSpec("CAM1", "", 64, 48)]) as again:
        assert again.status("CAM1").edges == 3


def test_other_cameras_in_the_directory_are_an_error(rig: Rig) -> None:
    """They are never replaced silently."""
    with pytest.raises(CameraError, match="other cameras"):
        Rig(rig.directory, [DeviceSpec("CAM2")])


def test_a_directory_without_a_rig_is_an_error(tmp_path: Path) -> None:
    """And so is a file that is no rig."""
    with pytest.raises(CameraError, match="make the rig first"):
        Rig.attach(tmp_path)
    (tmp_path / "rig.bin").write_bytes(bytes(100_000))
    with pytest.raises(CameraError, match="another version"):
        Rig.attach(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"serial": "a/b"}, {"serial": ""}, {"width": 66}, {"height": 0}, {"model": "m" * 64}]
)
def test_impossible_cameras_are_refused(wrong: dict[str, object]) -> None:
    """With a reason."""
    with pytest.raises(CameraError):
        DeviceSpec(**{"serial": "CAM1", **wrong})  # type: ignore[arg-type]


def test_serial_numbers_differ(tmp_path: Path) -> None:
    """Two cameras of one name can't be told apart."""
    with pytest.raises(CameraError, match="its own serial"):
        Rig(tmp_path, [DeviceSpec("CAM1"), DeviceSpec("CAM1")])


def test_pictures_must_have_the_sensors_size(rig: Rig) -> None:
    """The error says both sizes."""
    with pytest.raises(CameraError, match=r"10, 10.*48 x 64 \(H x W\)"):
        rig.load("CAM1", [np.zeros((10, 10), np.uint8)])


def test_faults_are_pending_until_they_happen(rig: Rig) -> None:
    """They add up."""
    assert rig.command("CAM1", "drop 2") == "2 pending"
    assert rig.command("CAM1", "drop 1") == "3 pending"
    assert rig.command("CAM1", "late 1 200") == "1 pending, 200 ms late"
    assert rig.status("CAM1").pending["drop"] == 3
    assert "pending=drop:3,late:1" in rig.command("CAM1", "status")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("explode", "there are:\n  unplug"),
        ("", "there are:"),
        ("drop", "drop takes N"),
        ("drop -1", "whole number"),
        ("freeze 1", "on or off"),
        ("drop 9999999", "up to 1000000"),
    ],
)
def test_what_is_not_understood_is_explained(rig: Rig, text: str, told: str) -> None:
    """And changes nothing."""
    before = rig.status("CAM1")
    with pytest.raises(CameraError) as error:
        rig.command("CAM1", text)
    assert told in str(error.value)
    assert rig.status("CAM1") == before


def test_an_unknown_camera_is_an_error(rig: Rig) -> None:
    """The error lists the known ones."""
    with pytest.raises(CameraError, match="there are: CAM1"):
        rig.trigger("CAM9")


def test_commands_from_another_terminal(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By function and by command line."""
    assert control.command(rig.directory, "CAM1", "unplug") == "unplugged"
    assert not rig.status("CAM1").plugged
    monkeypatch.setattr(sys, "argv", ["control", str(rig.directory), "CAM1", "freeze", "on"])
    control.main()
    assert capsys.readouterr().out == "frozen\n"
    assert rig.status("CAM1").frozen
    monkeypatch.setattr(sys, "argv", ["control", str(rig.directory), "CAM1", "dance"])
    with pytest.raises(SystemExit, match="no command 'dance'"):
        control.main()

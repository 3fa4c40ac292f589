"""Faults: what the host sees of each."""

from __future__ import annotations

import subprocess
import sys
from time import monotonic
from typing import Any

import numpy as np
import pytest

from inspectd.simcam.rig import Rig


@pytest.fixture
def io_error(gentl: Any) -> type[Exception]:
    """What a lost camera's registers raise."""
    error: type[Exception] = gentl.IoException
    return error


def test_a_dropped_frame_leaves_a_gap_in_the_identifiers(rig: Rig, open_camera: Any) -> None:
    """The next frame shows the next part."""
    with open_camera() as host:
        host.await_triggers()
        rig.command("CAM1", "drop 1")
        rig.trigger("CAM1", 2)
        shot = host.fetch()
        assert (shot.frame_id, shot.number) == (2, 2)
        status = rig.status("CAM1")
        assert (status.triggers, status.delivered, status.dropped) == (2, 1, 1)


def test_a_trigger_without_a_frame_shows_in_the_counter_only(rig: Rig, open_camera: Any) -> None:
    """The identifiers have no gap; the chunk's trigger count has."""
    with open_camera() as host:
        host.enable_chunks()
        host.await_triggers()
        rig.command("CAM1", "no-frame 1")
        rig.trigger("CAM1", 2)
        shot = host.fetch()
        assert (shot.frame_id, shot.number) == (1, 2)
        assert shot.chunks["CounterValue"] == 2
        assert rig.status("CAM1").triggers == 2


def test_an_incomplete_frame_says_so(rig: Rig, open_camera: Any) -> None:
    """Half of it is there; harvesters reports it to its callback."""
    from harvesters.core import Callback

    class Count(Callback):  # type: ignore[misc] # harvesters has no types
        count = 0

        def emit(self, context: Any = None) -> None:
            self.count += 1

    with open_camera() as host:
        counter = Count()
        host.acquirer.add_callback(host.acquirer.Events.INCOMPLETE_BUFFER, counter)
        host.await_triggers()
        rig.command("CAM1", "incomplete 1")
        rig.trigger("CAM1", 2)
        assert host.try_fetch(3) is None
        assert counter.count == 1
        assert host.fetch().frame_id == 2


def test_a_frame_of_the_wrong_size_has_half_its_lines(rig: Rig, open_camera: Any) -> None:
    """It is complete otherwise, chunks included."""
    with open_camera() as host:
        host.enable_chunks()
        host.await_triggers()
        rig.command("CAM1", "wrong-size 1")
        rig.trigger("CAM1", 2)
        for frame_id, height in ((1, 24), (2, 48)):
            shot = host.fetch()
            assert shot.image.shape == (height, 64)
            assert shot.chunks["FrameID"] == frame_id


def test_chunks_can_be_garbage(rig: Rig, open_camera: Any) -> None:
    """Their values can't be read then; those of the next frame can."""
    with open_camera() as host:
        host.enable_chunks()
        host.await_triggers()
        rig.command("CAM1", "bad-chunk 1")
        rig.trigger("CAM1", 2)
        assert host.fetch().chunks == {}
        assert host.fetch().chunks["FrameID"] == 2


@pytest.mark.parametrize("text", ["late 1 100", "slow 100"])
def test_a_late_frame_comes_late(rig: Rig, open_camera: Any, text: str) -> None:
    """By that many milliseconds; its timestamp is the trigger's."""
    with open_camera() as host:
        host.await_triggers()
        rig.command("CAM1", text)
        start = monotonic()
        rig.trigger("CAM1")
        assert host.fetch().number == 1
        assert monotonic() - start >= 0.1


def test_an_unplugged_camera_is_silent_and_starts_anew(
    rig: Rig, open_camera: Any, io_error: type[Exception]
) -> None:
    """No frames, no registers; then its power-up settings, and parts that passed meanwhile."""
    with open_camera() as host:
        host.set(ExposureTime=50.0)
        host.await_triggers()
        rig.trigger("CAM1", 2)
        assert [host.fetch().number, host.fetch().number] == [1, 2]
        rig.command("CAM1", "unplug")
        rig.trigger("CAM1", 3)
        assert host.try_fetch(0.05) is None
        with pytest.raises(io_error):
            _ = host.nodes.ExposureTime.value
        with pytest.raises(io_error):
            host.set(ExposureTime=20.0)
        rig.command("CAM1", "plug")
        with pytest.raises(io_error):  # the old handle is dead for good
            _ = host.nodes.ExposureTime.value
        host.recover()
    with open_camera() as host:
        assert host.nodes.ExposureTime.value == 1000.0
        assert host.nodes.TriggerMode.value == "Off"
        host.enable_chunks()
        host.await_triggers()
        rig.trigger("CAM1")
        shot = host.fetch()
        assert (shot.number, shot.chunks["CounterValue"]) == (6, 1)


def test_an_unplugged_camera_leaves_the_list(rig: Rig, harvester: Any) -> None:
    """And comes back to it; a cut one likewise."""
    for away, back in (("unplug", "plug"), ("cut", "join")):
        with harvester() as made:
            rig.command("CAM1", away)
            made.update()
            assert made.device_info_list == []
            rig.command("CAM1", back)
            made.update()
            assert len(made.device_info_list) == 1


def test_the_power_up_user_set_is_the_chosen_one(rig: Rig, open_camera: Any) -> None:
    """UserSetDefault and what was saved live without power."""
    with open_camera() as host:
        host.set(ExposureTime=300.0, UserSetSelector="UserSet1", UserSetDefault="UserSet1")
        host.nodes.UserSetSave.execute()
        host.set(ExposureTime=400.0)
    rig.command("CAM1", "unplug")
    rig.command("CAM1", "plug")
    with open_camera() as host:
        assert host.nodes.ExposureTime.value == 300.0


def test_a_cut_camera_counts_on(rig: Rig, open_camera: Any, io_error: type[Exception]) -> None:
    """It keeps its settings; the counter tells how many parts were missed."""
    with open_camera() as host:
        host.enable_chunks()
        host.await_triggers()
        rig.trigger("CAM1")
        assert host.fetch().number == 1
        rig.command("CAM1", "cut")
        rig.trigger("CAM1", 3)
        assert host.try_fetch(0.05) is None
        with pytest.raises(io_error):
            _ = host.nodes.ExposureTime.value
        host.recover()
    rig.trigger("CAM1")
    rig.command("CAM1", "join")
    with open_camera() as host:
        assert host.nodes.ExposureTime.value == 10.0
        assert host.nodes.CounterValue.value == 5
        host.acquirer.start()
        rig.trigger("CAM1")
        shot = host.fetch()
        assert (shot.number, shot.frame_id, shot.chunks["CounterValue"]) == (6, 1, 6)


def test_a_short_cut_loses_the_frames_meanwhile(rig: Rig, open_camera: Any) -> None:
    """The identifiers show how many, without any new start."""
    with open_camera() as host:
        host.await_triggers()
        rig.command("CAM1", "cut")
        rig.trigger("CAM1", 3)
        assert host.try_fetch(0.05) is None
        rig.command("CAM1", "join")
        rig.trigger("CAM1")
        assert host.fetch().frame_id == 4
        assert rig.status("CAM1").dropped == 3


def test_a_frozen_camera_hangs_its_host(rig: Rig, open_camera: Any) -> None:
    """Frames stay away and a read returns only when another process thaws it."""
    with open_camera() as host:
        host.await_triggers()
        rig.command("CAM1", "freeze on")
        rig.trigger("CAM1")
        assert host.try_fetch(0.05) is None
        thaw = f"import time; time.sleep(0.3); {THAW}"
        start = monotonic()
        with subprocess.Popen([sys.executable, "-c", thaw, str(rig.directory)]):
            assert host.nodes.ExposureTime.value == 10.0
        assert monotonic() - start >= 0.3
        assert host.fetch().number == 1


THAW = (
    "import sys; from pathlib import Path; from inspectd.simcam.control import command; "
    "command(Path(sys.argv[1]), 'CAM1', 'freeze off')"
)


def test_new_pictures_are_shown_without_a_new_start(rig: Rig, open_camera: Any) -> None:
    """And none at all means generated ones."""
    with open_camera() as host:
        host.await_triggers()
        for shade in (50, 60):
            rig.load("CAM1", [np.full((48, 64), shade, np.uint8)])
            rig.trigger("CAM1")
            assert host.fetch().image[5, 5] == shade
        rig.load("CAM1", [])
        rig.trigger("CAM1")
        assert host.fetch().number == 3

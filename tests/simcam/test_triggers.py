"""Triggers: which edges take a picture, of which part, and when."""

from __future__ import annotations

from time import monotonic
from typing import Any

import numpy as np
import pytest

from inspectd.simcam.rig import Rig

SHADES = [np.full((48, 64), shade, np.uint8) for shade in (10, 20, 30)]


def test_every_edge_takes_a_picture_of_its_part(rig: Rig, open_camera: Any) -> None:
    """The pictures follow each other and start over; nothing comes without an edge."""
    rig.load("CAM1", SHADES)
    with open_camera() as host:
        host.await_triggers()
        assert host.try_fetch(0.05) is None
        for wanted in (10, 20, 30, 10):
            rig.trigger("CAM1")
            assert host.fetch().image[0, 0] == wanted
        status = rig.status("CAM1")
        assert (status.parts, status.triggers, status.delivered) == (4, 4, 4)


def test_an_edge_is_seen_at_once(rig: Rig, open_camera: Any) -> None:
    """The camera sleeps on a futex and polls nothing."""
    with open_camera() as host:
        host.await_triggers()
        waits = []
        for _ in range(20):
            start = monotonic()
            rig.trigger("CAM1")
            host.fetch()
            waits.append(monotonic() - start)
        assert np.median(waits) < 0.02


def test_parts_that_pass_before_the_start_are_not_photographed(rig: Rig, open_camera: Any) -> None:
    """But they passed: the next picture is the next part's."""
    rig.trigger("CAM1", 2)
    with open_camera() as host:
        host.await_triggers()
        rig.trigger("CAM1")
        shot = host.fetch()
        assert (shot.number, shot.frame_id) == (3, 1)
        assert host.try_fetch(0.05) is None


def test_a_software_trigger_is_a_part(rig: Rig, open_camera: Any) -> None:
    """It comes once for each execution, and edges on the line take none meanwhile."""
    with open_camera() as host:
        host.await_triggers("Software")
        for number in (1, 2):
            host.nodes.TriggerSoftware.execute()
            assert host.fetch().number == number
        rig.trigger("CAM1")
        assert host.try_fetch(0.05) is None
        host.nodes.TriggerSoftware.execute()
        assert host.fetch().number == 4
        assert rig.status("CAM1").parts == 4


def test_the_divider_takes_every_nth_edge(rig: Rig, open_camera: Any) -> None:
    """Every edge is a part all the same; CounterReset starts the count over."""
    with open_camera() as host:
        host.await_triggers(TriggerDivider=3)
        rig.trigger("CAM1", 7)
        assert [host.fetch().number, host.fetch().number] == [3, 6]
        assert host.try_fetch(0.05) is None
        assert host.nodes.CounterValue.value == 2
        host.nodes.CounterReset.execute()
        rig.trigger("CAM1", 3)
        assert host.fetch().number == 10
        assert host.nodes.CounterValue.value == 1


def test_the_encoder_triggers_too(rig: Rig, open_camera: Any) -> None:
    """A part for each n-th tick; the ticks can be read."""
    with open_camera() as host:
        host.await_triggers("Encoder0", TriggerDivider=100)
        assert rig.encoder("CAM1", 250) == 250
        assert [host.fetch().number, host.fetch().number] == [1, 2]
        assert host.try_fetch(0.05) is None
        assert host.nodes.EncoderValue.value == 250
        assert rig.status("CAM1").parts == 2


@pytest.mark.parametrize("feature", ["TriggerDelay", "ExposureTime"])
def test_the_picture_comes_after_delay_and_exposure(
    rig: Rig, open_camera: Any, feature: str
) -> None:
    """Both in microseconds; the timestamp is the start of the exposure."""
    with open_camera() as host:
        host.await_triggers()
        host.set(**{feature: 60_000.0})
        host.nodes.TimestampLatch.execute()
        start = monotonic()
        rig.trigger("CAM1")
        shot = host.fetch()
        assert monotonic() - start >= 0.06
        started = (shot.timestamp_ns - host.nodes.TimestampLatchValue.value) / 1e9
        assert (started >= 0.06) == (feature == "TriggerDelay")


def test_leaving_the_trigger_mode_runs_freely(rig: Rig, open_camera: Any) -> None:
    """While it acquires, and back; edges that passed meanwhile take no picture."""
    with open_camera() as host:
        host.await_triggers(AcquisitionFrameRate=100.0)
        host.set(TriggerMode="Off")
        host.fetch()
        rig.trigger("CAM1")
        host.set(TriggerMode="On")
        while host.try_fetch(0.05) is not None:
            pass
        rig.trigger("CAM1")
        assert host.fetch().number == 2

"""A GenICam camera: every trigger is answered once, whatever the camera, cable and child do.

The camera is the virtual one of `inspectd.simcam`, through harvesters, in a process of its own. Its
generated pictures carry the number of their part, so that a picture under a wrong name shows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from inspectd.cameras.genicam import GenicamCamera
from inspectd.core.config import GenicamSection
from inspectd.core.errors import CameraError
from inspectd.core.records import Frame, Loss, Reason
from inspectd.simcam.rig import Rig

from .conftest import ENDS_S, Watch, number, part, rings

Watched = Callable[..., Watch]
MakeSection = Callable[..., GenicamSection]
NOTICED_S = 5.0
BACK_S = 10.0
"""Patience with a loaded machine; idle, it takes tenths of these."""
LINE = {"trigger": "line", "trigger_counter": "Counter0"}


def take(rig: Rig, watch: Watch, parts: int = 1) -> list[Frame]:
    """So many parts pass one by one, each photographed."""
    found = []
    for _ in range(parts):
        rig.trigger("A1")
        found.append(watch.frame())
    return found


def take_again(rig: Rig, watch: Watch) -> Frame:
    """A part passes and is photographed, after those that were lost are answered."""
    rig.trigger("A1")
    return watch.seen()


# --- trigger modes -----------------------------------------------------------------------------


def test_free_run_delivers_at_the_cameras_rate(watched: Watched) -> None:
    """Each frame is a part, in order and without a gap."""
    watch = watched(trigger="free-run", features={"AcquisitionFrameRate": 100.0})
    frames = [watch.frame() for _ in range(30)]
    first = frames[0].trigger.frame_id
    assert [frame.trigger.frame_id for frame in frames] == list(range(first, first + 30))
    assert [number(frame) for frame in frames] == [frame.trigger.frame_id for frame in frames]
    assert [part(frame) for frame in frames] == list(range(1, 31))
    took = (frames[-1].trigger.captured_ns - frames[0].trigger.captured_ns) / 1e9
    assert took == pytest.approx(0.29, abs=0.15)


def test_the_daemon_triggers_by_software(watched: Watched, rig: Rig) -> None:
    """At its own rate; each trigger is answered by its own frame."""
    watch = watched(trigger="software", rate=10)
    frames = [watch.frame() for _ in range(20)]
    assert [part(frame) for frame in frames] == list(range(1, 21))
    assert [number(frame) for frame in frames] == list(range(1, 21))
    assert rig.status("A1").triggers in (20, 21)


def test_an_edge_on_the_line_is_a_part(watched: Watched, rig: Rig) -> None:
    """Counters, chunks and clocks are in its record."""
    rig.trigger("A1", 7)  # long before the camera is opened
    watch = watched(**LINE)
    rig.encoder("A1", 5)
    (first, second) = take(rig, watch, 2)
    assert [first.trigger.part_id, second.trigger.part_id] == ["camera-1", "camera-2"]
    assert [number(first), number(second)] == [8, 9]
    trigger = second.trigger
    assert (trigger.camera, trigger.frame_id, trigger.trigger_count) == ("camera", 2, 9)
    assert (trigger.encoder, trigger.exposure_us) == (5, 500.0)
    assert trigger.line_status is not None
    assert trigger.device_ns is not None
    assert first.trigger.device_ns is not None
    apart = (trigger.device_ns - first.trigger.device_ns) / 1e9
    assert apart == pytest.approx((trigger.captured_ns - first.trigger.captured_ns) / 1e9, abs=0.05)


def test_the_encoder_takes_every_nth_tick(watched: Watched, rig: Rig) -> None:
    """A part for each hundred; its ticks are in the record."""
    watch = watched(
        trigger="encoder", divider=100, trigger_counter="Counter0", frame_timeout_ms=100
    )
    rig.encoder("A1", 250)
    frames = [watch.frame(), watch.frame()]
    assert [frame.trigger.trigger_count for frame in frames] == [1, 2]
    assert [part(frame) for frame in frames] == [1, 2]
    assert frames[0].trigger.encoder is not None
    assert watch.rest(0.3) == []


def test_without_chunks_frames_come_all_the_same(watched: Watched, rig: Rig) -> None:
    """With nothing beside the frame id."""
    watch = watched(trigger="line", chunks=False)
    (frame,) = take(rig, watch)
    assert (frame.trigger.frame_id, frame.trigger.trigger_count) == (1, None)
    assert (frame.trigger.exposure_us, number(frame)) == (None, 1)


def test_the_cameras_name_serves_too(watched: Watched, rig: Rig) -> None:
    """`user_id` instead of the serial number; the part carries the configured name."""
    watch = watched(trigger="line", serial="", user_id="right", name="top")
    rig.trigger("B2")
    assert watch.frame().trigger.part_id == "top-1"


def test_another_counter_among_the_features_is_not_the_triggers(watched: Watched, rig: Rig) -> None:
    """The polled counter is the configured one, whatever the features selected."""
    watch = watched(**LINE, features={"CounterSelector": "Counter2"}, frame_timeout_ms=100)
    rig.encoder("A1", 50)
    take(rig, watch, 2)
    rig.encoder("A1", 50)
    assert watch.rest(0.5) == []


def test_two_cameras_at_once(watched: Watched, rig: Rig) -> None:
    """Each answers its own triggers."""
    left = watched(**LINE, name="left")
    right = watched(**LINE, name="right", serial="B2")
    for _ in range(5):
        rig.trigger("A1")
        rig.trigger("B2", 2)
    for watch, parts in ((left, 5), (right, 10)):
        frames = [watch.frame() for _ in range(parts)]
        assert [number(frame) for frame in frames] == list(range(1, parts + 1))
        assert [part(frame) for frame in frames] == list(range(1, parts + 1))
    rig.command("A1", "unplug")
    left.until("camera_lost", NOTICED_S)
    rig.trigger("B2")
    assert number(right.frame()) == 11


@pytest.mark.parametrize("pixel_format", ["Mono8", "Mono12p", "BayerRG8", "RGB8"])
def test_every_format_shows_the_picture(watched: Watched, rig: Rig, pixel_format: str) -> None:
    """Grey as (H, W), colour as (H, W, 3) RGB."""
    scene = np.zeros((48, 64, 3), np.uint8)
    scene[:24, :, 0], scene[24:, :, 2] = 200, 100  # red above blue
    rig.load("A1", [scene])
    watch = watched(trigger="line", features={"PixelFormat": pixel_format})
    (frame,) = take(rig, watch)
    if pixel_format.startswith("Mono"):
        wanted = cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY)
        assert frame.image.shape == (48, 64)
        assert np.abs(frame.image.astype(int) - wanted).max() <= 2
        return
    assert frame.image.shape == (48, 64, 3)
    inner = np.r_[2:22, 26:46]
    assert np.array_equal(frame.image[inner], scene[inner])


# --- faults of single frames -------------------------------------------------------------------


def test_a_dropped_frame_is_a_lost_part(watched: Watched, rig: Rig) -> None:
    """It is answered as soon as the next frame shows the gap, and people are told."""
    watch = watched(**LINE)
    rig.command("A1", "drop 1")
    rig.trigger("A1", 2)
    loss, frame = watch.loss(), watch.frame()
    assert (part(loss), loss.reason) == (1, Reason.FRAME_LOST)
    assert (part(frame), number(frame)) == (2, 2)
    assert "missed_trigger" in watch.notices


def test_a_dropped_frame_shows_without_a_counter_too(watched: Watched, rig: Rig) -> None:
    """By the frame ids; even where it is the first of the stream."""
    watch = watched(trigger="line")
    for _ in range(2):
        rig.command("A1", "drop 1")
        rig.trigger("A1", 2)
        assert watch.loss().reason is Reason.FRAME_LOST
        frame = watch.frame()
        assert part(frame) == number(frame)


@pytest.mark.parametrize("fault", ["no-frame 1", "drop 1"])
def test_a_trigger_without_a_frame_is_answered_in_time(
    watched: Watched, rig: Rig, fault: str
) -> None:
    """By the camera's counter, though no other frame follows."""
    watch = watched(**LINE, frame_timeout_ms=200)
    take(rig, watch)
    rig.command("A1", fault)
    rig.trigger("A1")
    started = monotonic()
    loss = watch.loss()
    assert 0.15 < monotonic() - started < 0.8
    assert (part(loss), loss.reason) == (2, Reason.FRAME_LOST)
    assert part(take(rig, watch)[0]) == 3
    assert watch.rest(0.35) == []


def test_an_incomplete_frame_is_a_lost_part(watched: Watched, rig: Rig) -> None:
    """With its own reason; the next part is fine."""
    watch = watched(**LINE, frame_timeout_ms=200)
    rig.command("A1", "incomplete 1")
    rig.trigger("A1", 2)
    loss, frame = watch.loss(), watch.frame()
    assert (part(loss), loss.reason) == (1, Reason.INCOMPLETE)
    assert (part(frame), number(frame)) == (2, 2)
    watch.rest(0.5)
    assert len(watch.parts) == 2


@pytest.mark.parametrize("counter", [LINE, {"trigger": "line"}], ids=["counter", "frame ids"])
def test_incomplete_frames_in_a_row_are_each_a_part(
    watched: Watched, rig: Rig, counter: dict[str, str]
) -> None:
    """None is skipped and none is answered twice."""
    watch = watched(**counter)
    take(rig, watch)
    rig.command("A1", "incomplete 3")
    rig.trigger("A1", 4)
    frame = watch.seen()
    assert watch.losses == [(str(n), "incomplete_frame") for n in (2, 3, 4)]
    assert [part(event) for event in watch.parts] == [1, 2, 3, 4, 5]
    assert number(frame) == 5


def test_a_frame_of_another_size_is_delivered_as_it_is(watched: Watched, rig: Rig) -> None:
    """Half its lines: the inspector refuses it by its size."""
    watch = watched(**LINE)
    rig.command("A1", "wrong-size 1")
    frames = take(rig, watch, 2)
    assert [frame.image.shape for frame in frames] == [(24, 64), (48, 64)]


def test_a_frame_without_its_count_is_no_picture_of_any_part(watched: Watched, rig: Rig) -> None:
    """With unknown chunks nothing says whose it is: the part is undecided."""
    watch = watched(**LINE, ring=2, frame_timeout_ms=200)
    for _ in range(4):  # more than the ring has places
        rig.command("A1", "bad-chunk 1")
        rig.trigger("A1")
        assert watch.loss().reason is Reason.FRAME_LOST
    frame = take(rig, watch)[0]
    assert (part(frame), number(frame)) == (5, 5)


def test_a_late_frame_is_surplus(watched: Watched, rig: Rig) -> None:
    """Its part was answered already; it takes no other part's place, nor one in the ring."""
    watch = watched(**LINE, frame_timeout_ms=50, ring=2)
    for turn in range(3):  # more than the ring has places
        rig.command("A1", "late 1 250")
        rig.trigger("A1")
        loss = watch.loss()
        assert (part(loss), loss.reason) == (2 * turn + 1, Reason.FRAME_LOST)
        sleep(0.25)
        frame = take(rig, watch)[0]
        assert part(frame) == number(frame) == 2 * turn + 2
    assert "surplus_frame" in watch.notices


@pytest.mark.parametrize("late_ms", [195, 270])
def test_a_late_frame_never_answers_the_next_software_trigger(
    watched: Watched, late_ms: int
) -> None:
    """Whenever it comes: before, at or after the next trigger."""
    watch = watched(trigger="software", rate=10, frame_timeout_ms=195)
    assert number(watch.frame()) == 1
    rig = Rig.attach(Path(os.environ["INSPECTD_SIMCAM"]))
    with rig:
        rig.command("A1", f"late 1 {late_ms}")
        watch.rest(0.7)
        rig.command("A1", "no-frame 1")
        watch.rest(0.5)
    seen = [event for event in watch.parts if isinstance(event, Frame)]
    assert [part(event) for event in sorted(watch.parts, key=part)] == list(
        range(1, len(watch.parts) + 1)
    )
    assert [number(f) for f in seen] == sorted({number(f) for f in seen})
    latencies = [(part(f), number(f)) for f in seen]
    missed = [int(number_) for number_, _ in watch.losses]
    for named, shown in latencies:  # each earlier trigger that reached the camera made a picture
        busy = sum(reason == "overrun" and int(n) < named for n, reason in watch.losses)
        assert shown == named - busy, (latencies, missed)


def test_a_slow_camera_loses_nothing(watched: Watched, rig: Rig) -> None:
    """As long as it is faster than the timeout."""
    watch = watched(**LINE)
    rig.command("A1", "slow 100")
    rig.trigger("A1", 3)
    assert [number(watch.frame()) for _ in range(3)] == [1, 2, 3]


def test_a_burst_is_answered_in_full(watched: Watched, rig: Rig) -> None:
    """Hundreds of edges at once: frames or losses, each part once, in order."""
    watch = watched(**LINE, buffers=4)
    rig.trigger("A1", 300)
    watch.rest(1.2)
    assert [part(event) for event in watch.parts] == list(range(1, 301))
    assert all(number(e) == part(e) for e in watch.parts if isinstance(e, Frame))


def test_pictures_that_are_kept_fill_the_ring(watched: Watched, rig: Rig) -> None:
    """Then parts are answered `overrun`, until one is let go; what is kept stays as it is."""
    watch = watched(**LINE, ring=2)
    watch.keeps = True
    kept = take(rig, watch, 2)
    rig.trigger("A1", 2)
    assert [watch.loss().reason, watch.loss().reason] == [Reason.OVERRUN] * 2
    assert [number(frame) for frame in kept] == [1, 2]
    watch.events.clear()
    kept.pop()
    frame = take(rig, watch)[0]
    assert (part(frame), number(frame), number(kept[0])) == (5, 5, 1)
    assert not frame.image.flags.writeable


def test_a_busy_daemon_loses_nothing(watched: Watched) -> None:
    """A picture that waits to be fetched isn't taken for missing, however late that is."""
    watch = watched(trigger="software", rate=4, frame_timeout_ms=100)
    watch.frame()
    for _ in range(3):
        watch.camera.next_event(0.255)
        sleep(0.2)
    watch.rest(0.3)
    assert watch.losses == []


# --- the camera goes and comes back ------------------------------------------------------------


def test_an_unplugged_camera_is_found_and_configured_again(watched: Watched, rig: Rig) -> None:
    """Noticed and told in time; its settings, lost with its power, are written anew."""
    watch = watched(**LINE, features={"PixelFormat": "RGB8", "ExposureTime": 700.0})
    assert take(rig, watch)[0].image.shape == (48, 64, 3)
    rig.command("A1", "unplug")
    assert not watch.until("camera_lost", NOTICED_S).camera_up
    rig.command("A1", "plug")
    assert watch.until("camera_returned", BACK_S).camera_up
    frame = take(rig, watch)[0]
    assert (part(frame), frame.image.shape) == (2, (48, 64, 3))
    assert (frame.trigger.exposure_us, frame.trigger.trigger_count) == (700.0, 1)


def test_parts_are_answered_while_the_camera_is_away(watched: Watched, rig: Rig) -> None:
    """At the expected rate, and numbers go on behind them."""
    watch = watched(**LINE, expected_rate=10.0)
    take(rig, watch, 3)
    rig.command("A1", "unplug")
    watch.until("camera_lost", NOTICED_S)
    away = watch.rest(1.0)
    assert 9 <= sum(isinstance(event, Loss) for event in away) <= 20
    assert {reason for _, reason in watch.losses} == {"camera_lost"}
    rig.command("A1", "plug")
    watch.until("camera_returned", BACK_S)
    take(rig, watch, 2)
    assert [part(event) for event in watch.parts] == list(range(1, len(watch.parts) + 1))


def test_a_cut_cable_hides_no_part(watched: Watched, rig: Rig) -> None:
    """The camera counted on: each part that it saw meanwhile is answered when it is back."""
    watch = watched(**LINE)
    take(rig, watch, 2)
    rig.command("A1", "cut")
    rig.trigger("A1", 4)
    watch.until("camera_lost", NOTICED_S)
    rig.trigger("A1", 3)
    rig.command("A1", "join")
    watch.until("camera_returned", BACK_S)
    assert part(take_again(rig, watch)) == 10
    assert watch.losses == [(str(n), "camera_lost") for n in range(3, 10)]
    assert [part(event) for event in watch.parts] == list(range(1, 11))


def test_parts_that_pass_while_it_is_being_opened_again(watched: Watched, rig: Rig) -> None:
    """A camera that starts to count at 0 saw them, so they are answered."""
    watch = watched(**LINE)
    take(rig, watch, 5)
    rig.command("A1", "unplug")
    watch.until("camera_lost", NOTICED_S)
    rig.command("A1", "plug")
    rig.trigger("A1", 3)
    watch.until("camera_returned", BACK_S)
    frame = take_again(rig, watch)
    watch.rest(0.2)
    assert part(frame) == 9
    assert watch.losses == [(str(n), "camera_lost") for n in (6, 7, 8)]


def test_a_frozen_producer_is_replaced(watched: Watched, rig: Rig) -> None:
    """Its process is killed; when the camera answers again, it streams."""
    watch = watched(**LINE)
    take(rig, watch)
    before = watch.camera.pid
    rig.command("A1", "freeze on")
    rig.trigger("A1", 2)
    assert "killed" in watch.until("camera_lost", NOTICED_S).text
    rig.command("A1", "freeze off")
    watch.until("camera_returned", BACK_S)
    assert watch.camera.pid != before
    assert part(take_again(rig, watch)) == 4
    assert watch.losses == [("2", "camera_lost"), ("3", "camera_lost")]


def test_a_killed_process_is_replaced(watched: Watched, rig: Rig) -> None:
    """At once; parts that passed meanwhile are answered, pictures that are kept stay."""
    watch = watched(**LINE)
    watch.keeps = True
    kept = take(rig, watch)[0]
    assert watch.camera.pid is not None
    os.kill(watch.camera.pid, signal.SIGKILL)
    rig.trigger("A1")
    watch.until("camera_lost", NOTICED_S)
    watch.until("camera_returned", BACK_S)
    assert part(take_again(rig, watch)) == 3
    assert watch.losses == [("2", "camera_lost")]
    assert number(kept) == 1


def test_the_software_trigger_goes_on_after_a_loss(watched: Watched, rig: Rig) -> None:
    """Parts keep their rate and their numbers, answered as losses while it is away."""
    watch = watched(trigger="software", rate=20)
    watch.frame()
    rig.command("A1", "cut")
    watch.until("camera_lost", NOTICED_S)
    rig.command("A1", "join")
    watch.until("camera_returned", BACK_S)
    watch.frame()
    numbers = sorted(part(event) for event in watch.parts)
    assert numbers == list(range(1, len(numbers) + 1))
    assert {reason for _, reason in watch.losses} <= {"camera_lost", "frame_lost", "overrun"}


def test_a_camera_that_went_in_free_run_is_missed(watched: Watched, rig: Rig) -> None:
    """Parts are expected at its frame rate."""
    watch = watched(trigger="free-run", features={"AcquisitionFrameRate": 20.0})
    watch.frame()
    rig.command("A1", "unplug")
    watch.until("camera_lost", NOTICED_S)
    watch.rest(0.5)
    assert 9 <= len(watch.losses) <= 60
    rig.command("A1", "plug")
    watch.until("camera_returned", BACK_S)
    watch.frame()


def test_a_free_running_camera_that_falls_silent_is_lost(watched: Watched, rig: Rig) -> None:
    """Even where it still answers: in free run silence is not normal."""
    watch = watched(trigger="free-run", features={"AcquisitionFrameRate": 20.0})
    watch.frame()
    rig.command("A1", "drop 100000")
    assert "no frame came" in watch.until("camera_lost", 2 * NOTICED_S).text


@pytest.mark.skipif(os.geteuid() != 0, reason="a real-time priority needs root")
def test_the_process_has_the_cores_and_the_priority_that_were_asked_for(watched: Watched) -> None:
    """And the daemon's own stay as they are."""
    before = os.sched_getaffinity(0), os.sched_getscheduler(0)
    core = max(before[0])
    watch = watched(trigger="software", rate=20, cpu_affinity=[core], realtime_priority=7)
    watch.frame()
    pid = watch.camera.pid
    assert pid is not None
    assert os.sched_getaffinity(pid) == {core}
    assert os.sched_getscheduler(pid) == os.SCHED_FIFO
    assert os.sched_getparam(pid).sched_priority == 7
    assert (os.sched_getaffinity(0), os.sched_getscheduler(0)) == before


def test_why_it_does_not_come_back_is_told(watched: Watched, rig: Rig) -> None:
    """Once: a camera that refuses the configuration is no silent one."""
    watch = watched(**LINE)
    assert watch.camera.pid is not None
    watch.camera._host._section = watch.camera._host._section.replace(b"500.0", b"5000000000.0")
    os.kill(watch.camera.pid, signal.SIGKILL)
    watch.until("camera_lost", NOTICED_S)
    assert "ExposureTime" in watch.until("camera_lost", BACK_S).text
    assert watch.rest(0.8) == []


def test_a_short_endurance(watched: Watched, rig: Rig) -> None:
    """Three times without power, two killed processes: each trigger answered, one child left."""
    others = set(psutil.Process().children())  # of tests before
    watch = watched(**LINE)
    for turn in range(5):
        take(rig, watch)
        watch.rest(0.8 if turn else 0.0)  # one that fails at once is given longer pauses
        if turn % 2 == 0:
            rig.command("A1", "unplug")
            watch.until("camera_lost", NOTICED_S)
            rig.command("A1", "plug")
        else:
            os.kill(watch.camera.pid or 0, signal.SIGKILL)
            watch.until("camera_lost", NOTICED_S)
        watch.until("camera_returned", BACK_S)
    take(rig, watch)
    deadline = monotonic() + ENDS_S
    while len(set(psutil.Process().children()) - others) > 1 and monotonic() < deadline:
        watch.rest(0.2)  # until the last killed one is buried
    assert [part(event) for event in watch.parts] == [1, 2, 3, 4, 5, 6]
    watch.events.clear()
    assert rings() == 1
    left = set(psutil.Process().children()) - others
    assert [child.pid for child in left] == [watch.camera.pid]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


DAEMON = """
import sys
from inspectd.cameras.genicam import GenicamCamera
from inspectd.core.config import GenicamSection
with GenicamCamera(GenicamSection.model_validate_json(sys.argv[1])) as camera:
    print(camera.pid, flush=True)
    while True:
        camera.next_event(1.0)
"""


@pytest.mark.parametrize("state", ["streaming", "frozen"])
def test_the_child_ends_with_the_daemon(
    rig: Rig, section: MakeSection, nothing_left: None, state: str
) -> None:
    """Killed without a word, and also while a producer hangs: the camera is free again."""
    command = [sys.executable, "-c", DAEMON, section(trigger="line").model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        child = psutil.Process(int(daemon.stdout.readline()))
        if state == "frozen":
            rig.command("A1", "freeze on")
            sleep(0.6)  # the heartbeat hangs in the producer
        daemon.kill()
    deadline = monotonic() + 2.0
    while rig.status("A1").opened_by is not None or _runs(child):
        assert monotonic() < deadline, "the child outlives the daemon"
        sleep(0.01)


# --- opening -----------------------------------------------------------------------------------


def refusal(section: GenicamSection) -> str:
    """What a camera that can't be opened says."""
    with pytest.raises(CameraError) as caught:
        GenicamCamera(section).__enter__()
    return str(caught.value)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"ExposureTime": 5e9}, ["ExposureTime", "5000000000.0", "1000.0"]),
        ({"Exposure": 1.0}, ["no feature Exposure", "camera show"]),
    ],
)
def test_a_feature_that_does_not_fit_is_named(
    rig: Rig, section: MakeSection, nothing_left: None, features: dict[str, Any], said: list[str]
) -> None:
    """With what was wanted and what the camera keeps, and what to do."""
    text = refusal(section(features=features))
    assert all(word in text for word in said), text
    assert text.startswith("camera camera: ")


def test_a_camera_that_is_not_there_is_waited_for(
    rig: Rig, section: MakeSection, nothing_left: None
) -> None:
    """As long as configured; then the message names it and those that are."""
    started = monotonic()
    text = refusal(section(serial="C3", open_timeout_s=2.0))
    assert 2.0 <= monotonic() - started < 10.0
    assert "C3 isn't there" in text
    assert "A1" in text
    assert "B2" in text


def test_a_camera_that_comes_in_time_is_opened(watched: Watched, rig: Rig) -> None:
    """It may have been switched on after the daemon."""
    rig.command("A1", "unplug")
    plug = subprocess.Popen(
        [sys.executable, "-m", "inspectd.simcam.control", str(rig.directory), "A1", "plug"]
    )
    watch = watched(**LINE)
    plug.wait()
    assert part(take(rig, watch)[0]) == 1


def test_a_camera_in_use_says_so(watched: Watched, section: MakeSection) -> None:
    """Another program has it; that one isn't disturbed."""
    watch = watched(trigger="software", rate=50)
    assert "another program" in refusal(section(trigger="line"))
    watch.rest(0.1)
    assert watch.losses == [] or {reason for _, reason in watch.losses} == {"overrun"}


def test_a_missing_producer_is_named(section: MakeSection, nothing_left: None) -> None:
    """With the setting to change."""
    text = refusal(section(cti=[Path("/nowhere/maker.cti")]))
    assert "/nowhere/maker.cti" in text
    assert "[camera] cti" in text


def test_no_producer_at_all_is_told(
    section: MakeSection, nothing_left: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the variable that names their directory."""
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(tmp_path))
    assert "GENICAM_GENTL64_PATH" in refusal(section(cti=[]))


def test_without_harvesters_the_message_says_what_to_install(
    section: MakeSection, nothing_left: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The optional dependency is named as pip wants it."""
    (tmp_path / "harvesters").mkdir()
    (tmp_path / "harvesters" / "__init__.py").write_text("raise ImportError('not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "pip install 'inspectd[genicam]'" in refusal(section())


def test_a_producer_that_is_none_ends_in_an_error(
    section: MakeSection, nothing_left: None, tmp_path: Path
) -> None:
    """A file that can't be loaded doesn't wait for ever."""
    (tmp_path / "broken.cti").write_bytes(b"no library")
    started = monotonic()
    assert refusal(section(cti=[tmp_path / "broken.cti"], open_timeout_s=1.5))
    assert monotonic() - started < 5.0


def test_a_real_time_priority_that_is_not_allowed_is_told(
    rig: Rig, section: MakeSection, nothing_left: None
) -> None:
    """A core that the machine hasn't got stands in for a missing capability."""
    assert "cpu_affinity" in refusal(section(cpu_affinity=[4095]))


def test_it_can_be_entered_anew(rig: Rig, section: MakeSection, nothing_left: None) -> None:
    """After it was left, with the same object."""
    camera = GenicamCamera(section(**LINE))
    for _ in range(2):
        with camera:
            take(rig, Watch(camera))
        assert camera.pid is None
    camera.__exit__(None, None, None)

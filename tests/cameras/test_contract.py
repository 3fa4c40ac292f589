"""Cameras keep the contract of `Camera`; the replay camera does what its configuration says.

Every file in ``inspectd/cameras`` is found by itself: a camera without a maker here fails.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from time import monotonic, monotonic_ns, sleep

import cv2
import numpy as np
import pytest

import inspectd.cameras
from inspectd.cameras import open_camera
from inspectd.core.config import FolderSection
from inspectd.core.contracts import Camera, EndOfStream
from inspectd.core.errors import CameraError
from inspectd.core.records import Frame, Loss, Notice, Reason

Event = Frame | Loss | Notice | EndOfStream | None


def replay(folder: Path, parts: int = 3, **section: object) -> Camera:
    """A folder camera over so many grey pictures."""
    folder.mkdir(exist_ok=True)
    for number in range(parts):
        cv2.imwrite(str(folder / f"part-{number}.png"), np.full((6, 8), number, np.uint8))
    return open_camera(FolderSection.model_validate({"path": folder, "rate": 1000.0, **section}))


def replayed(request: pytest.FixtureRequest) -> Camera:
    """Three pictures."""
    return replay(request.getfixturevalue("tmp_path") / "pictures")


def simulated(request: pytest.FixtureRequest) -> Camera:
    """A virtual GenICam camera, triggered by software."""
    request.getfixturevalue("rig")
    request.getfixturevalue("nothing_left")
    return open_camera(request.getfixturevalue("section")(trigger="software", rate=5))


MAKERS: dict[str, Callable[[pytest.FixtureRequest], Camera]] = {
    "folder": replayed,
    "genicam": simulated,
}
"""File in ``inspectd/cameras`` to a camera of three parts, or more, that needs no trigger."""


def files() -> list[str]:
    """Names of the cameras that the project has."""
    folder = Path(inspectd.cameras.__file__).parent
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def parts(camera: Camera, count: int = 3, patience_s: float = 10.0) -> list[Frame | Loss]:
    """The next parts of the camera."""
    found: list[Frame | Loss] = []
    deadline = monotonic() + patience_s
    while len(found) < count:
        assert monotonic() < deadline, "the parts don't come"
        event = camera.next_event(0.5)
        assert not isinstance(event, EndOfStream)
        if isinstance(event, Frame | Loss):
            found.append(event)
    return found


def drain(camera: Camera, patience_s: float = 10.0) -> list[Frame | Loss]:
    """All parts until the camera's end."""
    found: list[Frame | Loss] = []
    deadline = monotonic() + patience_s
    while monotonic() < deadline:
        event = camera.next_event(0.5)
        if isinstance(event, EndOfStream):
            return found
        if isinstance(event, Frame | Loss):
            found.append(event)
    pytest.fail("the camera doesn't end")


@pytest.fixture(params=files())
def camera(request: pytest.FixtureRequest) -> Camera:
    """One of each kind, not entered."""
    assert request.param in MAKERS, f"add a maker of the {request.param} camera to {__file__}"
    return MAKERS[request.param](request)


def test_every_trigger_comes_once(camera: Camera) -> None:
    """Counters run without a gap, and parts have names of their own."""
    with camera:
        events = parts(camera)
    assert [event.trigger.frame_id for event in events] == [1, 2, 3]
    assert {event.trigger.camera for event in events} == {camera.name}
    assert len({event.trigger.part_id for event in events}) == 3


def test_frames_are_owned_and_read_only(camera: Camera) -> None:
    """uint8, (H, W) or (H, W, 3), not to be changed, and the next one is another array."""
    with camera:
        frames = [event for event in parts(camera) if isinstance(event, Frame)]
        before = [frame.image.copy() for frame in frames]
        for frame in frames:
            assert frame.image.dtype == np.uint8
            assert frame.image.ndim in (2, 3)
            assert not frame.image.flags.writeable
        assert not np.shares_memory(frames[0].image, frames[1].image)
    assert all(map(np.array_equal, before, [frame.image for frame in frames]))


def test_triggers_are_stamped(camera: Camera) -> None:
    """UTC with its zone, and the monotonic clock of now."""
    before = monotonic_ns()
    with camera:
        events = parts(camera)
    stamps = [event.trigger.captured_ns for event in events]
    moments = [before, *stamps, monotonic_ns()]
    assert moments == sorted(moments)
    assert all(event.trigger.captured_at.utcoffset() == timedelta(0) for event in events)
    apart = datetime.now(UTC) - events[-1].trigger.captured_at
    assert timedelta(0) <= apart < timedelta(seconds=30)


def test_no_wait_is_longer_than_asked(camera: Camera) -> None:
    """The pump looks for a stop in between."""
    with camera:
        parts(camera)
        for timeout_s in (0.0, 0.005):
            started = monotonic()
            camera.next_event(timeout_s)
            assert monotonic() - started < 0.5


def test_leaving_twice_is_harmless(camera: Camera) -> None:
    """The line leaves a lost camera, and the station leaves it again at the end."""
    with camera:
        camera.next_event(1.0)
    camera.__exit__(None, None, None)


def test_it_can_be_entered_anew(camera: Camera) -> None:
    """As after a loss: it delivers as before."""
    for _ in range(2):
        with camera:
            assert all(isinstance(event, Frame) for event in parts(camera))


# --- the replay camera -------------------------------------------------------------------------


def test_the_end_is_said_again(tmp_path: Path) -> None:
    """To who asks again."""
    with replay(tmp_path) as camera:
        assert len(drain(camera)) == 3
        for _ in range(2):
            assert isinstance(camera.next_event(0.01), EndOfStream)


def test_the_frame_counter_goes_on(tmp_path: Path) -> None:
    """When the camera is entered anew."""
    camera = replay(tmp_path)
    with camera:
        first = drain(camera)
    with camera:
        second = drain(camera)
    assert second[0].trigger.frame_id == first[-1].trigger.frame_id + 1


def test_parts_are_named_after_files(tmp_path: Path) -> None:
    """In name order; what is no picture isn't a part."""
    (tmp_path / "notes.txt").write_text("no picture")
    with replay(tmp_path) as camera:
        events = drain(camera)
    assert [event.trigger.part_id for event in events] == ["part-0", "part-1", "part-2"]
    assert [int(event.image[0, 0]) for event in events if isinstance(event, Frame)] == [0, 1, 2]


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    """Becomes a part id that can be written and sent."""
    with replay(tmp_path, parts=1) as camera:
        pass
    (tmp_path / "part-0.png").rename(tmp_path / "bad-\udcff.png")
    with camera:
        (event,) = drain(camera)
    assert event.trigger.part_id == "bad-?"


def test_parts_come_at_the_rate(tmp_path: Path) -> None:
    """Five parts at 20/s take four intervals, however late each is fetched."""
    with replay(tmp_path, parts=5, rate=20.0) as camera:
        stamps = [event.trigger.captured_ns / 1e9 for event in drain(camera)]
    assert stamps[-1] - stamps[0] >= 4 / 20 - 0.001


def test_a_slow_reader_gets_no_burst(tmp_path: Path) -> None:
    """What was due in the meantime isn't made up for: a trigger is when a part is handed over."""
    with replay(tmp_path, parts=3, rate=10.0) as camera:
        camera.next_event(1.0)
        sleep(0.35)
        camera.next_event(1.0)
        assert camera.next_event(0.01) is None


def test_nothing_within_the_timeout_is_none(tmp_path: Path) -> None:
    """The wait ends in time, and the part comes later."""
    with replay(tmp_path, start_delay_s=0.2) as camera:
        started = monotonic()
        assert camera.next_event(0.05) is None
        assert 0.04 < monotonic() - started < 0.19
        assert len(drain(camera)) == 3


def test_leaving_ends_a_wait(tmp_path: Path) -> None:
    """A thread that waits for the next part is let go at once."""
    camera = replay(tmp_path, start_delay_s=60.0)
    camera.__enter__()
    events: list[Event] = []
    waiting = Thread(target=lambda: events.append(camera.next_event(30.0)))
    waiting.start()
    camera.__exit__(None, None, None)
    waiting.join(5.0)
    assert not waiting.is_alive()
    assert events == [None]


def test_a_loop_begins_again(tmp_path: Path) -> None:
    """With the counter going on and no end."""
    with replay(tmp_path, parts=2, loop=True) as camera:
        events = [camera.next_event(1.0) for _ in range(5)]
    parts = [event.trigger for event in events if isinstance(event, Frame)]
    names = [trigger.part_id for trigger in parts]
    assert names == ["part-0", "part-1", "part-0", "part-1", "part-0"]
    assert [trigger.trigger_count for trigger in parts] == [1, 2, 3, 4, 5]


def test_an_unreadable_picture_is_a_loss(tmp_path: Path) -> None:
    """Its trigger counts, its name is known, and the next one is fine."""
    camera = replay(tmp_path)
    (tmp_path / "part-1.png").write_bytes(b"no picture")
    with camera:
        first, second, third = drain(camera)
    assert isinstance(first, Frame)
    assert isinstance(third, Frame)
    assert isinstance(second, Loss)
    assert (second.reason, second.trigger.part_id) == (Reason.UNREADABLE_IMAGE, "part-1")
    assert "part-1.png" in second.detail


def test_a_picture_that_vanishes_is_a_loss(tmp_path: Path) -> None:
    """The folder was listed when the camera was entered."""
    with replay(tmp_path) as camera:
        (tmp_path / "part-2.png").unlink()
        events = drain(camera)
    assert isinstance(events[-1], Loss)


def test_no_folder_and_no_pictures_are_told(tmp_path: Path) -> None:
    """When the camera is entered, with the setting to change."""
    with pytest.raises(CameraError, match=r"no such folder.*\[camera\] path"):
        open_camera(FolderSection(path=tmp_path / "missing")).__enter__()
    with pytest.raises(CameraError, match=r"no pictures.*\[camera\] path"):
        open_camera(FolderSection(path=tmp_path)).__enter__()

"""The daemon behind the simulated GenICam camera, part by part: an edge, a frame, a verdict."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import psutil
import pytest

from inspectd.core.images import list_images, read_image
from inspectd.demo.parts import simulated_camera_problem
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

Make = Callable[..., Any]
RATE = 20.0

pytestmark = pytest.mark.skipif(
    simulated_camera_problem() is not None, reason=str(simulated_camera_problem())
)


class Belt:
    """Parts that pass before the cameras of a station, as edges on their trigger lines."""

    def __init__(self, station: Any, rig: Rig) -> None:
        self.station = station
        self.rig = rig
        self.passed: Counter[str] = Counter()

    def run(self, serial: str, parts: int) -> None:
        """So many parts at the line's rate."""
        for _ in range(parts):
            self.rig.trigger(serial)
            self.passed[serial] += 1
            sleep(1 / RATE)

    def command(self, serial: str, text: str) -> None:
        """A fault, or its end."""
        self.rig.command(serial, text)


@pytest.fixture
def belt(make_station: Make, broker: Any, tmp_path: Path) -> Iterator[Callable[..., Belt]]:
    """``belt("left", "right")``: a station with these cameras, not started yet."""
    with ExitStack() as stack:

        def make(*names: str) -> Belt:
            station = make_station(broker, parts=4)
            images = [read_image(path) for path in list_images(station.pictures)]
            height, width = images[0].shape[:2]
            devices = [DeviceSpec(name, "", width, height) for name in names]
            rig = stack.enter_context(Rig(tmp_path / "rig", devices))
            for name in names:
                rig.load(name, images)
            station.environment |= rig.environment()
            del station.sections["camera"]
            station.sections["cameras"] = [section(name) for name in names]
            return Belt(station, rig)

        yield make


def section(name: str) -> dict[str, Any]:
    """A camera on Line0 that counts its triggers."""
    return {
        "type": "genicam",
        "name": name,
        "cti": [str(producer_path())],
        "serial": name,
        "trigger": "line",
        "trigger_counter": "Counter0",
        # Too low on purpose: what passes beyond it is made up for by the camera's own count. Too
        # high would answer parts that never were, whenever the belt is slow for a moment.
        "expected_rate": RATE / 2,
        "features": [{"PixelFormat": "RGB8"}, {"ExposureTime": 100}],
    }


def base(name: str) -> str:
    """A lane's topics."""
    return f"inspectd/v1/site/area/line/station-{name}"


def numbers(verdicts: list[dict[str, Any]]) -> list[int]:
    """The parts that were answered, in the order of the answers, each result once."""
    by_result = {verdict["result_id"]: verdict for verdict in verdicts}
    return [int(verdict["part_id"].rsplit("-", 1)[1]) for verdict in by_result.values()]


def assert_each_once(verdicts: list[dict[str, Any]], parts: int) -> None:
    """Parts 1 to `parts`, each with one result; `seq` without a gap."""
    assert sorted(numbers(verdicts)) == list(range(1, parts + 1))
    assert sorted({verdict["seq"] for verdict in verdicts}) == list(range(1, parts + 1))


def test_every_edge_gets_a_verdict_whatever_becomes_of_its_frame(
    belt: Callable[..., Belt], broker: Any, collect: Make
) -> None:
    """Dropped, incomplete, of a wrong size, never taken: undecided with the reason; others fine."""
    line = belt("one")
    collector = collect(broker, base=base("one"))
    line.station.start()
    for fault in ("drop 1", "incomplete 1", "wrong-size 1", "no-frame 1"):
        line.run("one", 2)
        line.command("one", fault)
    line.run("one", 3)
    verdicts = collector.wait_verdicts(11)
    assert_each_once(verdicts, 11)
    reasons = Counter(v["reason"] for v in verdicts if v["verdict"] == "undecided")
    assert reasons == {"frame_lost": 2, "incomplete_frame": 1, "wrong_size": 1}
    assert line.station.stop() == 0


def test_a_cut_camera_is_made_up_for(belt: Callable[..., Belt], broker: Any, collect: Make) -> None:
    """Parts that pass meanwhile are undecided, an alarm tells people, and the count stays right."""
    line = belt("one")
    collector = collect(broker, base=base("one"))
    line.station.start()
    line.run("one", 5)
    line.command("one", "cut")
    line.run("one", 30)
    line.command("one", "join")
    line.run("one", 45)
    verdicts = collector.wait_verdicts(80)
    assert_each_once(verdicts, 80)
    assert {v["reason"] for v in verdicts if v["verdict"] == "undecided"} == {"camera_lost"}
    kinds = [record.json["kind"] for record in collector.records("alarm")]
    assert "camera_lost" in kinds
    assert "camera_returned" in kinds
    assert verdicts[-1]["verdict"] != "undecided"


def test_the_cameras_process_may_die_or_hang(
    belt: Callable[..., Belt], broker: Any, collect: Make
) -> None:
    """SIGKILL and a producer that wedges: another process takes over, and no part is forgotten."""
    line = belt("one")
    collector = collect(broker, base=base("one"))
    line.station.start()
    line.run("one", 5)
    daemon = psutil.Process(line.station.process.pid)
    (child,) = daemon.children()
    child.kill()
    line.run("one", 45)
    line.command("one", "freeze on")
    line.run("one", 20)
    line.command("one", "freeze off")
    line.run("one", 60)
    verdicts = collector.wait_verdicts(130)
    assert_each_once(verdicts, 130)
    assert verdicts[-1]["verdict"] != "undecided"
    assert len(daemon.children()) == 1


def test_the_camera_does_not_outlive_the_daemon(belt: Callable[..., Belt]) -> None:
    """Its process ends with a SIGKILL of the daemon, and the next daemon has the camera at once."""
    line = belt("one")
    line.station.start()
    (child,) = psutil.Process(line.station.process.pid).children()
    line.station.kill()
    _, alive = psutil.wait_procs([child], timeout=5)
    assert not alive
    line.station.start()
    assert line.rig.status("one").opened_by is not None
    assert line.station.stop() == 0


def test_cameras_of_a_station_do_not_disturb_each_other(
    belt: Callable[..., Belt], broker: Any, collect: Make
) -> None:
    """Each has its own topics and count; one that is unplugged leaves the other alone."""
    line = belt("left", "right")
    left, right = (collect(broker, base=base(name)) for name in ("left", "right"))
    line.station.start()
    line.command("left", "unplug")
    line.run("right", 20)
    assert_each_once(right.wait_verdicts(20), 20)
    assert all(v["verdict"] != "undecided" for v in right.verdicts())
    line.command("left", "plug")
    line.station.wait_log("camera_returned")
    line.run("left", 3)
    assert left.wait_verdicts(3)
    assert line.station.stop() == 0


def test_a_camera_that_is_not_there_is_named(belt: Callable[..., Belt]) -> None:
    """With those that are, and the daemon doesn't start."""
    line = belt("one")
    (camera,) = line.station.sections["cameras"]
    camera |= {"serial": "other", "open_timeout_s": 2.0}
    line.station.launch()
    assert line.station.wait() == 1
    assert "other isn't there; visible: one" in line.station.log_text()


def test_a_feature_that_the_camera_refuses_is_named(belt: Callable[..., Belt]) -> None:
    """With what was wanted and what it kept."""
    line = belt("one")
    line.station.sections["cameras"][0]["features"] = [{"Gain": 1e6}]
    line.station.launch()
    assert line.station.wait() == 1
    assert "feature Gain: wanted 1000000.0, got 0.0" in line.station.log_text()


def test_a_stop_leaves_the_camera_as_it_was_found(belt: Callable[..., Belt]) -> None:
    """Closed, so that another program can open it."""
    line = belt("one")
    line.station.start()
    line.station.signal(signal.SIGTERM)
    assert line.station.wait() == 0
    assert line.rig.status("one").opened_by is None


def test_what_passes_while_the_daemon_is_dead_is_answered(
    belt: Callable[..., Belt], broker: Any, collect: Make
) -> None:
    """After a SIGKILL the camera's counter says what passed: undecided, late, and in its place."""
    line = belt("one")
    collector = collect(broker, base=base("one"))
    line.station.start()
    line.run("one", 10)
    line.station.kill()
    line.run("one", 15)
    line.station.start()
    line.run("one", 10)
    verdicts = collector.wait_verdicts(35)
    assert_each_once(verdicts, 35)
    passed = {v["trigger_count"]: v for v in verdicts}
    assert sorted(passed) == list(range(1, 36))
    unattended = [passed[count] for count in range(13, 24)]
    assert {v["reason"] for v in unattended} == {"restarted"}
    assert all(v["late"] for v in unattended)
    assert passed[35]["verdict"] != "undecided"
    assert line.station.stop() == 0
    line.run("one", 5)  # while it is stopped in order, nobody is owed an answer
    line.station.start()
    line.run("one", 2)
    verdicts = collector.wait_verdicts(37)
    assert sorted(numbers(verdicts)) == list(range(1, 38))
    assert line.station.stop() == 0

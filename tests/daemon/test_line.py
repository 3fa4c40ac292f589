"""The line: every trigger gets exactly one letter, whatever camera, runtime and ledger do.

Camera, runtime and outlet are stand-ins here: what they do in these tests a real one does too
rarely. `tests/system` has the real ones.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from time import monotonic, monotonic_ns, sleep
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectd.core.bundle import Bundle
from inspectd.core.contracts import EndOfStream
from inspectd.core.errors import CameraError, InferenceError, LedgerError
from inspectd.core.records import AnomalyMap, Frame, ImageArray, Loss, Reason, Trigger
from inspectd.daemon import line as module
from inspectd.daemon.line import Line, Setup
from inspectd.ledger import Ledger, Letter
from inspectd.pipeline.inspector import Inspector

PATIENCE_S = 20.0
IMAGE = np.zeros((48, 64, 3), np.uint8)
WRONG = np.zeros((20, 20, 3), np.uint8)


class ScriptedCamera:
    """Delivers what a test puts into it; an error is raised, a callable is called first."""

    name = "scripted"
    rounding = 0.0

    def __init__(self) -> None:
        self.script: Queue[Any] = Queue()
        self.entered = 0
        self.refusals = 0
        """How often entering fails from now on."""
        self.is_open = False
        self._count = 0

    def __enter__(self) -> Self:
        if self.refusals:
            self.refusals -= 1
            raise CameraError("still gone")
        self.entered += 1
        self.is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False

    def add(self, *items: object) -> None:
        """More to deliver: an image, a `Reason` of a loss, an error, `EndOfStream()`."""
        for item in items:
            self.script.put(item)

    def next_event(self, timeout_s: float) -> Frame | Loss | EndOfStream | None:
        """See `Camera`; being asked while closed is a fault of the line."""
        assert self.is_open, "asked while closed"
        try:
            item = self.script.get(timeout=min(timeout_s, 0.01))
        except Empty:
            return None
        if callable(item):
            item = item()
        if isinstance(item, BaseException):
            raise item
        if isinstance(item, EndOfStream):
            return item
        self._count += 1
        trigger = Trigger(
            self.name, f"part-{self._count}", self._count, datetime.now(UTC), monotonic_ns()
        )
        return Loss(trigger, item) if isinstance(item, Reason) else Frame(trigger, item)


class ScriptedRuntime:
    """Passes every part, but for what a test puts into it."""

    name = "scripted"
    rounding = 0.0

    def __init__(self) -> None:
        self.failures: Queue[BaseException] = Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Waits for the gate, fails if told to, else scores 0.2."""
        self.began.set()
        self.gate.wait(PATIENCE_S)
        try:
            raise self.failures.get_nowait()
        except Empty:
            return AnomalyMap(np.full((32, 40), 0.2, np.float32), 0.2)


@dataclass
class Outlet:
    """Keeps what is sent."""

    letters: list[Letter] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    def publish(self, letter: Letter) -> None:
        """See `line.Outlet`."""
        self.letters.append(letter)

    def alarm(self, kind: str, text: str, **facts: object) -> None:
        """See `line.Outlet`."""
        self.alarms.append(kind)

    def verdicts(self) -> list[dict[str, Any]]:
        """Contents of all letters."""
        return [json.loads(letter.verdict) for letter in list(self.letters)]

    def reasons(self) -> list[str]:
        """Of all letters, in order."""
        return [verdict["reason"] for verdict in self.verdicts()]


@dataclass
class Bench:
    """A line and everything around it."""

    line: Line
    camera: ScriptedCamera
    runtime: ScriptedRuntime
    outlet: Outlet
    ledger: Ledger
    closed: Counter[str]
    """Setups by their name, counted when they are closed."""
    bundle: Bundle

    def setup(self, name: str, runtime: ScriptedRuntime | None = None) -> Setup:
        """Another setup, to change over to."""
        return make_setup(self.bundle, runtime or self.runtime, self.closed, name)

    def wait(self, letters: int) -> None:
        """Until so many letters were sent."""
        wait_until(lambda: len(self.outlet.letters) >= letters)


def wait_until(condition: Callable[[], object]) -> None:
    """Fails if it never holds."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.002)


def make_setup(bundle: Bundle, runtime: ScriptedRuntime, closed: Counter[str], name: str) -> Setup:
    """A setup that tells when it is closed."""

    def count() -> None:
        closed[name] += 1

    lifetime = ExitStack()
    lifetime.callback(count)
    return Setup(Inspector(bundle, runtime), 1000, lifetime)


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Threshold 0.5, pictures of 48 x 64."""
    return make_bundle(tmp_path_factory.mktemp("line") / "bundle")


@contextmanager
def bench_of(bundle: Bundle, folder: Path, queue: int = 8, started: bool = True) -> Iterator[Bench]:
    """A running line with an empty script; stopped at the end."""
    camera, runtime, outlet = ScriptedCamera(), ScriptedRuntime(), Outlet()
    closed: Counter[str] = Counter()
    with Ledger(folder / "line.sqlite3") as ledger, camera:
        line = Line(
            camera,
            make_setup(bundle, runtime, closed, "first"),
            ledger,
            outlet,
            queue=queue,
            mask_topic="mask",
            is_simulated=False,
        )
        if started:
            line.start()
        yield Bench(line, camera, runtime, outlet, ledger, closed, bundle)
        runtime.gate.set()
        line.stop(PATIENCE_S)


@pytest.fixture
def bench(bundle: Bundle, tmp_path: Path) -> Iterator[Bench]:
    """A line with room for 8 parts."""
    with bench_of(bundle, tmp_path) as made:
        yield made


def assert_answered(bench: Bench, triggers: int) -> None:
    """One letter per trigger, numbered without a gap, and none left open in the ledger."""
    assert sorted(letter.seq for letter in bench.outlet.letters) == list(range(1, triggers + 1))
    assert len({letter.result_id for letter in bench.outlet.letters}) == triggers
    assert bench.ledger.recover() == []
    assert sum(bench.line.counts.values()) == triggers


# --- the invariant -----------------------------------------------------------------------------

EVENTS = st.lists(
    st.sampled_from(["good", "wrong", "loss", "inference", "camera", "hold", "release", "change"]),
    max_size=25,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(events=EVENTS, queue=st.integers(1, 3), ends=st.booleans())
def test_every_trigger_gets_exactly_one_letter(
    bundle: Bundle, events: list[str], queue: int, ends: bool
) -> None:
    """In the order of the triggers, through faults, overrun, changeover and a stop in between."""
    with tempfile.TemporaryDirectory() as folder:
        with bench_of(bundle, Path(folder), queue) as bench:
            changes = 0
            for event in events:
                changes += event == "change"
                play(bench, event, changes)
            triggers = sum(event in ("good", "wrong", "loss", "inference") for event in events)
            if ends:
                bench.camera.add(EndOfStream())
                wait_until(bench.line.ended.is_set)
            else:
                wait_until(bench.camera.script.empty)
            bench.runtime.gate.set()
            bench.line.stop(PATIENCE_S)
            assert [letter.seq for letter in bench.outlet.letters] == list(range(1, triggers + 1))
            assert_answered(bench, triggers)
            assert bench.line.failure is None
        assert all(count == 1 for count in bench.closed.values())
        assert len(bench.closed) == changes + 1


def play(bench: Bench, event: str, number: int) -> None:
    """One step of a generated story."""
    match event:
        case "good":
            bench.camera.add(IMAGE)
        case "wrong":
            bench.camera.add(WRONG)
        case "loss":
            bench.camera.add(Reason.FRAME_LOST)
        case "inference":
            bench.runtime.failures.put(InferenceError("told to"))
            bench.camera.add(IMAGE)
        case "camera":
            bench.camera.add(CameraError("told to"))
        case "hold":
            bench.runtime.gate.clear()
        case "release":
            bench.runtime.gate.set()
        case "change":
            bench.line.change_over(bench.setup(f"setup-{number}"))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost camera is tried again soon."""
    monkeypatch.setattr(module, "CAMERA_RETRY_S", (0.001, 0.002))


# --- order and overrun -------------------------------------------------------------------------


def test_verdicts_come_in_the_order_of_parts(bench: Bench) -> None:
    """A lost frame doesn't overtake the part before it: a gate would see a gap."""
    bench.runtime.gate.clear()
    bench.camera.add(IMAGE, Reason.FRAME_LOST, IMAGE, Reason.UNREADABLE_IMAGE)
    wait_until(bench.camera.script.empty)
    bench.runtime.gate.set()
    bench.wait(4)
    assert [letter.seq for letter in bench.outlet.letters] == [1, 2, 3, 4]


def test_parts_beyond_the_queue_are_overrun(bundle: Bundle, tmp_path: Path) -> None:
    """One in inspection, two waiting, the rest undecided; afterwards there is room again."""
    with bench_of(bundle, tmp_path, queue=2) as bench:
        bench.runtime.gate.clear()
        bench.camera.add(IMAGE)
        assert bench.runtime.began.wait(PATIENCE_S)
        bench.camera.add(*[IMAGE] * 5)
        wait_until(lambda: bench.ledger.waiting() == 6)
        bench.runtime.gate.set()
        bench.wait(6)
        bench.camera.add(IMAGE)
        bench.wait(7)
        assert bench.outlet.reasons() == [
            *["below_threshold"] * 3,
            *["overrun"] * 3,
            "below_threshold",
        ]


def test_a_stuck_inspector_does_not_fill_the_memory(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound even undecided parts are answered at once, and room isn't lost by it."""
    monkeypatch.setattr(module, "MAX_UNDECIDED", 3)
    with bench_of(bundle, tmp_path, queue=1) as bench:
        bench.runtime.gate.clear()
        bench.camera.add(IMAGE)
        assert bench.runtime.began.wait(PATIENCE_S)
        bench.camera.add(*[Reason.FRAME_LOST] * 4, *[IMAGE] * 3)
        wait_until(lambda: len(bench.outlet.letters) == 3)
        bench.runtime.gate.set()
        bench.wait(8)
        bench.camera.add(IMAGE)
        bench.wait(9)
        assert bench.outlet.reasons()[-1] == "below_threshold"
        assert_answered(bench, 9)


# --- faults ------------------------------------------------------------------------------------


def test_a_runtime_that_fails_costs_one_part(bench: Bench) -> None:
    """The next one is decided."""
    bench.runtime.failures.put(InferenceError("out of memory"))
    bench.camera.add(IMAGE, IMAGE)
    bench.wait(2)
    assert bench.outlet.reasons() == ["inference_failed", "below_threshold"]


def test_a_runtime_that_breaks_its_contract_ends_the_line(bench: Bench) -> None:
    """Its part and those behind it are answered, and the daemon can tell systemd."""
    bench.runtime.gate.clear()
    bench.runtime.failures.put(RuntimeError("unheard of"))
    bench.camera.add(IMAGE, IMAGE, IMAGE)
    wait_until(lambda: bench.ledger.waiting() == 3)
    bench.runtime.gate.set()
    assert bench.line.ended.wait(PATIENCE_S)
    bench.line.stop(PATIENCE_S)
    assert isinstance(bench.line.failure, RuntimeError)
    assert bench.outlet.reasons() == ["inference_failed", "stopped", "stopped"]
    assert_answered(bench, 3)


def test_a_lost_camera_comes_back(bench: Bench) -> None:
    """It is left, entered until that succeeds, never asked in between, and one alarm is given."""
    bench.camera.refusals = 3
    bench.camera.add(IMAGE, CameraError("unplugged"), IMAGE)
    bench.wait(2)
    assert bench.camera.entered == 2
    assert bench.outlet.alarms == ["camera_lost"]
    assert bench.line.camera_up
    assert bench.line.failure is None


def test_a_camera_that_stays_away_does_not_hold_the_stop(bench: Bench) -> None:
    """The line stops while it tries to open it."""
    bench.camera.refusals = 10**9
    bench.camera.add(CameraError("gone"))
    wait_until(lambda: not bench.line.camera_up)
    started = monotonic()
    bench.line.stop(PATIENCE_S)
    assert monotonic() - started < PATIENCE_S / 2


def test_a_camera_that_breaks_its_contract_ends_the_line(bench: Bench) -> None:
    """What it delivered before is answered."""
    bench.camera.add(IMAGE, ZeroDivisionError("a driver's bug"))
    assert bench.line.ended.wait(PATIENCE_S)
    bench.line.stop(PATIENCE_S)
    assert isinstance(bench.line.failure, ZeroDivisionError)
    assert_answered(bench, 1)


class BrokenLedger(Ledger):
    """A disk that is full from the start."""

    def open_part(self, trigger: Trigger) -> Any:
        """See `Ledger`."""
        raise LedgerError("disk full")

    def decide(self, letter: Letter) -> None:
        """See `Ledger`."""
        raise LedgerError("disk full")


def test_a_full_disk_stops_no_verdict(bundle: Bundle, tmp_path: Path) -> None:
    """Parts are numbered and answered all the same, and people are told."""
    outlet, camera = Outlet(), ScriptedCamera()
    setup = make_setup(bundle, ScriptedRuntime(), Counter(), "only")
    with BrokenLedger(tmp_path / "line.sqlite3") as ledger, camera:
        line = Line(camera, setup, ledger, outlet, queue=8, mask_topic="mask", is_simulated=True)
        line.start()
        camera.add(IMAGE, IMAGE, EndOfStream())
        assert line.ended.wait(PATIENCE_S)
        line.stop(PATIENCE_S)
    assert [letter.seq for letter in outlet.letters] == [1, 2]
    assert outlet.reasons() == ["below_threshold"] * 2
    assert "ledger_failed" in outlet.alarms


# --- stop, restart, changeover -----------------------------------------------------------------


def test_a_stop_answers_what_waits(bench: Bench) -> None:
    """With no time to drain, parts that nobody looked at are undecided (stopped)."""
    bench.runtime.gate.clear()
    bench.camera.add(IMAGE, IMAGE, IMAGE)
    wait_until(lambda: bench.ledger.waiting() == 3)
    bench.line.stop(0.3)
    assert bench.outlet.reasons() == ["stopped", "stopped"]
    bench.runtime.gate.set()
    bench.wait(3)
    assert_answered(bench, 3)


def test_a_stuck_part_is_left_to_the_next_start(bench: Bench) -> None:
    """The stop doesn't wait for it beyond its time; its row stays open."""
    bench.runtime.gate.clear()
    bench.camera.add(IMAGE)
    assert bench.runtime.began.wait(PATIENCE_S)
    wait_until(lambda: bench.line.is_stuck(0.01))
    started = monotonic()
    bench.line.stop(0.3)
    assert monotonic() - started < PATIENCE_S / 2
    assert [ticket.trigger.part_id for ticket in bench.ledger.recover()] == ["part-1"]


def test_idle_is_not_stuck(bench: Bench) -> None:
    """A line without parts makes progress."""
    bench.camera.add(IMAGE)
    bench.wait(1)
    assert not bench.line.is_stuck(0.0)


def test_open_parts_of_an_earlier_run_are_answered_first(bundle: Bundle, tmp_path: Path) -> None:
    """As undecided (restarted), and late even if the clock began anew with the machine."""
    future = monotonic_ns() + 10**15
    with bench_of(bundle, tmp_path, started=False) as bench:
        trigger = Trigger("camera", "old", 1, datetime.now(UTC), future)
        ticket = bench.ledger.open_part(trigger)
        bench.camera.add(IMAGE)
        bench.line.start(bench.ledger.recover())
        bench.wait(2)
        assert bench.outlet.reasons() == ["restarted", "below_threshold"]
        first = bench.outlet.letters[0]
        assert first.result_id == ticket.result_id
        assert first.deadline_ns is not None
        assert first.deadline_ns < monotonic_ns()


def test_a_changeover_holds_from_the_next_part_on(bench: Bench) -> None:
    """A part that comes after it is inspected by the new setup, though the line waited before."""
    bench.camera.add(IMAGE)
    bench.wait(1)
    fresh = ScriptedRuntime()
    fresh.failures.put(InferenceError("the new one"))
    bench.line.change_over(bench.setup("second", fresh))
    bench.camera.add(IMAGE)
    bench.wait(2)
    assert bench.outlet.reasons() == ["below_threshold", "inference_failed"]
    assert bench.closed == {"first": 1}


def test_a_setup_that_never_ran_is_closed(bench: Bench) -> None:
    """Replaced by a third one before its turn, or waiting at the stop."""
    bench.runtime.gate.clear()
    bench.camera.add(IMAGE)
    assert bench.runtime.began.wait(PATIENCE_S)
    bench.line.change_over(bench.setup("second"))
    bench.line.change_over(bench.setup("third"))
    assert bench.closed == {"second": 1}
    bench.runtime.gate.set()
    bench.line.stop(PATIENCE_S)
    assert bench.closed == {"first": 1, "second": 1, "third": 1}

"""The line: every trigger gets exactly one letter, whatever camera, runtime and ledger do.

Camera, runtime and outlet are stand-ins here: what they do in these tests a real one does too
rarely. `tests/system` has the real ones.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
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
from inspectd.daemon.answers import Answers, Setup
from inspectd.daemon.line import Line
from inspectd.ledger import Ledger, Letter
from inspectd.pipeline.inspector import Inspector

PATIENCE_S = 20.0
FAR_MS = 600_000
"""A deadline that no test comes near."""
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
        if isinstance(item, Loss):
            return item
        self._count += 1
        trigger = Trigger(
            self.name, f"part-{self._count}", self._count, datetime.now(UTC), monotonic_ns()
        )
        return Loss(trigger, item) if isinstance(item, Reason) else Frame(trigger, item)


def trigger_now() -> Trigger:
    """Of a part that passes now."""
    return Trigger("scripted", "past", 0, datetime.now(UTC), monotonic_ns())


class ScriptedRuntime:
    """Passes every part, but for what a test puts into it."""

    name = "scripted"
    rounding = 0.0

    def __init__(self) -> None:
        self.failures: Queue[BaseException] = Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()
        self.calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Waits for the gate, fails if told to, else scores 0.2."""
        self.calls += 1
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
    sent_ns: list[int] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    before_alarm: Callable[[], object] = lambda: None

    def publish(self, letter: Letter) -> None:
        """See `answers.Outlet`."""
        self.sent_ns.append(monotonic_ns())
        self.letters.append(letter)

    def alarm(self, kind: str, text: str, **facts: object) -> None:
        """See `answers.Alarm`."""
        self.before_alarm()
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
    answers: Answers
    camera: ScriptedCamera
    runtime: ScriptedRuntime
    outlet: Outlet
    ledger: Ledger
    closed: Counter[str]
    """Setups by their name, counted when they are closed."""
    bundle: Bundle

    def setup(
        self, name: str, runtime: ScriptedRuntime | None = None, deadline_ms: int = FAR_MS
    ) -> Setup:
        """Another setup, to change over to."""
        return make_setup(self.bundle, runtime or self.runtime, self.closed, name, deadline_ms)

    def wait(self, letters: int) -> None:
        """Until so many letters were sent."""
        wait_until(lambda: len(self.outlet.letters) >= letters)


def wait_until(condition: Callable[[], object]) -> None:
    """Fails if it never holds."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.002)


def make_setup(
    bundle: Bundle,
    runtime: ScriptedRuntime,
    closed: Counter[str],
    name: str,
    deadline_ms: int = FAR_MS,
) -> Setup:
    """A setup that tells when it is closed."""

    def count() -> None:
        closed[name] += 1

    lifetime = ExitStack()
    lifetime.callback(count)
    return Setup(Inspector(bundle, runtime), deadline_ms, lifetime)


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Threshold 0.5, pictures of 48 x 64."""
    return make_bundle(tmp_path_factory.mktemp("line") / "bundle")


@contextmanager
def bench_of(
    bundle: Bundle,
    folder: Path,
    queue: int = 8,
    started: bool = True,
    deadline_ms: int = FAR_MS,
) -> Iterator[Bench]:
    """A running line with an empty script; stopped at the end."""
    camera, runtime, outlet = ScriptedCamera(), ScriptedRuntime(), Outlet()
    closed: Counter[str] = Counter()
    with (
        Ledger(folder / "line.sqlite3") as ledger,
        Answers(ledger, outlet, outlet.alarm, "mask") as answers,
        camera,
    ):
        setup = make_setup(bundle, runtime, closed, "first", deadline_ms)
        line = Line(camera, setup, answers, outlet.alarm, queue=queue)
        if started:
            line.start()
        yield Bench(line, answers, camera, runtime, outlet, ledger, closed, bundle)
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
    assert sum(bench.answers.counts.values()) == triggers


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
    """Beyond a bound parts are left to the timer, in order, and room isn't lost by it."""
    monkeypatch.setattr(module, "MAX_UNDECIDED", 3)
    monkeypatch.setattr(module, "MAX_SWITCHES", 0)
    with bench_of(bundle, tmp_path, queue=1, deadline_ms=1500) as bench:
        bench.runtime.gate.clear()
        bench.camera.add(IMAGE)
        assert bench.runtime.began.wait(PATIENCE_S)
        bench.camera.add(*[Reason.FRAME_LOST] * 4, *[IMAGE] * 3)
        bench.wait(8)
        assert bench.outlet.reasons() == ["late", *["frame_lost"] * 4, *["late"] * 3]
        bench.runtime.gate.set()
        wait_until(bench.line._jobs.empty)
        bench.camera.add(IMAGE)
        bench.wait(9)
        assert bench.outlet.reasons()[-1] == "below_threshold"
        assert [letter.seq for letter in bench.outlet.letters] == list(range(1, 10))
        assert_answered(bench, 9)


# --- deadlines ---------------------------------------------------------------------------------


def test_a_part_that_cannot_make_it_is_answered_in_time(bundle: Bundle, tmp_path: Path) -> None:
    """Undecided (late), before its deadline; what is found later is stored, and not sent."""
    with bench_of(bundle, tmp_path, deadline_ms=400) as bench:
        bench.runtime.gate.clear()
        bench.camera.add(IMAGE)
        bench.wait(1)
        (letter,) = bench.outlet.letters
        assert letter.deadline_ns is not None
        left_ms = (letter.deadline_ns - bench.outlet.sent_ns[0]) / 1e6
        assert left_ms < 50
        assert bench.outlet.reasons() == ["late"]
        assert bench.outlet.alarms == ["late_verdict"]
        bench.runtime.gate.set()
        wait_until(lambda: later_of(tmp_path))
        assert json.loads(later_of(tmp_path)[0])["verdict"] == "pass"
        bench.camera.add(IMAGE)
        bench.wait(2)
        assert bench.outlet.reasons() == ["late", "below_threshold"]
        assert_answered(bench, 2)


def later_of(folder: Path) -> list[str]:
    """Results that came too late, as the ledger keeps them."""
    with closing(sqlite3.connect(folder / "line.sqlite3")) as connection:
        query = "SELECT later FROM part WHERE later IS NOT NULL"
        return [row[0] for row in connection.execute(query)]


def test_parts_behind_a_late_one_are_not_inspected_in_vain(bundle: Bundle, tmp_path: Path) -> None:
    """Those whose time ran out in the queue are passed over, so that the line catches up."""
    with bench_of(bundle, tmp_path, deadline_ms=300) as bench:
        bench.runtime.gate.clear()
        bench.camera.add(*[IMAGE] * 5)
        bench.wait(5)
        calls = bench.runtime.calls
        bench.runtime.gate.set()
        bench.camera.add(IMAGE)
        bench.wait(6)
        assert bench.runtime.calls == calls + 1
        assert bench.outlet.reasons() == [*["late"] * 5, "below_threshold"]


def test_a_dead_inspector_leaves_no_part_without_an_answer(bundle: Bundle, tmp_path: Path) -> None:
    """The timer needs nobody."""
    with bench_of(bundle, tmp_path, started=False, deadline_ms=200) as bench:
        bench.line._pump.start()  # and no inspector
        bench.camera.add(IMAGE, Reason.FRAME_LOST, IMAGE)
        bench.wait(3)
        assert bench.outlet.reasons() == ["late", "frame_lost", "late"]
        bench.line._worker.start()
        assert_answered(bench, 3)


def test_a_shorter_deadline_does_not_overtake(bundle: Bundle, tmp_path: Path) -> None:
    """After a changeover to one, verdicts still come in the order of the parts."""
    with bench_of(bundle, tmp_path, deadline_ms=1200) as bench:
        bench.runtime.gate.clear()
        bench.camera.add(IMAGE)
        assert bench.runtime.began.wait(PATIENCE_S)
        bench.line.change_over(bench.setup("hasty", deadline_ms=50))
        bench.camera.add(IMAGE)
        bench.wait(2)
        assert [letter.seq for letter in bench.outlet.letters] == [1, 2]
        assert [v["deadline_ms"] for v in bench.outlet.verdicts()] == [1200, 50]


def test_a_long_deadline_does_not_keep_a_later_short_one(bundle: Bundle, tmp_path: Path) -> None:
    """What was answered long ago holds nobody up."""
    with bench_of(bundle, tmp_path) as bench:
        bench.camera.add(IMAGE)
        bench.wait(1)
        bench.line.change_over(bench.setup("hasty", deadline_ms=200))
        bench.runtime.gate.clear()
        started = monotonic()
        bench.camera.add(IMAGE)
        bench.wait(2)
        assert bench.outlet.reasons() == ["below_threshold", "late"]
        assert monotonic() - started < PATIENCE_S / 4


def test_the_verdict_goes_before_the_alarm(bundle: Bundle, tmp_path: Path) -> None:
    """Whoever is told may take long: a log that nobody reads blocks."""
    with bench_of(bundle, tmp_path, deadline_ms=100) as bench:
        blocked = threading.Event()
        bench.outlet.before_alarm = lambda: blocked.wait(PATIENCE_S)
        bench.runtime.gate.clear()
        bench.camera.add(IMAGE)
        bench.wait(1)
        assert bench.answers.counts == {"undecided": 1}
        blocked.set()


def test_a_runtime_that_hangs_at_its_end_is_noticed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a changeover, in the inspector's thread."""
    monkeypatch.setattr(module, "STUCK_S", 0.01)
    blocked = threading.Event()
    slow = bench.setup("slow", deadline_ms=1)
    slow.lifetime.callback(lambda: blocked.wait(PATIENCE_S))
    bench.line.change_over(slow)
    bench.line.change_over(bench.setup("next", deadline_ms=1))
    wait_until(bench.line.stuck)
    blocked.set()
    wait_until(lambda: bench.line.stuck() is None)


def test_a_stop_takes_what_the_camera_has(bench: Bench) -> None:
    """A burst that it has seen is answered, not forgotten."""
    bench.camera.add(*[Reason.FRAME_LOST] * 500, *[IMAGE] * 5)
    bench.line.stop(PATIENCE_S)
    assert bench.camera.script.empty()
    assert len(bench.outlet.letters) == 505
    assert_answered(bench, 505)


def test_what_passed_long_ago_is_late(bench: Bench) -> None:
    """A part whose time isn't known doesn't claim to be in front of the gate."""
    bench.camera.add(lambda: Loss(trigger_now(), Reason.RESTARTED, is_past=True))
    bench.wait(1)
    assert bench.outlet.letters[0].deadline_ns == 0


def test_a_stopped_station_answers_all_the_same(bench: Bench) -> None:
    """Parts are undecided (stopped) until it is started again."""
    bench.line.is_paused = True
    bench.camera.add(IMAGE, Reason.FRAME_LOST)
    bench.wait(2)
    bench.line.is_paused = False
    bench.line.is_simulated = True
    bench.camera.add(IMAGE)
    bench.wait(3)
    assert bench.outlet.reasons() == ["stopped", "frame_lost", "below_threshold"]
    assert [v["is_simulated"] for v in bench.outlet.verdicts()] == [False, False, True]


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
    with (
        BrokenLedger(tmp_path / "line.sqlite3") as ledger,
        Answers(ledger, outlet, outlet.alarm, "mask") as answers,
        camera,
    ):
        line = Line(camera, setup, answers, outlet.alarm, queue=8)
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
    assert bench.outlet.reasons() == ["stopped", "stopped", "stopped"]
    assert_answered(bench, 3)


def test_a_stop_does_not_wait_for_a_stuck_part(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond its time: the part is answered, and what the inspector uses isn't closed under it."""
    monkeypatch.setattr(module, "STUCK_S", 0.01)
    bench.line.change_over(bench.setup("hasty", deadline_ms=2000))
    bench.runtime.gate.clear()
    bench.camera.add(IMAGE)
    assert bench.runtime.began.wait(PATIENCE_S)
    wait_until(bench.line.stuck)
    started = monotonic()
    bench.line.stop(0.3)
    assert monotonic() - started < PATIENCE_S / 2
    assert bench.outlet.reasons() == ["late"]
    assert bench.closed == {"first": 1}


def test_idle_is_not_stuck(bench: Bench) -> None:
    """A line without parts makes progress."""
    bench.camera.add(IMAGE)
    bench.wait(1)
    assert bench.line.stuck() is None


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
    assert not bench.closed
    bench.runtime.gate.set()
    bench.line.stop(PATIENCE_S)
    assert bench.closed == {"first": 1, "second": 1, "third": 1}

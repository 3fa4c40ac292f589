"""Every trigger is answered exactly once, and never with another part's picture.

The property tests play a camera against the rules: what it does is drawn at random, and each frame
carries, in `slot`, which trigger it is really of.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspectd.acquisition.counting import (
    BLOCK_ID_MAX,
    ByCount,
    ByFrameId,
    BySchedule,
    Counting,
    LastPart,
    Missed,
    Outcome,
    Restart,
    Seen,
    Surplus,
    Trigger,
)
from inspectd.acquisition.messages import Bad, Count, Picture
from inspectd.core.records import Reason

TIMEOUT_S = 0.5


def frame(of: int, frame_id: int = 0, count: int | None = None, part: int | None = None) -> Picture:
    """A frame that is really of this trigger."""
    return Picture(slot=of, shape=(2, 2), frame_id=frame_id, captured_ns=1, count=count, part=part)


def incomplete(part: int | None = None) -> Bad:
    """A frame of which nothing is known."""
    return Bad(Reason.INCOMPLETE, "incomplete", part=part)


def numbers(outcomes: Iterable[Outcome]) -> list[int]:
    """Of the parts that were answered, in order."""
    return [outcome.number for outcome in outcomes if isinstance(outcome, Seen | Missed)]


def seen(outcomes: Iterable[Outcome]) -> list[tuple[int, int]]:
    """Part numbers, each with the trigger that its picture is of."""
    return [(o.number, o.picture.slot) for o in outcomes if isinstance(o, Seen)]


def reasons(outcomes: Iterable[Outcome]) -> list[str]:
    """Why parts were missed, by number."""
    return [f"{o.number} {o.reason.value}" for o in outcomes if isinstance(o, Missed)]


def assert_gapless(outcomes: Iterable[Outcome]) -> None:
    """Each number once, in order, from 1."""
    found = numbers(outcomes)
    assert found == list(range(1, len(found) + 1))


# --- by the camera's count ---------------------------------------------------------------------


class CountingCamera:
    """A camera with a counter of triggers, and the rules that listen to it."""

    def __init__(self, expected_rate: float | None = None, start: int = 0) -> None:
        self.rules = ByCount(TIMEOUT_S, expected_rate)
        self.now = 1000.0
        self.count = start
        self.triggers = 0
        self.is_up = True
        self.was_reset = False
        self.outcomes: list[Outcome] = []
        self._late: list[Picture] = []
        self.heed(self.rules.streaming(self.now, None, self.count))

    def heed(self, outcomes: list[Outcome]) -> None:
        self.outcomes += outcomes

    def do(self, action: str) -> None:
        getattr(self, action.replace("-", "_"))()

    def trigger(self) -> Picture:
        self.count += 1
        self.triggers += 1
        return frame(self.triggers, count=self.count)

    def good(self) -> None:
        picture = self.trigger()
        if self.is_up:
            self.heed(self.rules.picture(picture))

    def dropped(self) -> None:
        self.trigger()

    def late(self) -> None:
        picture = self.trigger()
        if self.is_up:
            self._late.append(picture)

    def release(self) -> None:
        late, self._late = self._late, []
        for picture in late:
            self.heed(self.rules.picture(picture))

    def bad(self) -> None:
        picture = self.trigger()
        if self.is_up:
            self.heed(self.rules.bad(Bad(Reason.OVERRUN, "overrun", 0, picture.count)))

    def incomplete(self) -> None:
        self.trigger()
        if self.is_up:
            self.heed(self.rules.bad(incomplete()))

    def unchunked(self) -> None:
        picture = self.trigger()
        if self.is_up:
            self.heed(self.rules.picture(frame(picture.slot, count=None)))

    def poll(self) -> None:
        if self.is_up:
            self.heed(self.rules.counted(self.now, Count(self.count)))

    def wait(self, seconds: float = 0.2) -> None:
        self.now += seconds
        self.heed(self.rules.tick(self.now))

    def lose(self) -> None:
        if self.is_up:
            self.is_up = False
            self._late.clear()
            self.heed(self.rules.lost(self.now))

    def find(self) -> None:
        if not self.is_up:
            self.is_up = True
            self.heed(self.rules.streaming(self.now, None, self.count))

    def power_cut(self) -> None:
        self.lose()
        self.count, self.was_reset = 0, True

    def settle(self) -> None:
        """All that is still open is answered, by a camera that is there."""
        self.find()
        self.poll()
        self.wait(2 * TIMEOUT_S)
        self.release()


PROMPT = ["good", "good", "good", "dropped", "bad", "late", "release", "poll", "wait"]
KEPT = [*PROMPT, "incomplete", "lose", "find", "find"]
ANY = [*KEPT, "unchunked", "power-cut"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(KEPT), max_size=60), st.integers(0, 2**32))
def test_a_camera_that_counts_on_hides_nothing(actions: list[str], start: int) -> None:
    """As many answers as triggers, each number the trigger's own, each picture its own."""
    camera = CountingCamera(start=start)
    for action in actions:
        camera.do(action)
    camera.settle()
    assert numbers(camera.outcomes) == list(range(1, camera.triggers + 1))
    assert all(number == of for number, of in seen(camera.outcomes))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(ANY), max_size=60),
    st.sampled_from([None, 3.0, 40.0]),
    st.integers(0, 100),
)
def test_no_number_twice_and_no_gap_whatever_happens(
    actions: list[str], rate: float | None, start: int
) -> None:
    """Power cuts, expected parts, frames without a count: numbers go on, pictures keep order."""
    camera = CountingCamera(rate, start)
    for action in actions:
        camera.do(action)
    camera.settle()
    assert_gapless(camera.outcomes)
    pictures = [of for _, of in seen(camera.outcomes)]
    assert pictures == sorted(set(pictures))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2**33), min_size=1, max_size=12))
def test_a_counter_that_is_garbage_costs_no_part(counts: list[int]) -> None:
    """A reset, a wrap or nonsense: later parts are answered, and no flood comes of it."""
    rules = ByCount(TIMEOUT_S, None)
    outcomes = rules.streaming(0.0, None, 5)
    for index, count in enumerate(counts):
        outcomes += rules.counted(float(index), Count(count))
        outcomes += rules.picture(frame(index, count=count))
    assert_gapless(outcomes)
    surplus = [outcome for outcome in outcomes if isinstance(outcome, Surplus)]
    assert len(seen(outcomes)) + len(surplus) == len(counts)


def test_a_counter_that_wraps_goes_on() -> None:
    """At 16 bits, or at any other number; the frame behind it isn't surplus."""
    rules = ByCount(TIMEOUT_S, None)
    outcomes = rules.streaming(0.0, None, 65_533)
    for index, count in enumerate((65_534, 65_535, 0, 1, 2)):
        outcomes += rules.picture(frame(index + 1, count=count))
    assert seen(outcomes) == [(n, n) for n in range(1, 6)]


def test_a_counter_that_is_reset_under_way_goes_on() -> None:
    """What was polled before is answered first."""
    rules = ByCount(TIMEOUT_S, None)
    outcomes = rules.streaming(0.0, None, 0)
    outcomes += rules.picture(frame(1, count=1))
    for count in range(2, 600):
        outcomes += rules.picture(frame(count, count=count))
    outcomes += rules.counted(0.0, Count(600))
    outcomes += rules.picture(frame(601, count=1))
    assert_gapless(outcomes)
    assert reasons(outcomes) == ["600 frame_lost"]
    assert seen(outcomes)[-1] == (601, 601)


def test_a_frame_of_the_same_trigger_is_surplus() -> None:
    """Two frames of one trigger answer one part."""
    rules = ByCount(TIMEOUT_S, None)
    outcomes = rules.streaming(0.0, None, 0)
    for count in (1, 1, 2, 2):
        outcomes += rules.picture(frame(count, count=count))
    assert seen(outcomes) == [(1, 1), (2, 2)]
    assert sum(isinstance(outcome, Surplus) for outcome in outcomes) == 2


def test_a_silent_trigger_is_answered_at_its_time() -> None:
    """`due` says when; not before, and once."""
    rules = ByCount(TIMEOUT_S, None)
    rules.streaming(0.0, None, 7)
    assert rules.due() is None
    rules.counted(10.0, Count(9))
    assert rules.due() == 10.5
    assert rules.tick(10.4) == []
    assert reasons(rules.tick(10.5)) == ["1 frame_lost", "2 frame_lost"]
    assert rules.tick(20.0) == []
    assert isinstance(rules.picture(frame(1, count=8))[0], Surplus)
    assert seen(rules.picture(frame(3, count=10))) == [(3, 3)]


def test_fewer_parts_than_expected_while_it_was_away() -> None:
    """What was answered stays answered; numbers go on behind it."""
    rules = ByCount(TIMEOUT_S, 10.0)
    rules.streaming(0.0, None, 0)
    rules.picture(frame(1, count=1))
    rules.lost(100.0)
    assert numbers(rules.tick(100.55)) == [2, 3, 4, 5, 6]
    assert rules.streaming(101.0, None, 3) == []
    assert seen(rules.picture(frame(4, count=4))) == [(7, 4)]


def test_more_parts_than_expected_while_it_was_away() -> None:
    """The rest is answered when it is back."""
    rules = ByCount(TIMEOUT_S, 10.0)
    rules.streaming(0.0, None, 0)
    rules.lost(100.0)
    assert numbers(rules.tick(100.25)) == [1, 2]
    assert reasons(rules.streaming(101.0, None, 4)) == ["3 camera_lost", "4 camera_lost"]
    assert seen(rules.picture(frame(5, count=5))) == [(5, 5)]


def test_polled_triggers_are_not_expected_again() -> None:
    """A trigger that the counter told is answered at the loss, and not by the rate too."""
    rules = ByCount(TIMEOUT_S, 10.0)
    rules.streaming(0.0, None, 0)
    rules.picture(frame(1, count=1))
    rules.counted(50.0, Count(3))
    outcomes = rules.lost(50.05) + rules.tick(50.06)
    assert reasons(outcomes) == ["2 camera_lost", "3 camera_lost"]


def test_parts_since_its_power_came_back_are_answered() -> None:
    """It starts to count at 0, and what it counted is no picture any more."""
    rules = ByCount(TIMEOUT_S, None)
    rules.streaming(0.0, None, 100)
    rules.lost(1.0)
    assert reasons(rules.streaming(2.0, None, 2)) == ["1 camera_lost", "2 camera_lost"]
    assert seen(rules.picture(frame(3, count=3))) == [(3, 3)]


def test_what_passed_while_no_daemon_ran_is_answered() -> None:
    """After a crash the camera's count says how many; numbers go on behind the earlier run's."""
    rules = ByCount(TIMEOUT_S, None)
    rules.resume(LastPart(number=40, count=1040))
    outcomes = rules.streaming(0.0, None, 1043)
    assert reasons(outcomes) == ["41 restarted", "42 restarted", "43 restarted"]
    missed = [outcome for outcome in outcomes if isinstance(outcome, Missed)]
    assert [(part.count, part.is_past) for part in missed] == [
        (1041, True),
        (1042, True),
        (1043, True),
    ]
    assert seen(rules.picture(frame(1, count=1044))) == [(44, 1)]


def test_parts_that_were_guessed_before_a_crash_are_not_answered_again() -> None:
    """The camera was away when the daemon died: of 5 parts it counted, 3 have their answer."""
    rules = ByCount(TIMEOUT_S, 10.0)
    rules.resume(LastPart(number=13, count=110, guessed=3))
    assert reasons(rules.streaming(0.0, None, 115)) == ["14 restarted", "15 restarted"]
    assert seen(rules.picture(frame(1, count=116))) == [(16, 1)]


def test_after_an_orderly_end_nobody_asks_what_passed() -> None:
    """The station had said that it was stopped; numbers go on all the same."""
    rules = ByCount(TIMEOUT_S, None)
    rules.resume(LastPart(number=40))
    assert rules.streaming(0.0, None, 5000) == []
    assert seen(rules.picture(frame(1, count=5001))) == [(41, 1)]


def test_a_count_that_cannot_be_of_this_downtime_answers_nobody() -> None:
    """Another camera, or one that somebody set: a flood of undecided parts would help nobody."""
    rules = ByCount(TIMEOUT_S, None)
    rules.resume(LastPart(number=40, count=7))
    assert rules.streaming(0.0, None, 5_000_000) == []
    assert seen(rules.picture(frame(1, count=5_000_001))) == [(41, 1)]


def test_a_camera_that_lost_power_with_the_daemon() -> None:
    """What it counted since is answered; the count of a loss is the camera's."""
    rules = ByCount(TIMEOUT_S, None)
    rules.resume(LastPart(number=40, count=1000))
    outcomes = rules.streaming(0.0, None, 2)
    assert reasons(outcomes) == ["41 restarted", "42 restarted"]
    assert [o.count for o in outcomes if isinstance(o, Missed)] == [1, 2]


@pytest.mark.parametrize("rules", [ByFrameId(None, False), BySchedule(5.0, TIMEOUT_S)])
def test_other_cameras_number_on(rules: Counting) -> None:
    """A part's name is never given twice."""
    rules.resume(LastPart(number=40))
    outcomes = rules.streaming(0.0, None, None) + rules.tick(0.0)
    outcomes += rules.picture(frame(1, frame_id=1, part=41))
    assert seen(outcomes) == [(41, 1)]


# --- by frame ids ------------------------------------------------------------------------------


def next_id(frame_id: int, kind: str) -> int:
    """How cameras count: for ever, from 65,535 to 1, or to 0."""
    if kind != "64 bit" and frame_id == BLOCK_ID_MAX:
        return 1 if kind == "skips 0" else 0
    return frame_id + 1


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.sampled_from(["good", "good", "dropped", "bad", "incomplete", "late", "release"]),
        max_size=50,
    ),
    st.sampled_from(["64 bit", "skips 0", "16 bit"]),
    st.sampled_from([1, 2**15, BLOCK_ID_MAX - 20, BLOCK_ID_MAX - 3, BLOCK_ID_MAX]),
)
def test_a_gap_in_the_ids_is_that_many_parts(actions: list[str], kind: str, start: int) -> None:
    """Across every kind of wrap; incomplete ones have no id, late ones come out of order."""
    rules = ByFrameId(None, is_free_running=False)
    outcomes = rules.streaming(0.0, None, None)
    frame_id, triggers, late = start, 0, list[Picture]()
    for action in ["good", *actions, "release", "good"]:
        if action == "release":
            for picture in late:
                outcomes += rules.picture(picture)
            late.clear()
            continue
        triggers += 1
        picture = frame(triggers, frame_id)
        if frame_id == 0:  # 65,535 and then 1 is a loss for some cameras only: it can't be known
            action = "good"
        if action == "good":
            outcomes += rules.picture(picture)
        elif action == "late":
            late.append(picture)
        elif action == "bad":
            outcomes += rules.bad(Bad(Reason.OVERRUN, "overrun", frame_id))
        elif action == "incomplete":
            outcomes += rules.bad(incomplete())
        frame_id = next_id(frame_id, kind)
    if "late" not in actions:  # out of order, an incomplete one may have been the late one
        assert len(numbers(outcomes)) == triggers
    if not {"late", "incomplete"} & set(actions):
        assert all(number == of for number, of in seen(outcomes))
    assert_gapless(outcomes)
    pictures = [of for _, of in seen(outcomes)]
    assert len(pictures) == len(set(pictures))


@pytest.mark.parametrize("first", [0, 1])
def test_a_stream_counts_from_0_or_1(first: int) -> None:
    """Its first frame alone is no gap; a small first id is one."""
    rules = ByFrameId(None, is_free_running=False)
    rules.streaming(0.0, None, None)
    assert numbers(rules.picture(frame(1, first))) == [1]
    rules.lost(1.0)
    rules.streaming(2.0, None, None)
    assert numbers(rules.picture(frame(1, 3))) == [2, 3, 4]
    rules.lost(3.0)
    rules.streaming(4.0, None, None)
    assert numbers(rules.picture(frame(1, 5000))) == [5]


def test_an_incomplete_frame_at_the_65536th_is_no_flood() -> None:
    """A camera of 64 bits counts on."""
    rules = ByFrameId(None, is_free_running=False)
    rules.streaming(0.0, None, None)
    outcomes = rules.picture(frame(1, 65_535)) + rules.bad(incomplete())
    outcomes += rules.picture(frame(3, 65_537))
    assert numbers(outcomes) == [1, 2, 3]


def test_ids_that_begin_anew_are_told() -> None:
    """The frame is a part all the same."""
    rules = ByFrameId(None, is_free_running=False)
    rules.streaming(0.0, None, None)
    rules.picture(frame(1, 500))
    outcomes = rules.picture(frame(2, 1))
    assert isinstance(outcomes[0], Surplus)
    assert seen(outcomes) == [(2, 2)]


def test_a_frame_behind_a_later_one_is_surplus() -> None:
    """Its part was answered when the later one came."""
    rules = ByFrameId(None, is_free_running=False)
    outcomes = rules.streaming(0.0, None, None)
    for frame_id in (1, 3, 2, 4):
        outcomes += rules.picture(frame(frame_id, frame_id))
    assert_gapless(outcomes)
    assert seen(outcomes) == [(1, 1), (3, 3), (4, 4)]


@pytest.mark.parametrize(("expected", "free_running", "lost"), [(None, True, 10), (5.0, False, 5)])
def test_parts_pass_while_the_camera_is_away(
    expected: float | None, free_running: bool, lost: int
) -> None:
    """At the expected rate, or at the free-running camera's own."""
    rules = ByFrameId(expected, free_running)
    rules.streaming(0.0, 10.0, None)
    rules.lost(100.0)
    due = rules.due()
    assert due is not None
    assert due > 100.0
    assert len(rules.tick(101.05)) == lost
    rules.streaming(101.1, 10.0, None)
    assert rules.due() is None
    assert rules.tick(200.0) == []


# --- by the daemon's own schedule --------------------------------------------------------------


class ScheduledCamera:
    """A camera that is triggered by software; frames come after a drawn delay, or twice, or not."""

    def __init__(self, rate: float) -> None:
        self.rules = BySchedule(rate, TIMEOUT_S)
        self.now = 0.0
        self.outcomes: list[Outcome] = []
        self.restarts = 0
        self._coming: list[tuple[float, Picture | Bad]] = []
        self._fates: list[tuple[str, float]] = []

    def run(self, fates: list[tuple[str, float]], outage: tuple[int, int]) -> None:
        self._fates = list(fates)
        self.heed(self.rules.streaming(self.now, None, None))
        for step in range(400):
            self.now = step * 0.05
            if step == outage[0]:
                self._coming.clear()
                self.heed(self.rules.lost(self.now))
            if step == outage[0] + outage[1]:
                self.heed(self.rules.streaming(self.now, None, None))
            arrived = [what for when, what in self._coming if when <= self.now]
            self._coming = [(when, what) for when, what in self._coming if when > self.now]
            for what in arrived:
                is_bad = isinstance(what, Bad)
                self.heed(self.rules.bad(what) if is_bad else self.rules.picture(what))  # type: ignore[arg-type]
            self.heed(self.rules.tick(self.now))

    def heed(self, outcomes: list[Outcome]) -> None:
        self.outcomes += outcomes
        for outcome in outcomes:
            self.restarts += isinstance(outcome, Restart)
            if not isinstance(outcome, Trigger):
                continue
            fate, delay = self._fates.pop(0) if self._fates else ("good", 0.0)
            picture = frame(outcome.number, part=outcome.number)
            if fate == "bad":
                self._coming.append((self.now + delay, incomplete(outcome.number)))
            elif fate != "none":
                self._coming.append((self.now + delay, picture))
            if fate == "twice":
                self._coming.append((self.now + delay + 0.1, frame(outcome.number, part=None)))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["good", "bad", "none", "twice"]), st.floats(0, 1.2)), max_size=40
    ),
    st.sampled_from([1.0, 2.0, 3.7, 20.0]),
    st.tuples(st.integers(1, 300), st.integers(1, 60)),
)
def test_each_software_trigger_is_answered_by_its_own_frame(
    fates: list[tuple[str, float]], rate: float, outage: tuple[int, int]
) -> None:
    """However late it comes, and also when it was on its way at the restart."""
    camera = ScheduledCamera(rate)
    camera.run(fates, outage)
    found = sorted(numbers(camera.outcomes))
    assert len(set(found)) == len(found)
    missing = set(range(1, max(found) + 1)) - set(found)
    assert len(missing) <= 1  # the one that is being taken at the end
    assert all(number == of for number, of in seen(camera.outcomes))
    assert max(found) >= int(20 * rate) - 2


def test_a_late_frame_on_its_way_at_the_restart_is_surplus() -> None:
    """The next part was triggered in the same moment."""
    rules = BySchedule(2.0, TIMEOUT_S)
    rules.streaming(0.0, None, None)
    assert rules.tick(0.0) == [Trigger(1)]
    outcomes = rules.tick(0.5)
    assert reasons(outcomes) == ["1 frame_lost"]
    assert outcomes[-2:] == [Restart(), Trigger(2)]
    assert isinstance(rules.picture(frame(1, part=1))[0], Surplus)
    assert seen(rules.picture(frame(2, part=2))) == [(2, 2)]


def test_a_busy_camera_is_not_triggered_again() -> None:
    """A part that comes before the frame of the one before is answered `overrun`."""
    rules = BySchedule(10.0, TIMEOUT_S)
    rules.streaming(0.0, None, None)
    rules.tick(0.0)
    assert reasons(rules.tick(0.1)) == ["2 overrun"]
    assert seen(rules.picture(frame(1, part=1))) == [(1, 1)]


@pytest.mark.parametrize(
    "rules", [ByCount(TIMEOUT_S, None), ByFrameId(None, False), BySchedule(5.0, TIMEOUT_S)]
)
def test_nothing_happens_before_the_camera_streams(rules: Counting) -> None:
    """No part is expected of a camera that was never there."""
    assert rules.due() is None
    assert rules.tick(1000.0) == []

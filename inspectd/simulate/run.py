"""From a scenario to its account: puts the plant up, lets parts pass, harms it, adds up."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from inspectd.core.errors import InspectdError
from inspectd.simulate.account import Account, Events, Sample, account_of, unmet
from inspectd.simulate.faults import Schedule
from inspectd.simulate.plant import Plant, problems
from inspectd.simulate.scenario import Scenario
from inspectd.simulate.stage import Stage

TICK_S = 0.01
TELL_S = 0.25
LOOK_S = 0.5
"""How often the ledger is asked whether all is delivered."""
MOST_SAMPLES = 2_000
SETTLE_S = 0.5
"""After the last verdict: a repeated one would come now."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    passed: int
    parts: int
    answered: int
    """Verdicts received, each once."""
    fault: str
    """The newest line about a fault; empty where there is none since the last time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    events: Events
    account: Account
    unmet: list[str]
    """Expectations that weren't met, a sentence each."""
    notes: list[str]
    """What went otherwise than the scenario wanted."""
    was_interrupted: bool
    left_out: int
    """Pictures that the scorer itself decides wrongly or narrowly; none of them was shown."""
    lasted_s: float

    def as_json(self, scenario: Scenario) -> dict[str, object]:
        """For a file."""
        return {
            "schema": "inspectd/simulate/1",
            "title": scenario.title,
            "scenario": scenario.model_dump(mode="json"),
            "account": self.account.as_json(),
            "unmet": self.unmet,
            "notes": self.notes,
            "was_interrupted": self.was_interrupted,
            "pictures_left_out": self.left_out,
            "lasted_s": round(self.lasted_s, 1),
        }


Tell = Callable[[Progress], None]


def run_scenario(scenario: Scenario, stage: Stage, folder: Path, tell: Tell) -> Outcome:
    """Runs it; Ctrl-C ends it in order, with the account so far.

    Args:
        tell: hears a few times a second how far it is. An exception from it that isn't an
            `Exception` (`KeyboardInterrupt` and its like) ends the run early.

    Raises:
        InspectdError: the plant can't be put up.
    """
    if found := problems(scenario):
        raise InspectdError("; ".join(found))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = monotonic()
    with Plant(folder, scenario, stage) as plant:
        gc.collect()
        gc.freeze()  # what is here stays: the conveyor needn't wait for its being looked through
        schedule = Schedule(plant, scenario.planned())
        samples: list[Sample] = []
        was_interrupted = not _carried_out(lambda: _let_pass(plant, schedule, samples, tell))
        plant.conveyor.stop()
        schedule.end_all()
        heard = _silent if was_interrupted else tell
        was_interrupted |= not _carried_out(lambda: _await_answers(plant, samples, heard))
        plant.daemon.stop()
        sleep(SETTLE_S)
        events = _events(plant, schedule, samples)
    gc.unfreeze()
    account = account_of(events)
    _write_faults(folder, events)
    notes = [*plant.notes]
    if plant.recorder.broken:
        notes.append(f"{plant.recorder.broken} messages weren't what they should be")
    broken = unmet(account, scenario.expect)
    return Outcome(
        events, account, broken, notes, was_interrupted, stage.left_out, monotonic() - began
    )


def _carried_out(act: Callable[[], None]) -> bool:
    """False where Ctrl-C, or the like, ended it early: the account so far is what it is for."""
    try:
        act()
    except Exception:
        raise
    except BaseException:  # noqa: BLE001 - `Interrupted` of the command line is one
        return False
    return True


def _silent(progress: Progress) -> None:
    """Tells nobody."""


def _let_pass(plant: Plant, schedule: Schedule, samples: list[Sample], tell: Tell) -> None:
    """Until the last part has passed."""
    step = _Loop(plant, samples, tell)
    plant.conveyor.start()
    while not plant.conveyor.ended.is_set():
        lines = schedule.step()
        step(lines)
    while not schedule.is_quiet:
        step(schedule.step())


def _await_answers(plant: Plant, samples: list[Sample], tell: Tell) -> None:
    """Until all are answered and delivered, or patience ends."""
    step, recorder = _Loop(plant, samples, tell), plant.recorder
    patience_s, looked = plant.scenario.patience_s, 0.0
    begun = monotonic()
    while monotonic() < max(begun, recorder.last_new) + patience_s:
        step([])
        if monotonic() < looked + LOOK_S or not plant.daemon.is_ready:
            continue
        looked = monotonic()
        if len(recorder.answers) >= plant.conveyor.passed and plant.waiting() == 0:
            return


class _Loop:
    """What is to be done between two looks at the faults, and the pause."""

    def __init__(self, plant: Plant, samples: list[Sample], tell: Tell) -> None:
        self._plant = plant
        self._samples = samples
        self._tell = tell
        expected = plant.scenario.parts / plant.scenario.rate
        self._every_s = max(1.0, expected / MOST_SAMPLES)
        self._told = self._sampled = 0.0

    def __call__(self, lines: list[str]) -> None:
        plant, now = self._plant, monotonic()
        plant.look_after()
        if now >= self._sampled + self._every_s:
            self._sampled = now
            sample = plant.daemon.measure(now) if plant.daemon.is_ready else None
            if sample is not None:
                self._samples.append(sample)
        if lines or now >= self._told + TELL_S:
            self._told = now
            for line in lines or [""]:
                answered = len(plant.recorder.answers)
                self._tell(Progress(plant.conveyor.passed, plant.conveyor.parts, answered, line))
        sleep(TICK_S)


def _events(plant: Plant, schedule: Schedule, samples: list[Sample]) -> Events:
    pictures = plant.stage.pictures
    return Events(
        passed_at=plant.conveyor.passed_at(),
        is_defective=[picture.is_defective for picture in pictures],
        fails=[picture.fails for picture in pictures],
        deadline_ms=plant.scenario.deadline_ms,
        answers=list(plant.recorder.answers),
        repeated=plant.recorder.repeated,
        gate_passed=dict(plant.gate.passed),
        rows=plant.rows(),
        faults=sorted(schedule.spans, key=lambda span: span.began_s),
        power_ups=[edges for _, edges in plant.conveyor.power_ups],
        samples=samples,
        stages=dict(plant.recorder.stages.by_name),
        gate_counts=dict(plant.gate.counts),
        daemon_starts=plant.daemon.starts,
        daemon_deaths=plant.daemon.deaths,
    )


def _write_faults(folder: Path, events: Events) -> None:
    """Faults and measurements as JSON, for who wants to look closer."""
    zero = events.passed_at[0] if events.passed_at else 0.0
    content = {
        "faults": [
            {
                "kind": fault.kind,
                "part": fault.part,
                "began_s": round(fault.began_s - zero, 3),
                "ended_s": round(fault.ended_s - zero, 3),
            }
            for fault in events.faults
        ],
        "samples": [
            [round(s.at_s - zero, 1), s.life, round(s.rss_mb, 2), s.descriptors, s.camera_rss_mb]
            for s in events.samples
        ],
    }
    (folder / "course.json").write_text(json.dumps(content), encoding="utf-8")

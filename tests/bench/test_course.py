"""The plan of a run, and who takes part in it; see ``tests/cli/test_bench.py``, too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspectd.bench.contenders import OWN, Contender
from inspectd.bench.course import Course, Plan, Probe, measure
from inspectd.bench.subject import Subject

PLAN = Plan(seconds=20, rounds=10, rate=5, gap_s=2, gaps=3, threads=1)


def test_everyone_has_a_turn_in_every_round() -> None:
    """In an order that changes, and is the same when run again."""
    names = ["a", "b", "c", "d"]
    rounds = PLAN.order(names)
    assert len(rounds) == 10
    assert all(sorted(order) == names for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1
    assert PLAN.order(names) == rounds


def test_the_time_is_shared() -> None:
    """Half back to back, half at the cadence."""
    assert PLAN.turn_s == 1.0
    assert PLAN.parts_per_turn == 5
    assert Plan(1, 10, 0.1, 2, 3, 1).parts_per_turn == 1


@pytest.mark.parametrize(
    ("gaps", "rounds", "expected"), [(3, 10, {0, 3, 6}), (0, 4, set()), (9, 2, {0, 1})]
)
def test_stand_stills_are_spread(gaps: int, rounds: int, expected: set[int]) -> None:
    """Over the rounds, at most one in each."""
    assert Plan(1, rounds, 5, 2, gaps, 1).gap_rounds == expected


def test_who_is_there_twice_runs_once(runnable: Subject) -> None:
    """Who is what another runs is left out and says so, as who can't run; others go on.

    A probe that one can't run is asked for once and does no harm.
    """
    subject = runnable
    course = Course(subject, Plan(0.02, 2, 100, 0, 0, 1))
    contenders = [
        Contender("first", subject.graph, OWN, "onnxruntime"),
        Contender("again", subject.graph, OWN, "onnxruntime"),
        Contender("missing", subject.graph, "no_such_package:run", "a"),
    ]
    missing = replace(subject.graph, path=subject.graph.path / "absent.onnx")
    asked: list[str] = []

    def probe_for(label: str) -> Probe:
        asked.append(label)
        return Probe(missing, 1)

    told: list[str] = []
    measure(course, contenders, probe_for, lambda stage, done, total: told.append(stage))
    assert course.is_complete
    assert course.rounds_done == 2
    assert list(course.samples) == ["first"]
    assert course.absent["again"].startswith("is what first runs: onnxruntime-")
    assert "no_such_package" in course.absent["missing"]
    first = course.samples["first"]
    assert first.scores == pytest.approx(course.reference, abs=1e-6)
    assert not first.batches_ms
    assert first.flops_per_s is None
    assert not first.is_weighable
    assert not first.failure
    assert set(told) == {"loading", "measuring"}

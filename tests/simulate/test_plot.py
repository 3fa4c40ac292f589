"""The picture of a run's course."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from inspectd.simulate.account import Answer, Events, FaultSpan, Sample
from inspectd.simulate.plot import plot_course


@pytest.mark.parametrize("parts", [0, 1, 300])
def test_a_picture_of_any_length(tmp_path: Path, parts: int) -> None:
    """Without a part too, and with many faults, of which some are labelled."""
    answers = [
        Answer(f"r{n}", n, n, "pass" if n % 3 else "undecided", "", n % 5 == 0, "a", n + 0.01)
        for n in range(1, parts + 1)
    ]
    events = Events(
        passed_at=[float(n) for n in range(1, parts + 1)],
        is_defective=[False],
        fails=[{"a": False}],
        deadline_ms=500,
        answers=answers,
        repeated=0,
        gate_passed={},
        rows=[],
        faults=[FaultSpan("burst", n, float(n), n + 1.0) for n in range(0, parts, 3)],
        samples=[Sample(float(n), 1, 100.0, 20, 50.0) for n in range(0, parts, 10)],
    )
    path = tmp_path / "course.png"
    plot_course(events, "a course", path)
    assert cv2.imread(str(path)) is not None

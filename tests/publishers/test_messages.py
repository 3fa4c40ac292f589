"""What is said on the wire: agreed fields, small verdicts, numbers that every parser takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectd.core.config import MAX_BASE_BYTES
from inspectd.core.records import Decision, Inspection, Reason, Region, Ticket, Trigger, Verdict
from inspectd.publishers.messages import (
    MAX_VERDICT_BYTES,
    marked_late,
    result_message,
    shortened,
    verdict_message,
)

KEYS = {
    "schema", "result_id", "seq", "part_id", "product_id", "revision", "verdict", "reason",
    "score", "threshold", "margin", "frame_id", "trigger_count", "encoder", "captured_at",
    "deadline_ms", "late", "is_simulated", "mask_ref",
}  # fmt: skip
"""As conventions.md has them."""
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may have other things to do."""
BIG = 2**63 - 1
MASK = np.zeros((2, 2), np.uint8)


def inspection(part_id: str = "part", decision: Decision | None = None) -> Inspection:
    """The longest that there can be of everything but the part's name."""
    moment = datetime(2026, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
    trigger = Trigger("camera", part_id, BIG, moment, BIG, BIG, -BIG, BIG)
    ticket = Ticket(BIG, "00000000-0000-0000-0000-000000000000", trigger)
    failed = Decision(
        Verdict.UNDECIDED,
        Reason.INFERENCE_FAILED,
        "detail",
        score=-1.2345678901234567e-300,
        threshold=2.2345678901234567e-300,
        regions=(Region(1, 2, 3, 4, 5, 6.5),),
        mask=MASK,
    )
    return Inspection(ticket, decision or failed, "p" * 64, "r123456789-01234567", {"infer": 1.5})


def strict(text: str) -> dict[str, Any]:
    """Parsed as JSON proper, without NaN."""

    def refuse(word: str) -> float:
        raise ValueError(word)

    content = json.loads(text, parse_constant=refuse)
    assert isinstance(content, dict)
    return content


def test_a_verdict_has_the_agreed_fields() -> None:
    """Exactly those."""
    assert set(strict(verdict_message(inspection(), 600_000, "base/mask"))) == KEYS


def test_a_part_to_review_has_the_same_fields() -> None:
    """In the review band: undecided, reason `review`, the threshold is still that of a pass."""
    doubtful = Decision(Verdict.UNDECIDED, Reason.REVIEW, score=0.6, threshold=0.5, mask=MASK)
    said = strict(verdict_message(inspection(decision=doubtful), 1000, "base/mask"))
    assert set(said) == KEYS
    assert (said["verdict"], said["reason"], said["threshold"]) == ("undecided", "review", 0.5)


@PATIENT
@given(st.text(alphabet=st.characters(), max_size=300))
def test_a_verdict_is_small_whatever_the_part_is_called(part_id: str) -> None:
    """Under 1 KiB on the wire with the longest of everything else, surrogates and all."""
    text = verdict_message(inspection(part_id), 600_000, "b" * MAX_BASE_BYTES + "/mask")
    assert len(marked_late(text).encode()) <= len(text.encode()) < MAX_VERDICT_BYTES
    assert part_id.encode("utf-8", "replace").decode().startswith(strict(text)["part_id"])


@pytest.mark.parametrize("name", ["x" * 300, "\x00" * 300, "\U0001f529" * 300, '"' * 300])
def test_a_long_name_keeps_its_beginning(name: str) -> None:
    """As much as fits, in whole characters."""
    short = shortened(name)
    assert 0 < len(short) < len(name)
    assert name.startswith(short)


@pytest.mark.parametrize("name", ["part-0001", "Bolzen Größe 5", "螺丝-7", 'a"b\\c'])
def test_an_ordinary_name_is_untouched(name: str) -> None:
    """Also in other scripts."""
    assert strict(verdict_message(inspection(name), 1, "mask"))["part_id"] == name
    assert strict(result_message(inspection(name)))["part_id"] == name


def test_scores_are_raw() -> None:
    """Neither rounded nor clamped."""
    score = 1234.567890123456789
    decision = Decision(Verdict.FAIL, Reason.ABOVE_THRESHOLD, score=score, threshold=0.1)
    content = strict(verdict_message(inspection(decision=decision), 1, "mask"))
    assert (content["score"], content["threshold"]) == (score, 0.1)
    assert content["margin"] == score - 0.1


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_never_said(number: float) -> None:
    """A PLC's parser would stumble over it; the decision never lets it come here."""
    decision = Decision(Verdict.FAIL, Reason.ABOVE_THRESHOLD, score=number, threshold=0.1)
    with pytest.raises(ValueError, match="JSON"):
        verdict_message(inspection(decision=decision), 1, "mask")


def test_an_undecided_part_has_no_figures() -> None:
    """Null, not zero: nothing was measured."""
    content = strict(
        verdict_message(
            inspection(decision=Decision(Verdict.UNDECIDED, Reason.FRAME_LOST)), 1, "mask"
        )
    )
    assert [content[key] for key in ("score", "threshold", "margin", "mask_ref")] == [None] * 4


def test_a_mask_is_named_by_its_topic() -> None:
    """Where there is one."""
    content = strict(verdict_message(inspection(), 1, "root/mask"))
    assert content["mask_ref"] == f"root/mask/{content['result_id']}"


def test_times_are_utc() -> None:
    """Whatever zone the camera stamps in."""
    moment = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    ticket = Ticket(1, "id", Trigger("camera", "part", 1, moment, 1))
    said = Inspection(ticket, Decision(Verdict.UNDECIDED, Reason.OVERRUN), "product", "r0001")
    content = strict(verdict_message(said, 1, "mask"))
    assert content["captured_at"] == "2026-01-01T07:00:00.000000+00:00"


def test_marking_late_changes_nothing_else() -> None:
    """And may be done twice."""
    text = verdict_message(inspection("\u2028größe"), 1, "mask")
    late = marked_late(text)
    assert strict(late) == {**strict(text), "late": True}
    assert marked_late(late) == late


def test_a_result_is_the_whole_record() -> None:
    """Regions with all their fields, timings, the reason's detail."""
    content = strict(result_message(inspection()))
    assert content["regions"] == [
        {
            "top": 1,
            "left": 2,
            "height": 3,
            "width": 4,
            "area_px": 5,
            "peak": 6.5,
            "area_mm2": None,
        }
    ]
    assert content["timings_ms"] == {"infer": 1.5}
    assert content["detail"] == "detail"
    assert content["schema"] == "inspectd/result/1"


def test_a_detail_may_hold_any_bytes() -> None:
    """A path that isn't Unicode doesn't keep its record from being said."""
    decision = Decision(Verdict.UNDECIDED, Reason.UNREADABLE_IMAGE, "/pictures/\udcff.png")
    text = result_message(inspection(decision=decision))
    assert "/pictures/?.png" in strict(text)["detail"]
    assert text.encode()

"""The gate's rule: only a fresh pass lets a part through."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspectd.gate import MAX_GAP, WANTED, GateKeeper

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""The machine may have other things to do."""
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def message(seq: int = 1, verdict: str = "pass", **more: Any) -> dict[str, Any]:
    """A verdict of 50 ms ago."""
    return {
        "schema": "inspectd/verdict/1",
        "result_id": f"result-{seq}",
        "seq": seq,
        "part_id": f"part-{seq}",
        "verdict": verdict,
        "late": False,
        "captured_at": (NOW - timedelta(milliseconds=50)).isoformat(),
        "deadline_ms": 1000,
        "is_simulated": False,
        **more,
    }


def feed(keeper: GateKeeper, *messages: dict[str, Any], retained: bool = False) -> list[str]:
    """What the gate of a station that is online does, `!` in front where it rejects."""
    keeper.available = True
    actions = [
        action
        for content in messages
        for action in keeper.verdict(json.dumps(content).encode(), retained, NOW)
    ]
    return [("!" if action.rejects else "") + action.why for action in actions]


def test_only_a_pass_passes() -> None:
    """Fail and undecided are rejects."""
    keeper = GateKeeper()
    told = feed(keeper, message(1), message(2, "fail"), message(3, "undecided"))
    assert told == ["pass", "!fail", "!undecided"]
    assert keeper.counts == {"pass": 1, "fail": 1, "undecided": 1}


def test_latency_is_from_the_trigger_to_now() -> None:
    """In milliseconds."""
    (action,) = GateKeeper().verdict(json.dumps(message()).encode(), False, NOW)
    assert action.latency_ms == pytest.approx(50)


def test_a_repeated_result_moves_nothing() -> None:
    """QoS 1 delivers at least once; the same result counts once."""
    keeper = GateKeeper()
    assert feed(keeper, message(1), message(1), message(2)) == ["pass", "duplicate", "pass"]


def test_a_repeated_result_stays_known_when_it_changes_its_mind() -> None:
    """A pass that repeats a failed result lets nobody through."""
    assert feed(GateKeeper(), message(1, "fail"), message(1, "pass")) == ["!fail", "duplicate"]


def test_every_missing_part_is_a_reject() -> None:
    """The first verdict sets the count; after that a hole means parts without verdict."""
    told = feed(GateKeeper(), message(5), message(6), message(9))
    assert told == ["pass", "pass", "!gap", "!gap", "pass"]


def test_an_old_part_makes_no_gap() -> None:
    """A verdict from the backlog has a lower number, and its part was counted as missing."""
    told = feed(GateKeeper(), message(5), message(7), message(6, late=True), message(8))
    assert told == ["pass", "!gap", "pass", "!late", "pass"]


def test_another_ledger_is_no_flood() -> None:
    """However far the number jumps, the gate does a bounded amount of work."""
    told = feed(GateKeeper(), message(1), message(10**30))
    assert len(told) <= MAX_GAP + 2


def test_a_late_pass_is_a_reject() -> None:
    """It is for the record: its part has gone by."""
    assert feed(GateKeeper(), message(1, late=True)) == ["!late"]


def test_a_pass_that_was_held_up_is_late() -> None:
    """A broker that hung delivers old verdicts that don't know that they are late."""
    old = (NOW - timedelta(milliseconds=1001)).isoformat()
    assert feed(GateKeeper(), message(1, captured_at=old)) == ["!late"]


def test_a_simulated_pass_is_a_reject() -> None:
    """It is of a picture; only a gate of the simulation takes it, and all else still holds."""
    told = message(1, is_simulated=True), message(2, "fail", is_simulated=True)
    assert feed(GateKeeper(), *told) == ["!simulated", "!simulated"]
    assert feed(GateKeeper(accepts_simulated=True), *told) == ["pass", "!fail"]
    late = message(1, late=True, is_simulated=True)
    assert feed(GateKeeper(), late) == ["!late"]


def test_a_retained_verdict_decides_nothing() -> None:
    """It is of a part long gone, and isn't remembered either."""
    keeper = GateKeeper()
    assert feed(keeper, message(1), retained=True) == ["retained"]
    assert feed(keeper, message(1)) == ["pass"]


def test_an_unavailable_station_is_a_reject() -> None:
    """Anything but `online` closes the gate, once per change."""
    keeper = GateKeeper()
    words = ["online", "online", "offline", "stopped", "online", "nonsense"]
    actions = [action for word in words if (action := keeper.availability(word))]
    assert [(action.why, action.rejects) for action in actions] == [
        ("available", False),
        ("unavailable", True),
        ("available", False),
        ("unavailable", True),
    ]


@pytest.mark.parametrize("key", sorted(WANTED))
@pytest.mark.parametrize("value", [None, [], {}, 1.5, "missing"])
def test_a_malformed_verdict_is_a_reject(key: str, value: object) -> None:
    """A field that is missing or of another kind; `true` isn't a number, `1` isn't a truth."""
    content = message()
    if value == "missing":
        del content[key]
    else:
        content[key] = value
    assert feed(GateKeeper(), content) == ["!malformed"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "inspectd/verdict/2"},
        {"verdict": "PASS"},
        {"captured_at": "2026-05-04T03:02:01"},
        {"captured_at": "yesterday"},
        {"seq": True},
        {"seq": "1"},
        {"deadline_ms": "soon"},
        {"late": "no"},
        {"late": 0},
        {"is_simulated": None},
        {"is_simulated": "false"},
    ],
    ids=str,
)
def test_what_the_gate_does_not_know_is_a_reject(change: dict[str, Any]) -> None:
    """Another schema, another word, a time without its zone."""
    assert feed(GateKeeper(), message(**change)) == ["!malformed"]


@PATIENT
@given(st.binary(max_size=200))
def test_no_payload_breaks_the_gate(payload: bytes) -> None:
    """Noise is a reject and nothing else."""
    (action,) = GateKeeper().verdict(payload, False, NOW)
    assert (action.why, action.rejects) == ("malformed", True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@PATIENT
@given(st.dictionaries(st.sampled_from(sorted(message())), JSON, max_size=4), st.booleans())
def test_no_content_breaks_the_gate(change: dict[str, Any], retained: bool) -> None:
    """With any value in any field nothing is raised, and only a whole fresh pass passes."""
    content = {**message(), **change}
    keeper = GateKeeper()
    keeper.available = True
    for action in keeper.verdict(json.dumps(content).encode(), retained, NOW):
        assert action.why in {
            *("pass", "fail", "undecided", "malformed", "late", "retained", "simulated")
        }
        if not action.rejects and not retained:
            assert action.why == "pass"
            assert content["verdict"] == "pass"
            assert content["late"] is False
            assert content["is_simulated"] is False
            assert all(type(content[key]) is kind for key, kind in WANTED.items())


def test_deep_and_long_payloads_are_rejects() -> None:
    """What would exhaust a parser."""
    keeper = GateKeeper()
    for payload in (b"[" * 60_000, b'{"seq": ' + b"9" * 20_000 + b"}", b" " * 70_000, b"\xff\xfe"):
        (action,) = keeper.verdict(payload, False, NOW)
        assert action.why == "malformed"


@PATIENT
@given(st.lists(st.integers(0, 30), max_size=40))
def test_a_part_passes_at_most_once(seqs: list[int]) -> None:
    """In whatever order verdicts come and repeat."""
    passed = [why for why in feed(GateKeeper(), *(message(seq) for seq in seqs)) if why == "pass"]
    assert len(passed) == len(set(seqs))

"""The account, on lines that were worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from inspectd.simulate.account import (
    TOTAL,
    UNDISTURBED,
    Answer,
    Events,
    FaultSpan,
    Row,
    Sample,
    account_of,
    matched,
    percentiles,
    unmet,
)
from inspectd.simulate.scenario import Expect

GOOD, BAD = {"a": False, "b": False}, {"a": True, "b": True}


def answer(count: int | None, verdict: str = "pass", **changes: Any) -> Answer:
    """The answer to part `count`, 20 ms after it passed, one part a second."""
    number = count or 0
    values = {
        "result_id": f"r{number}",
        "seq": number,
        "count": count,
        "verdict": verdict,
        "reason": {"undecided": "late"}.get(verdict, "threshold"),
        "is_late": False,
        "product": "a",
        "at_s": number + 0.02,
    }
    return Answer(**{**values, **changes})


def events(parts: int, answers: list[Answer], **changes: Any) -> Events:
    """Parts at 1, 2, 3 ... seconds; every second picture is defective, beginning with part 2.

    The gate lets through what is answered `pass`, unless a test says otherwise.
    """
    values: dict[str, Any] = {
        "passed_at": [float(number) for number in range(1, parts + 1)],
        "is_defective": [False, True],
        "fails": [GOOD, BAD],
        "deadline_ms": 500,
        "answers": answers,
        "repeated": 0,
        "gate_passed": {a.result_id: a.at_s for a in answers if a.verdict == "pass"},
        "rows": [],
        "faults": [],
    }
    return Events(**{**values, **changes})


def figures(events: Events, *names: str) -> tuple[Any, ...]:
    """These figures of the account."""
    account = account_of(events)
    return tuple(getattr(account, name) for name in names)


def test_a_line_without_faults() -> None:
    """Each part has its verdict, good ones pass, defective ones fail, nothing else happens."""
    account = account_of(events(4, [answer(1), answer(2, "fail"), answer(3), answer(4, "fail")]))
    assert (account.triggers, account.answered, account.unanswered) == (4, 4, 0)
    assert (account.passed, account.failed, account.undecided) == (2, 2, 0)
    assert (account.good, account.defective, account.let_through) == (2, 2, 2)
    assert (account.escapes, account.overkill, account.diverted) == (0, 0, 0)
    assert account.latency_ms[TOTAL].p50 == pytest.approx(20.0)
    assert unmet(account, Expect()) == []


def test_nothing_passed() -> None:
    """An empty line has an account too, without latencies."""
    account = account_of(events(0, []))
    assert (account.triggers, account.unanswered, account.latency_ms) == (0, 0, {})
    assert unmet(account, Expect(latency_p99_ms=1.0)) == []


def test_unanswered_parts_and_undecided_ones_by_reason() -> None:
    """A part without a verdict is unanswered; a good one among them was diverted."""
    answers = [answer(1, "undecided", reason="overrun"), answer(2, "undecided")]
    account = account_of(events(3, answers))
    assert (account.answered, account.unanswered, account.undecided) == (2, 1, 2)
    assert account.undecided_by_reason == {"overrun": 1, "late": 1}
    assert account.diverted == 2
    assert unmet(account, Expect()) == ["unanswered: 1, expected at most 0"]


def test_what_the_broker_acknowledged_is_answered() -> None:
    """A verdict that only the ledger knows as delivered died inside the broker: counted apart."""
    rows = [Row("r1", 1, 1, True), Row("r2", 2, 2, True), Row("r3", 3, 3, False)]
    account = account_of(events(3, [answer(1)], rows=rows))
    assert (account.answered, account.lost_in_broker, account.unanswered) == (2, 1, 1)


def test_two_results_of_one_part() -> None:
    """That is a duplicate; the same result again is not."""
    twice = [answer(1), answer(1, "undecided", result_id="other", seq=2)]
    assert figures(events(1, twice, repeated=3), "duplicates", "repeated") == (1, 3)


def test_answers_that_belong_to_no_part() -> None:
    """A count that never was is surplus, and so is an answer without one where no part is left."""
    answers = [answer(1, seq=1), answer(None, "undecided", seq=2), answer(7, "undecided", seq=3)]
    found = figures(events(1, answers), "uncounted", "surplus", "unanswered")
    assert found == (1, 2, 0)


def test_an_answer_without_a_count_takes_its_place_in_the_order() -> None:
    """Between those that the camera counted; a place that another part has isn't taken twice."""
    answers = [
        answer(1, seq=1),
        answer(None, "undecided", result_id="a", seq=2),
        answer(None, "undecided", result_id="b", seq=3),
        answer(None, "undecided", result_id="c", seq=4),
        answer(4, seq=5),
    ]
    line = events(5, answers)
    assert matched(line).numbers == {"r1": 1, "a": 2, "b": 3, "r4": 4}
    assert figures(line, "unanswered", "surplus", "duplicates") == (1, 1, 0)


def test_order_of_arrival() -> None:
    """A verdict behind one of a later part is out of order, unless it is marked late."""
    answers = [answer(1), answer(3), answer(2, "fail"), answer(4, "fail", is_late=True, seq=0)]
    assert figures(events(4, answers), "out_of_order", "late") == (1, 1)


@pytest.mark.parametrize(
    ("fails", "escapes", "by_faults"),
    [(BAD, 1, 1), (GOOD, 1, 0)],
    ids=["the scorer would have failed it", "the scorer itself errs"],
)
def test_escapes(fails: Mapping[str, bool], escapes: int, by_faults: int) -> None:
    """A defective part that was let through is an escape; a fault's where the scorer says fail."""
    line = events(2, [answer(1), answer(2)], fails=[GOOD, fails])
    assert figures(line, "escapes", "escapes_by_faults") == (escapes, by_faults)


def test_overkill() -> None:
    """A good part that was failed; a fault's where the scorer passes it. It isn't diverted."""
    line = events(1, [answer(1, "fail")])
    assert figures(line, "overkill", "overkill_by_faults", "diverted") == (1, 1, 0)
    line = events(1, [answer(1, "fail")], fails=[{"a": True}, BAD])
    assert figures(line, "overkill", "overkill_by_faults") == (1, 0)


def test_the_product_that_answered_counts() -> None:
    """After a changeover the scorer of the new product is the measure."""
    line = events(1, [answer(1, product="b")], fails=[{"a": False, "b": True}, BAD])
    assert figures(line, "escapes", "escapes_by_faults", "products") == (0, 1, {"b": 1})


def test_a_pass_that_opened_nothing() -> None:
    """A pass that the gate didn't act upon diverts its good part."""
    line = events(1, [answer(1, is_late=True)], gate_passed={})
    assert figures(line, "let_through", "diverted", "overkill") == (0, 1, 0)


def test_a_gate_that_is_told_too_late() -> None:
    """Letting through long after the deadline is told."""
    line = events(1, [answer(1)], gate_passed={"r1": 1.0 + 0.5 + 0.06})
    assert figures(line, "let_through_late") == (1,)
    line = events(1, [answer(1)], gate_passed={"r1": 1.0 + 0.5})
    assert figures(line, "let_through_late") == (0,)


def test_sent_in_time_and_held_up() -> None:
    """What arrives after the deadline without saying so is stale, and its part affected."""
    fault = FaultSpan("broker-pause", 0, 0.5, 1.5)
    line = events(2, [answer(1, at_s=3.0), answer(2, "fail")], faults=[fault], gate_passed={})
    account = account_of(line)
    assert account.stale == 1
    assert account.faults["broker-pause"].affected == 1


def test_a_camera_that_lost_its_power_counts_anew() -> None:
    """Counts that fall, in the ledger's order, belong to edges after the power came back."""
    answers = [
        answer(1),
        answer(2, "fail"),
        answer(1, result_id="r4", seq=3, verdict="fail"),
        answer(2, result_id="r5", seq=4),
    ]
    line = events(5, answers, power_ups=[3])
    account = account_of(line)
    assert (account.answered, account.unanswered, account.duplicates) == (4, 1, 0)
    assert account.escapes == 0


def test_what_faults_did() -> None:
    """Parts from a fault's begin to the next, and how long until the last bad one of them."""
    answers = [answer(n, "pass" if n % 2 else "fail") for n in (1, 2, 5, 6, 7, 8)]
    answers += [answer(3, "undecided"), answer(4, is_late=True)]
    faults = [FaultSpan("daemon-kill", 2, 2.5, 4.0), FaultSpan("burst", 6, 6.5, 6.5)]
    found = account_of(events(8, answers, faults=faults)).faults
    assert found["daemon-kill"].times == 1
    assert found["daemon-kill"].affected == 2
    assert found["daemon-kill"].recovery_s_most == pytest.approx(1.5)
    assert found["burst"].affected == 0
    assert found["burst"].recovery_s_most == 0.0


def test_a_part_in_flight_is_the_next_faults() -> None:
    """One that had just passed when a fault began doesn't lengthen the recovery from another."""
    faults = [FaultSpan("burst", 0, 0.5, 0.5), FaultSpan("daemon-kill", 3, 3.01, 4.0)]
    found = account_of(events(3, [answer(1), answer(2, "fail")], faults=faults)).faults
    assert (found["burst"].affected, found["burst"].recovery_s_most) == (0, 0.0)
    assert (found["daemon-kill"].affected, found["daemon-kill"].recovery_s_most) == (1, 0.0)


def test_latencies_far_from_faults() -> None:
    """Parts from just before a fault until 2 s after it are left out of these, not of all."""
    answers = [answer(n) for n in range(1, 21)]
    faults = [FaultSpan("burst", 10, 10.2, 11.2)]
    account = account_of(events(20, answers, is_defective=[False], fails=[GOOD], faults=faults))
    assert account.latency_ms[TOTAL].count == 20
    assert account.latency_ms[UNDISTURBED].count == 20 - len(range(10, 14))


def test_percentiles_are_values_that_were_measured() -> None:
    """By nearest rank; one value is all of them."""
    assert percentiles([5.0]).p999 == 5.0
    found = percentiles([float(value) for value in range(1000)])
    assert (found.p50, found.p99, found.p999, found.most) == (500.0, 990.0, 999.0, 999.0)


def test_growth_is_that_of_the_longest_life() -> None:
    """Last quarter against second, so that warming up is no growth; short lives tell nothing."""
    first = [Sample(t, 1, 100.0 + t, 20, 50.0) for t in range(4)]
    second = [Sample(10 + t, 2, 100.0 + (t >= 4), 20 + (t == 7), 50.0) for t in range(8)]
    account = account_of(events(0, [], samples=[*first, *second]))
    assert account.growth is not None
    assert account.growth.life_s == 7
    assert account.growth.rss_mb == 1.0
    assert account.growth.descriptors_most == 21
    assert account_of(events(0, [], samples=first)).growth is None
    told = unmet(account, Expect(rss_growth_mb=0.5))
    assert told == ["rss growth mb: 1, expected at most 0.5"]


def test_shares_are_of_all_parts_and_of_good_ones() -> None:
    """Limits on shares."""
    account = account_of(events(4, [answer(1, "undecided"), *(answer(n) for n in (2, 3, 4))]))
    assert unmet(account, Expect(undecided_share=0.25, escapes_by_faults=2)) == []
    told = unmet(account, Expect(diverted_share=0.4, escapes_by_faults=2))
    assert told == ["diverted share: 0.5, expected at most 0.4"]


def test_every_expectation_is_checked() -> None:
    """There is none that the account has no figure for."""
    growth = [Sample(float(t), 1, 100.0 + t, 20 + t, 50.0) for t in range(16)]
    line = events(1, [answer(1)], samples=growth, gate_passed={"r1": 9.0})
    names = Expect.model_fields
    figures_below_0 = Expect.model_construct(**dict.fromkeys(names, -100.0))
    assert len(unmet(account_of(line), figures_below_0)) == len(names)

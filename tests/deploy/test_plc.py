"""The gate in structured text: its syntax, and its logic on a simulated belt."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "deploy" / "plc" / "inspectd_gate.st"
CYCLE_S, TO_GATE_S, DEADLINE_S, QUIET_S = 0.05, 3.0, 1.0, 60.0


def _load() -> Any:
    spec = importlib.util.spec_from_file_location(
        "st", Path(__file__).parent / "structured_text.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ST = _load()


@dataclass
class Part:
    """What happens to one part, seconds."""

    at: float
    word: str = "pass"
    delay: float | None = 0.2
    """From trigger to verdict at the PLC; None: it never comes."""
    is_seen: bool = True
    """Whether the station knew of the trigger."""
    more: tuple[tuple[str, object], ...] = ()
    """Other fields of the verdict."""
    copies: int = 1


def run(parts: list[Part], offline: tuple[float, float] = (0, 0)) -> tuple[list[bool], Any]:
    """Which parts were let through, and the block at the end; `offline`: from, until."""
    clock = ST.Clock()
    block = ST.Block(SOURCE.read_text(), clock)
    mail: list[tuple[float, str]] = []
    seq = 40
    for part in parts:
        seq += part.is_seen
        fields = {"schema": "inspectd/verdict/1", "seq": seq, "verdict": part.word, "late": False}
        content = {
            **fields,
            "part_id": '","verdict":"pass","',
            "is_simulated": False,
            **dict(part.more),
        }
        if part.is_seen and part.delay is not None:
            text = json.dumps(content, separators=(",", ":"))
            mail += [(part.at + part.delay + CYCLE_S * n, text) for n in range(part.copies)]
    mail.sort(key=lambda entry: entry[0])
    triggers, gates = [part.at for part in parts], [part.at + TO_GATE_S for part in parts]
    passed: list[bool] = []
    word = ""
    end = gates[-1] + 1
    while clock.now < end:
        is_away = offline[0] <= clock.now < offline[1]
        now = clock.now
        trigger, gate = bool(triggers and triggers[0] <= now), bool(gates and gates[0] <= now)
        topic, payload = "", ""
        if word != (word := "offline" if is_away else "online"):
            topic, payload = "base/availability", word
        elif mail and mail[0][0] <= now:
            topic, payload = "base/verdict", mail.pop(0)[1]
        v = block.cycle(
            bConnected=True, bMessage=bool(topic), sTopic=topic, sPayload=payload,
            bTrigger=trigger, bAtGate=gate, tDeadline=DEADLINE_S, tQuiet=QUIET_S,
        )  # fmt: skip
        if v.bDecided:
            passed.append(not v.bReject)
        if trigger:
            triggers.pop(0)
        if gate:
            gates.pop(0)
        clock.now += CYCLE_S
    return passed, block.v


def belt(count: int, start: float = 61.0, every: float = 1.5) -> list[Part]:
    """The first alone, then the others."""
    return [Part(start), *(Part(start + 5 + every * n) for n in range(count - 1))]


def test_it_can_be_parsed() -> None:
    """By a parser of structured text."""
    blark = pytest.importorskip("blark", reason="pip install blark checks the PLC's file")
    assert blark.parse_source_code(SOURCE.read_text()) is not None


def test_good_parts_pass_and_bad_ones_do_not() -> None:
    """From the first part on, which was alone."""
    parts = belt(8)
    parts[3].word, parts[5].word = "fail", "undecided"
    passed, v = run(parts)
    assert passed == [True, True, True, False, True, False, True, True]
    assert (v.nPassed, v.nRejected) == (6, 2)


def test_without_a_part_alone_nothing_passes() -> None:
    """The belt wasn't quiet: whose verdict it is can't be known."""
    passed, v = run(belt(4, start=5.0))
    assert passed == [False] * 4
    assert not v.bInStep


@pytest.mark.parametrize(
    "change",
    [
        {"delay": None}, {"is_seen": False}, {"delay": 1.2}, {"delay": 2.5},
        {"more": (("schema", "inspectd/verdict/2"),)}, {"more": (("seq", 400),)},
    ],
    ids=str,
)  # fmt: skip
def test_out_of_step_everything_is_rejected(change: dict[str, Any]) -> None:
    """No verdict, no trigger, too late, not understood, a gap: none passes until one is alone."""
    parts = belt(5)
    for name, value in change.items():
        setattr(parts[2], name, value)
    later = parts[-1].at + 70
    passed, v = run([*parts, Part(later), Part(later + 5)])
    assert passed == [True, True, False, False, False, True, True]
    assert v.bInStep


@pytest.mark.parametrize("more", [(("late", True),), (("is_simulated", True),), (("late", "no"),)])
def test_its_own_part_alone_is_rejected(more: tuple[tuple[str, object], ...]) -> None:
    """Late and simulated verdicts are in step, and reject."""
    parts = belt(4)
    parts[2].more = more
    assert run(parts)[0] == [True, True, False, True]


def test_a_repeated_verdict_moves_nothing() -> None:
    """QoS 1."""
    parts = belt(4)
    parts[1].copies = parts[2].copies = 3
    assert run(parts)[0] == [True] * 4


def test_a_station_that_was_away() -> None:
    """All parts on the belt are rejected, and the line is stopped after some of them."""
    parts = belt(9)
    passed, v = run(parts, offline=(parts[3].at - 0.5, parts[5].at))
    assert passed == [True, True, True] + [False] * 6
    assert v.bStopLine


@pytest.mark.parametrize("seed", range(40))
def test_no_part_passes_without_its_own_pass(seed: int) -> None:
    """Whatever is lost, held up for less than the quiet time, repeated or not seen."""
    chance = random.Random(seed)  # noqa: S311 - a test's
    at, parts = 61.0, []
    for _ in range(25):
        part = Part(at, chance.choice(["pass", "pass", "fail", "undecided"]))
        if chance.random() < 0.25:
            part.is_seen = chance.random() < 0.7
            part.delay = chance.choice([None, chance.uniform(0.0, 50.0), chance.uniform(0.9, 3.0)])
            part.copies = chance.choice([1, 2])
        parts.append(part)
        at += chance.choice([1.1, 1.5, 4.0, 62.0]) + chance.random()
    away = chance.uniform(60, at)
    passed, _ = run(parts, offline=(away, away + chance.choice([0, 2, 20])))
    for part, is_through in zip(parts, passed, strict=True):
        if is_through:
            assert part.word == "pass"
            assert part.is_seen
            assert part.delay is not None
            assert part.delay <= DEADLINE_S + 2 * CYCLE_S

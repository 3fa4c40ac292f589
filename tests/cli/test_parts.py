"""``inspectd parts``: what became of parts, read beside a daemon that writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import Result

from inspectd.core.paths import ledger_file
from inspectd.core.records import Trigger
from inspectd.ledger import Ledger, Letter

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A station's file; its ledger has three parts, one of them open."""
    path = tmp_path / "inspectd.toml"
    path.write_text('product = "tiny"\nstate_dir = "state"\n[camera]\npath = "pictures"\n')
    with Ledger(ledger_file(tmp_path / "state", "line", "station")) as ledger:
        for number, (verdict, reason) in enumerate(
            (("pass", "below_threshold"), ("undecided", "late"), (None, None))
        ):
            trigger = Trigger("camera", f"part\x1b-{number}", number, datetime.now(UTC), 1)
            ticket = ledger.open_part(trigger)
            if verdict is not None:
                said = json.dumps({"verdict": verdict, "reason": reason, "score": 0.25})
                ledger.decide(Letter(ticket.seq, ticket.result_id, said))
            if reason == "late":
                ledger.note_later(ticket.result_id, json.dumps({"verdict": "fail"}))
    return path


def test_the_newest_come_first(config: Path, invoke: Run) -> None:
    """As JSON, with what was found too late beside the verdict."""
    result = invoke("parts", "--config", str(config), "--json")
    rows = json.loads(result.stdout)
    assert [(row["seq"], row["verdict"], row["later"]) for row in rows] == [
        (3, "open", None),
        (2, "undecided", "fail"),
        (1, "pass", None),
    ]


def test_a_table_for_people(config: Path, invoke: Run) -> None:
    """Without what a terminal would obey."""
    result = invoke("parts", "--config", str(config), "--reason", "late")
    text = result.stdout
    assert "part?-1" in text
    assert "undecided" in text
    assert "below_threshold" not in text


def test_a_station_that_never_ran(config: Path, invoke: Run) -> None:
    """Is told so."""
    ledger_file(config.parent / "state", "line", "station").unlink()
    result = invoke("parts", "--config", str(config))
    assert result.exit_code == 1
    assert "has the station run" in result.stderr

"""``inspectd parts``: what became of the last parts, as the ledger on this machine has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inspectd.cli.options import JsonFlag
from inspectd.cli.output import note, show, show_json
from inspectd.cli.run import DEFAULT_CONFIG, ConfigOption
from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from inspectd.ledger import Past

EXAMPLES = (
    "inspectd parts --config inspectd.toml",
    "inspectd parts --last 1000 --verdict undecided",
    "inspectd parts --reason late --json",
)
COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}


def parts(
    config: ConfigOption = DEFAULT_CONFIG,
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many are looked at.")] = 20,
    verdict: Annotated[
        str | None, typer.Option(help="Only pass, fail, undecided, or open: without one yet.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Only this one, such as late.")] = None,
    camera: Annotated[
        str | None, typer.Option("--camera", help="Which one, of a station with several.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """The newest parts with their verdict, and what was found too late to be one."""
    from inspectd.ledger import history

    rows = [_row(past) for past in history(_ledger(config, camera), last)]
    rows = [
        row for row in rows if verdict in (None, row["verdict"]) and reason in (None, row["reason"])
    ]
    if as_json:
        show_json(rows)
    elif rows:
        show(_table(rows))
    else:
        note("no such part")


def _ledger(config: Path, camera: str | None) -> Path:
    from inspectd.core.config import load_settings
    from inspectd.core.paths import ledger_file, state_dir

    settings = load_settings(config)
    lanes = {lane.camera.name: lane.station for lane in settings.lanes}
    if camera is None and len(lanes) > 1:
        raise ConfigError(f"the station has several cameras; say --camera {' or '.join(lanes)}")
    station = lanes.get(camera) if camera else next(iter(lanes.values()))
    if station is None:
        raise ConfigError(f"--camera: no {camera!r}; there are: {', '.join(lanes)}")
    return ledger_file(settings.state_dir or state_dir(), station.line, station.station)


def _row(past: Past) -> dict[str, Any]:
    said = json.loads(past.verdict) if past.verdict else {}
    later = json.loads(past.later) if past.later else {}
    return {
        "seq": past.seq,
        "part_id": past.part_id,
        "captured_at": past.captured_at.isoformat(timespec="milliseconds"),
        "verdict": said.get("verdict", "open"),
        "reason": said.get("reason"),
        "score": said.get("score"),
        "sent": past.state.name.lower(),
        "later": later.get("verdict"),
        "result_id": past.result_id,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("seq", "part", "triggered (UTC)", "verdict", "reason", "score", "sent", "later")
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        colour = COLOURS.get(row["verdict"], "dim")
        table.add_row(
            str(row["seq"]),
            "".join(c if c.isprintable() else "?" for c in row["part_id"]),
            row["captured_at"].replace("+00:00", ""),
            f"[{colour}]{row['verdict']}[/{colour}]",
            row["reason"] or "",
            score,
            row["sent"],
            row["later"] or "",
        )
    return table

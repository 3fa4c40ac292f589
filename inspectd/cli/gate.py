"""``inspectd gate``: subscribes to the verdicts and acts as the PLC at the reject gate would."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from inspectd.cli.output import Interrupted, interruptible, note, require_writable, show, write_json
from inspectd.cli.run import DEFAULT_CONFIG
from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from inspectd.core.config import MqttSection
    from inspectd.gate import Action

EXAMPLES = (
    "inspectd gate --config inspectd.toml",
    "inspectd gate --config inspectd.toml --on-reject './divert.sh' --reject-dir rejects",
    "inspectd gate --broker localhost:1883 --topic inspectd/v1/site/area/line1/station1",
    "inspectd gate --config demo-out/inspectd.toml --accept-simulated",
)
MAX_CHILDREN = 32
COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}


def gate(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The station's TOML file: broker and topics."),
    ] = None,
    broker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Instead of --config: the broker.")
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Instead of --config: the station's topic, up to /verdict.")
    ] = None,
    on_reject: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Run for every reject, with INSPECTD_PART_ID, _VERDICT, _REASON, _SEQ set.",
        ),
    ] = None,
    reject_dir: Annotated[
        Path | None, typer.Option(help="Write one JSON file per reject into this folder.")
    ] = None,
    accept_simulated: Annotated[
        bool,
        typer.Option(
            "--accept-simulated",
            help="Let simulated verdicts count; without it each is a reject, as at the PLC.",
        ),
    ] = False,
    count: Annotated[int, typer.Option(min=0, help="End after so many verdicts; 0: never.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the counts to this file at the end.")
    ] = None,
) -> None:
    """Prints and counts verdicts; everything but a fresh pass is a reject.

    A repeated result_id counts once; a gap in seq, an undecided, late or simulated part and a
    station that is not online are rejects, as they must be at the PLC.
    """
    from inspectd.gate import GateKeeper, watch

    require_writable(json_file)
    settings, base = _target(config, broker, topic)
    commands = _Commands(shlex.split(on_reject)) if on_reject else None
    if reject_dir is not None:
        reject_dir.mkdir(parents=True, exist_ok=True)
    keeper, stop, seen = GateKeeper(accept_simulated), threading.Event(), 0
    try:
        with interruptible():
            for action in watch(settings, base, keeper, stop, note):
                show(describe(action))
                if action.rejects and commands is not None:
                    commands.run(action)
                if action.rejects and reject_dir is not None:
                    _write_reject(reject_dir, action)
                seen += action.verdict is not None
                if count and seen >= count:
                    break
    except Interrupted:
        stop.set()  # how a gate is ended; what it counted follows
    finally:
        if commands is not None:
            commands.finish()
    write_json(json_file, dict(keeper.counts))
    show(", ".join(f"{n} {why}" for why, n in sorted(keeper.counts.items())) or "nothing came")


def describe(action: Action) -> Text:
    """One line for people."""
    head = ("reject" if action.rejects else "      ", "bold red")
    if action.verdict is None:
        return Text.assemble(head, f"  {action.why}")
    message = action.verdict
    score, threshold = message.get("score"), message.get("threshold")
    known = isinstance(score, float) and isinstance(threshold, float)
    figures = f"score {score:.4f} of {threshold:.4f}" if known else ""
    latency = "" if action.latency_ms is None else f"{action.latency_ms:7.1f} ms"
    return Text.assemble(
        head,
        "  ",
        (f"{action.why:9}", COLOURS.get(action.why, "yellow")),
        f" seq {message['seq']:6} {_shown(message.get('part_id')):24} {latency}  "
        f"{_shown(message.get('reason'))} {figures}",
    )


class _Commands:
    """Runs a command per reject without waiting for it; at most MAX_CHILDREN at a time."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._children: list[subprocess.Popen[bytes]] = []

    def run(self, action: Action) -> None:
        """Starts the command for one reject."""
        self._children = [child for child in self._children if child.poll() is None]
        if len(self._children) >= MAX_CHILDREN:
            self._children.pop(0).wait()
        message = action.verdict or {}
        facts = {
            "INSPECTD_PART_ID": _shown(message.get("part_id", "")),
            "INSPECTD_VERDICT": _shown(message.get("verdict", "")),
            "INSPECTD_REASON": _shown(message.get("reason", action.why)),
            "INSPECTD_SEQ": _shown(message.get("seq", "")),
        }
        try:
            self._children.append(subprocess.Popen(self._command, env={**os.environ, **facts}))
        except OSError as error:
            raise ConfigError(f"--on-reject: {self._command[0]} can't be run ({error})") from error

    def finish(self) -> None:
        """Waits for those that still run."""
        for child in self._children:
            child.wait()


def _target(config: Path | None, broker: str | None, topic: str | None) -> tuple[MqttSection, str]:
    from inspectd.core.config import MqttSection, StationSection, load_settings

    if broker is not None:
        host, _, port = broker.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"--broker: {broker!r} is not HOST:PORT")
        section = MqttSection(host=host, port=int(port), version="3.1.1")
        return section, topic or StationSection().base
    settings = load_settings(config or DEFAULT_CONFIG)
    bases = [lane.station.base for lane in settings.lanes]
    if topic is None and len(bases) > 1:
        raise ConfigError(f"the station has several cameras; say --topic {' or '.join(bases)}")
    return settings.mqtt, topic or bases[0]


def _write_reject(folder: Path, action: Action) -> None:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    name = (action.verdict or {}).get("result_id", action.why)
    safe = "".join(c for c in str(name) if c.isalnum() or c == "-")[:64]
    content = json.dumps({"why": action.why, "verdict": action.verdict}, indent=1)
    partial = folder / f".{stamp}-{safe}.part"
    partial.write_text(content, encoding="utf-8")
    partial.rename(folder / f"{stamp}-{safe}.json")


def _shown(text: object) -> str:
    """A name from the wire, without what a terminal would obey or an environment can't hold."""
    return "".join(c if c.isprintable() else "?" for c in str(text))

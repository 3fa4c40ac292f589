"""``inspectd demo``: from nothing to rejected parts, on any machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.table import Table

from inspectd.cli.options import RuntimeName, RuntimeOption
from inspectd.cli.output import (
    err,
    interruptible,
    needs_calibration,
    note,
    require_writable,
    show,
    stages,
    write_json,
)
from inspectd.core.errors import CameraError, ConfigError

if TYPE_CHECKING:
    from inspectd.demo.report import LineSummary
    from inspectd.demo.run import Account

EXAMPLES = (
    "inspectd demo",
    "inspectd demo --unplug",
    "inspectd demo --parts 300 --rate 8",
    "inspectd demo --broker localhost:1883 --json summary.json",
)
BUILTIN_NOTE = (
    "The demo uses the built-in backbone, a fixed bank of filters that needs no download: a "
    "stop-gap. A trained network finds more; give one with --backbone."
)


class DemoCamera(StrEnum):
    """The values of ``--camera``."""

    AUTO = "auto"
    SIMULATED = "simulated"
    FOLDER = "folder"


def demo(
    parts: Annotated[int, typer.Option(min=1, max=100_000, help="Parts on the line.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="Parts per second.")] = 5.0,
    broker: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Use this broker instead of an embedded one."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for pictures, product, logs and reports.")
    ] = Path("demo-out"),
    backbone: Annotated[str, typer.Option(help="Backbone: a name or a weights file.")] = "builtin",
    runtime: RuntimeOption = RuntimeName.AUTO,
    camera: Annotated[
        DemoCamera,
        typer.Option(
            help="simulated: a GenICam camera through harvesters; folder: pictures replayed; "
            "auto: simulated where harvesters and a compiler are there."
        ),
    ] = DemoCamera.AUTO,
    unplug: Annotated[
        bool,
        typer.Option(
            "--unplug", help="Unplug the simulated camera in the middle, and plug it in again."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Draws other parts.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the summary to this file.")
    ] = None,
) -> None:
    """Renders a product, calibrates it, and runs the real daemon with a broker and a reject gate.

    Nothing is downloaded and nothing but the folder is written. Exit status 0 only if every
    trigger was answered exactly once.
    """
    require_writable(json_file)
    with needs_calibration():
        from inspectd.demo.run import DemoRequest, broker_for, prepare_product, run_line
        from inspectd.demo.run import write_results as write

        folder.mkdir(parents=True, exist_ok=True)
        kind = _camera(camera, unplug)
        request = DemoRequest(
            folder, parts, rate, broker, backbone, seed, runtime.value, kind, unplug
        )
        if backbone == "builtin":
            note(BUILTIN_NOTE)
        with interruptible() as check, broker_for(request) as mqtt:
            with stages() as report:

                def step(stage: str, done: int, total: int) -> None:
                    check()
                    report(stage, done, total)

                bundle = prepare_product(request, step)
            note(f"calibrated {bundle.manifest.product} {bundle.manifest.revision}")
            note(
                f"line: {parts} parts at {rate:g}/s, {kind} camera, broker {mqtt.host}:{mqtt.port}"
            )
            with Live(console=err, refresh_per_second=8, transient=True) as live:

                def update(account: Account) -> None:
                    check()
                    live.update(live_table(account))

                account, masks = run_line(request, mqtt, update)
            page, sheet = write(request, bundle, mqtt, account, masks)
    summary = account.summary()
    show(summary_table(summary))
    note(f"report    {page}\noverlays  {sheet}\nlog       {folder / 'daemon.log'}")
    write_json(json_file, summary.as_json())
    if not summary.is_complete:
        note("some triggers were not answered exactly once; see the daemon's log", "bold red")
        raise typer.Exit(1)


def _camera(wanted: DemoCamera, unplug: bool) -> str:
    """`simulated` or `folder`.

    Raises:
        CameraError: the simulated camera is wanted and can't be had.
    """
    from inspectd.demo.parts import simulated_camera_problem

    if wanted is DemoCamera.FOLDER and unplug:
        raise ConfigError("--unplug: a folder of pictures can't be unplugged")
    problem = None if wanted is DemoCamera.FOLDER else simulated_camera_problem()
    if problem is not None and (wanted is DemoCamera.SIMULATED or unplug):
        raise CameraError(problem)
    if problem is not None:
        note(f"pictures are replayed from a folder, without the simulated camera: {problem}")
        return "folder"
    return "folder" if wanted is DemoCamera.FOLDER else "simulated"


def live_table(account: Account) -> Table:
    """The newest verdicts as the gate sees them, and the counts so far."""
    from inspectd.demo.product import truth_of

    summary = account.summary()
    table = Table(
        title=f"{summary.answered} of {summary.triggers} answered, {summary.passed} passed, "
        f"{summary.failed} failed, {summary.undecided} undecided",
        title_justify="left",
    )
    for column in ("part", "truth", "verdict", "score", "latency ms", "gate"):
        table.add_column(column, justify="right" if column in ("score", "latency ms") else "left")
    colours = {"pass": "green", "fail": "red"}
    for part, action in account.last:
        message = action.verdict or {}
        score = message.get("score")
        table.add_row(
            part.split("-")[0],
            truth_of(part) or "good",
            str(message["verdict"]),
            "" if score is None else f"{score:.4f}",
            "" if action.latency_ms is None else f"{action.latency_ms:.1f}",
            "diverted" if action.rejects else "",
            style=colours.get(str(message["verdict"]), "yellow"),
        )
    return table


def summary_table(summary: LineSummary) -> Table:
    """The account at the end."""
    table = Table(title="the line's account", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in summary.as_json().items():
        table.add_row(name.replace("_", " "), str(value))
    return table

"""``inspectd camera``: find a camera, see what it can do, take pictures with it, simulate one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inspectd.cli import camera_sim, capture
from inspectd.cli.options import JsonFlag
from inspectd.cli.output import examples, note, register, show, show_json
from inspectd.cli.selection import (
    CameraOption,
    ConfigOption,
    CtiOption,
    Selection,
    SerialOption,
    SimOption,
    UserIdOption,
    producer_files,
)
from inspectd.core.errors import ConfigError

if TYPE_CHECKING:
    from inspectd.acquisition.device import DeviceEntry
    from inspectd.acquisition.features import Feature, Value
    from inspectd.cli.probe import ProducerEntry, Written

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Find GenICam cameras, see their features, take pictures, simulate one.",
    epilog=examples(
        "inspectd camera list",
        "inspectd camera show --serial 40012345 --filter Exposure",
        "inspectd camera grab -n 10 --out shots --serial 40012345",
        "inspectd camera capture --product bottle --count 200 --config inspectd.toml",
        "inspectd camera sim start --dir rig --serial A1",
    ),
)


def list_cameras(cti: CtiOption = None, sim: SimOption = False, as_json: JsonFlag = False) -> None:
    """Every GenTL producer with the cameras it sees.

    A producer that can't be loaded, crashes, doesn't answer within 15 s or sees no camera is shown
    with that fact.
    """
    from inspectd.cli.probe import producers_seen

    answers = producers_seen(producer_files(cti, sim))
    if as_json:
        show_json([answer.as_dict() for answer in answers])
        return
    show(_cameras(answers))
    if not any(answer.devices for answer in answers):
        note("no camera can be seen", "yellow")


def show_camera(
    config: ConfigOption = None,
    camera: CameraOption = "",
    cti: CtiOption = None,
    sim: SimOption = False,
    serial: SerialOption = "",
    user_id: UserIdOption = "",
    text: Annotated[
        str, typer.Option("--filter", help="Only features with this in the name.")
    ] = "",
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="First write what --config says (user set, trigger, features), each read back.",
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """A camera's features: value, unit, range or choices, access.

    With --apply the exit status is 1 if the camera keeps anything else than was written.
    """
    from inspectd.cli.probe import camera_report

    selection = Selection(cti, sim, serial, user_id, config, camera)
    section = selection.configured()
    if apply and section is None:
        raise ConfigError("--apply writes what a configuration says; give it with --config")
    found = selection.found()
    report = camera_report(found, section.written_features() if apply and section else ())
    features = [f for f in report.features if text.lower() in f.name.lower()]
    if as_json:
        show_json(
            {
                "camera": found.as_dict(),
                "written": [written.as_dict() for written in report.written],
                "features": [feature.as_dict() for feature in features],
            }
        )
    else:
        if apply:
            show(_writes(report.written))
        show(_features(found, features))
    failed = [written for written in report.written if written.problem]
    for written in failed:
        note(written.problem, "red")
    raise typer.Exit(1 if failed else 0)


def _cameras(answers: list[ProducerEntry]) -> Table:
    table = Table("serial", "user id", "camera", "transport", "access")
    table.add_column("producer", overflow="fold")
    for answer in answers:
        if answer.problem:
            table.add_row("", "", answer.problem, "", "", str(answer.producer), style="red")
        for device in answer.devices:
            camera = f"{device.vendor} {device.model}".strip()
            about = device.serial, device.user_id, camera, device.transport, device.access
            table.add_row(*about, str(answer.producer))
    return table


def _writes(written: tuple[Written, ...]) -> Table:
    table = Table("written", "wanted", "read back", title="configured features")
    for one in written:
        got = "done" if one.got is None and not one.problem else _text(one.got)
        table.add_row(one.feature, _text(one.wanted), got, style="red" if one.problem else "")
    return table


def _features(camera: DeviceEntry, features: list[Feature]) -> Table:
    title = f"{camera.vendor} {camera.model} {camera.serial} {camera.user_id}".strip()
    table = Table("feature", "value", "unit", title=title)
    table.add_column("range or choices", overflow="fold")
    table.add_column("access")
    for feature in features:
        value = "(command)" if feature.kind == "command" else _text(feature.value)
        table.add_row(feature.name, value, feature.unit, _range(feature), feature.access)
    return table


def _range(feature: Feature) -> str:
    if feature.choices:
        return ", ".join(feature.choices)
    if feature.least is None or feature.most is None:
        return ""
    return f"{_text(feature.least)} to {_text(feature.most)}"


def _text(value: Value | None) -> str:
    """As it would be written in the configuration."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.7g}"
    return "-" if value is None else str(value)


COMMANDS: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    (
        "list",
        list_cameras,
        (
            "inspectd camera list",
            "inspectd camera list --cti /opt/vendor/lib/producer.cti --json",
            "inspectd camera list --sim",
        ),
    ),
    (
        "show",
        show_camera,
        (
            "inspectd camera show --serial 40012345 --filter Trigger",
            "inspectd camera show --config inspectd.toml --apply",
        ),
    ),
    ("grab", capture.grab, capture.GRAB_EXAMPLES),
    ("capture", capture.capture, capture.CAPTURE_EXAMPLES),
)
for _name, _function, _examples in COMMANDS:
    register(app, _name, _function, _examples)
app.add_typer(camera_sim.app, name="sim")

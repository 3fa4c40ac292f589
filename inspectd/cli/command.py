"""``inspectd command``: what a station that runs can be told over MQTT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from inspectd.cli.options import complete_product, complete_revision
from inspectd.cli.output import examples, register, show, show_json
from inspectd.cli.run import DEFAULT_CONFIG, ConfigOption
from inspectd.core.errors import CommandError, ConfigError

CameraName = Annotated[
    str | None, typer.Option("--camera", help="Which one, of a station with several.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the reply.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")]
Product = Annotated[str, typer.Argument(autocompletion=complete_product)]
Revision = Annotated[
    str | None, typer.Option(autocompletion=complete_revision, help="Default: the active one.")
]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Tell a running station something over MQTT: change the product, stop, start, confirm.",
    epilog=examples(
        "inspectd command prepare-product cap --config inspectd.toml",
        "inspectd command activate --config inspectd.toml",
        "inspectd command activate bottle --revision r0002-1a2b3c4d",
        "inspectd command stop",
        "inspectd command simulation on",
    ),
)


def prepare_product(
    product: Product,
    revision: Revision = None,
    config: ConfigOption = DEFAULT_CONFIG,
    camera: CameraName = None,
    timeout: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Loads and warms a product up beside the running one; `activate` then changes to it."""
    content = {"product": product, **_given(revision=revision)}
    _tell(config, camera, "prepare_product", content, timeout, as_json)


def activate(
    product: Annotated[str | None, typer.Argument(autocompletion=complete_product)] = None,
    revision: Revision = None,
    config: ConfigOption = DEFAULT_CONFIG,
    camera: CameraName = None,
    timeout: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Changes to a product between two parts: the prepared one, or the one that is named."""
    content = _given(product=product, revision=revision)
    _tell(config, camera, "activate", content, timeout, as_json)


def start(
    config: ConfigOption = DEFAULT_CONFIG,
    camera: CameraName = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Takes up inspection after a stop."""
    _tell(config, camera, "start", {}, timeout, as_json)


def stop(
    config: ConfigOption = DEFAULT_CONFIG,
    camera: CameraName = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Stops to inspect: parts are answered `undecided` until a start, over restarts too."""
    _tell(config, camera, "stop", {}, timeout, as_json)


def confirm_alarm(
    alarm_id: Annotated[str | None, typer.Argument(help="Default: all.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    camera: CameraName = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Takes note of an alarm, by the id that it came with."""
    _tell(config, camera, "confirm_alarm", _given(alarm_id=alarm_id), timeout, as_json)


def simulation(
    switch: Annotated[str, typer.Argument(metavar="on|off")],
    config: ConfigOption = DEFAULT_CONFIG,
    camera: CameraName = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Marks the verdicts to come as simulated, which a gate rejects, or no longer."""
    if switch not in ("on", "off"):
        raise ConfigError(f"{switch!r}: say on or off")
    _tell(config, camera, "set_simulation", {"on": switch == "on"}, timeout, as_json)


def _given(**fields: str | None) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _tell(
    config: Path,
    camera: str | None,
    verb: str,
    content: dict[str, Any],
    timeout_s: float,
    as_json: bool,
) -> None:
    """Sends, waits, shows; a refusal is an error."""
    from inspectd.core.config import load_settings
    from inspectd.remote import ask

    settings = load_settings(config)
    bases = {lane.camera.name: lane.station.base for lane in settings.lanes}
    if camera is None and len(bases) > 1:
        raise ConfigError(f"the station has several cameras; say --camera {' or '.join(bases)}")
    base = bases.get(camera) if camera else next(iter(bases.values()))
    if base is None:
        raise ConfigError(f"--camera: no {camera!r}; there are: {', '.join(bases)}")
    reply = ask(settings.mqtt, base, verb, content, timeout_s)
    if as_json:
        show_json(reply)
    elif reply["ok"]:
        show(reply["text"])
    if not reply["ok"]:
        raise CommandError(reply["text"])


COMMANDS = (
    ("prepare-product", prepare_product, "inspectd command prepare-product cap"),
    ("activate", activate, "inspectd command activate cap --revision r0002-1a2b3c4d"),
    ("start", start, "inspectd command start --config inspectd.toml"),
    ("stop", stop, "inspectd command stop --camera left"),
    ("confirm-alarm", confirm_alarm, "inspectd command confirm-alarm 0a1b2c3d-7"),
    ("simulation", simulation, "inspectd command simulation on"),
)
for _name, _function, _example in COMMANDS:
    register(app, _name, _function, (_example,))

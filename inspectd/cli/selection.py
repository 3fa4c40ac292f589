"""Which camera a command is about: the options for it, and the `GenicamSection` they make."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inspectd.core.errors import CameraError, ConfigError

if TYPE_CHECKING:
    from inspectd.acquisition.device import DeviceEntry
    from inspectd.acquisition.features import Feature
    from inspectd.core.config import GenicamSection

ASSIGNMENT = re.compile(r"^\s*(\w+(?:\[\w+=[\w.-]+\])?)\s*=(.*)$", re.DOTALL)
OPEN_S = 10.0
"""For a camera that was seen a moment ago."""
PANEL = "Camera"


class TriggerName(StrEnum):
    """The values of ``--trigger``; a test compares them with `GenicamSection`'s."""

    FREE_RUN = "free-run"
    SOFTWARE = "software"
    LINE = "line"
    ENCODER = "encoder"


CtiOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--cti",
        metavar="FILE",
        help="GenTL producer (.cti) of the camera's maker; may be given several times (default: "
        "all in the directories of $GENICAM_GENTL64_PATH).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
SimOption = Annotated[
    bool,
    typer.Option(
        "--sim", help="Our simulated camera's producer too; see sim start.", rich_help_panel=PANEL
    ),
]
SerialOption = Annotated[
    str,
    typer.Option(
        "--serial",
        help="The camera's serial number (default: the only camera there is).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
UserIdOption = Annotated[
    str,
    typer.Option(
        "--user-id",
        help="The camera's own name, its DeviceUserID.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="Instead of these: the station's TOML file, for its camera and all its settings.",
        dir_okay=False,
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
CameraOption = Annotated[
    str,
    typer.Option(
        "--camera",
        metavar="NAME",
        help="Which one, where --config has several.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
TriggerOption = Annotated[
    TriggerName | None,
    typer.Option(
        help="What takes a picture (default: as --config says, or free-run).",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
RateOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=1000,
        help="Pictures per second with --trigger software.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
FeatureOption = Annotated[
    list[str] | None,
    typer.Option(
        "--feature",
        metavar="NAME=VALUE",
        help="An SFNC feature to write, such as ExposureTime=500; may be given several times.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Selection:
    """The options that say which camera."""

    cti: list[Path] | None
    sim: bool
    serial: str
    user_id: str
    config: Path | None
    camera: str

    def configured(self) -> GenicamSection | None:
        """The section of the configuration; None where none was named.

        Raises:
            ConfigError: it is wrong, has no such camera, or other options name a camera too.
        """
        if self.config is None:
            if self.camera:
                raise ConfigError("--camera chooses from --config; without it give --serial")
            return None
        if self.cti or self.sim or self.serial or self.user_id:
            raise ConfigError(
                "--config names the camera; leave --cti, --sim, --serial and --user-id out"
            )
        return _section_of(self.config, self.camera)

    def found(self) -> DeviceEntry:
        """The one camera that is meant, as its producer sees it now.

        Raises:
            CameraError: there is none or there are several; says which can be seen.
        """
        section = self.configured()
        if section is None:
            return _sought(producer_files(self.cti, self.sim), self.serial, self.user_id)
        return _sought(producer_files(section.cti, False), section.serial, section.user_id)

    def section(
        self, trigger: TriggerName | None, rate: float | None, features: list[str] | None
    ) -> GenicamSection:
        """What is to be opened.

        Raises:
            CameraError, ConfigError: see `found` and `configured`; a value doesn't fit.
        """
        section = self.configured()
        kind = trigger.value if trigger else section.trigger if section else "free-run"
        if rate is not None and kind != "software":
            raise ConfigError(
                "--rate is of --trigger software; in free run give --feature "
                "AcquisitionFrameRate=..."
            )
        written = [assignment(text) for text in features or ()]
        fields = (
            _of_camera(self.found(), kind)
            if section is None
            else _with_trigger(section, None if trigger is None else kind)
        )
        if rate is not None:
            fields["rate"] = rate
        fields["features"] = [*fields["features"], *({name: value} for name, value in written)]
        return _validated(fields)


def producer_files(cti: list[Path] | None, sim: bool) -> list[Path]:
    """The producers to ask; a named one that doesn't exist is among them.

    Raises:
        CameraError: there is none.
    """
    from inspectd.acquisition.device import producers
    from inspectd.simcam.build import producer_path

    files = list(cti or ())
    if not files:
        try:
            files = producers()
        except CameraError:
            if not sim:
                raise
    if sim:
        files.append(producer_path())
    return list({path.resolve(): path for path in files}.values())


def assignment(text: str) -> tuple[str, bool | int | float | str]:
    """``Name=value`` or ``Name[Selector=Choice]=value``; the value as TOML, or a bare word.

    Raises:
        ConfigError: it is neither.
    """
    matched = ASSIGNMENT.match(text)
    if matched is None:
        raise ConfigError(f"--feature {text}: write NAME=VALUE, such as ExposureTime=500")
    name, value = matched.group(1), matched.group(2).strip()
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return name, value
    known = parsed.keys() == {"value"} and isinstance(parsed["value"], bool | int | float | str)
    return name, parsed["value"] if known else value


def _section_of(config: Path, name: str) -> GenicamSection:
    from inspectd.core.config import GenicamSection, load_settings

    cameras = [lane.camera for lane in load_settings(config).lanes]
    matches = [camera for camera in cameras if name in ("", camera.name)]
    if len(matches) != 1:
        known = ", ".join(camera.name for camera in cameras)
        raise ConfigError(f"{config} has the cameras {known}; name one with --camera")
    section = matches[0]
    if not isinstance(section, GenicamSection):
        raise ConfigError(
            f"{config}: camera {section.name} replays the folder {section.path}; this command "
            'needs one of type = "genicam"'
        )
    return section


def _sought(files: list[Path], serial: str, user_id: str) -> DeviceEntry:
    from inspectd.acquisition.device import chosen
    from inspectd.cli.probe import producers_seen

    answers = producers_seen(files)
    seen = [device for answer in answers for device in answer.devices]
    if not serial and not user_id and len(seen) > 1:
        raise CameraError(f"there are several cameras: {_names(seen)}; name one with --serial")
    index = chosen(seen, serial, user_id)
    if index is not None:
        return seen[index]
    wanted = f"no camera {serial or user_id}" if serial or user_id else "no camera"
    problems = [f"{a.producer}: {a.problem}" for a in answers if a.problem]
    visible = f"visible: {_names(seen)}" if seen else "none is visible"
    raise CameraError("; ".join([f"{wanted}, {visible}", *problems]))


def _names(seen: list[DeviceEntry]) -> str:
    return ", ".join(f"{device.serial} {device.user_id}".strip() for device in seen)


def _of_camera(camera: DeviceEntry, trigger: str) -> dict[str, Any]:
    """The section of a camera without configuration: its defaults, where it keeps such."""
    from inspectd.cli.probe import camera_report

    if not camera.serial and not camera.user_id:
        raise CameraError(f"{camera.id} tells neither a serial number nor a user id")
    known = {feature.name: feature for feature in camera_report(camera).features}
    return {
        "type": "genicam",
        "cti": [camera.producer],
        "serial": camera.serial,
        "user_id": "" if camera.serial else camera.user_id,
        "trigger": trigger,
        "user_set": "Default" if _offers(known, "UserSetSelector", "Default") else "",
        "features": _untriggered(known) if trigger == "free-run" else [],
        "open_timeout_s": OPEN_S,
    }


def _untriggered(known: dict[str, Feature]) -> list[dict[str, str]]:
    """What makes a camera run free, which another program may have set to a trigger."""
    written = []
    if _offers(known, "TriggerSelector", "FrameStart"):
        written.append({"TriggerSelector": "FrameStart"})
    if _offers(known, "TriggerMode", "Off"):
        written.append({"TriggerMode": "Off"})
    return written


def _offers(known: dict[str, Feature], name: str, choice: str) -> bool:
    return name in known and known[name].access == "rw" and choice in known[name].choices


def _with_trigger(section: GenicamSection, trigger: str | None) -> dict[str, Any]:
    """The configured section; another trigger comes without what belongs to the configured one."""
    fields = section.model_dump()
    if isinstance(fields["features"], dict):
        fields["features"] = [fields["features"]] if fields["features"] else []
    if trigger is None or trigger == section.trigger:
        return fields
    bound = ("source", "activation", "trigger_counter"), ("delay_us", "divider", "debounce_us")
    fields |= {"trigger": trigger, **dict.fromkeys(bound[0], ""), **dict.fromkeys(bound[1])}
    if trigger == "free-run":
        fields["features"].append({"TriggerMode": "Off"})
    return fields


def _validated(fields: dict[str, Any]) -> GenicamSection:
    from pydantic import ValidationError

    from inspectd.core.config import GenicamSection

    try:
        return GenicamSection.model_validate(fields)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "camera"
        raise ConfigError(f"{where}: {problem['msg']}") from error

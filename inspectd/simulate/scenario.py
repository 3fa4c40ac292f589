"""A scenario: how long the line runs, what happens to it meanwhile, and what must come of it.

TOML; unknown keys are forbidden. Examples with comments: ``deploy/scenarios``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inspectd.core.errors import ConfigError

SUFFIX = ".toml"
FOLDER = Path("deploy") / "scenarios"

Kind = Literal[
    "broker-kill",
    "broker-pause",
    "network-cut",
    "camera-cut",
    "camera-unplug",
    "camera-child-kill",
    "camera-freeze",
    "frame-drop",
    "frame-incomplete",
    "frame-wrong-size",
    "no-frame",
    "daemon-kill",
    "disk-full",
    "slow-inference",
    "inference-fail",
    "inference-hang",
    "clock-jump",
    "burst",
    "changeover",
]

DEFAULT_FOR_S: dict[Kind, float] = {
    "broker-kill": 1.0,
    "broker-pause": 2.0,
    "network-cut": 3.0,
    "camera-cut": 1.0,
    "camera-unplug": 1.0,
    "camera-freeze": 2.0,
    "disk-full": 3.0,
    "slow-inference": 2.0,
    "inference-hang": 2.0,
    "clock-jump": 3.0,
}
"""How long a fault lasts where the scenario doesn't say; the others are over at once."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Fault(_Table):
    """One ``[[fault]]``: once at a part, or again and again."""

    kind: Kind | None = None
    kinds: list[Kind] = []
    """Taken in turn, with `every_parts`."""
    at_part: Annotated[int, Field(ge=1)] | None = None
    """It begins when so many parts have passed."""
    every_parts: Annotated[int, Field(ge=10)] | None = None
    """It begins again each time that so many more have passed."""
    times: Annotated[int, Field(ge=1)] | None = None
    """How often at most, with `every_parts`."""
    for_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Seconds that it lasts."""
    for_parts: Annotated[int, Field(ge=1)] | None = None
    """Parts that pass until it ends, instead of `for_s`."""
    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Frames or inferences that go wrong (3; a runtime that fails on 5 in a row is given up), parts
    of a burst (20)."""
    delay_ms: Annotated[int, Field(ge=1, le=60_000)] = 200
    """slow-inference: what each takes more."""
    jump_s: Annotated[float, Field(ge=-1e8, le=1e8)] = 3600.0
    """clock-jump: how far the daemon's UTC is put forward, or back."""
    rate: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """burst: parts per second; all at once where it isn't given."""
    how: Literal["command", "sighup"] = "command"
    """changeover: by MQTT command, or by the configuration and SIGHUP."""

    @model_validator(mode="after")
    def _consistent(self) -> Fault:
        if (self.kind is None) == (not self.kinds):
            raise ValueError("give kind, or kinds")
        if (self.at_part is None) == (self.every_parts is None):
            raise ValueError("give at_part or every_parts, one of them")
        if self.every_parts is None and (self.kinds or self.times):
            raise ValueError("kinds and times are for every_parts")
        if self.for_s is not None and self.for_parts is not None:
            raise ValueError("for_s or for_parts, not both")
        return self

    @property
    def all_kinds(self) -> tuple[Kind, ...]:
        """What it can be."""
        return (self.kind,) if self.kind is not None else tuple(self.kinds)


class Expect(_Table):
    """``[expect]``: limits on the account; a value that isn't given isn't checked."""

    unanswered: Annotated[int, Field(ge=0)] | None = 0
    """Parts without any verdict, at most."""
    duplicates: Annotated[int, Field(ge=0)] | None = 0
    """Parts with more than one result."""
    escapes_by_faults: Annotated[int, Field(ge=0)] | None = 0
    """Parts that the gate let through and the scorer, undisturbed, fails."""
    overkill_by_faults: Annotated[int, Field(ge=0)] | None = 0
    """Parts answered `fail` that the scorer, undisturbed, passes."""
    out_of_order: Annotated[int, Field(ge=0)] | None = 0
    """Verdicts, not late, behind one of a later part."""
    let_through_late: Annotated[int, Field(ge=0)] | None = 0
    """Parts for which the gate opened after their deadline: for another part, then."""
    lost_in_broker: Annotated[int, Field(ge=0)] | None = None
    """Verdicts that a broker acknowledged to the daemon and took to its grave."""
    undecided: Annotated[int, Field(ge=0)] | None = None
    undecided_share: Annotated[float, Field(ge=0, le=1)] | None = None
    diverted_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Good parts rejected for want of a timely verdict, of all good parts."""
    daemon_deaths: Annotated[int, Field(ge=0)] | None = 0
    """Ends of the daemon that no fault asked for."""
    latency_p99_ms: Annotated[float, Field(gt=0)] | None = None
    """From trigger to verdict, far from faults."""
    rss_growth_mb: Annotated[float, Field(ge=0)] | None = None
    """Of the daemon in its longest life, from its second quarter to its last."""
    fd_growth: Annotated[int, Field(ge=0)] | None = None
    """Likewise, open descriptors."""


class Scenario(_Table):
    """The whole file."""

    title: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    """Draws other parts."""
    parts: Annotated[int, Field(ge=1, le=10_000_000)]
    rate: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """Parts per second."""
    deadline_ms: Annotated[int, Field(ge=1, le=600_000)] = 500
    """From the trigger to the verdict; the gate rejects a part without one by then."""
    size: Annotated[int, Field(ge=96, le=1024)] = 96
    """Side of the model's input, pixels."""
    pictures: Annotated[int, Field(ge=4, le=5000)] = 60
    """Different pictures on the line, shown again and again in their order."""
    queue: Annotated[int, Field(ge=1, le=1024)] = 8
    """Of the daemon: parts that may wait for inspection."""
    broker: str = "mosquitto"
    """`mosquitto` and `embedded` are started and can fail; or one that runs, HOST:PORT."""
    keepalive_s: Annotated[int, Field(ge=1, le=3600)] = 2
    """Of the daemon's MQTT connection."""
    restart_s: Annotated[float, Field(ge=0, le=600)] = 0.2
    """From the daemon's end to its next start, as RestartSec of systemd."""
    watchdog_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """The daemon is killed when it made no progress for so long, as WatchdogSec of systemd."""
    patience_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """After the last part: how long an answer is waited for while none comes."""
    network: Literal["auto", "namespace", "relay"] = "auto"
    """What network-cut cuts: a network namespace of the daemon's own (as root), or a relay."""
    fault: list[Fault] = []
    expect: Expect = Expect()

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        if self.broker not in ("mosquitto", "embedded"):
            host, _, port = self.broker.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"broker: {self.broker!r} is not mosquitto, embedded or HOST:PORT")
            if wrong := sorted(self.kinds & {"broker-kill", "broker-pause"}):
                raise ValueError(f"{wrong[0]}: {self.broker} isn't ours to stop")
        return self

    @property
    def kinds(self) -> frozenset[Kind]:
        """All faults that come in it."""
        return frozenset(kind for fault in self.fault for kind in fault.all_kinds)

    def planned(self) -> list[Planned]:
        """The faults one by one, in their order."""
        found = [planned for fault in self.fault for planned in _expanded(fault, self.parts)]
        return sorted(found, key=lambda planned: planned.at_part)


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault at its place."""

    at_part: int
    kind: Kind
    details: Fault

    @property
    def for_s(self) -> float | None:
        """Seconds; None where it lasts for parts, or is over at once."""
        if self.details.for_parts is not None:
            return None
        return self.details.for_s or DEFAULT_FOR_S.get(self.kind)


def _expanded(fault: Fault, parts: int) -> Iterator[Planned]:
    kinds = fault.all_kinds
    if fault.at_part is not None:
        if fault.at_part <= parts:
            yield Planned(fault.at_part, kinds[0], fault)
        return
    step = fault.every_parts or parts
    for number, at_part in enumerate(range(step, parts, step)):
        if fault.times is None or number < fault.times:
            yield Planned(at_part, kinds[number % len(kinds)], fault)


def load_scenario(name: str, **changes: object) -> Scenario:
    """A scenario by its file, or by the bare name of a shipped one.

    Args:
        name: ``broker`` or ``deploy/scenarios/broker.toml``.
        changes: values that replace the file's; None replaces nothing.

    Raises:
        ConfigError: there is no such file, or something in it is wrong; all problems are listed.
    """
    path = find_scenario(name)
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error})") from error
    content |= {key: value for key, value in changes.items() if value is not None}
    try:
        return Scenario.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_explained(path, error)) from None


def find_scenario(name: str) -> Path:
    """The file of a scenario.

    Raises:
        ConfigError: there is none; the message names those there are.
    """
    path = Path(name)
    if path.suffix == SUFFIX or len(path.parts) > 1:
        if path.is_file():
            return path
        raise ConfigError(f"{name}: no such file; inspectd simulate --list names the shipped ones")
    known = shipped()
    if name not in known:
        there = ", ".join(known) or "none here: give the path of a file"
        raise ConfigError(f"no scenario is called {name!r}; there are: {there}")
    return known[name]


def shipped() -> dict[str, Path]:
    """Scenarios by name: below the working directory, else beside the package."""
    for root in (Path(), Path(__file__).resolve().parents[2]):
        found = sorted((root / FOLDER).glob(f"*{SUFFIX}"))
        if found:
            return {path.stem: path for path in found}
    return {}


def _explained(path: Path, error: ValidationError) -> str:
    lines = [f"{path}: {error.error_count()} problem(s)"]
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key")
        elif problem["type"] == "missing":
            lines.append(f"  {where}: is required")
        else:
            lines.append(f"  {where}: {problem['msg']}")
    return "\n".join(lines)

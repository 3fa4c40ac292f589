"""What a person can type at a virtual camera: ``unplug``, ``drop 2``, ``freeze on``, ``status``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from inspectd.core.errors import CameraError
from inspectd.simcam.device import SimDevice
from inspectd.simcam.layout import Fault

MOST = 1_000_000
"""The largest number that a command takes."""


@dataclass(frozen=True, slots=True)
class Command:
    """One word and what follows it."""

    arguments: str
    """As the help shows them, one word each."""
    meaning: str
    run: Callable[[SimDevice, list[int]], str]
    """Takes the arguments as numbers and says what came of it."""


def execute(device: SimDevice, text: str) -> str:
    """Does what the text says and answers in one line.

    Raises:
        CameraError: there is no such command, or its arguments don't fit.
    """
    name, *arguments = text.split() or [""]
    command = COMMANDS.get(name)
    if command is None:
        raise CameraError(f"no command {name!r} for a virtual camera; there are:\n{usage()}")
    if len(arguments) != len(command.arguments.split()):
        raise CameraError(f"{name} takes {command.arguments or 'nothing'}; it was given {text!r}")
    return command.run(device, [_number(name, argument) for argument in arguments])


def usage() -> str:
    """One line for each command."""
    rows = {f"{name} {command.arguments}": command.meaning for name, command in COMMANDS.items()}
    return "\n".join(f"  {row:<16} {meaning}" for row, meaning in rows.items())


def _number(name: str, argument: str) -> int:
    if name == "freeze" and argument in {"on", "off"}:
        return int(argument == "on")
    if name != "freeze" and argument.isdecimal() and int(argument) <= MOST:
        return int(argument)
    wanted = "on or off" if name == "freeze" else f"a whole number up to {MOST}"
    raise CameraError(f"{name} {argument}: give {wanted}")


def _plug(device: SimDevice, _: list[int]) -> str:
    device.plug()
    return "plugged"


def _put(answer: str, **values: int) -> Callable[[SimDevice, list[int]], str]:
    def run(device: SimDevice, _: list[int]) -> str:
        device.put(**values)
        return answer

    return run


def _fault(fault: Fault) -> Callable[[SimDevice, list[int]], str]:
    def run(device: SimDevice, arguments: list[int]) -> str:
        return f"{device.ask(fault, arguments[0])} pending"

    return run


def _freeze(device: SimDevice, arguments: list[int]) -> str:
    device.put(frozen=arguments[0])
    return "frozen" if arguments[0] else "thawed"


def _slow(device: SimDevice, arguments: list[int]) -> str:
    device.put(slow_ms=arguments[0])
    return f"{arguments[0]} ms more for each frame"


def _late(device: SimDevice, arguments: list[int]) -> str:
    device.put(late_ms=arguments[1])
    return f"{device.ask(Fault.LATE, arguments[0])} pending, {arguments[1]} ms late"


def _line(device: SimDevice, arguments: list[int]) -> str:
    device.add("line_edges", arguments[0])
    return f"{device.status().parts} parts"


def _encoder(device: SimDevice, arguments: list[int]) -> str:
    return f"{device.add('encoder_ticks', arguments[0])} ticks"


def _temperature(device: SimDevice, arguments: list[int]) -> str:
    device.put(temperature=1000 * arguments[0])
    return f"{arguments[0]} C"


def _status(device: SimDevice, _: list[int]) -> str:
    fields = asdict(device.status())
    pending = {name: count for name, count in fields.pop("pending").items() if count}
    fields["pending"] = ",".join(f"{name}:{count}" for name, count in pending.items()) or "none"
    return " ".join(f"{name}={value}" for name, value in fields.items())


COMMANDS = {
    "unplug": Command("", "takes its power away", _put("unplugged", powered=0)),
    "plug": Command("", "gives it power: it starts with its power-up user set", _plug),
    "cut": Command(
        "", "cuts the cable; the camera keeps its power and counts on", _put("cut", linked=0)
    ),
    "join": Command("", "mends the cable", _put("joined", linked=1)),
    "line": Command("N", "N edges on Line0: N parts pass", _line),
    "encoder": Command("N", "N ticks of Encoder0", _encoder),
    "drop": Command("N", "the next N frames are lost on the way", _fault(Fault.DROP)),
    "incomplete": Command("N", "the next N frames arrive in part", _fault(Fault.INCOMPLETE)),
    "wrong-size": Command("N", "the next N frames have half their lines", _fault(Fault.WRONG_SIZE)),
    "no-frame": Command(
        "N", "the next N triggers are counted and give no frame", _fault(Fault.NO_FRAME)
    ),
    "late": Command("N MS", "the next N frames come MS milliseconds later", _late),
    "bad-chunk": Command("N", "the next N frames have unknown chunks", _fault(Fault.BAD_CHUNK)),
    "slow": Command("MS", "every frame takes MS milliseconds more; 0 ends it", _slow),
    "freeze": Command(
        "on|off", "the producer hangs: no frames, and its calls don't return", _freeze
    ),
    "temperature": Command("C", "DeviceTemperature in degrees Celsius", _temperature),
    "status": Command("", "its state and its counters", _status),
}

"""What a camera's child and the daemon tell each other: one JSON object a packet.

The child speaks `Alive`, `Ready`, `Picture`, `Bad`, `Count`, `Gone` and `Refused`; the daemon
`trigger PART`, `restart` and `stop` as bare words. The end of the socket is the end of the other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Alive:
    """The child's loop goes round."""

    phase: str
    """`opening`: it may take a while; `waiting`: no camera yet; `streaming`."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The camera streams; the ring's file comes with this packet."""

    camera: str
    """Vendor, model, serial."""
    slots: int
    slot_bytes: int
    rate: float | None
    """AcquisitionFrameRate in free run."""
    count: int | None
    """The camera's counter of triggers, where it has one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame that lies in the ring."""

    slot: int
    shape: tuple[int, ...]
    """(H, W) or (H, W, 3)."""
    frame_id: int
    captured_ns: int
    """`time.monotonic_ns()`."""
    device_ns: int | None = None
    count: int | None = None
    """The counter of triggers at this frame."""
    encoder: int | None = None
    exposure_us: float | None = None
    lines: int | None = None
    """LineStatusAll."""
    part: int | None = None
    """Which of the daemon's triggers it answers, with the software trigger."""


@dataclass(frozen=True, slots=True)
class Bad:
    """A frame that can't be used: the word of a `Reason` and why."""

    reason: str
    detail: str
    frame_id: int | None = None
    count: int | None = None
    captured_ns: int | None = None
    part: int | None = None
    """As of a `Picture`."""


@dataclass(frozen=True, slots=True)
class Count:
    """The camera's counter of triggers, polled."""

    count: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The child ends: the camera is lost, and another child shall try again."""

    detail: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The child ends: the configuration doesn't fit, and no repetition helps."""

    detail: str


Message = Alive | Ready | Picture | Bad | Count | Gone | Refused
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Alive, Ready, Picture, Bad, Count, Gone, Refused)
}
MAX_BYTES = 65_536


def pack(message: Message) -> bytes:
    """As a packet."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def unpack(packet: bytes) -> Message:
    """From a packet of our own child."""
    fields = json.loads(packet)
    kind = KINDS[fields.pop("kind")]
    if kind is Picture:
        fields["shape"] = tuple(fields["shape"])
    message: Message = kind(**fields)
    return message

"""One virtual camera in the mapped rig: its words, changed in the way that the producer expects."""

from __future__ import annotations

import ctypes
import fcntl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

from inspectd.simcam.futex import add_and_wake
from inspectd.simcam.layout import DeviceRecord, Fault

_FLOCK = "hhqqi4x"
"""``struct flock`` of Linux on 64 bit machines: type, whence, start, length, pid."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A camera at one moment; counters run since the rig was made."""

    serial: str
    user_id: str
    plugged: bool
    """It has power."""
    linked: bool
    """Its cable is whole."""
    frozen: bool
    opened_by: int | None
    """Process id of the host that has it open."""
    parts: int
    """Parts that passed: edges on Line0, software triggers and encoder triggers."""
    edges: int
    """Edges on Line0."""
    encoder: int
    """Ticks of Encoder0."""
    triggers: int
    """Triggers that the camera accepted, a ``no-frame`` included."""
    delivered: int
    """Buffers that the host fetched, incomplete ones included."""
    dropped: int
    """Frames taken that the host never saw."""
    frame_id: int
    """Of the last frame of this acquisition, 0 before it."""
    pending: Mapping[str, int]
    """Faults still to come, by name."""


class SimDevice:
    """The words of one camera; short-lived, made for one operation by `Rig`."""

    def __init__(self, record: DeviceRecord, index: int, rig_bin: Path) -> None:
        self._record = record
        self._index = index
        self._rig_bin = rig_bin

    def add(self, field: str, amount: int) -> int:
        """Adds to a counter, atomically, and wakes the camera; returns its value."""
        add_and_wake(self._address(field), amount, self._address("wake"))
        return int(getattr(self._record, field))

    def put(self, **values: int) -> None:
        """Sets words in this order and wakes the camera."""
        for field, value in values.items():
            setattr(self._record, field, value)
        add_and_wake(self._address("wake"), 0, self._address("wake"))

    def ask(self, fault: Fault, count: int) -> int:
        """`count` more of this fault; returns how many are pending."""
        word = self._address("asked") + ctypes.sizeof(ctypes.c_uint32) * fault
        add_and_wake(word, count, self._address("wake"))
        return self._pending(fault)

    def plug(self) -> None:
        """Gives it power, unless it has: the counters and the clock start over."""
        record = self._record
        if record.powered:
            return
        self.put(
            line_base=record.line_edges,
            encoder_base=record.encoder_ticks,
            software_base=record.software_triggers,
            powered_at=monotonic_ns(),
            frozen=0,
            power_ups=record.power_ups + 1,
            powered=1,
        )

    def status(self) -> DeviceStatus:
        """As it is now."""
        record = self._record
        return DeviceStatus(
            serial=record.serial.decode(),
            user_id=record.user_id.decode(errors="replace"),
            plugged=bool(record.powered),
            linked=bool(record.linked),
            frozen=bool(record.frozen),
            opened_by=int(record.owner) if self._locked() else None,
            parts=int(record.line_edges + record.other_parts),
            edges=int(record.line_edges),
            encoder=int(record.encoder_ticks),
            triggers=int(record.triggers),
            delivered=int(record.delivered),
            dropped=int(record.dropped),
            frame_id=int(record.frame_id),
            pending={fault.name.lower().replace("_", "-"): self._pending(fault) for fault in Fault},
        )

    def _address(self, field: str) -> int:
        return ctypes.addressof(self._record) + int(getattr(DeviceRecord, field).offset)

    def _pending(self, fault: Fault) -> int:
        return max(0, int(self._record.asked[fault]) - int(self._record.done[fault]))

    def _locked(self) -> bool:
        """The kernel drops the lock with the process, so that a killed host leaves none."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, self._index, 1, 0)
        with self._rig_bin.open("r+b") as file:
            found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked)
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

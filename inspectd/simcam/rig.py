"""The rig: virtual cameras in a directory, and the line that passes before them.

    with Rig(directory, [DeviceSpec("SIM1", width=640, height=480)]) as rig:
        rig.load("SIM1", images)
        host = subprocess.Popen(..., env={**os.environ, **rig.environment()})
        rig.trigger("SIM1")               # a part: one edge on Line0
        rig.command("SIM1", "unplug")     # and a fault

The directory holds ``rig.bin``, which every process of the rig maps, and a folder of pictures for
each camera. All of it outlives its processes. Picture k mod n is shown to part k + 1, whichever
parts the camera missed meanwhile; without a trigger, to frame k + 1 of the acquisition.
"""

from __future__ import annotations

import ctypes
import mmap
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Self

from inspectd.core.errors import CameraError
from inspectd.core.records import ImageArray
from inspectd.simcam.commands import execute
from inspectd.simcam.device import DeviceStatus, SimDevice
from inspectd.simcam.layout import MAGIC, MAX_DEVICES, VERSION, DeviceRecord, RigRecord
from inspectd.simcam.pictures import write_pictures

VARIABLE = "INSPECTD_SIMCAM"
"""The environment variable that tells the producer which rig it belongs to."""
RIG_BIN = "rig.bin"
MAX_SIDE = 8192
"""Pixels of a sensor's side at most."""


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """A virtual camera."""

    serial: str
    """Its folder's name too: letters, digits, ``-`` and ``_``."""
    user_id: str = ""
    width: int = 640
    """Sensor, pixels, a multiple of 4."""
    height: int = 480
    """Sensor, pixels, a multiple of 2."""
    model: str = "SimCam"
    tl_type: str = "Custom"
    """Transport layer that it claims: with ``GEV`` harvesters parses the chunks itself."""

    def __post_init__(self) -> None:
        if not self.serial.replace("-", "").replace("_", "").isalnum() or len(self.serial) > 63:
            raise CameraError(f"serial {self.serial!r}: use up to 63 letters, digits, - and _")
        texts = (self.user_id, 63), (self.model, 63), (self.tl_type, 15)
        if any(len(text.encode()) > room for text, room in texts):
            raise CameraError(f"{self.serial}: user id, model or transport layer is too long")
        fits = 16 <= self.width <= MAX_SIDE and 2 <= self.height <= MAX_SIDE
        if not fits or self.width % 4 or self.height % 2:
            raise CameraError(
                f"{self.serial}: a sensor of {self.width} x {self.height} (W x H) can't be; the "
                f"width is a multiple of 4, the height of 2, both up to {MAX_SIDE}"
            )


class Rig:
    """The cameras of one directory. Leaving it unmaps ``rig.bin`` and leaves the cameras as is."""

    def __init__(self, directory: Path, devices: Sequence[DeviceSpec]) -> None:
        """Makes the cameras, or finds them as they were left.

        Raises:
            CameraError: the directory holds other cameras.
        """
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / RIG_BIN).exists():
            _write_rig(directory, devices)
        self._open(directory)
        if list(map(_unnamed, self.specs)) != list(map(_unnamed, devices)):
            raise CameraError(f"{directory} holds other cameras; remove it or name another one")

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """The rig that another process made."""
        rig = cls.__new__(cls)
        rig._open(directory)
        return rig

    def _open(self, directory: Path) -> None:
        self.directory = directory
        path = directory / RIG_BIN
        try:
            with path.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), ctypes.sizeof(RigRecord))
        except (OSError, ValueError) as error:
            raise CameraError(f"{path}: {error}; make the rig first") from error
        self._record: RigRecord | None = RigRecord.from_buffer(memory)
        if self._record.magic != MAGIC or self._record.version != VERSION:
            raise CameraError(f"{path} was made by another version; remove it and make it anew")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps it."""
        self._record = None

    @property
    def specs(self) -> tuple[DeviceSpec, ...]:
        """The cameras as they were made; a DeviceUserID that was written since is told instead."""
        return tuple(_spec(record) for record in self._records())

    def environment(self) -> dict[str, str]:
        """For the processes that are to see these cameras."""
        return {VARIABLE: str(self.directory.resolve())}

    def load(self, serial: str, images: Iterable[ImageArray]) -> None:
        """Replaces the camera's pictures, (H, W) or (H, W, 3) RGB; with none it generates them.

        Raises:
            CameraError: an image doesn't have the sensor's size.
        """
        spec = next((spec for spec in self.specs if spec.serial == serial), None)
        device = self._device(serial)
        if spec is not None:
            write_pictures(self.directory / serial, images, (spec.height, spec.width))
        device.add("pictures", 1)

    def trigger(self, serial: str, edges: int = 1) -> int:
        """Edges on Line0: so many parts pass. Returns the parts that passed so far."""
        self._device(serial).add("line_edges", edges)
        return self.status(serial).parts

    def encoder(self, serial: str, ticks: int = 1) -> int:
        """Edges on Encoder0; returns the ticks so far."""
        return self._device(serial).add("encoder_ticks", ticks)

    def command(self, serial: str, text: str) -> str:
        """Does what `inspectd.simcam.commands` knows under this text and answers in one line."""
        return execute(self._device(serial), text)

    def status(self, serial: str) -> DeviceStatus:
        """The camera as it is now."""
        return self._device(serial).status()

    def _records(self) -> list[DeviceRecord]:
        if self._record is None:
            raise CameraError("the rig is closed; attach to it anew")
        return [self._record.devices[index] for index in range(self._record.count)]

    def _device(self, serial: str) -> SimDevice:
        records = self._records()
        known = [record.serial.decode() for record in records]
        if serial not in known:
            raise CameraError(f"no virtual camera {serial!r}; there are: {', '.join(known)}")
        index = known.index(serial)
        return SimDevice(records[index], index, self.directory / RIG_BIN)


def _spec(record: DeviceRecord) -> DeviceSpec:
    return DeviceSpec(
        serial=record.serial.decode(),
        user_id=record.user_id.decode(errors="replace"),
        width=record.width,
        height=record.height,
        model=record.model.decode(),
        tl_type=record.tl_type.decode(),
    )


def _unnamed(spec: DeviceSpec) -> DeviceSpec:
    """Without what a host may write to the camera."""
    return replace(spec, user_id="")


def _write_rig(directory: Path, devices: Sequence[DeviceSpec]) -> None:
    """All at once: another process sees a whole rig or none."""
    if not 1 <= len(devices) <= MAX_DEVICES or len({d.serial for d in devices}) != len(devices):
        raise CameraError(f"a rig has 1 to {MAX_DEVICES} cameras, each with its own serial")
    rig = RigRecord(magic=MAGIC, version=VERSION, size=ctypes.sizeof(RigRecord), count=len(devices))
    for index, spec in enumerate(devices):
        rig.devices[index] = _fresh(spec)
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
        file.write(bytes(rig))
    Path(file.name).replace(directory / RIG_BIN)


def _fresh(spec: DeviceSpec) -> DeviceRecord:
    return DeviceRecord(
        serial=spec.serial.encode(),
        user_id=spec.user_id.encode(),
        model=spec.model.encode(),
        tl_type=spec.tl_type.encode(),
        width=spec.width,
        height=spec.height,
        powered=1,
        power_ups=1,
        linked=1,
        temperature=40_000,
        powered_at=monotonic_ns(),
    )

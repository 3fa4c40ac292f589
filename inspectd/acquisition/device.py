"""harvesters, behind the few things that a line needs: find, open, configure, fetch.

The only file that imports harvesters. Everything here may block for as long as a producer likes
and holds the interpreter's lock meanwhile: it belongs into a process of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inspectd.acquisition.features import apply_feature, find, read
from inspectd.acquisition.pixels import bytes_needed
from inspectd.core.errors import CameraError, ImageError

GENTL_PATH = "GENICAM_GENTL64_PATH"
ACCESS = {1: "free", 2: "read only", 3: "unreachable", 4: "in use", 5: "open here", 6: "read only"}
"""GenTL's DEVICE_ACCESS_STATUS in words."""
INNER_WAIT_MS = 2
HANDLING = "StreamBufferHandlingMode"
OLDEST_FIRST = "OldestFirst"
"""What a producer does that has no such feature, or has words of its own for it."""
CHUNKS = ("FrameID", "Timestamp", "ExposureTime", "LineStatusAll", "CounterValue", "EncoderValue")
HEARTBEATS = ("DeviceTemperature", "DeviceLinkHeartbeatTimeout", "ExposureTime", "Width")
"""Read to learn whether the camera still answers: the first that it has."""


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One camera as `inspectd camera list` shows it."""

    producer: str
    """Path of the .cti."""
    id: str
    vendor: str
    model: str
    serial: str
    user_id: str
    transport: str
    """GEV, U3V, CXP, Custom ..."""
    access: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame whose buffer the producer still lends; valid until the next fetch."""

    frame_id: int
    device_ns: int | None
    width: int
    height: int
    pixel_format: str
    """PFNC's name."""
    data: memoryview
    line_pitch: int | None
    chunks: dict[str, int | float] = field(default_factory=dict)


def producers(named: Sequence[Path] = ()) -> list[Path]:
    """The .cti files: those named, or else those in the directories of GENICAM_GENTL64_PATH.

    Raises:
        CameraError: there is none, or a named one doesn't exist.
    """
    if named:
        for path in named:
            if not path.is_file():
                raise CameraError(f"{path}: no such GenTL producer; set [camera] cti to its .cti")
        return list(named)
    folders = [Path(p) for p in os.environ.get(GENTL_PATH, "").split(os.pathsep) if p]
    found = [path for folder in folders for path in sorted(folder.glob("*.cti"))]
    if not found:
        raise CameraError(
            f"no GenTL producer: name the camera maker's .cti with [camera] cti or --cti, or set "
            f"{GENTL_PATH} to its directory"
        )
    return found


@contextmanager
def harvester(files: Sequence[Path]) -> Iterator[Any]:
    """A Harvester that has loaded these producers and looked for their cameras once.

    Raises:
        CameraError: harvesters isn't installed.
    """
    try:
        from harvesters.core import Harvester
    except ImportError as error:
        raise CameraError(
            f"harvesters isn't installed ({error}); pip install 'inspectd[genicam]'"
        ) from error
    found = Harvester()
    try:
        for path in files:
            found.add_file(str(path))
        found.update()
        yield found
    finally:
        found.reset()


def entries(found: Any) -> list[DeviceEntry]:
    """The cameras that a harvester sees."""
    return [_entry(info) for info in found.device_info_list]


def _entry(info: Any) -> DeviceEntry:
    def text(name: str) -> str:
        from genicam.gentl import GenericException

        try:
            return str(getattr(info, name, "") or "")
        except GenericException:
            return ""

    status = text("access_status")
    return DeviceEntry(
        producer=str(getattr(info.parent.parent.parent, "path_name", "")),
        id=text("id_"),
        vendor=text("vendor"),
        model=text("model"),
        serial=text("serial_number"),
        user_id=text("user_defined_name"),
        transport=text("tl_type"),
        access=ACCESS.get(int(status), "unknown") if status.isdigit() else "unknown",
    )


def chosen(found: Sequence[DeviceEntry], serial: str, user_id: str) -> int | None:
    """Index of the camera with this serial or user id; None while it isn't there.

    Raises:
        CameraError: several have it.
    """
    matches = [
        index
        for index, entry in enumerate(found)
        if (not serial or entry.serial == serial) and (not user_id or entry.user_id == user_id)
    ]
    if len(matches) > 1:
        names = ", ".join(f"{found[i].serial} ({found[i].producer})" for i in matches)
        raise CameraError(f"several cameras match: {names}; name one by [camera] serial and cti")
    return matches[0] if matches else None


class Device:
    """One opened camera. Leaving stops and closes it."""

    def __init__(self, found: Any, index: int) -> None:
        self._harvester = found
        self._index = index
        self._stack = ExitStack()
        self._acquirer: Any = None
        self._lent: Any = None
        self._heartbeat: str | None = None
        self._has_chunks = False
        self._incomplete = 0

    def __enter__(self) -> Self:
        """Opens it.

        Raises:
            CameraError: it is in use or doesn't answer.
        """
        from genicam import genapi, gentl
        from harvesters.core import ParameterKey, ParameterSet

        config = ParameterSet(
            {ParameterKey.TIMEOUT_PERIOD_ON_UPDATE_EVENT_DATA_CALL: INNER_WAIT_MS}
        )
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            self._acquirer = self._harvester.create(self._index, config=config)
        except gentl.AccessDeniedException as error:
            raise CameraError(
                "the camera is opened by another program; close that (a viewer, another inspectd)"
            ) from error
        except (gentl.GenericException, genapi.GenericException) as error:
            raise CameraError(f"the camera can't be opened ({error})") from error
        finally:
            with suppress(ValueError):  # only the main thread has signal handlers
                signal.signal(signal.SIGINT, interrupt)
        self._stack.callback(self._destroy)
        self._acquirer.add_callback(
            self._acquirer.Events.INCOMPLETE_BUFFER, _on_incomplete(self._count_incomplete)
        )
        self._heartbeat = next((name for name in HEARTBEATS if find(self.nodes, name)), None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def nodes(self) -> Any:
        """The camera's node map."""
        return self._acquirer.remote_device.node_map

    def enable_chunks(self, counter: str) -> None:
        """Switches on those of `CHUNKS` that the camera has; `counter` names its trigger counter.

        Raises:
            CameraError: it has no such counter.
        """
        known: Sequence[str] = ()
        selector = find(self.nodes, "ChunkSelector")
        if find(self.nodes, "ChunkModeActive") is not None and selector is not None:
            known = [name for name in selector.symbolics if name in CHUNKS]
        if known:
            apply_feature(self.nodes, "ChunkModeActive", True)
        for name in CHUNKS:
            if name in known:
                apply_feature(self.nodes, "ChunkSelector", name)
                if find(self.nodes, "ChunkEnable") is not None:
                    apply_feature(self.nodes, "ChunkEnable", True)
                self._has_chunks = True
        if counter and "CounterValue" not in known:
            raise CameraError(
                "the camera has no CounterValue chunk: remove trigger_counter; lost frames are "
                "then found by frame ids alone"
            )
        if counter and find(self.nodes, "ChunkCounterSelector") is not None:
            apply_feature(self.nodes, "ChunkCounterSelector", counter)

    def start(self, buffers: int, handling: str) -> None:
        """Starts streaming into so many buffers.

        Raises:
            genicam.genapi.GenericException, genicam.gentl.GenericException: it doesn't.
        """
        stream_nodes = self._acquirer.data_streams[0].node_map
        mode = None if stream_nodes is None else find(stream_nodes, HANDLING)
        if mode is not None and (handling in mode.symbolics or handling != OLDEST_FIRST):
            apply_feature(stream_nodes, HANDLING, handling)
        self._acquirer.num_buffers = max(buffers, self._acquirer.min_num_buffers)
        self._acquirer.start()

    def stop(self) -> None:
        """Stops streaming; what was on its way is thrown away."""
        self.give_back()
        self._acquirer.stop()

    def trigger(self) -> None:
        """Executes TriggerSoftware."""
        self.nodes.TriggerSoftware.execute()

    def is_answering(self) -> None:
        """Reads a feature from the camera itself.

        Raises:
            genicam.genapi.GenericException: it is gone.
        """
        if self._heartbeat is not None:
            read(self.nodes, self._heartbeat)

    def fetch(self, timeout_s: float) -> Shot | None:
        """The next frame, or None if none came in time or an incomplete one did."""
        self.give_back()
        buffer = self._acquirer.try_fetch(timeout=timeout_s, is_raw=True)
        if buffer is None:
            return None
        self._lent = buffer
        return self._shot(buffer)

    def incomplete(self) -> int:
        """Incomplete frames since this was asked last."""
        count, self._incomplete = self._incomplete, 0
        return count

    def give_back(self) -> None:
        """Queues the buffer of the last shot again."""
        if self._lent is not None:
            lent, self._lent = self._lent, None
            lent.parent.queue_buffer(lent)

    def _shot(self, buffer: Any) -> Shot:
        from harvesters.util.pfnc import symbolics

        code = int(buffer.pixel_format)
        pixel_format, width = symbolics.get(code, f"0x{code:08x}"), int(buffer.width)
        start = int(buffer.image_offset)
        data = memoryview(buffer.raw_buffer)[start : start + int(buffer.size_filled)]
        height = int(_quiet(buffer, "delivered_image_height") or buffer.height)
        return Shot(
            frame_id=int(buffer.frame_id),
            device_ns=_quiet(buffer, "timestamp_ns"),
            width=width,
            height=height,
            pixel_format=pixel_format,
            data=data,
            line_pitch=_pitch(width, pixel_format, _quiet(buffer, "padding_x") or 0),
            chunks=self._chunks() if self._has_chunks else {},
        )

    def _chunks(self) -> dict[str, int | float]:
        from genicam import genapi

        found = {}
        for name in CHUNKS:
            node = find(self.nodes, f"Chunk{name}")
            if node is not None:
                with suppress(genapi.GenericException):
                    found[name] = node.value
        return found

    def _count_incomplete(self) -> None:
        self._incomplete += 1

    def _destroy(self) -> None:
        """Also of a camera that has gone: each step may fail and the next is still tried."""
        from genicam import genapi, gentl

        failures = (gentl.GenericException, genapi.GenericException)
        with suppress(*failures):
            self.give_back()
        for stream in self._acquirer.data_streams:
            with suppress(*failures):
                stream.stop_acquisition(gentl.ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)
            with suppress(*failures):
                stream.flush_buffer_queue(gentl.ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD)
        for step in (self._acquirer.stop, self._acquirer.destroy):
            with suppress(*failures):
                step()


def _on_incomplete(count: Callable[[], None]) -> Any:
    """What harvesters calls for each incomplete frame."""
    from harvesters.core import Callback

    class OnIncomplete(Callback):  # type: ignore[misc]
        def emit(self, context: Any = None) -> None:
            count()

    return OnIncomplete()


def _pitch(width: int, pixel_format: str, padding: int) -> int | None:
    """Bytes from line to line where the producer says that lines are padded."""
    if padding <= 0:
        return None
    with suppress(ImageError):  # a format that `decode` will refuse
        return bytes_needed(width, 1, pixel_format) + padding
    return None


def _quiet(buffer: Any, name: str) -> int | None:
    """A fact that a producer may not know."""
    from genicam.gentl import GenericException

    try:
        return int(getattr(buffer, name))
    except GenericException:
        return None

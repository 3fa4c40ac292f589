"""The producer under test, a rig for each test, and a host that works through harvesters."""

from __future__ import annotations

import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import VARIABLE, DeviceSpec, Rig

SERIAL = "CAM1"
WIDTH, HEIGHT = 64, 48
CHUNKS = ("FrameID", "Timestamp", "ExposureTime", "LineStatusAll", "CounterValue", "EncoderValue")


@dataclass(frozen=True, slots=True)
class Shot:
    """A fetched frame."""

    frame_id: int
    timestamp_ns: int
    image: npt.NDArray[Any]
    """(H, W) or (H, W, 3); Mono12p is unpacked."""
    chunks: dict[str, Any]
    """Those that could be read, by their names."""

    @property
    def number(self) -> int:
        """The part's number in a generated picture."""
        return int.from_bytes(self.image.reshape(-1)[:8].tobytes(), "little")


class Host:
    """One camera, opened."""

    def __init__(self, acquirer: Any) -> None:
        self.acquirer = acquirer
        self.nodes = acquirer.remote_device.node_map
        self.stream = acquirer.data_streams[0]

    def set(self, **features: Any) -> None:
        """Writes the features in this order."""
        for name, value in features.items():
            getattr(self.nodes, name).value = value

    def enable_chunks(self) -> None:
        """All of them."""
        self.nodes.ChunkModeActive.value = True
        for name in CHUNKS:
            self.nodes.ChunkSelector.value = name
            self.nodes.ChunkEnable.value = True

    def await_triggers(self, source: str = "Line0", **features: Any) -> None:
        """Starts it with a trigger and a short exposure."""
        self.set(ExposureTime=10.0, TriggerSource=source, TriggerMode="On", **features)
        self.acquirer.start()

    def fetch(self, timeout: float = 3.0) -> Shot:
        """The next frame; it must come."""
        shot = self.try_fetch(timeout)
        assert shot is not None, "no frame came"
        return shot

    def try_fetch(self, timeout: float) -> Shot | None:
        """The next frame, or None; an incomplete one counts as none."""
        buffer = self.acquirer.try_fetch(timeout=timeout, is_raw=True)
        if buffer is None:
            return None
        shot = Shot(buffer.frame_id, buffer.timestamp_ns, decode(buffer), self._chunks())
        buffer.parent.queue_buffer(buffer)
        return shot

    def _chunks(self) -> dict[str, Any]:
        """They can be read only as long as the host has the buffer."""
        from genicam.genapi import GenericException

        values: dict[str, Any] = {}
        for name in CHUNKS if self.nodes.ChunkModeActive.value else ():
            with suppress(GenericException):
                values[name] = getattr(self.nodes, f"Chunk{name}").value
        return values

    def recover(self) -> None:
        """What a host does to a lost camera before it can be closed."""
        from genicam.gentl import ACQ_QUEUE_TYPE_LIST, ACQ_STOP_FLAGS_LIST, GenericException

        for stream in self.acquirer.data_streams:
            try:
                stream.stop_acquisition(ACQ_STOP_FLAGS_LIST.ACQ_STOP_FLAGS_KILL)
            except GenericException:
                continue
            stream.flush_buffer_queue(ACQ_QUEUE_TYPE_LIST.ACQ_QUEUE_ALL_DISCARD)
        try:
            self.acquirer.stop()
        except GenericException:
            self.acquirer.stop()


def decode(buffer: Any) -> npt.NDArray[Any]:
    """The pixels, copied, in the shape that the buffer tells."""
    raw = np.frombuffer(buffer.raw_buffer, np.uint8)
    height, width = buffer.height, buffer.width
    formats = {0x01080001: 1.0, 0x01080009: 1.0, 0x010C0047: 1.5, 0x02180014: 3.0}
    raw = raw[: int(height * width * formats[buffer.pixel_format])].copy()
    if buffer.pixel_format == 0x02180014:
        return raw.reshape(height, width, 3)
    if buffer.pixel_format == 0x010C0047:
        three = raw.reshape(-1, 3).astype(np.uint16)
        pair = (three[:, 0] | (three[:, 1] & 15) << 8, three[:, 1] >> 4 | three[:, 2] << 4)
        return np.stack(pair, axis=1).reshape(height, width)
    return raw.reshape(height, width)


@pytest.fixture(scope="session")
def gentl() -> Any:
    """The binding; a test that needs it is skipped where it isn't installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SWIG's types have no module
        pytest.importorskip("harvesters.core")
        return pytest.importorskip("genicam.gentl")


@pytest.fixture(scope="session")
def compiler() -> str:
    """gcc; a test that needs it is skipped where there is none."""
    path = shutil.which("gcc")
    if path is None:
        pytest.skip("there is no gcc")
    return path


@pytest.fixture(scope="session")
def cti(compiler: str) -> Path:
    """The producer."""
    return producer_path()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """One small camera, which this process and its children see."""
    with Rig(tmp_path / "rig", [DeviceSpec(SERIAL, "station-1", WIDTH, HEIGHT)]) as made:
        monkeypatch.setenv(VARIABLE, made.environment()[VARIABLE])
        yield made


@pytest.fixture
def harvester(cti: Path, gentl: Any) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
    """Makes harvesters that have the producer loaded and its cameras listed."""
    from harvesters.core import Harvester

    @contextmanager
    def make() -> Iterator[Any]:
        made = Harvester()
        made.add_file(str(cti))
        made.update()
        try:
            yield made
        finally:
            made.reset()

    before = signal.getsignal(signal.SIGINT)  # `create` replaces it
    yield make
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def open_camera(
    harvester: Callable[[], AbstractContextManager[Any]],
) -> Callable[..., AbstractContextManager[Host]]:
    """Opens a camera by its serial number."""

    @contextmanager
    def opened(serial: str = SERIAL) -> Iterator[Host]:
        with harvester() as made:
            acquirer = made.create({"serial_number": serial})
            try:
                yield Host(acquirer)
            finally:
                acquirer.destroy()

    return opened


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for something that happens in another thread or process."""

    def wait(happened: Callable[[], bool], timeout: float = 5.0) -> None:
        deadline = monotonic() + timeout
        while not happened():
            assert monotonic() < deadline, "it didn't happen in time"
            sleep(0.002)

    return wait

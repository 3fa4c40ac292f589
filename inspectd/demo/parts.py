"""Where the demonstration's parts come from, and which part a verdict is about.

`Conveyor` carries them past the simulated GenICam camera, a true GenTL producer that the daemon
reaches through harvesters as it would any other; each part is an edge on its trigger line.
`Folder` lets the daemon replay the pictures itself, for machines without harvesters or a compiler.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Protocol, Self

from inspectd.core.errors import CameraError
from inspectd.core.images import list_images, read_image
from inspectd.simcam.build import producer_path
from inspectd.simcam.rig import DeviceSpec, Rig

SERIAL = "DEMO0001"
EXPOSURE_US = 500.0
SLACK_S = 0.005
"""A verdict's time may lie so much before its part's: both are rounded."""
AWAY_S = 2.0
"""How long `unplug` takes the camera away."""
START_DELAY_S = 1.0


class Source(Protocol):
    """One of the two; entered before the daemon starts."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def configuration(self) -> str:
        """The daemon's section `[camera]`."""
        ...

    def environment(self) -> Mapping[str, str]:
        """For the daemon's process."""
        ...

    def start(self) -> None:
        """The daemon is ready: parts may come."""
        ...

    def name_of(self, verdict: Mapping[str, Any]) -> str | None:
        """The file stem of the part that a verdict is about; None where there was none."""
        ...


class Folder:
    """Pictures replayed by the daemon; a part's id is its file's stem."""

    def __init__(self, pictures: Path, rate: float) -> None:
        self._pictures = pictures.resolve()
        self._rate = rate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def configuration(self) -> str:
        """See `Source`."""
        return (
            f"[camera]\npath = {json.dumps(str(self._pictures))}\nrate = {self._rate}\n"
            f"start_delay_s = {START_DELAY_S}\n"
        )

    def environment(self) -> Mapping[str, str]:
        """See `Source`."""
        return {}

    def start(self) -> None:
        """See `Source`: the daemon's camera has started by itself."""

    def name_of(self, verdict: Mapping[str, Any]) -> str | None:
        """See `Source`."""
        return str(verdict["part_id"])


class Conveyor:
    """Parts at a steady pace before a simulated camera."""

    def __init__(self, pictures: Path, rig: Path, rate: float, *, unplugged: bool) -> None:
        """`unplugged`: in the middle of the run the camera loses its cable for `AWAY_S`."""
        self._files = list_images(pictures)
        self._folder = rig
        self._rate = rate
        self._unplugged = unplugged
        self._passed: list[float] = []
        """UTC seconds at which each part passed."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conveyor", daemon=True)
        self._rig: Rig | None = None

    def __enter__(self) -> Self:
        """Puts the pictures before the camera.

        Raises:
            CameraError: there is no compiler for the simulated camera.
        """
        producer_path()
        images = [read_image(file) for file in self._files]
        height, width = images[0].shape[:2]
        self._rig = Rig(self._folder, [DeviceSpec(SERIAL, "demo", width, height)])
        self._rig.load(SERIAL, images)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._rig is not None:
            self._rig.close()

    def configuration(self) -> str:
        """See `Source`."""
        return (
            f'[camera]\ntype = "genicam"\ncti = [{json.dumps(str(producer_path()))}]\n'
            f'serial = "{SERIAL}"\ntrigger = "line"\ntrigger_counter = "Counter0"\n'
            f"expected_rate = {self._rate}\n"
            f'[camera.features]\nPixelFormat = "RGB8"\nExposureTime = {EXPOSURE_US}\n'
        )

    def environment(self) -> Mapping[str, str]:
        """See `Source`."""
        return {} if self._rig is None else self._rig.environment()

    def start(self) -> None:
        """See `Source`."""
        self._thread.start()

    def name_of(self, verdict: Mapping[str, Any]) -> str | None:
        """See `Source`: by the daemon's own count of parts.

        A camera that was without power has lost count; then it is the last part that had passed
        when the verdict's picture was taken.
        """
        if not self._unplugged:
            number = int(verdict["part_id"].rsplit("-", 1)[1])
            return self._files[number - 1].stem if 0 < number <= len(self._files) else None
        captured = datetime.fromisoformat(verdict["captured_at"]).timestamp()
        index = bisect_right(self._passed, captured + SLACK_S) - 1
        return self._files[index].stem if index >= 0 else None

    def _run(self) -> None:
        rig = self._rig
        if rig is None:
            raise AssertionError("`start` comes after entering")
        middle = len(self._files) // 2
        away = range(middle, middle + max(1, round(AWAY_S * self._rate)))
        begun = monotonic() + START_DELAY_S
        for number in range(len(self._files)):
            if self._stop.wait(max(0.0, begun + number / self._rate - monotonic())):
                return
            if self._unplugged and number == away.start:
                rig.command(SERIAL, "unplug")
            self._passed.append(datetime.now(UTC).timestamp())
            rig.trigger(SERIAL)
            if self._unplugged and number == away.stop:
                rig.command(SERIAL, "plug")


def simulated_camera_problem() -> str | None:
    """Why the simulated camera can't be used here; None where it can."""
    try:
        import harvesters.core  # noqa: F401
    except ImportError as error:
        return f"harvesters isn't installed ({error}); pip install 'inspectd[genicam]'"
    try:
        producer_path()
    except CameraError as error:
        return str(error)
    return None

"""Replays a folder of pictures as a triggered camera would deliver them.

Parts come at a steady rate in name order; a file's stem is its part id. The next picture is read
while the current interval passes, so the trigger's time is the moment the frame is handed over,
as with a camera that has it in memory. A file that can't be read is a trigger without a usable
picture: it comes out as a `Loss`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, monotonic_ns
from types import TracebackType
from typing import Self

from inspectd.core.config import FolderSection
from inspectd.core.contracts import EndOfStream
from inspectd.core.errors import CameraError, ImageError
from inspectd.core.images import list_images, read_image
from inspectd.core.records import Frame, ImageArray, Loss, Reason, Trigger


class FolderCamera:
    """See the module; entering reads the folder's names."""

    def __init__(self, section: FolderSection) -> None:
        self.name = section.name
        self._section = section
        self._count = 0
        self._files: Iterator[Path] = iter(())
        self._next: tuple[Path, ImageArray | ImageError] | None = None
        self._due = 0.0
        self._load_s = 0.0
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        folder = self._section.path
        if not folder.is_dir():
            raise CameraError(f"{folder}: no such folder; set [camera] path")
        files = list_images(folder)
        if not files:
            raise CameraError(f"{folder}: holds no pictures; put some there or set [camera] path")
        self._files = _repeated(files) if self._section.loop else iter(files)
        self._closed.clear()
        self._due = monotonic() + self._section.start_delay_s
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._next = None

    def next_event(self, timeout_s: float) -> Frame | Loss | EndOfStream | None:
        """See `Camera.next_event`."""
        if self._next is None:
            early = self._due - 2 * self._load_s - monotonic()
            if early > timeout_s:
                self._closed.wait(timeout_s)
                return None
            if early > 0:
                self._closed.wait(early)
            self._load_next()
        if self._next is None:
            return EndOfStream()
        wait = self._due - monotonic()
        if wait > timeout_s:
            self._closed.wait(timeout_s)
            return None
        if wait > 0:
            self._closed.wait(wait)
        path, content = self._next
        self._next = None
        self._due += 1 / self._section.rate
        if self._due < monotonic():  # what was missed isn't made up for by a burst
            self._due = monotonic() + 1 / self._section.rate
        return self._event(path, content)

    def _event(self, path: Path, content: ImageArray | ImageError) -> Frame | Loss:
        self._count += 1
        trigger = Trigger(
            camera=self.name,
            part_id=path.stem.encode("utf-8", "replace").decode(),  # a name may hold any bytes
            frame_id=self._count,
            captured_at=datetime.now(UTC),
            captured_ns=monotonic_ns(),
            trigger_count=self._count,
        )
        if isinstance(content, ImageError):
            return Loss(trigger, Reason.UNREADABLE_IMAGE, str(content))
        return Frame(trigger, content)

    def _load_next(self) -> None:
        path = next(self._files, None)
        if path is None:
            self._next = None
            return
        started = monotonic()
        try:
            self._next = (path, read_image(path))
        except ImageError as error:
            self._next = (path, error)
        self._load_s = max(monotonic() - started, 0.9 * self._load_s)


def _repeated(files: list[Path]) -> Iterator[Path]:
    while True:
        yield from files

"""Pictures from a live camera as files, and whether they are worth keeping: light and focus."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inspectd.core.errors import ConfigError, InspectdError
from inspectd.core.images import image_size, list_images
from inspectd.core.records import ImageArray

BRIGHT_SHARE = 0.01
"""Share of pixels at 255 above which a picture is called overexposed."""
DARK_SHARE = 0.25
"""Share of pixels at 0 above which it is called underexposed."""
DARK_GREY = 64
"""It is called so too where 99 % of the pixels are below this grey level."""
BLURRED = 0.5
"""Of the best focus seen, below which it is called blurred."""
COMPRESSION = 1
"""PNG's fastest that is worth it: a camera doesn't wait."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Light and focus of one picture; grey levels are 0 to 255."""

    mean: float
    low: int
    """1st percentile of grey."""
    high: int
    """99th percentile of grey."""
    bright: float
    """Share of pixels of which a channel is at 255."""
    dark: float
    """Share of pixels of which all channels are at 0."""
    sharpness: float
    """Variance of the Laplacian: comparable between pictures of one scene only."""


def measure(image: ImageArray) -> Exposure:
    """Of a picture (H, W) or (H, W, 3)."""
    grey = top = image  # (H, W)
    if image.ndim == 3:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        red, green, blue = cv2.split(image)
        top = np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel().astype(float)  # (256,)
    reached = np.cumsum(counts) / grey.size
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return Exposure(
        mean=float(counts @ np.arange(256) / grey.size),
        low=int(np.searchsorted(reached, 0.01)),
        high=int(np.searchsorted(reached, 0.99)),
        bright=np.count_nonzero(top == 255) / top.size,
        dark=np.count_nonzero(top == 0) / top.size,
        sharpness=float(deviation[0, 0]) ** 2,
    )


def remarks(exposure: Exposure, best_sharpness: float) -> dict[str, str]:
    """What is wrong with a picture: a word, and what to do about it."""
    found = {}
    if exposure.bright > BRIGHT_SHARE:
        found["overexposed"] = (
            f"overexposed: {exposure.bright:.0%} of the pixels at 255; less light or ExposureTime"
        )
    if exposure.high < DARK_GREY or exposure.dark > DARK_SHARE:
        found["underexposed"] = (
            f"underexposed: 99 % of the pixels up to {exposure.high}, {exposure.dark:.0%} at 0; "
            "more light or ExposureTime"
        )
    if exposure.sharpness < BLURRED * best_sharpness:
        found["blurred"] = (
            f"blurred: {exposure.sharpness / best_sharpness:.0%} of the best focus seen; check "
            "focus, movement and that the part is there"
        )
    return found


class PictureFolder:
    """A folder that grows by numbered pictures; nothing that is in it is ever overwritten."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is missing.

        Raises:
            ConfigError: it can't be made.
        """
        self.path = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            present = list_images(folder)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}; name another with --out") from error
        numbers = [int(path.stem) for path in present if path.stem.isdecimal()]
        self._number = max(numbers, default=0)
        self._sample = present[0] if present else None
        self.names: list[str] = []
        """Of the pictures saved now."""

    def require_size(self, image: ImageArray) -> None:
        """Refuses to mix sizes.

        Raises:
            ConfigError: the pictures that are there have another size.
        """
        if self._sample is None:
            return
        present, size = image_size(self._sample), image.shape[:2]
        if present != size:
            raise ConfigError(
                f"{self._sample} is {present[0]} x {present[1]} (H x W), the camera gives "
                f"{size[0]} x {size[1]}; set the camera back or name another folder with --out"
            )

    def save(self, image: ImageArray) -> str:
        """Writes (H, W) or (H, W, 3) as the next PNG and returns its name.

        Raises:
            InspectdError: the disk is full or fails; no part of a picture is left.
        """
        pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
        _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, COMPRESSION])
        while True:
            self._number += 1
            name = f"{self._number:04d}.png"
            try:
                write_new(self.path / name, encoded.tobytes())
            except FileExistsError:
                continue  # another program's, since we looked
            except OSError as error:
                raise _unwritable(self.path / name, error) from error
            self.names.append(name)
            return name

    def note_line(self, name: str, line: str) -> None:
        """Appends a line to a text file beside the pictures.

        Raises:
            InspectdError: the disk is full or fails.
        """
        try:
            with (self.path / name).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _unwritable(self.path / name, error) from error


def write_new(path: Path, content: bytes) -> None:
    """Writes a whole new file or none.

    Raises:
        OSError: it exists, or can't be written.
    """
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
        except BaseException:
            path.unlink()
            raise


def _unwritable(path: Path, error: OSError) -> InspectdError:
    reason = error.strerror or os.strerror(error.errno or 0)
    return InspectdError(
        f"{path}: can't be written ({reason}); make room or name another folder with --out, and "
        "give the command again: it goes on where it stopped"
    )

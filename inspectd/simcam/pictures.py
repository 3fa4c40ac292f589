"""Writes the pictures that a virtual camera shows: binary PGM and PPM files in name order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from inspectd.core.errors import CameraError
from inspectd.core.records import ImageArray


def write_pictures(folder: Path, images: Iterable[ImageArray], size: tuple[int, int]) -> None:
    """Replaces the folder's pictures.

    Args:
        folder: made where it is missing.
        images: (H, W) grey or (H, W, 3) RGB.
        size: (H, W) of the sensor, which every image must have.

    Raises:
        CameraError: an image doesn't fit the sensor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fresh = [_write(folder, index, image, size) for index, image in enumerate(images)]
    for path in folder.glob("*.p[gp]m"):
        path.unlink()  # never overwritten: a camera may have it mapped
    for path in fresh:
        path.rename(path.with_suffix(""))


def _write(folder: Path, index: int, image: ImageArray, size: tuple[int, int]) -> Path:
    if image.dtype != np.uint8 or image.shape not in {size, (*size, 3)}:
        raise CameraError(
            f"picture {index} is {image.dtype} of shape {image.shape}, the virtual camera's sensor "
            f"is uint8 of {size[0]} x {size[1]} (H x W); resize it or make another device"
        )
    kind, suffix = (b"P5", "pgm") if image.ndim == 2 else (b"P6", "ppm")
    path = folder / f"{index:06d}.{suffix}.part"
    header = kind + f"\n{size[1]} {size[0]}\n255\n".encode()
    path.write_bytes(header + np.ascontiguousarray(image).tobytes())
    return path

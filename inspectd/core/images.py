"""Reads a picture from a file, or says exactly why it can't be used.

Pillow rather than OpenCV: OpenCV decodes a truncated file to a picture with a grey rest, and a
scorer would judge that rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from inspectd.core.errors import ImageError
from inspectd.core.records import ImageArray

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
"""What a file may hold, whatever its name: Pillow knows formats that start other programs."""
MAX_PIXELS = 150_000_000
"""Largest picture that is read: no area camera has more; beyond it a file is hostile or damaged."""

Image.MAX_IMAGE_PIXELS = None  # `_check_size` decides; Pillow's limit warns where this must refuse


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in name order; empty where there are none."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture after its EXIF orientation; only PNG and TIFF are decoded for it.

    Raises:
        ImageError: see `read_image`.
    """
    with _opened(path) as picture:
        if picture.format == "TIFF":
            picture.load()  # until then some versions of Pillow have turned the size but not EXIF
        width, height = picture.size
        turned = picture.getexif().get(0x0112) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def read_image(path: Path) -> ImageArray:
    """Reads one picture as (H, W) grey or (H, W, 3) RGB, uint8, read-only.

    16-bit pictures keep their upper 8 bits (65535 becomes 255), transparency is dropped, and the
    orientation that a camera noted in EXIF is applied.

    Raises:
        ImageError: the file is missing, not a picture, truncated, damaged or too large.
    """
    with _opened(path) as picture:
        pixels = _to_uint8(ImageOps.exif_transpose(picture))
    pixels.setflags(write=False)
    return pixels


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture whose header is read and whose size is bearable; all failures are `ImageError`."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_size(path, *picture.size)
            yield picture
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(
            f"{path}: not a readable picture ({error}); save it again or remove it"
        ) from error


def _check_size(path: Path, width: int, height: int) -> None:
    if height * width > MAX_PIXELS:
        raise ImageError(
            f"{path}: {height} x {width} (H x W) is more than {MAX_PIXELS // 10**6} megapixels; "
            "crop or scale it down first"
        )


def _to_uint8(picture: Image.Image) -> ImageArray:
    """(H, W) or (H, W, 3) of any Pillow mode but floating point, which has no known range."""
    if picture.mode == "F":
        raise ValueError("its values are floating-point numbers, not 8 or 16 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise ValueError(f"values of {values.min()} to {values.max()} don't fit 16 bits")
        return np.ascontiguousarray(values.astype(np.uint16) >> 8, dtype=np.uint8)
    if picture.mode in ("L", "LA", "1"):
        return np.array(picture.convert("L"), dtype=np.uint8)
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")  # Pillow warns if transparency is dropped at once
    return np.array(picture.convert("RGB"), dtype=np.uint8)

"""Turns one received GenICam buffer into a picture: unpacks, demosaics, brings colours to RGB.

Names are PFNC's (GenICam Pixel Format Naming Convention 2.x), plus those of GigE Vision 1.x and
SFNC 1.x that older cameras send. What more than 8 bits hold is cut to the upper 8.

How the bits lie, least significant bit first:

* ``Mono10``, ``Mono12``: one pixel in two bytes, little endian, aligned to the lowest bit; bits
  above the format's own are ignored.
* ``Mono10p``, ``Mono12p``: one stream of bits. 4 pixels in 5 bytes, or 2 pixels in 3 bytes.
* ``Mono10Packed``, ``Mono12Packed`` (GigE Vision): 2 pixels in 3 bytes; the first and the last hold
  the upper 8 bits of a pixel each, the one between them the rest of both.

Both kinds of packing run over the whole picture, so that a line of odd width may start inside a
byte. Only where lines are padded (`line_pitch`) does each one start anew.

It is fast without C of our own because OpenCV splits and merges interleaved bytes with SIMD
instructions, and because it works in blocks: a temporary array of the whole picture would come
from fresh memory each time, whose page faults cost several times the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from inspectd.core.errors import ImageError
from inspectd.core.records import ImageArray

Received = bytes | bytearray | memoryview | npt.NDArray[Any]
"""Contiguous memory, of whatever item size."""
Unpack = Callable[[ImageArray, ImageArray], None]
"""Fills (R, K, channels * pixels) from (R, K, size): K groups in each of R rows."""

_BLOCK = 2**17
"""Groups that are unpacked in one go."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a pixel format lies in memory."""

    pixels: int
    """Of one group: the fewest that fill whole bytes."""
    size: int
    """Bytes of one group."""
    unpack: Unpack
    channels: int = 1
    """Of what `unpack` makes: 1 grey or mosaic, 3 RGB."""
    demosaic: int | None = None
    """OpenCV's code from the mosaic to RGB."""

    def bytes_for(self, pixels: int) -> int:
        """Bytes of so many pixels in a row; a last byte that they don't fill counts."""
        return -(-pixels * self.size // self.pixels)


def shape_of(width: int, height: int, pixel_format: str) -> tuple[int, ...]:
    """What `decode` makes of it: (H, W) or (H, W, 3).

    Raises:
        ImageError: the format is not known or can't have this size.
    """
    layout = _layout(width, height, pixel_format)
    is_grey = layout.channels == 1 and layout.demosaic is None
    return (height, width) if is_grey else (height, width, 3)


def decode(
    data: Received,
    width: int,
    height: int,
    pixel_format: str,
    *,
    line_pitch: int | None = None,
    out: ImageArray | None = None,
) -> ImageArray:
    """The picture in a buffer: (H, W) grey or (H, W, 3) RGB, C-contiguous and owned.

    The buffer may be requeued or overwritten as soon as this returns; what it holds past the
    picture is ignored. Bayer pictures are cut to 8 bits, then demosaiced bilinearly; their
    outermost lines and columns repeat their neighbours. Both pixels of a YUV 4:2:2 pair get the
    pair's colour, by the matrix of BT.601 over the full range of 0 to 255 (as in JPEG).

    Args:
        data: at least `bytes_needed` bytes; only read.
        width: in pixels.
        height: in pixels.
        pixel_format: PFNC name, one of `FORMATS`.
        line_pitch: bytes from the start of one line to the next; None where lines aren't padded.
        out: filled and returned instead of a fresh picture; C-contiguous, of `shape_of`'s shape.

    Raises:
        ImageError: the format is not known, the size can't be, or the buffer is too short.
    """
    layout = _layout(width, height, pixel_format)
    if layout.demosaic is not None and min(width, height) < 3:
        raise ImageError(
            f"{_picture(width, height, pixel_format)} can't be demosaiced; set Width and Height in "
            "the camera's features to at least 3"
        )
    lines, per_line = _lines(data, width, height, pixel_format, line_pitch)
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    image = out if out is not None and layout.demosaic is None else np.empty(shape, np.uint8)
    _unpack(layout, per_line, lines, image.reshape(len(lines), per_line * layout.channels))
    if layout.demosaic is None:
        return image
    return cast(ImageArray, cv2.cvtColor(image, layout.demosaic, out))  # (H, W) to (H, W, 3)


def bytes_needed(width: int, height: int, pixel_format: str) -> int:
    """Bytes of a picture whose lines aren't padded; with a height of 1, of a line before padding.

    Raises:
        ImageError: the format is not known or can't have this size.
    """
    return _layout(width, height, pixel_format).bytes_for(width * height)


def _layout(width: int, height: int, pixel_format: str) -> _Layout:
    """The format's layout, if a picture of this size can have it."""
    try:
        layout = _LAYOUTS[pixel_format]
    except KeyError:
        raise ImageError(
            f"pixel format {pixel_format!r} is not known; set PixelFormat in the camera's features "
            f"to one of {', '.join(FORMATS)}"
        ) from None
    picture = _picture(width, height, pixel_format)
    if width < 1 or height < 1:
        raise ImageError(
            f"{picture} has no pixels; set Width and Height in the camera's features, or treat the "
            "frame as incomplete"
        )
    if layout.channels == 3 and width % layout.pixels:
        raise ImageError(
            f"{picture} splits two pixels that share a colour; set Width to an even value"
        )
    return layout


def _picture(width: int, height: int, pixel_format: str) -> str:
    """What an error is about."""
    return f"{pixel_format}: a picture of {height} x {width} (H x W)"


def _lines(
    data: Received, width: int, height: int, pixel_format: str, line_pitch: int | None
) -> tuple[ImageArray, int]:
    """The buffer as (R, bytes) without padding, uncopied, and how many pixels each row holds.

    A picture without padding is one row; else each line is one.
    """
    layout = _LAYOUTS[pixel_format]
    rows, per_line = (1, width * height) if line_pitch is None else (height, width)
    line_bytes = layout.bytes_for(per_line)
    pitch = line_bytes if line_pitch is None else line_pitch
    picture = _picture(width, height, pixel_format)
    if pitch < line_bytes:
        raise ImageError(
            f"{picture} has lines of {line_bytes} bytes, more than the line pitch of {pitch}; "
            "check PixelFormat, Width and the padding that the camera reports"
        )
    expected = pitch * (rows - 1) + line_bytes
    received = len(data) if isinstance(data, bytes | bytearray) else data.nbytes
    if received < expected:
        raise ImageError(
            f"{picture} takes {expected} bytes, received {received}; treat the frame as "
            "incomplete; if all are, check PixelFormat, Width and Height in the camera's features"
        )
    # numpy checks these strides against the buffer's end
    return np.ndarray((rows, line_bytes), np.uint8, buffer=data, strides=(pitch, 1)), per_line


def _unpack(layout: _Layout, pixels: int, lines: ImageArray, rows: ImageArray) -> None:
    """Fills `rows`, (R, pixels * channels), from `lines`, (R, bytes)."""
    whole, rest = divmod(pixels, layout.pixels)
    values = layout.pixels * layout.channels
    used = whole * layout.size
    groups = lines[:, :used].reshape(len(lines), whole, layout.size)  # (R, K, size), a view
    target = rows[:, : whole * values].reshape(len(rows), whole, values)  # (R, K, values), a view
    for block in _blocks(len(lines), whole):
        layout.unpack(groups[block], target[block])
    if rest:
        last = np.zeros((len(lines), 1, layout.size), np.uint8)
        last[:, 0, : lines.shape[1] - used] = lines[:, used:]
        found = np.empty((len(rows), 1, values), np.uint8)
        layout.unpack(last, found)
        rows[:, whole * values :] = found[:, 0, : rest * layout.channels]


def _blocks(rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Parts of (rows, columns), at most `_BLOCK` items each; none where there are no columns."""
    step = max(1, _BLOCK // max(1, columns))
    for top in range(0, rows, step):
        for left in range(0, columns, _BLOCK):
            yield slice(top, top + step), slice(left, left + _BLOCK)


def _split(groups: ImageArray) -> tuple[ImageArray, ...]:
    """(R, K, C) to C fresh arrays of (R, K)."""
    return cast(tuple[ImageArray, ...], cv2.split(groups))


def _copy(groups: ImageArray, target: ImageArray) -> None:
    np.copyto(target, groups)


def _words(shift: int, groups: ImageArray, target: ImageArray) -> None:
    """Two bytes a pixel."""
    words = groups.view("<u2")  # (R, K, 2) bytes to (R, K, 1) words
    np.right_shift(words, shift, out=target, casting="unsafe")


def _stream_10(groups: ImageArray, target: ImageArray) -> None:
    """10p: pixel i takes bits 10i to 10i+9 of 40, its upper 8 start at bit 10i+2."""
    *lower, pixel_3 = _split(groups)
    carry = [*lower[1:], pixel_3]
    pixels = [
        (low >> (2 * i + 2)) | (high << (6 - 2 * i))
        for i, (low, high) in enumerate(zip(lower[:3], carry, strict=False))
    ]
    cv2.merge([*pixels, pixel_3], target)


def _stream_12(groups: ImageArray, target: ImageArray) -> None:
    """12p: the first pixel's upper 8 bits are bits 4 to 11 of 24, the second's 16 to 23."""
    low, middle, pixel_1 = _split(groups)
    np.right_shift(low, 4, out=low)
    np.left_shift(middle, 4, out=middle)
    cv2.merge([np.bitwise_or(low, middle, out=low), pixel_1], target)


def _packed(groups: ImageArray, target: ImageArray) -> None:
    """GigE Vision's 10 or 12 bits: the byte in the middle has only lower bits."""
    pixel_0, _, pixel_1 = _split(groups)
    cv2.merge([pixel_0, pixel_1], target)


def _recolour(code: int, groups: ImageArray, target: ImageArray) -> None:
    """Three or four bytes a pixel."""
    cv2.cvtColor(groups, code, target)


def _yuv_422(luma: int, groups: ImageArray, target: ImageArray) -> None:
    """(R, K, 4) to (R, K, 6) RGBRGB; `luma` says which byte of each two is Y, 0 or 1."""
    rows, pairs, _ = groups.shape
    channels = _split(groups.reshape(rows, 2 * pairs, 2))  # (R, 2K) of Y, (R, 2K) of U V U V
    blue, red = _split(channels[1 - luma].reshape(rows, pairs, 2))  # (R, K) each
    both = [cv2.merge([part, part]).reshape(rows, 2 * pairs) for part in (red, blue)]  # (R, 2K)
    picture = cv2.merge([channels[luma], *both])  # (R, 2K, 3) of Y Cr Cb
    cv2.cvtColor(picture, cv2.COLOR_YCrCb2RGB, target.reshape(rows, 2 * pairs, 3))


_DEPTHS = {
    "8": _Layout(1, 1, _copy),
    "10": _Layout(1, 2, partial(_words, 2)),
    "10p": _Layout(4, 5, _stream_10),
    "10Packed": _Layout(2, 3, _packed),
    "12": _Layout(1, 2, partial(_words, 4)),
    "12p": _Layout(2, 3, _stream_12),
    "12Packed": _Layout(2, 3, _packed),
}
"""Of Mono and Bayer formats, by the end of their names."""
_PATTERNS = {
    "RG": cv2.COLOR_BayerRGGB2RGB,
    "GB": cv2.COLOR_BayerGBRG2RGB,
    "GR": cv2.COLOR_BayerGRBG2RGB,
    "BG": cv2.COLOR_BayerBGGR2RGB,
}
"""PFNC's first two pixels. OpenCV's older constants name the second line's second and third pixel
instead, so that its BayerBG is PFNC's BayerRG; these constants spell all four."""
_RGB = _Layout(1, 3, _copy, channels=3)
_BGR = _Layout(1, 3, partial(_recolour, cv2.COLOR_BGR2RGB), channels=3)
_RGBA = _Layout(1, 4, partial(_recolour, cv2.COLOR_RGBA2RGB), channels=3)
_BGRA = _Layout(1, 4, partial(_recolour, cv2.COLOR_BGRA2RGB), channels=3)
_YUYV = _Layout(2, 4, partial(_yuv_422, 0), channels=3)
_UYVY = _Layout(2, 4, partial(_yuv_422, 1), channels=3)

_LAYOUTS: dict[str, _Layout] = {
    **{f"Mono{depth}": layout for depth, layout in _DEPTHS.items()},
    **{
        f"Bayer{pattern}{depth}": replace(layout, demosaic=code)
        for pattern, code in _PATTERNS.items()
        for depth, layout in _DEPTHS.items()
    },
    "RGB8": _RGB,
    "BGR8": _BGR,
    "RGBa8": _RGBA,
    "BGRa8": _BGRA,
    "YUV422_8": _YUYV,
    "YUV422_8_UYVY": _UYVY,
    "YCbCr422_8": _YUYV,
    "YCbCr422_8_CbYCrY": _UYVY,
    # GigE Vision 1.x and SFNC 1.x
    "RGB8Packed": _RGB,
    "BGR8Packed": _BGR,
    "RGBA8Packed": _RGBA,
    "BGRA8Packed": _BGRA,
    "YUYVPacked": _YUYV,
    "YUV422Packed": _UYVY,
}

FORMATS: tuple[str, ...] = tuple(_LAYOUTS)
"""Names that `decode` knows, spelt as a camera spells them."""

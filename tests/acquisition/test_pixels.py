"""Received buffers become the pictures that a slow reading of the formats' definition gives."""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspectd.acquisition import pixels
from inspectd.acquisition.pixels import FORMATS, bytes_needed, decode
from inspectd.core.errors import ImageError
from inspectd.core.records import ImageArray

MONO = [name for name in FORMATS if name.startswith("Mono")]
BAYER = [name for name in FORMATS if name.startswith("Bayer")]
YUV = [name for name in FORMATS if name.startswith("Y")]
RGB = [name for name in FORMATS if name.startswith(("RGB", "BGR"))]
UYVY = ("YUV422_8_UYVY", "YUV422Packed", "YCbCr422_8_CbYCrY")
COLOURS = "RGB"
"""In the order of a picture's channels."""


# The slow reference: one pixel at a time


def bits_of(pixel_format: str) -> int:
    """Significant bits of a Mono or Bayer pixel."""
    return int(re.sub(r"\D", "", pixel_format))


def grey_at(data: bytes, index: int, pixel_format: str) -> int:
    """Upper 8 bits of the pixel at a place in the buffer."""
    bits = bits_of(pixel_format)
    value: int
    if bits == 8:
        return data[index]
    if pixel_format.endswith("p"):
        value = int.from_bytes(data, "little") >> (bits * index)
    elif pixel_format.endswith("Packed"):
        start = 3 * (index // 2)
        low = bits - 8
        if index % 2 == 0:
            value = data[start] << low | data[start + 1] % 2**low
        else:
            value = data[start + 2] << low | (data[start + 1] >> 4) % 2**low
    else:
        value = data[2 * index] | data[2 * index + 1] << 8
    return (value & ((1 << bits) - 1)) >> (bits - 8)


def colour_at(data: bytes, index: int, pixel_format: str) -> list[float]:
    """RGB of the pixel at a place in the buffer."""
    if pixel_format in YUV:
        pair = data[4 * (index // 2) :][:4]
        y_0, u, y_1, v = (pair[1], pair[0], pair[3], pair[2]) if pixel_format in UYVY else pair
        y = y_1 if index % 2 else y_0
        red, blue = v - 128, u - 128
        green = y - 0.714136 * red - 0.344136 * blue
        rgb = (y + 1.402 * red, green, y + 1.772 * blue)
        return [min(255.0, max(0.0, value)) for value in rgb]
    size = 4 if "a8" in pixel_format.lower() else 3
    values: list[float] = [*data[size * index :][:3]]
    return values[::-1] if pixel_format.startswith("BGR") else values


def site(row: int, column: int, pixel_format: str) -> str:
    """Which colour a mosaic has there, by the definition: the name gives the first two pixels."""
    first = pixel_format[5:7]
    second = {"RG": "GB", "GB": "RG", "GR": "BG", "BG": "GR"}[first]
    return (first, second)[row % 2][column % 2]


def demosaiced(mosaic: ImageArray, pixel_format: str) -> ImageArray:
    """Bilinear; a border pixel is its nearest neighbour that has all of its own."""
    height, width = mosaic.shape
    image = np.zeros((height, width, 3), np.uint8)
    for row, column in np.ndindex(height, width):
        y, x = min(max(row, 1), height - 2), min(max(column, 1), width - 2)
        for channel, colour in enumerate(COLOURS):
            near = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
            places = [place for place in near if site(*place, pixel_format) == colour]
            if (y, x) in places:
                places = [(y, x)]
            mean = fmean(float(mosaic[place]) for place in places)
            image[row, column, channel] = int(mean + 0.5)
    return image


def expected(data: bytes, width: int, height: int, pixel_format: str) -> ImageArray:
    """The picture in a buffer without padding."""
    places = range(width * height)
    if pixel_format in MONO + BAYER:
        values = [grey_at(data, place, pixel_format) for place in places]
        mosaic = np.array(values, np.uint8).reshape(height, width)
        return mosaic if pixel_format in MONO else demosaiced(mosaic, pixel_format)
    colours = [colour_at(data, place, pixel_format) for place in places]
    return np.rint(colours).astype(np.uint8).reshape(height, width, 3)


def assert_same(found: ImageArray, wanted: ImageArray, pixel_format: str) -> None:
    """Equal; where the definition has real coefficients, within one step."""
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    apart = np.abs(found.astype(int) - wanted.astype(int)).max()
    assert apart <= (1 if pixel_format in YUV else 0)


# A mosaic camera, to prove the colours


def encoded(mosaic: ImageArray, pixel_format: str) -> bytes:
    """A mosaic of 8 bits as a camera with more would send it; the lower bits are random."""
    bits = bits_of(pixel_format)
    noise = np.random.default_rng(0).integers(0, 2 ** (bits - 8), mosaic.size)
    values = [int(v) for v in (mosaic.ravel().astype(int) << (bits - 8)) + noise]
    if bits == 8:
        return bytes(values)
    if pixel_format.endswith("p"):
        stream = sum(value << (bits * index) for index, value in enumerate(values))
        return stream.to_bytes(-(-bits * len(values) // 8), "little")
    if pixel_format.endswith("Packed"):
        low = bits - 8
        rest = [value % 2**low for value in values]
        pairs = zip(values[::2], values[1::2], rest[::2], rest[1::2], strict=True)
        return bytes(b for v, w, r, s in pairs for b in (v >> low, r | s << 4, w >> low))
    return np.array(values, "<u2").tobytes()


def mosaic_of(image: ImageArray, pixel_format: str) -> ImageArray:
    """What a sensor behind the colour filters sees of an (H, W, 3) picture."""
    mosaic = np.empty(image.shape[:2], np.uint8)
    for row, column in np.ndindex(mosaic.shape):
        channel = COLOURS.index(site(row, column, pixel_format))
        mosaic[row, column] = image[row, column, channel]
    return mosaic


# Pictures


@pytest.mark.parametrize("pixel_format", FORMATS)
@given(data=st.data())
def test_every_format_is_what_its_definition_says(pixel_format: str, data: st.DataObject) -> None:
    """Random bytes of random size, odd ones too, decode as the slow reference does."""
    least = 3 if pixel_format in BAYER else 1
    height = data.draw(st.integers(least, 7))
    width = data.draw(st.integers(least, 9))
    width += width % 2 if pixel_format in YUV else 0
    size = bytes_needed(width, height, pixel_format)
    buffer = data.draw(st.binary(min_size=size, max_size=size))
    found = decode(buffer, width, height, pixel_format)
    assert_same(found, expected(buffer, width, height, pixel_format), pixel_format)


@pytest.mark.parametrize("pixel_format", [name for name in FORMATS if name not in BAYER])
@given(data=st.data())
def test_padding_at_the_lines_ends_is_skipped(pixel_format: str, data: st.DataObject) -> None:
    """With a line pitch each line starts anew; the last one needs no padding."""
    height, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    width += width % 2 if pixel_format in YUV else 0
    line = bytes_needed(width, 1, pixel_format)
    pitch = line + data.draw(st.integers(0, 5))
    size = pitch * (height - 1) + line
    buffer = data.draw(st.binary(min_size=size, max_size=size))
    rows = [expected(buffer[pitch * row :][:line], width, 1, pixel_format) for row in range(height)]
    found = decode(buffer, width, height, pixel_format, line_pitch=pitch)
    assert_same(found, np.concatenate(rows), pixel_format)


@pytest.mark.parametrize("pixel_format", BAYER)
def test_padded_mosaics_are_demosaiced_as_one_picture(pixel_format: str) -> None:
    """Padding changes where the lines lie, not what is made of them."""
    mosaic = np.random.default_rng(1).integers(0, 256, (6, 8), dtype=np.uint8)
    lines = [encoded(line[np.newaxis], pixel_format) for line in mosaic]
    buffer = b"".join(line + b"\xff\xff\xff" for line in lines)
    found = decode(buffer, 8, 6, pixel_format, line_pitch=len(lines[0]) + 3)
    assert np.array_equal(found, demosaiced(mosaic, pixel_format))


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("pitched", [False, True], ids=["one stream", "line by line"])
def test_blocks_leave_no_seam(
    pixel_format: str, pitched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of many blocks is the same as one of a single block."""
    height, width = 11, 14
    line = bytes_needed(width, 1, pixel_format)
    buffer = np.random.default_rng(2).bytes(line * height)
    pitch = line if pitched else None
    whole = decode(buffer, width, height, pixel_format, line_pitch=pitch)
    for block in (1, 3, 20):
        monkeypatch.setattr(pixels, "_BLOCK", block)
        found = decode(buffer, width, height, pixel_format, line_pitch=pitch)
        assert np.array_equal(found, whole)


@pytest.mark.parametrize("pixel_format", BAYER)
@pytest.mark.parametrize("channel", range(3), ids=COLOURS)
def test_a_picture_of_one_colour_keeps_it(pixel_format: str, channel: int) -> None:
    """Uniform red comes out as red, green as green, blue as blue, for every pattern."""
    image = np.zeros((6, 8, 3), np.uint8)
    image[..., channel] = 200
    found = decode(encoded(mosaic_of(image, pixel_format), pixel_format), 8, 6, pixel_format)
    assert np.array_equal(found, image)


@pytest.mark.parametrize("pixel_format", BAYER)
def test_a_smooth_gradient_comes_back_from_its_mosaic(pixel_format: str) -> None:
    """Three channels that run in three directions are found again inside the border."""
    rows, columns = np.mgrid[:20, :24]
    image = np.stack([8 * columns, 10 * rows, 230 - 4 * columns - 5 * rows], 2).astype(np.uint8)
    found = decode(encoded(mosaic_of(image, pixel_format), pixel_format), 24, 20, pixel_format)
    apart = np.abs(found.astype(int) - image.astype(int))
    assert apart[1:-1, 1:-1].max() <= 1
    assert apart.max() <= 10


@pytest.mark.parametrize(
    ("pixel_format", "buffer"),
    [
        ("Mono12p", "cb2def"),
        ("Mono12Packed", "bcfade"),
        ("Mono10p", "00c0ef7bb7"),
        ("Mono12", "cb0bfa0d"),
    ],
)
def test_packings_differ_as_the_standards_say(pixel_format: str, buffer: str) -> None:
    """Hand-packed pixels come out with their upper 8 bits."""
    wanted = {
        "Mono12p": [0xDC, 0xEF],  # 0xDCB and 0xEF2
        "Mono12Packed": [0xBC, 0xDE],  # 0xBCA and 0xDEF
        "Mono10p": [0x00, 0xFC, 0xEF, 0xB7],  # 0x000, 0x3F0, 0x3BE and 0x2DD
        "Mono12": [0xBC, 0xDF],  # 0xBCB and 0xDFA
    }[pixel_format]
    found = decode(bytes.fromhex(buffer), len(wanted), 1, pixel_format)
    assert found.tolist() == [wanted]


# Ownership


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_the_picture_outlives_the_buffer(pixel_format: str) -> None:
    """The result owns its memory, contiguous and writeable, and the input is only read."""
    size = bytes_needed(8, 6, pixel_format)
    memory = np.random.default_rng(3).integers(0, 256, size, dtype=np.uint8)
    view = memory[:]
    view.setflags(write=False)
    before = memory.copy()
    found = decode(view, 8, 6, pixel_format)
    assert np.array_equal(memory, before)
    kept = found.copy()
    memory[:] = ~memory
    assert np.array_equal(found, kept)
    assert not np.shares_memory(found, memory)
    assert found.flags.owndata
    assert found.flags.c_contiguous
    assert found.flags.writeable


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.frombuffer])
def test_any_contiguous_memory_serves(kind: Any) -> None:
    """Bytes, views and arrays of any item size hold the same picture."""
    words = np.arange(12, dtype="<u2") << 4
    buffer = kind(words.tobytes())
    wanted = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert decode(buffer, 4, 3, "Mono12").tolist() == wanted
    assert decode(words, 4, 3, "Mono12").tolist() == wanted


def test_what_follows_the_picture_is_ignored() -> None:
    """A buffer longer than its picture is no error: payloads are rounded up."""
    assert decode(bytes([1, 2, 3, 4, 99, 99]), 2, 2, "Mono8").tolist() == [[1, 2], [3, 4]]


# Sizes and errors


@pytest.mark.parametrize(
    ("pixel_format", "wanted"),
    [
        ("Mono8", 15),
        ("Mono10", 30),
        ("Mono10p", 19),
        ("Mono12p", 23),
        ("Mono10Packed", 23),
        ("Mono12Packed", 23),
        ("BayerGR12p", 23),
        ("RGB8", 45),
        ("RGBa8", 60),
    ],
)
def test_packing_runs_over_the_whole_picture(pixel_format: str, wanted: int) -> None:
    """3 lines of 5 pixels fill their bits without a gap between lines; the last byte is whole."""
    assert bytes_needed(5, 3, pixel_format) == wanted


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_a_short_buffer_is_refused(pixel_format: str) -> None:
    """The message names the format, the expected and the received size."""
    size = bytes_needed(8, 6, pixel_format)
    with pytest.raises(ImageError, match=f"{pixel_format}: .* {size} bytes, received {size - 1}"):
        decode(bytes(size - 1), 8, 6, pixel_format)


def test_an_empty_buffer_is_refused() -> None:
    """A frame whose bytes never came is an `ImageError`, too."""
    with pytest.raises(ImageError, match="received 0"):
        decode(np.empty(0, np.uint8), 8, 6, "Mono8")


def test_a_short_buffer_with_padding_is_refused() -> None:
    """The padding counts between lines, not after the last."""
    assert decode(bytes(24), 4, 3, "Mono8", line_pitch=10).shape == (3, 4)
    with pytest.raises(ImageError, match="24 bytes, received 23"):
        decode(bytes(23), 4, 3, "Mono8", line_pitch=10)


def test_a_pitch_below_the_line_is_refused() -> None:
    """Lines can't overlap."""
    with pytest.raises(ImageError, match="lines of 12 bytes, more than the line pitch of 11"):
        decode(bytes(100), 8, 3, "Mono12p", line_pitch=11)


@pytest.mark.parametrize("pixel_format", ["Mono16", "mono8", "RGBA8", ""])
def test_an_unknown_format_is_refused(pixel_format: str) -> None:
    """The message lists what is known and names the feature to set."""
    with pytest.raises(ImageError, match="set PixelFormat") as caught:
        bytes_needed(8, 6, pixel_format)
    with pytest.raises(ImageError, match="not known"):
        decode(bytes(1000), 8, 6, pixel_format)
    assert all(name in str(caught.value) for name in FORMATS)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize(("width", "height"), [(0, 6), (8, 0), (-8, 6)])
def test_a_picture_without_pixels_is_refused(pixel_format: str, width: int, height: int) -> None:
    """A trailer that says 0 lines is an error, not an empty picture."""
    with pytest.raises(ImageError, match=f"{pixel_format}: .* has no pixels"):
        decode(bytes(1000), width, height, pixel_format)


@pytest.mark.parametrize("pixel_format", YUV)
def test_an_odd_width_is_refused_where_two_pixels_share_a_colour(pixel_format: str) -> None:
    """4:2:2 has no half pairs; an odd height is fine."""
    assert decode(bytes(1000), 8, 5, pixel_format).shape == (5, 8, 3)
    with pytest.raises(ImageError, match=f"{pixel_format}: .* even"):
        decode(bytes(1000), 7, 6, pixel_format)


@pytest.mark.parametrize(("width", "height"), [(2, 6), (8, 2), (1, 1)])
def test_a_mosaic_too_small_to_demosaic_is_refused(width: int, height: int) -> None:
    """OpenCV would return black."""
    with pytest.raises(ImageError, match=r"BayerRG8: .* at least 3"):
        decode(bytes(1000), width, height, "BayerRG8")

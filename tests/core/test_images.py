"""Reading pictures: what comes out of every kind, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inspectd.core.errors import ImageError
from inspectd.core.images import MAX_PIXELS, image_size, list_images, read_image

RGB = np.random.default_rng(0).integers(0, 256, (24, 31, 3), dtype=np.uint8)
GREY = RGB[..., 0]
FORMATS = ["PNG", "JPEG", "BMP", "TIFF", "WEBP"]
READERS = [read_image, image_size]


def _save(
    path: Path, picture: np.ndarray | Image.Image, kind: str = "PNG", **options: object
) -> Path:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(path, kind, **options)
    return path


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("picture", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_pictures_come_out_bit_by_bit(
    tmp_path: Path, kind: str, picture: np.ndarray
) -> None:
    """Grey stays (H, W), colour is (H, W, 3) in the order red, green, blue."""
    np.testing.assert_array_equal(read_image(_save(tmp_path / "a", picture, kind)), picture)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_pictures_come_out_alike(tmp_path: Path, kind: str) -> None:
    """JPEG and WebP give RGB too, close to what was saved."""
    smooth = cv2.GaussianBlur(RGB, (0, 0), 4)
    read = read_image(_save(tmp_path / "a", smooth, kind, quality=95))
    assert read.shape == RGB.shape
    assert np.abs(read.astype(int) - smooth).mean() < 3


def test_a_picture_is_read_only(tmp_path: Path) -> None:
    """Nobody downstream can change a picture that others look at."""
    assert not read_image(_save(tmp_path / "a.png", RGB)).flags.writeable


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path: Path, kind: str) -> None:
    """65535 becomes 255, 256 becomes 1 and 255 becomes 0, in grey."""
    deep = np.array([[0, 255, 256], [4096, 32768, 65535]], np.uint16)
    read = read_image(_save(tmp_path / "a", deep, kind))
    np.testing.assert_array_equal(read, [[0, 0, 1], [16, 128, 255]])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour_keeps_the_upper_eight(tmp_path: Path, suffix: str) -> None:
    """48-bit colour becomes (H, W, 3) with the upper byte of each channel."""
    deep = RGB.astype(np.uint16) * 256 + 7
    cv2.imwrite(str(tmp_path / f"a{suffix}"), deep[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), RGB)


@pytest.mark.parametrize(("mode", "expected"), [("RGBA", RGB), ("LA", GREY)])
def test_transparency_is_dropped(tmp_path: Path, mode: str, expected: np.ndarray) -> None:
    """The colours below a transparent pixel count, whatever its opacity."""
    opacity = np.full((24, 31), 3, np.uint8)
    picture = Image.fromarray(np.dstack([expected, opacity]))
    assert picture.mode == mode
    np.testing.assert_array_equal(read_image(_save(tmp_path / "a", picture)), expected)


@pytest.mark.parametrize("options", [{}, {"transparency": bytes([0, 128, 255])}])
def test_a_palette_becomes_its_colours(tmp_path: Path, options: dict[str, bytes]) -> None:
    """A picture with a palette, transparent or not, is read as RGB without a warning."""
    picture = Image.fromarray(RGB).quantize(16)
    path = _save(tmp_path / "a", picture, **options)
    np.testing.assert_array_equal(read_image(path), np.asarray(picture.convert("RGB")))


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    """A mask of one bit per pixel is read as 0 and 255."""
    read = read_image(_save(tmp_path / "a", Image.fromarray(GREY > 127)))
    np.testing.assert_array_equal(read, np.where(GREY > 127, 255, 0))


def test_printer_colours_become_rgb(tmp_path: Path) -> None:
    """A CMYK JPEG is read as (H, W, 3)."""
    picture = Image.new("CMYK", (31, 24), (0, 255, 255, 0))
    read = read_image(_save(tmp_path / "a", picture, "JPEG"))
    assert read.shape == (24, 31, 3)
    assert read[..., 0].min() > 200 > 50 > read[..., 1:].max()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_camera_held_upright_is_turned(tmp_path: Path, kind: str, orientation: int) -> None:
    """The orientation in EXIF is applied, and the size from the header agrees."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "a", RGB, kind, exif=exif)
    assert read_image(path).shape[:2] == image_size(path)
    assert image_size(path) == ((24, 31) if orientation < 5 else (31, 24))


def test_an_orientation_that_is_none_is_ignored(tmp_path: Path) -> None:
    """An orientation of the wrong type doesn't turn the picture and doesn't crash."""
    text = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0" + b"6\0\0\0" + bytes(4)
    path = _save(tmp_path / "a.jpg", RGB, "JPEG", exif=text)
    with Image.open(path) as picture:
        assert picture.getexif()[0x0112] == "6"
    assert read_image(path).shape[:2] == image_size(path) == (24, 31)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"no picture at all", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(tmp_path: Path, reader: object, content: bytes) -> None:
    """An empty file, a text and a lone signature are refused by name and with a remedy."""
    path = tmp_path / "part.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"part\.png: not a readable picture .*remove it"):
        reader(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns of a short TIFF
@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_picture_is_refused(tmp_path: Path, kind: str, share: float) -> None:
    """A picture whose end is missing is refused, never filled up with grey."""
    data = _encoded(kind)
    (tmp_path / "part").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageError, match="part: not a readable picture"):
        read_image(tmp_path / "part")


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_refused(tmp_path: Path, reader: object) -> None:
    """A file that isn't there is said not to be there."""
    with pytest.raises(ImageError, match=r"gone\.png: no such file"):
        reader(tmp_path / "gone.png")


@pytest.mark.parametrize("reader", READERS)
def test_a_folder_is_refused(tmp_path: Path, reader: object) -> None:
    """A folder in a picture's place is refused, not crashed on."""
    with pytest.raises(ImageError, match="not a readable picture"):
        reader(tmp_path)


def _png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly a pixel of it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [(15_000, 10_001), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_a_huge_picture_is_refused_before_it_is_decoded(
    tmp_path: Path, reader: object, size: tuple[int, int]
) -> None:
    """A decompression bomb is refused by its header alone, with (H, W) and the limit."""
    (tmp_path / "bomb.png").write_bytes(_png_of_size(*size))
    with pytest.raises(ImageError, match=rf"{size[1]} x {size[0]} \(H x W\) is more than 150 mega"):
        reader(tmp_path / "bomb.png")


def test_a_large_area_camera_is_no_bomb(tmp_path: Path) -> None:
    """95 megapixels, where Pillow would already warn, are within the limit."""
    path = _save(tmp_path / "large.bmp", Image.new("1", (10_000, 9_500)), "BMP")
    assert image_size(path) == (9_500, 10_000)
    assert MAX_PIXELS > 9_500 * 10_000


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_floating_point_pictures_are_refused(tmp_path: Path, value: float) -> None:
    """Floats have no known range: 0 to 1 would silently become black."""
    path = _save(tmp_path / "a.tif", np.full((8, 8), value, np.float32), "TIFF")
    with pytest.raises(ImageError, match="floating-point"):
        read_image(path)


def test_numbers_beyond_sixteen_bits_are_refused(tmp_path: Path) -> None:
    """A 32-bit picture is read only as far as its values fit 16 bits."""
    path = _save(tmp_path / "a.tif", np.array([[0, 65536]], np.int32), "TIFF")
    with pytest.raises(ImageError, match="don't fit 16 bits"):
        read_image(path)


@pytest.mark.parametrize("reader", READERS)
def test_only_formats_of_pictures_are_opened(tmp_path: Path, reader: object) -> None:
    """A PostScript file called .png is refused: to decode it another program would be started."""
    path = _save(tmp_path / "a.png", RGB, "EPS")
    with pytest.raises(ImageError, match="not a readable picture"):
        reader(path)


def test_list_is_in_name_order_and_holds_pictures_only(tmp_path: Path) -> None:
    """Other suffixes, hidden files and folders are left out; suffixes in capitals count."""
    for name in ("b.png", "a.JPG", "c.tiff", ".hidden.png", "notes.txt", "mask"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.JPG", "b.png", "c.tiff"]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file that is overwritten for each example."""
    return tmp_path_factory.mktemp("damaged") / "part"


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow also warns of odd tags
@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(FORMATS))
def test_damage_never_crashes(scratch: Path, data: st.DataObject, kind: str) -> None:
    """However a file is damaged, it gives a picture or an `ImageError`, nothing else."""
    content = bytearray(_encoded(kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(300, len(content) - 1)))] = data.draw(
            st.integers(0, 255)
        )
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for reader in READERS:
        try:
            reader(scratch)
        except ImageError as error:
            assert str(scratch) in str(error)  # noqa: PT017 - either way is fine

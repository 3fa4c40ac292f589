"""From masks, polygons and areas to what counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.evaluate import Scored
from calibration.framing import Framing, framed, preprocessing_of, read_recipe, scope_remarks
from calibration.rethreshold import is_kept
from inspectd.core.errors import ConfigError, DatasetError, ImageError, InspectdError
from inspectd.core.preprocess import Preprocessing, Tiling
from inspectd.core.records import MaskArray
from inspectd.core.scope import Scope, ScopePart

SIZE = (96, 128)
HALF = Preprocessing(resize=(48, 64), crop=(48, 64), source_size=SIZE)
TILES = Tiling(size=(32, 32), overlap=8)


def _mask(path: Path, *boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> Path:
    """A PNG, white in boxes of (top, left, height, width)."""
    mask = np.zeros(size, np.uint8)
    for top, left, height, width in boxes:
        mask[top : top + height, left : left + width] = 255
    cv2.imwrite(str(path), mask)
    return path


def _recipe(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _region(framing: Framing, preprocessing: Preprocessing = HALF) -> MaskArray:
    _, roi = framed(framing, preprocessing, [SIZE])
    assert roi is not None
    return roi


def test_without_a_drawing_everything_counts() -> None:
    """No region, no least area: as it ever was."""
    assert framed(Framing(), HALF, [SIZE]) == (ScopePart(), None)


def test_a_mask_is_scaled_like_the_picture(tmp_path: Path) -> None:
    """White is inspected; the share of the map is told."""
    roi = _mask(tmp_path / "roi.png", (20, 40, 40, 60))
    part, region = framed(Framing(roi=roi), HALF, [SIZE])
    assert region is not None
    wanted = np.zeros((48, 64), np.uint8)
    wanted[10:30, 20:50] = 255
    np.testing.assert_array_equal(region, wanted)
    assert part.roi == "roi.png"
    assert part.roi_share == pytest.approx(20 * 30 / (48 * 64))


def test_what_is_ignored_is_taken_out_of_what_is_inspected(tmp_path: Path) -> None:
    """From the region where there is one, else from the whole picture."""
    roi = _mask(tmp_path / "roi.png", (20, 40, 40, 60))
    ignore = _mask(tmp_path / "ignore.png", (0, 0, 40, 128))
    both, alone = _region(Framing(roi=roi, ignore=ignore)), _region(Framing(ignore=ignore))
    assert both.sum() == 10 * 30 * 255
    assert alone.sum() == 28 * 64 * 255
    assert not both[:20].any()


def test_polygons_say_column_then_row(tmp_path: Path) -> None:
    """A polygon and the mask of the same box are the same; both kinds add up."""
    recipe = _recipe(
        tmp_path / "r.toml", "[[roi]]\npoints = [[40, 20], [99, 20], [99, 59], [40, 59]]"
    )
    mask = _mask(tmp_path / "roi.png", (20, 40, 40, 60))
    np.testing.assert_array_equal(_region(Framing(recipe=recipe)), _region(Framing(roi=mask)))
    other = _mask(tmp_path / "other.png", (80, 0, 16, 128))
    union = _region(Framing(roi=other, recipe=recipe))
    assert union.sum() == (20 * 30 + 8 * 64) * 255


def test_a_polygon_is_ignored_too(tmp_path: Path) -> None:
    """With its outline."""
    recipe = _recipe(tmp_path / "r.toml", "[[ignore]]\npoints = [[0, 0], [127, 0], [0, 95]]")
    region = _region(Framing(recipe=recipe))
    assert not region[0].any()
    assert region[-1, -1] == 255


def test_a_mask_of_all_is_none(tmp_path: Path) -> None:
    """The graph's own score then counts, as without a mask."""
    roi = _mask(tmp_path / "roi.png", (0, 0, *SIZE))
    assert framed(Framing(roi=roi), HALF, [SIZE]) == (ScopePart(), None)


BROKEN = [
    ("", (0, 0, 0, 0), SIZE, DatasetError, "nothing is left to inspect"),
    ("", (0, 0, 6, 6), SIZE, DatasetError, "9 pixels of the anomaly map, less than one patch"),
    ("", (0, 0, 9, 9), (128, 96), DatasetError, "the mask is 128 x 96.*the pictures are 96 x 128"),
    ("points = 3", None, SIZE, ConfigError, "not valid at points.*points = "),
    ("[[roi]]\npoints = [[0, 0], [1, 1]]", None, SIZE, ConfigError, "not valid at roi.0.points"),
    ("[[roi]]\npoints = [[0, 0], [1, nan], [5, 5]]", None, SIZE, ConfigError, "not valid at roi"),
    ("[[roi", None, SIZE, ConfigError, "can't be read as TOML"),
    ("[[roi]]\npoints = [[0, 0], [96, 128], [5, 5]]", None, SIZE, ConfigError, "leaves the pict"),
]


@pytest.mark.parametrize(("text", "box", "size", "error", "said"), BROKEN)
def test_a_region_that_can_not_be_meant_is_refused(
    tmp_path: Path,
    text: str,
    box: tuple[int, int, int, int] | None,
    size: tuple[int, int],
    error: type[InspectdError],
    said: str,
) -> None:
    """The message says what is wrong and what to do."""
    recipe = _recipe(tmp_path / "r.toml", text) if text else None
    roi = None if box is None else _mask(tmp_path / "roi.png", box, size=size)
    with pytest.raises(error, match=said):
        framed(Framing(roi=roi, recipe=recipe), HALF, [SIZE])


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    """Mask and recipe."""
    with pytest.raises(ImageError, match=r"no\.png"):
        framed(Framing(ignore=tmp_path / "no.png"), HALF, [SIZE])
    with pytest.raises(ConfigError, match=r"no\.toml"):
        read_recipe(tmp_path / "no.toml")


def test_pictures_of_several_sizes_share_a_mask_but_no_polygon(tmp_path: Path) -> None:
    """A mask fits one of the sizes and is scaled like it; a polygon would be ambiguous."""
    several = HALF.model_copy(update={"source_size": None})
    sizes = [(10, 10), SIZE]
    roi = _mask(tmp_path / "roi.png", (20, 40, 40, 60))
    assert framed(Framing(roi=roi), several, sizes)[0].roi_share < 1
    recipe = _recipe(tmp_path / "r.toml", "[[roi]]\npoints = [[0, 0], [9, 0], [0, 9]]")
    with pytest.raises(DatasetError, match="several sizes"):
        framed(Framing(recipe=recipe), several, sizes)
    with pytest.raises(ConfigError, match="one size"):
        framed(Framing(min_area_px=3), several, sizes)


def test_an_area_that_no_defect_can_have_is_refused(tmp_path: Path) -> None:
    """A least area must fit into the largest piece of the region."""
    roi = _mask(tmp_path / "roi.png", (0, 0, 20, 20), (60, 60, 20, 30))
    part, _ = framed(Framing(roi=roi, min_area_px=4 * 150), HALF, [SIZE])
    assert part.min_area_px == 600
    with pytest.raises(ConfigError, match=r"151 pixels .* largest piece that is inspected has 150"):
        framed(Framing(roi=roi, min_area_px=4 * 151), HALF, [SIZE])


def test_what_can_not_be_found_is_warned_of() -> None:
    """Defects wholly outside the region, and an area that excludes nothing."""
    roi, mask = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    roi[:4], mask[3:6] = 255, 255
    blank, values = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)
    marks = (mask, mask[::-1], None, np.roll(mask, 2, axis=0))
    scored = [Scored("p", "dent", True, 1.0, blank, values, mark, 0.0) for mark in marks]
    scored.append(Scored("p", "good", False, 1.0, blank, values, roi * 0, 0.0))
    (remark,) = scope_remarks(scored, Scope(roi), ScopePart())
    assert remark.startswith("Warning: 1 defect(s) of the hold-out set lie wholly outside")
    (remark,) = scope_remarks(scored, Scope(), ScopePart(min_area_px=2))
    assert remark.startswith("Warning: the minimum area of 2 pixels is no more than one")
    assert scope_remarks(scored, Scope(min_pixels=2), ScopePart(min_area_px=8)) == ()
    assert all(is_kept(line) for line in (remark,))


def test_tiled_pictures_keep_their_own_size() -> None:
    """Unless a size is asked for; the graph's input is a tile."""
    own = preprocessing_of(None, None, TILES, [SIZE])
    assert (own.resize, own.crop, own.input_size, own.source_size) == (SIZE, SIZE, (32, 32), SIZE)
    asked = preprocessing_of((64, 64), (48, 48), TILES, [SIZE, (9, 9)])
    assert (asked.resize, asked.crop, asked.source_size) == ((64, 64), (48, 48), None)


@pytest.mark.parametrize(
    ("resize", "crop", "sizes", "error", "said"),
    [
        (None, None, [SIZE, (9, 9)], DatasetError, "several sizes.*--input-size"),
        (None, (112, 112), [SIZE], ConfigError, "--crop 112 is larger"),
        (None, None, [(31, 200)], ConfigError, "--tile 32 is larger than what is inspected"),
        ((64, 64), (31, 31), [SIZE], ConfigError, "--tile 32 is larger"),
        (None, None, [(5000, 96)], ConfigError, "too large; give --input-size 4096"),
    ],
)
def test_tiles_that_do_not_fit_are_refused(
    resize: tuple[int, int] | None,
    crop: tuple[int, int] | None,
    sizes: list[tuple[int, int]],
    error: type[InspectdError],
    said: str,
) -> None:
    """The message names the option and the sizes."""
    with pytest.raises(error, match=said):
        preprocessing_of(resize, crop, TILES, sizes)

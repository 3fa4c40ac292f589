"""The one preprocessing, and the way back from the map to the picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inspectd.core.errors import ImageError, ImageSizeError
from inspectd.core.preprocess import (
    Preprocessing,
    prepare,
    prepare_mask,
    scale_to_source,
    to_source,
)

HALF = Preprocessing(resize=(48, 64), crop=(32, 40), source_size=(96, 128))
"""Half the size, not square, with a margin of 8 rows and 12 columns."""


def _picture(size: tuple[int, int] = (96, 128)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def test_the_input_is_the_middle_of_the_resized_picture() -> None:
    """The picture shrinks by averaging, and its centre of size crop is kept."""
    picture = _picture()
    blocks = picture.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))  # (48, 64, 3)
    prepared = prepare(picture, HALF)
    assert prepared.shape == (32, 40, 3)
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous
    np.testing.assert_allclose(prepared, blocks[8:40, 12:52], atol=0.51)


def test_grey_becomes_three_equal_channels() -> None:
    """A monochrome camera's picture (H, W) becomes (H, W, 3)."""
    prepared = prepare(_picture()[..., 0], HALF)
    assert prepared.shape == (32, 40, 3)
    assert (prepared == prepared[..., :1]).all()


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    """Without resize and crop not a byte changes."""
    picture = _picture((32, 40))
    same = Preprocessing(resize=(32, 40), crop=(32, 40))
    np.testing.assert_array_equal(prepare(picture, same), picture)


def test_the_callers_picture_is_not_changed() -> None:
    """A camera's read-only picture is enough."""
    picture = _picture()
    picture.setflags(write=False)
    prepare(picture, HALF)
    np.testing.assert_array_equal(picture, _picture())


@pytest.mark.parametrize("size", [(128, 96), (96, 127), (1, 1)])
def test_a_wrong_size_is_refused(size: tuple[int, int]) -> None:
    """The error knows both sizes as (H, W) and says what to do."""
    with pytest.raises(ImageSizeError, match="set the camera back or calibrate anew") as caught:
        prepare(_picture(size), HALF)
    assert caught.value.wanted == (96, 128)
    assert caught.value.got == size


@pytest.mark.parametrize("size", [(10, 300), (300, 10), (1, 1)])
def test_any_size_fits_where_calibration_saw_several(size: tuple[int, int]) -> None:
    """Without a source size every picture is stretched to the input."""
    several = HALF.model_copy(update={"source_size": None})
    assert prepare(_picture(size), several).shape == (32, 40, 3)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((96, 128, 4), np.uint8),
        np.zeros((96, 128, 1), np.uint8),
        np.zeros((96, 128), np.uint16),
        np.zeros((96, 128, 3), np.float32),
        np.zeros((0, 128), np.uint8),
        np.zeros(96, np.uint8),
    ],
    ids=["rgba", "one channel", "16 bit", "float", "empty", "flat"],
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    """A frame of another shape or depth is an `ImageError`, not a crash in OpenCV."""
    with pytest.raises(ImageError, match="is no picture"):
        prepare(image, HALF.model_copy(update={"source_size": None}))


def test_a_crop_larger_than_the_picture_is_refused() -> None:
    """The settings themselves are checked."""
    with pytest.raises(ValidationError, match="larger than the resized picture"):
        Preprocessing(resize=(64, 64), crop=(65, 64))


@pytest.mark.parametrize("side", [31, 4097])
def test_a_side_out_of_range_is_refused(side: int) -> None:
    """Sides are 32 to 4096 pixels."""
    with pytest.raises(ValidationError):
        Preprocessing(resize=(side, 64), crop=(32, 64))


def test_unknown_settings_are_refused() -> None:
    """A misspelt key doesn't pass for a default."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        Preprocessing.model_validate({"resize": [64, 64], "crop": [64, 64], "sourcesize": None})


def test_a_mask_goes_the_way_of_its_picture() -> None:
    """A mark lies where the picture's pixels went, and the mask stays 0 or 255."""
    mask = np.zeros((96, 128), np.uint8)
    mask[40:50, 60:80] = 255
    prepared = prepare_mask(mask, HALF)
    rows, columns = np.nonzero(prepared)
    assert prepared.shape == (32, 40)
    assert set(np.unique(prepared)) == {0, 255}
    assert (rows.min(), rows.max()) == (20 - 8, 24 - 8)
    assert (columns.min(), columns.max()) == (30 - 12, 39 - 12)


def test_the_way_back_ends_where_it_began() -> None:
    """From the map to the source picture and back, a mask is the same."""
    mask = np.where(np.random.default_rng(1).random((32, 40)) < 0.2, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(prepare_mask(to_source(mask, HALF, (96, 128)), HALF), mask)


def test_nothing_is_marked_outside_the_crop() -> None:
    """The margin that the model never saw has no defect."""
    full = to_source(np.full((32, 40), 255, np.uint8), HALF, (96, 128))
    inside = np.zeros((96, 128), bool)
    inside[16:80, 24:104] = True
    np.testing.assert_array_equal(full == 255, inside)
    assert scale_to_source(HALF, (96, 128)) == (2.0, 2.0, 8, 12)


@settings(max_examples=60, deadline=None)
@given(
    row=st.integers(0, 31),
    column=st.integers(0, 39),
    source=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_a_mark_is_never_lost(row: int, column: int, source: tuple[int, int]) -> None:
    """One marked pixel of the map is marked in the source picture, however small that is."""
    mask = np.zeros((32, 40), np.uint8)
    mask[row, column] = 255
    full = to_source(mask, HALF, source)
    assert full.shape == source
    assert set(np.unique(full)) <= {0, 255}
    assert full.any()


def test_a_wide_low_picture_does_not_alias() -> None:
    """A side that shrinks is averaged even where the other one grows."""
    stripes = np.zeros((100, 512), np.uint8)
    stripes[:, ::2] = 254  # one column light, one dark: their mean is 127 everywhere
    resized = prepare(stripes, Preprocessing(resize=(256, 256), crop=(256, 256)))
    assert abs(resized.astype(int) - 127).max() <= 1

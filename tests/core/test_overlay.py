"""Pictures for people."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from inspectd.core import overlay
from inspectd.core.records import ImageArray, Verdict

GREY = np.full((40, 60), 120, np.uint8)
RGB = np.dstack([np.full((40, 60), level, np.uint8) for level in (200, 100, 50)])


def square_mask(shape: tuple[int, int] = (40, 60)) -> ImageArray:
    """A defect of a quarter of the height and width, off the edges."""
    mask = np.zeros(shape, np.uint8)
    height, width = shape
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    return mask


@pytest.mark.parametrize("image", [GREY, RGB], ids=["grey", "rgb"])
def test_heat_is_laid_only_over_what_is_above_low(image: ImageArray) -> None:
    """A map below `low` leaves the picture as it was; a hot spot changes it."""
    anomaly_map = np.zeros((40, 60), np.float32)
    anomaly_map[10:20, 10:20] = 1.0
    shown = overlay.heat_overlay(image, anomaly_map, 0.5, 0.9)
    plain = overlay.as_rgb(image)
    assert shown.shape == (40, 60, 3)
    assert shown.dtype == np.uint8
    assert np.array_equal(shown[25:], plain[25:])
    assert np.all(np.any(shown[10:20, 10:20] != plain[10:20, 10:20], axis=2))


def test_heat_is_resized_to_the_picture() -> None:
    """A coarse map covers the whole picture: (H, W) stays (H, W)."""
    anomaly_map = np.array([[0, 1], [0, 1], [0, 1]], np.float32)
    shown = overlay.heat_overlay(GREY, anomaly_map, 0.2, 0.9)
    assert shown.shape == (40, 60, 3)
    assert np.array_equal(shown[:, :10], overlay.as_rgb(GREY)[:, :10])
    assert np.all(shown[:, -10:, 0] > 150)


def test_hotter_is_brighter() -> None:
    """The colours of the scale only ever get lighter over a black part."""
    ramp = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (40, 1))
    shown = overlay.heat_overlay(np.zeros((40, 60), np.uint8), ramp, 0.0, 1.0)
    light = cv2.cvtColor(shown, cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert np.all(np.diff(light) >= -1)


def test_heat_needs_a_range() -> None:
    """An empty range is refused with a remedy."""
    with pytest.raises(ValueError, match="must be below high"):
        overlay.heat_overlay(GREY, np.zeros((4, 4), np.float32), 0.5, 0.5)


def test_a_picture_is_never_changed_in_place() -> None:
    """The caller's picture stays as it was, read-only or not."""
    image = RGB.copy()
    image.setflags(write=False)
    overlay.outline_mask(image, square_mask(), overlay.RED)
    overlay.heat_overlay(image, np.ones((4, 4), np.float32), 0.0, 0.5)
    overlay.verdict_tile(image, square_mask(), "part 1", Verdict.FAIL)
    assert np.array_equal(image, RGB)


def test_pixel_threshold_is_mid_scale() -> None:
    """With a pixel threshold it lies half-way between `low` and `high`."""
    maps = [np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)] * 2
    low, high = overlay.heat_range(maps, 0.95)
    assert (low + high) / 2 == pytest.approx(0.95)


@pytest.mark.parametrize("pixel_threshold", [None, 0.1])
def test_without_a_useful_threshold_the_hottest_spot_is_the_end(
    pixel_threshold: float | None,
) -> None:
    """No threshold, or one in the noise: the scale ends at the maps' own top."""
    maps = [np.linspace(0, 1, 1000, dtype=np.float32).reshape(20, 50)]
    low, high = overlay.heat_range(maps, pixel_threshold)
    assert low == pytest.approx(0.9, abs=0.01)
    assert high == pytest.approx(0.995, abs=0.01)


@pytest.mark.parametrize("maps", [[], [np.zeros((3, 3), np.float32)]], ids=["none", "flat"])
def test_there_is_always_a_range(maps: list[np.ndarray]) -> None:
    """No maps or flat ones still give a range that an overlay accepts."""
    low, high = overlay.heat_range(maps)
    assert low < high


def test_outline_lies_on_the_border_of_the_mask() -> None:
    """The contour is drawn in the colour; the inside and the outside stay."""
    drawn = overlay.outline_mask(RGB, square_mask(), overlay.GREEN)
    assert np.allclose(drawn[10, 20], overlay.GREEN, atol=40)  # smoothed with the part
    assert np.array_equal(drawn[15, 22], RGB[15, 22])
    assert np.array_equal(drawn[35, 55], RGB[35, 55])


def test_outline_takes_a_mask_of_another_size() -> None:
    """A mask at the model's resolution is resized to the picture."""
    drawn = overlay.outline_mask(RGB, square_mask((20, 30)) > 0, overlay.GREEN)
    assert drawn.shape == RGB.shape
    assert np.allclose(drawn[10, 20], overlay.GREEN, atol=40)  # smoothed with the part


def test_an_empty_mask_has_no_outline() -> None:
    """Nothing is drawn where nothing is defective."""
    assert np.array_equal(overlay.outline_mask(RGB, np.zeros((40, 60), np.uint8), overlay.RED), RGB)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (200, 100)])
def test_fit_keeps_the_proportions(shape: tuple[int, int]) -> None:
    """The picture is centred, its sides in their ratio, the rest background."""
    tile = overlay.fit(np.zeros(shape, np.uint8), (80, 80))
    rows, columns = np.nonzero(tile[:, :, 0] == 0)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert tile.shape == (80, 80, 3)
    assert height / width == pytest.approx(shape[0] / shape[1])
    assert max(height, width) == 80


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_frame_has_the_colour_of_the_verdict(verdict: Verdict) -> None:
    """Green passes, red fails, amber is undecided; the picture is inside, whole."""
    tile = overlay.verdict_tile(GREY, None, "part 1", verdict)
    assert tuple(tile[0, 0]) == overlay.VERDICT_COLOURS[verdict]
    assert np.array_equal(tile[2:42, 2:62], overlay.as_rgb(GREY))


def test_sheet_is_filled_row_by_row() -> None:
    """Three tiles in two columns make two rows; the last cell stays white."""
    black = np.zeros((32, 32), np.uint8)
    sheet = overlay.contact_sheet([("a", black), ("b", black), ("c", black)], 2, (32, 32))
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    cells = [sheet[:height, :width], sheet[:height, width:], sheet[height:, :width]]
    assert all(np.count_nonzero(cell.max(axis=2) == 0) >= 32 * 32 for cell in cells)
    assert np.all(sheet[height:, width:] == 255)


def test_a_long_caption_stays_inside_its_cell() -> None:
    """A caption wider than its tile is cut, not drawn over the neighbour."""
    tiles = [("x" * 300, np.zeros((32, 64), np.uint8))]
    sheet = overlay.contact_sheet(tiles, 1, (32, 64))
    assert np.all(sheet[:, -3:] == 255)


@pytest.mark.parametrize(("count", "columns"), [(0, 1), (1, 0)])
def test_a_sheet_needs_tiles_and_columns(count: int, columns: int) -> None:
    """Neither no tiles nor no columns make a sheet."""
    with pytest.raises(ValueError, match="make no sheet"):
        overlay.contact_sheet([("a", GREY)] * count, columns, (32, 32))


def test_a_data_uri_holds_the_picture() -> None:
    """Decoded, it is the same picture in the same order of colours."""
    kind, _, data = overlay.jpeg_data_uri(RGB).partition(",")
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert kind == "data:image/jpeg;base64"
    assert decoded is not None
    assert np.allclose(decoded[:, :, ::-1].astype(int), RGB, atol=4)

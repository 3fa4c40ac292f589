"""The drawn demonstration product: repeatable, varied, and honest about its defects."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspectd.core.errors import ConfigError
from inspectd.demo.product import (
    DEFECT_KINDS,
    VISIBLE_DN,
    RenderedPart,
    render_dataset,
    render_line,
    render_part,
    truth_of,
)

SMALL = (160, 192)
"""(H, W) in pixels: quick to draw, and not square."""


def part(seed: int, defect: str | None = None, size: tuple[int, int] = SMALL) -> RenderedPart:
    return render_part(np.random.default_rng(seed), defect, size)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("defect", [None, *DEFECT_KINDS])
def test_same_seed_same_part(defect: str | None) -> None:
    """Two generators of one seed draw the same picture and mask, bit by bit."""
    first, second = part(3, defect), part(3, defect)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)


@pytest.mark.parametrize("defect", [None, *DEFECT_KINDS])
@pytest.mark.parametrize("size", [(96, 96), SMALL, (480, 480)])
def test_shapes_and_types(defect: str | None, size: tuple[int, int]) -> None:
    """A part has an RGB picture and a binary mask of the size asked for, and names its defect."""
    drawn = part(5, defect, size)
    assert drawn.image.shape == (*size, 3)
    assert drawn.mask.shape == size
    assert drawn.image.dtype == drawn.mask.dtype == np.uint8
    assert set(np.unique(drawn.mask)) <= {0, 255}
    assert drawn.defect == defect


def test_good_parts_have_an_empty_mask() -> None:
    """Nothing is marked on a part without a defect."""
    assert not part(1).mask.any()


@pytest.mark.parametrize("size", [(96, 96), SMALL])
@pytest.mark.parametrize("defect", DEFECT_KINDS)
def test_every_defect_shows(defect: str, size: tuple[int, int]) -> None:
    """No seed gives a defect that can't be seen, nor one that covers much of the picture."""
    for seed in range(25):
        share = np.count_nonzero(part(seed, defect, size).mask) / (size[0] * size[1])
        assert 0 < share < 0.15


@pytest.mark.parametrize("defect", DEFECT_KINDS)
def test_mask_holds_all_that_changed(defect: str) -> None:
    """Outside its mask a defective part is its defect-free twin; inside, nearly all differs."""
    for seed in range(10):
        drawn, twin = part(seed, defect), part(seed)
        change = cv2.absdiff(drawn.image, twin.image).max(axis=2)  # (H, W)
        marked = drawn.mask > 0
        assert change[~marked].max() <= VISIBLE_DN + 1  # both pictures were rounded
        assert np.mean(change[marked] >= VISIBLE_DN - 1) > 0.75


@pytest.mark.parametrize("defect", DEFECT_KINDS)
def test_defects_vary(defect: str) -> None:
    """Defects of one kind differ in place, size and contrast."""
    masks = [part(seed, defect).mask for seed in range(12)]
    areas = [np.count_nonzero(mask) for mask in masks]
    assert max(areas) > 2 * min(areas)
    assert not np.logical_and.reduce([mask > 0 for mask in masks]).any()


def test_good_parts_vary() -> None:
    """Good parts differ in pose, in light and in the grain of their metal."""
    parts = [part(seed).image.astype(np.float32) for seed in range(8)]
    brightness = [image.mean() for image in parts]
    assert np.ptp(brightness) > 2
    outline = [np.argwhere(image[..., 1] > 75).mean(axis=0) for image in parts]  # (y, x)
    assert np.ptp(outline, axis=0).max() > 0.5
    fine = [(image - cv2.GaussianBlur(image, (0, 0), 1.5))[60:70, 40:50].ravel() for image in parts]
    assert abs(np.corrcoef(fine[0], fine[1])[0, 1]) < 0.7


def test_unknown_defect_is_refused() -> None:
    """A misspelt defect is refused and the known ones are named."""
    with pytest.raises(ConfigError, match=r"'scrach'.*scratch, chip, dent, contamination"):
        part(0, "scrach")


def test_too_small_a_picture_is_refused() -> None:
    """A size at which defects would vanish is refused."""
    with pytest.raises(ConfigError, match="too small"):
        part(0, size=(480, 95))


def test_dataset_layout(tmp_path: Path) -> None:
    """The dataset is in MVTec's layout, each defective picture with its mask, all PNG and RGB."""
    seen: list[tuple[int, int]] = []
    render_dataset(
        tmp_path,
        seed=4,
        n_train=3,
        n_good=2,
        n_per_defect=2,
        size=SMALL,
        report=lambda done, total: seen.append((done, total)),
    )
    wanted = {f"train/good/{i:03d}.png" for i in range(3)}
    wanted |= {f"holdout/good/{i:03d}.png" for i in range(2)}
    for kind in DEFECT_KINDS:
        wanted |= {f"holdout/{kind}/{i:03d}.png" for i in range(2)}
        wanted |= {f"holdout/ground_truth/{kind}/{i:03d}_mask.png" for i in range(2)}
    assert set(contents(tmp_path)) == wanted
    assert seen == [(i + 1, 13) for i in range(13)]
    picture = cv2.imread(str(tmp_path / "holdout/chip/000.png"), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(tmp_path / "holdout/ground_truth/chip/000_mask.png"), -1)
    assert picture is not None
    assert mask is not None
    assert picture.shape == (*SMALL, 3)
    assert mask.shape == SMALL
    belt = picture[:8].reshape(-1, 3).mean(axis=0)  # the belt is bluish; OpenCV reads (B, G, R)
    assert belt[0] > belt[2]


def test_dataset_is_repeatable(tmp_path: Path) -> None:
    """One seed gives the same bytes however many parts are asked for; no two parts are alike."""
    for name, seed, n in (("a", 1, 2), ("b", 1, 3), ("c", 2, 2)):
        render_dataset(tmp_path / name, seed=seed, n_train=n, n_good=n, n_per_defect=n, size=SMALL)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a.items() <= b.items()
    assert all(a[name] != c[name] for name in a)
    assert len(set(b.values())) == len(b)


def test_line_names_tell_the_truth(tmp_path: Path) -> None:
    """A line's stems count upwards and name the defect; only defective parts have a mask."""
    line = tmp_path / "line"
    render_line(line, seed=7, n_parts=30, defect_share=0.5, size=SMALL)
    stems = [path.stem for path in sorted(line.iterdir())]
    assert [stem[:7] for stem in stems] == [f"{i:06d}-" for i in range(30)]
    truths = [truth_of(stem) for stem in stems]
    assert set(truths) == {None, *DEFECT_KINDS}
    masks = sorted(path.stem for path in (tmp_path / "line_masks").iterdir())
    assert masks == [stem for stem in stems if truth_of(stem) is not None]


def test_line_is_repeatable(tmp_path: Path) -> None:
    """A longer line of the same seed begins with the shorter one."""
    render_line(tmp_path / "a", seed=7, n_parts=6, size=SMALL)
    render_line(tmp_path / "b", seed=7, n_parts=8, size=SMALL)
    assert contents(tmp_path / "a").items() <= contents(tmp_path / "b").items()


@pytest.mark.parametrize(("share", "is_good"), [(0.0, True), (1.0, False)])
def test_defect_share_at_its_ends(tmp_path: Path, share: float, is_good: bool) -> None:
    """A share of 0 gives only good parts, a share of 1 only defective ones."""
    render_line(tmp_path / "line", seed=1, n_parts=5, defect_share=share, size=SMALL)
    truths = [truth_of(path.stem) for path in (tmp_path / "line").iterdir()]
    assert len(truths) == 5
    assert all((truth is None) == is_good for truth in truths)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_defect_share_is_refused(tmp_path: Path, share: float) -> None:
    """A share outside 0 to 1 is refused before anything is written."""
    with pytest.raises(ConfigError, match="defect_share"):
        render_line(tmp_path / "line", seed=1, n_parts=5, defect_share=share)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [None, *DEFECT_KINDS])
def test_truth_of_round_trip(kind: str | None) -> None:
    """The truth is told from the stem alone."""
    assert truth_of(f"000012-{kind or 'good'}") == kind


@pytest.mark.parametrize("part_id", ["", "000012", "000012-rust", "good-000012"])
def test_truth_of_a_stranger_is_refused(part_id: str) -> None:
    """A part that isn't of the demo has no known truth."""
    with pytest.raises(ConfigError, match="no demo part"):
        truth_of(part_id)

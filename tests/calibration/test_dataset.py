"""Finding pictures: both layouts, honest refusals, and hands off the test set."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.dataset import (
    digest_of,
    find_good,
    find_holdout,
    find_labelled,
    read_mask,
    refuse_identical,
)
from inspectd.core.errors import DatasetError, ImageError


def _pictures(folder: Path, count: int = 4) -> list[Path]:
    """Files with a picture's name; what is in them doesn't matter here."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:03d}.png" for index in range(count)]
    for path in paths:
        path.write_text(str(path))
    return paths


@pytest.mark.parametrize("layout", ["train/good", "good", "."])
def test_good_pictures_are_found_in_every_layout(tmp_path: Path, layout: str) -> None:
    """MVTec's train/good, a folder good/ and a plain folder serve alike, in name order."""
    paths = _pictures(tmp_path / layout)
    (tmp_path / "notes.txt").touch()
    assert find_good(tmp_path) == paths


def test_train_good_comes_before_all_else(tmp_path: Path) -> None:
    """Pictures beside MVTec's folders are not mixed in."""
    _pictures(tmp_path)
    assert find_good(tmp_path) != _pictures(tmp_path / "train" / "good")
    assert find_good(tmp_path) == _pictures(tmp_path / "train" / "good")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """Each search says which folder isn't there."""
    for find in (find_good, find_holdout, find_labelled):
        with pytest.raises(DatasetError, match="gone: no such folder"):
            find(tmp_path / "gone")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """The refusal says where pictures belong and of which kinds."""
    with pytest.raises(DatasetError, match=r"no pictures.*\.bmp, \.jpeg"):
        find_good(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_pictures_are_refused(tmp_path: Path, count: int) -> None:
    """From one to three pictures nothing can be learned and held out."""
    _pictures(tmp_path, count)
    with pytest.raises(DatasetError, match=rf"{count} good picture\(s\); at least 4"):
        find_good(tmp_path)


@pytest.mark.parametrize("inside", ["test", "test/good"])
def test_calibration_never_takes_the_test_set(tmp_path: Path, inside: str) -> None:
    """Neither as pictures to learn from nor as hold-out set, not even through a link."""
    _pictures(tmp_path / "test" / "good")
    _pictures(tmp_path / "test" / "scratch")
    (tmp_path / "link").symlink_to(tmp_path / inside)
    for folder in (tmp_path / inside, tmp_path / "link"):
        for find in (find_good, find_holdout):
            with pytest.raises(DatasetError, match="test/ is kept for inspectd evaluate"):
                find(folder)


def test_a_product_folder_is_no_holdout_set(tmp_path: Path) -> None:
    """The test/ inside a product's folder is not looked into for a threshold."""
    _pictures(tmp_path / "test" / "good")
    _pictures(tmp_path / "test" / "scratch")
    with pytest.raises(DatasetError, match="no picture in good/"):
        find_holdout(tmp_path)


def test_a_holdout_set_is_labelled_by_its_folders(tmp_path: Path) -> None:
    """Folder names are labels; test/, ground_truth/ and hidden folders are none."""
    for kind in ("good", "scratch", "dent", "test", "ground_truth", ".hidden"):
        _pictures(tmp_path / kind, 2)
    samples = find_holdout(tmp_path)
    assert [sample.name for sample in samples] == [
        f"{kind}/{index:03d}.png" for kind in ("dent", "good", "scratch") for index in range(2)
    ]
    assert [sample.is_defect for sample in samples] == [True, True, False, False, True, True]


def test_evaluation_looks_into_test(tmp_path: Path) -> None:
    """A product's folder and its test/ give the same labelled pictures."""
    _pictures(tmp_path / "train" / "good")
    _pictures(tmp_path / "test" / "good", 2)
    _pictures(tmp_path / "test" / "scratch", 2)
    assert find_labelled(tmp_path) == find_labelled(tmp_path / "test")
    assert len(find_labelled(tmp_path)) == 4


@pytest.mark.parametrize(
    ("kind", "match"), [("good", "no defective picture"), ("scratch", "no picture in good/")]
)
def test_one_class_alone_is_refused(tmp_path: Path, kind: str, match: str) -> None:
    """A labelled set needs good and defective parts."""
    _pictures(tmp_path / kind)
    with pytest.raises(DatasetError, match=match):
        find_labelled(tmp_path)


@pytest.mark.parametrize("beside", [".", "holdout"])
@pytest.mark.parametrize("name", ["000_mask.png", "000.png"])
def test_masks_are_found_beside_and_inside(tmp_path: Path, beside: str, name: str) -> None:
    """ground_truth/ lies in the labelled folder or beside it, as in MVTec; a good part has none."""
    _pictures(tmp_path / "holdout" / "good", 1)
    _pictures(tmp_path / "holdout" / "scratch", 2)
    mask = tmp_path / beside / "ground_truth" / "scratch" / name
    mask.parent.mkdir(parents=True)
    mask.touch()
    assert [sample.mask for sample in find_holdout(tmp_path / "holdout")] == [None, mask, None]


@pytest.mark.parametrize("defective", [255, 128, 1])
def test_a_mask_is_0_or_255(tmp_path: Path, defective: int) -> None:
    """Whatever number a file writes for defective, the mask says 255."""
    marks = np.zeros((8, 9), np.uint8)
    marks[2:4, 5] = 1
    for picture in (marks * defective, np.dstack([marks * 0, marks * 0, marks * defective])):
        cv2.imwrite(str(tmp_path / "mask.png"), picture)
        np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), marks * 255)


def test_an_empty_mask_stays_empty(tmp_path: Path) -> None:
    """Nothing marked is nothing defective."""
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((8, 9), np.uint8))
    assert not read_mask(tmp_path / "mask.png").any()


def test_an_unreadable_mask_is_refused(tmp_path: Path) -> None:
    """A damaged mask isn't taken for an empty one."""
    (tmp_path / "mask.png").write_bytes(b"no mask")
    with pytest.raises(ImageError, match=r"mask\.png"):
        read_mask(tmp_path / "mask.png")


def test_identical_pictures_are_refused() -> None:
    """If all are the same there is no variation to learn; one that differs is enough."""
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(DatasetError, match="identical; take pictures of different parts"):
        refuse_identical([image, image.copy(), image.copy()])
    refuse_identical([image, image.copy(), image + 1])
    refuse_identical([image, np.zeros((8, 9, 3), np.uint8)])


def test_the_digest_is_of_contents_only(tmp_path: Path) -> None:
    """Other names and another order are the same data set; one other byte is not."""
    paths = _pictures(tmp_path / "a")
    other = tmp_path / "b"
    shutil.copytree(tmp_path / "a", other)
    renamed = [path.rename(other / f"x{path.name}") for path in sorted(other.iterdir())]
    assert digest_of(paths) == digest_of(renamed[::-1])
    renamed[0].write_text("other")
    assert digest_of(paths) != digest_of(renamed)

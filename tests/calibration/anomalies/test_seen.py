"""Seen defects from a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.anomalies import read_seen
from inspectd.core.errors import DatasetError
from inspectd.core.preprocess import Preprocessing

SIZE = Preprocessing(resize=(64, 64), crop=(56, 56))


def test_masked_defects_are_read_at_the_models_size(tiny_data: Path) -> None:
    """Each kind is there, with something marked; the good parts aren't."""
    seen = read_seen(tiny_data / "holdout", SIZE)
    assert len(seen) == 4
    for defect in seen:
        assert defect.image.shape == (56, 56, 3)
        assert defect.mask.shape == (56, 56)
        assert defect.mask.any()
        assert not defect.name.startswith("good")


def test_a_mask_of_another_size_is_refused(tiny_data: Path, tmp_path: Path) -> None:
    """The message names the mask."""
    shutil.copytree(tiny_data / "holdout", tmp_path / "seen")
    masks = sorted((tmp_path / "seen" / "ground_truth").rglob("*.png"))
    if not masks:
        shutil.copytree(tiny_data / "ground_truth", tmp_path / "seen" / "ground_truth")
        masks = sorted((tmp_path / "seen" / "ground_truth").rglob("*.png"))
    cv2.imwrite(str(masks[0]), np.full((10, 12), 255, np.uint8))
    with pytest.raises(DatasetError, match=f"{masks[0].name}.*its mask 10 x 12"):
        read_seen(tmp_path / "seen", SIZE)


def test_defects_without_masks_do_not_serve(tiny_data: Path, tmp_path: Path) -> None:
    """Where no mask is found the message says where it belongs."""
    shutil.copytree(tiny_data / "holdout", tmp_path / "seen")
    shutil.rmtree(tmp_path / "seen" / "ground_truth", ignore_errors=True)
    with pytest.raises(DatasetError, match="no defect has a mask"):
        read_seen(tmp_path / "seen", SIZE)


def test_good_parts_alone_do_not_serve(tiny_data: Path, tmp_path: Path) -> None:
    """Nor does a folder that isn't there, nor the test set."""
    shutil.copytree(tiny_data / "holdout" / "good", tmp_path / "seen" / "good")
    with pytest.raises(DatasetError, match="no defective picture"):
        read_seen(tmp_path / "seen", SIZE)
    with pytest.raises(DatasetError, match="no such folder"):
        read_seen(tmp_path / "absent", SIZE)
    (tmp_path / "test").mkdir()
    with pytest.raises(DatasetError, match="kept for inspectd evaluate"):
        read_seen(tmp_path / "test", SIZE)
